"""nanoGPT's token files: `train.bin` and `val.bin`, all tokens end to end, and `meta.pkl` with the vocabulary's size.

Tokens are uint16, which is what nanoGPT's `train.py` reads; a vocabulary beyond 65,536 is written as uint32, which
needs `dtype=np.uint32` there. `meta.pkl` holds a dict of plain values; it is written here and never read.
"""

import pickle
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from prereq.selector.export.token_stream import BYTES_EOD, Tokens

_UINT16 = 2**16


def write_nanogpt(
    folder: Path,
    documents: Iterable[Tokens],
    vocabulary: int | None,
    validation: Iterable[Tokens] | None,
    *,
    is_bytes: bool,
) -> dict[str, Any]:
    """Write `train.bin`, `val.bin` where there is something to validate on, and `meta.pkl` where the size is known.

    Args:
        folder: Exists.
        documents: Tokens of each, with what ends it.
        vocabulary: Size, which decides the width of a token; None: 4 bytes.
        validation: Documents that were never drawn.
        is_bytes: Tokens are UTF-8 bytes: `meta.pkl` then holds `stoi` and `itos`, by which `sample.py` shows text.

    Returns:
        What was written: documents, tokens, dtype, validation_tokens.
    """
    kind = np.dtype("<u2") if vocabulary is not None and vocabulary <= _UINT16 else np.dtype("<u4")
    count, tokens = _write(folder / "train.bin", documents, kind)
    held = None if validation is None else _write(folder / "val.bin", validation, kind)[1]
    if vocabulary is not None:
        meta: dict[str, Any] = {"vocab_size": vocabulary}
        if is_bytes:  # a byte is shown as the character of its number; what ends a document as a blank line
            meta["itos"] = {**{byte: chr(byte) for byte in range(BYTES_EOD)}, BYTES_EOD: "\n\n"}
            meta["stoi"] = {chr(byte): byte for byte in range(BYTES_EOD)}
        (folder / "meta.pkl").write_bytes(pickle.dumps(meta, protocol=4))
    return {"documents": count, "tokens": tokens, "dtype": kind.name, "validation_tokens": held}


def _write(path: Path, documents: Iterable[Tokens], kind: "np.dtype[Any]") -> tuple[int, int]:
    count = tokens = 0
    with open(path, "wb") as file:
        for ids in documents:
            file.write(ids.astype(kind).tobytes())
            count, tokens = count + 1, tokens + len(ids)
    return count, tokens
