"""MosaicML Streaming's MDS: shards of encoded rows and `index.json`, for `StreamingDataset(local=..., shuffle=False)`.

    shard: uint32 rows, uint32 begin of each row and the end, JSON of the columns, rows
    row: uint32 bytes of each column of no fixed size, then the columns, by name

Texts are `str`, counts `int`, token lists `ndarray:int32`, everything else `json`. Source:
`streaming/base/format/mds` of mosaicml-streaming, version 2 of the format.
"""

import hashlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

Encoder = Callable[[Any], bytes]
_SHARD_BYTES = 1 << 26  # at which a shard ends, the library's own
_TEXTS = ("id", "text", "arm", "source")  # metadata beyond these may be null, which only json can say


def write_mds(folder: Path, schema: pa.Schema, tables: Iterable[pa.Table]) -> dict[str, Any]:
    """Write `shard.00000.mds`, ... and `index.json`.

    Args:
        folder: Exists.
        schema: Of the tables.
        tables: The rows, in order.

    Returns:
        What was written: samples, shards.
    """
    names = sorted(schema.names)
    encodings = [_encoding(schema.field(name)) for name in names]
    writer = _Writer(folder, names, encodings)
    for table in tables:
        columns = [table[name].to_pylist() for name in names]
        for row in zip(*columns, strict=True):
            writer.add(row)
    return writer.finish()


class _Writer:
    """Gathers rows to shards of about 64 MiB."""

    def __init__(self, folder: Path, names: list[str], encodings: list[str]) -> None:
        self._folder = folder
        self._encoders = [(_ENCODERS[encoding], encoding == "int") for encoding in encodings]
        self._facts: dict[str, Any] = {
            "column_encodings": encodings,
            "column_names": names,
            "column_sizes": [8 if encoding == "int" else None for encoding in encodings],
            "compression": None,
            "format": "mds",
            "hashes": ["sha256"],
            "size_limit": _SHARD_BYTES,
            "version": 2,
        }
        self._header = json.dumps(self._facts, sort_keys=True).encode()
        self._rows: list[bytes] = []
        self._shards: list[dict[str, Any]] = []
        self._bytes, self._samples = self._empty(), 0

    def add(self, row: tuple[Any, ...]) -> None:
        cells = [encode(value) for value, (encode, _) in zip(row, self._encoders, strict=True)]
        free = [len(cell) for cell, (_, fixed) in zip(cells, self._encoders, strict=True) if not fixed]
        data = np.array(free, dtype="<u4").tobytes() + b"".join(cells)
        if self._rows and self._bytes + len(data) + 4 > _SHARD_BYTES:
            self._flush()
        self._rows.append(data)
        self._bytes += len(data) + 4

    def finish(self) -> dict[str, Any]:
        if self._rows:
            self._flush()
        index = json.dumps({"version": 2, "shards": self._shards}, sort_keys=True)
        (self._folder / "index.json").write_text(index)
        return {"samples": self._samples, "shards": len(self._shards)}

    def _empty(self) -> int:
        return 8 + len(self._header)  # the number of rows and the last end beside the header

    def _flush(self) -> None:
        sizes = np.array([0, *map(len, self._rows)], dtype=np.int64)
        head = 4 + 4 * len(sizes) + len(self._header)
        offsets = (np.cumsum(sizes) + head).astype("<u4")
        parts = [np.array([len(self._rows)], dtype="<u4").tobytes(), offsets.tobytes(), self._header, *self._rows]
        data = b"".join(parts)
        name = f"shard.{len(self._shards):05d}.mds"
        (self._folder / name).write_bytes(data)
        digest = {"sha256": hashlib.sha256(data).hexdigest()}
        raw = {"basename": name, "bytes": len(data), "hashes": digest}
        self._shards.append({**self._facts, "raw_data": raw, "samples": len(self._rows), "zip_data": None})
        self._samples += len(self._rows)
        self._rows, self._bytes = [], self._empty()


def _encoding(field: pa.Field) -> str:
    if field.name in _TEXTS and (pa.types.is_string(field.type) or pa.types.is_large_string(field.type)):
        return "str"
    if pa.types.is_integer(field.type):
        return "int"
    if pa.types.is_list(field.type) and field.type.value_type == pa.int32():
        return "ndarray:int32"
    return "json"


def _array(value: list[int]) -> bytes:
    """One dimension: a byte with the number of dimensions and the width of the shape, the shape, the numbers."""
    for code, width in enumerate(("<u1", "<u2", "<u4")):
        if len(value) < 1 << (8 << code):
            return (
                bytes([1 << 2 | code])
                + np.array([len(value)], dtype=width).tobytes()
                + np.array(value, "<i4").tobytes()
            )
    raise AssertionError("a row has fewer than 2**32 tokens")


_ENCODERS: dict[str, Encoder] = {
    "str": str.encode,
    "int": lambda value: np.int64(value).tobytes(),
    "ndarray:int32": _array,
    "json": lambda value: json.dumps(value, ensure_ascii=False).encode(),
}
