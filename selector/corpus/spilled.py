"""Shingle sets in a nameless file: each text of a corpus is read once, and any set can be had at any time."""

import os
import tempfile
from collections.abc import Iterable
from typing import Self

import numpy as np

from prereq.selector.corpus.shingles import HashArray, IntArray


class SpilledSets:
    """Sets of 64-bit hashes on the disk, by row; a context that deletes them. Memory: 16 bytes per set.

    Args:
        rows: Ascending.
        sets: The set of each row, in order; taken one by one.
        scratch: Folder of the file, None for the system's.
    """

    def __init__(self, rows: IntArray, sets: Iterable[HashArray], scratch: str | None) -> None:
        self._rows = rows
        self._file = tempfile.TemporaryFile(dir=scratch)  # noqa: SIM115  closed by __exit__
        sizes = np.zeros(len(rows) + 1, dtype=np.int64)
        for place, own in enumerate(sets, 1):
            self._file.write(own.tobytes())
            sizes[place] = own.nbytes
        self._file.flush()
        self._ends = np.cumsum(sizes)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def of(self, row: int) -> HashArray:
        """The set of one of the rows."""
        place = int(np.searchsorted(self._rows, row))
        start, stop = self._ends[place : place + 2].tolist()
        return np.frombuffer(os.pread(self._file.fileno(), stop - start, start), dtype=np.uint64)
