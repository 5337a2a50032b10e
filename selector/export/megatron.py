"""Megatron-LM's indexed dataset: `data.bin` holds the tokens of all documents end to end, `data.idx` where they lie.

    .idx (little endian): "MMIDIDX\\0\\0", uint64 version 1, uint8 type code, uint64 sequences, uint64 documents + 1,
    int32 tokens of each sequence, int64 byte at which each begins, int64 sequence at which each document begins, and
    the number of sequences

Every document is one sequence. Source: `megatron/core/datasets/indexed_dataset.py` of NVIDIA's Megatron-LM.
"""

import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from prereq.graph.errors import ConfigError
from prereq.selector.export.token_stream import Tokens

_MAGIC = b"MMIDIDX\x00\x00"
_CODES = {"<i4": 4, "<u2": 8}
_UINT16_BELOW = 65500  # Megatron's own border
_CHUNK = 2**20  # sequences of the index in memory at a time
_LONGEST = 2**31


def write_megatron(folder: Path, documents: Iterable[Tokens], vocabulary: int | None) -> dict[str, Any]:
    """Write `data.bin` and `data.idx`; `--data-path FOLDER/data` of Megatron.

    Args:
        folder: Exists.
        documents: Tokens of each.
        vocabulary: Size, which decides the width of a token; None: 4 bytes.

    Returns:
        What was written: documents, tokens, dtype.

    Raises:
        ConfigError: A document has 2**31 tokens or more.
    """
    kind = "<u2" if vocabulary is not None and vocabulary < _UINT16_BELOW else "<i4"
    sequences = tokens = 0
    lengths = folder / "lengths.tmp"  # 4 bytes a document, on disk: memory does not grow with their number
    with open(folder / "data.bin", "wb") as data, open(lengths, "wb") as sizes:
        for ids in documents:
            if len(ids) >= _LONGEST:
                raise ConfigError(f"{folder}: document {sequences} has {len(ids)} tokens, the format holds 2**31 - 1")
            data.write(ids.astype(kind).tobytes())
            sizes.write(struct.pack("<i", len(ids)))
            sequences, tokens = sequences + 1, tokens + len(ids)
    _write_index(folder / "data.idx", lengths, sequences, kind)
    lengths.unlink()
    return {"documents": sequences, "tokens": tokens, "dtype": np.dtype(kind).name}


def _write_index(path: Path, lengths: Path, sequences: int, kind: str) -> None:
    width = np.dtype(kind).itemsize
    with open(path, "wb") as index:
        index.write(_MAGIC + struct.pack("<QBQQ", 1, _CODES[kind], sequences, sequences + 1))
        for sizes in _chunks(lengths):
            index.write(sizes.tobytes())
        start = 0
        for sizes in _chunks(lengths):
            # pointers: (chunk,) byte at which each sequence begins
            ends = np.cumsum(sizes, dtype="<i8") * width
            index.write((start + np.concatenate([[0], ends[:-1]]).astype("<i8")).tobytes())
            start += int(ends[-1])
        for first in range(0, sequences + 1, _CHUNK):
            index.write(np.arange(first, min(first + _CHUNK, sequences + 1), dtype="<i8").tobytes())


def _chunks(lengths: Path) -> Iterable[Any]:
    with open(lengths, "rb") as file:
        while data := file.read(4 * _CHUNK):
            yield np.frombuffer(data, dtype="<i4")
