"""What a reader of an input format yields: rows, and in the place of what cannot be read, what is lost."""

from collections.abc import Iterator, Mapping
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


Rows = Iterator[Row | Lost]
