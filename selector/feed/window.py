"""Rows that were read and checked, decoded column by column when they are asked for.

A `Window` is some row groups of one shard as bytes; `Rows` are a range of a round's rows over one or more windows. What
a loop does not look at is never turned into Python objects.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from prereq.graph.errors import ManifestError
from prereq.selector.feed.column import Column

_TOKENS = "input_ids.list.element"
_HEADER = 64  # bytes: a page header of ours is shorter


@dataclass(frozen=True, slots=True)
class ShardLayout:
    """Where things lie in a shard, from its footer.

    Attributes:
        where: The file, for errors.
        size: Bytes of the file.
        metadata: The footer.
        names: Columns.
        first_rows: First row of each row group, and the number of rows.
        borders: First byte of each row group, and of the footer.
        repair: What to do about damage.
    """

    where: str
    size: int
    metadata: pq.FileMetaData
    names: tuple[str, ...]
    first_rows: list[int]
    borders: list[int]
    repair: str


class _Bytes(io.RawIOBase):
    """A file of which only the bytes of a window are there."""

    def __init__(self, data: npt.NDArray[np.uint8], base: int, size: int) -> None:
        super().__init__()
        self._data, self._base, self._size, self._at = data.data, base, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def read(self, size: int = -1) -> bytes:
        return bytes(self.read_buffer(size))

    def read_buffer(self, size: int = -1) -> memoryview:
        """The bytes themselves and no copy: pyarrow asks for them where a file has this method."""
        first = self._at - self._base
        last = len(self._data) if size < 0 else first + size
        if first < 0 or last > len(self._data):
            raise OSError(f"bytes {self._at} to {self._base + last} of the file are not in the row groups asked for")
        self._at = self._base + last
        return self._data[first:last]


class Window:
    """Some row groups of a shard.

    Args:
        layout: Of the shard.
        groups: The row groups, ascending.
        data: uint8, the bytes of the file from `base` on; those of the row groups are read, what lies between is not.
        base: The first row group's first byte.
    """

    def __init__(self, layout: ShardLayout, groups: Sequence[int], data: npt.NDArray[np.uint8], base: int) -> None:
        self.layout, self.groups = layout, list(groups)
        self._data, self._base = data, base
        sizes = [layout.first_rows[g + 1] - layout.first_rows[g] for g in self.groups]
        self._at = dict(zip(self.groups, np.cumsum([0, *sizes[:-1]]).tolist(), strict=True))
        self._columns: dict[str, pa.ChunkedArray] = {}
        self._file: Any = None

    def __contains__(self, group: int) -> bool:
        return group in self._at

    def place(self, group: int) -> int:
        """The position of a row group's first row among the rows of the window."""
        return self._at[group]

    def column(self, name: str) -> pa.ChunkedArray:
        """A column of all row groups.

        Raises:
            ManifestError: It cannot be decoded.
        """
        if name not in self._columns:
            try:
                if self._file is None:
                    source = _Bytes(self._data, self._base, self.layout.size)
                    # pre_buffer hands small reads to other threads, for bytes that are here: a third of decoding ids
                    self._file = pq.ParquetFile(source, metadata=self.layout.metadata, pre_buffer=False)
                table = self._file.read_row_groups(self.groups, columns=[name], use_threads=False)
            except (OSError, pa.ArrowException) as error:
                raise ManifestError(
                    f"{self.layout.where}: the column {name} cannot be read ({error}); {self.layout.repair}"
                ) from error
            self._columns[name] = table.column(name)
        return self._columns[name]

    def tokens(self, group: int, first: int, rows: int, width: int) -> npt.NDArray[np.int32]:
        """Some packed rows of a row group, int32 `(rows, width)`; mostly a view of the bytes that were read."""
        row_group = self.layout.metadata.row_group(group)
        count = row_group.num_rows * width
        for index in range(row_group.num_columns):
            column = row_group.column(index)
            if column.path_in_schema == _TOKENS and column.num_values == count and column.compression == "UNCOMPRESSED":
                chunk = self._data[column.data_page_offset - self._base :][: column.total_compressed_size]
                if not column.has_dictionary_page and _is_one_page(chunk[:_HEADER].tobytes(), len(chunk), 4 * count):
                    start = len(chunk) - 4 * (count - first * width)
                    return np.frombuffer(chunk.data, np.int32, rows * width, start).reshape(rows, width)
        start = self.place(group) + first
        flat = _numbers(self.column("input_ids").slice(start, rows))
        if len(flat) != rows * width:
            raise ManifestError(
                f"{self.layout.where}: {rows} packed rows hold {len(flat)} tokens, expected {width} each; "
                f"{self.layout.repair}"
            )
        return flat.reshape(rows, width)


