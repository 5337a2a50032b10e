"""What a reader of an input format yields: rows, and in the place of what cannot be read, what is lost."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple


class Row(NamedTuple):
    """One row: its 1-based line or row number (0 where the file is the row) and its fields."""

    line: int
    fields: Mapping[str, Any]


class Lost(NamedTuple):
    """Something that cannot be read: where, why, how many rows (1 where that cannot be known)."""

    line: int
    reason: str
    detail: str
    documents: int = 1
    bytes: int = 0  # of the file, that were not read because of damage


@dataclass(frozen=True, slots=True)
class Piece:
    """One of `count` pieces of a file, cut by bytes (lines) or by row groups (Parquet)."""

    index: int = 0
    count: int = 1
    first_line: int = 1  # number of the first line that begins in it

    def range(self, size: int) -> tuple[int, int]:
        """First and stop of this piece of `size` things."""
        return self.index * size // self.count, (self.index + 1) * size // self.count


WHOLE = Piece()
Rows = Iterator[Row | Lost]