def _numbers(column: pa.ChunkedArray) -> npt.NDArray[np.int32]:
    """The numbers of a column of lists, end to end."""
    parts = [chunk.flatten().to_numpy(zero_copy_only=False) for chunk in column.chunks]
    return np.concatenate(parts).astype(np.int32, copy=False) if parts else np.empty(0, dtype=np.int32)


def _is_one_page(header: bytes, chunk: int, values: int) -> bool:
    """Whether a column chunk is one data page whose last `values` bytes are its plain values.

    A page header begins with its first three fields in Thrift's compact form: type, bytes uncompressed and bytes
    compressed, each as 0x15 and a zigzag varint (parquet.thrift, PageHeader).
    """
    fields, at = [], 0
    for _ in range(3):
        if header[at : at + 1] != b"\x15":
            return False
        number, shift, at = 0, 0, at + 1
        while True:
            if at >= len(header):
                return False
            number |= (header[at] & 0x7F) << shift
            shift, at = shift + 7, at + 1
            if not header[at - 1] & 0x80:
                break
        fields.append((number >> 1) ^ -(number & 1))
    kind, whole, stored = fields
    return kind in (0, 3) and whole == stored >= values and at <= chunk - stored <= _HEADER


@dataclass(frozen=True, slots=True)
class Part:
    """Rows of one row group."""

    window: Window
    group: int
    first: int  # row inside the group
    rows: int


class Rows:
    """A range of a round's rows, in order.

    Args:
        parts: What they are made of, in order.
        names: Columns that were asked for.
    """

    def __init__(self, parts: Sequence[Part], names: Sequence[str]) -> None:
        self._parts = tuple(parts)
        self.names = tuple(names)
        self.num_rows = sum(part.rows for part in parts)

    def column(self, name: str) -> pa.ChunkedArray:
        """A column of these rows."""
        runs: list[tuple[Window, int, int]] = []  # neighbours in a window are one slice of it
        for part in self._parts:
            start = part.window.place(part.group) + part.first
            if runs and runs[-1][0] is part.window and runs[-1][2] == start:
                runs[-1] = (part.window, runs[-1][1], start + part.rows)
            else:
                runs.append((part.window, start, start + part.rows))
        columns = [window.column(name).slice(start, stop - start) for window, start, stop in runs]
        return columns[0] if len(columns) == 1 else pa.chunked_array([c for column in columns for c in column.chunks])

    def lists(self, name: str) -> Column[Any]:
        """A column as Python values, when it is looked at."""
        return Column(lambda: self.column(name).to_pylist(), self.num_rows)

    def tokens(self, width: int) -> npt.NDArray[np.int32]:
        """The packed rows, int32 `(rows, width)`, an array of the caller's own."""
        out = np.empty((self.num_rows, width), dtype=np.int32)
        at = 0
        for part in self._parts:
            out[at : at + part.rows] = part.window.tokens(part.group, part.first, part.rows, width)
            at += part.rows
        return out

    def sums(self, name: str) -> list[int]:
        """The sum of each row's list of numbers."""
        return [int(row.sum()) for row in self.arrays(name)]

    def arrays(self, name: str) -> list[npt.NDArray[np.int32]]:
        """A column of lists of numbers as one array per row, views of one decoding."""
        found: list[npt.NDArray[np.int32]] = []
        for chunk in self.column(name).chunks:
            offsets = chunk.offsets.to_numpy().tolist()
            values = chunk.values.to_numpy(zero_copy_only=False)
            found += [values[a:b] for a, b in pairwise(offsets)]
        return found
