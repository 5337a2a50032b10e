"""One shard, open for reading: its footer, and row groups as bytes that were checked."""

import hashlib
import sys
import threading
from collections.abc import Sequence
from itertools import accumulate
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from prereq.graph.errors import ManifestError
from prereq.selector.feed.window import ShardLayout, Window
from prereq.selector.rounds.groups import MAGIC, TAIL, footer_start, group_starts, range_digest
from prereq.selector.rounds.manifest import Shard, round_folder
from prereq.selector.storage import Folder

Verify = Literal["sha256", "size"]
_BLOCK = 2**20  # bytes hashed at a time
_KEPT = 3  # buffers kept beside the newest
_THREADED = 2**21  # bytes from which a second thread is worth its start: it cost as much as it saved at 2**20


class _Buffers:
    """Memory to read into, used again once nothing looks at it: fresh pages cost more than the reading."""

    def __init__(self) -> None:
        self._all: list[npt.NDArray[np.uint8]] = []

    def take(self, size: int) -> npt.NDArray[np.uint8]:
        """uint8 `(size,)`, its contents arbitrary."""
        for index in range(len(self._all)):
            # two references: the list's and the call's. Every view of a buffer refers to it
            if len(self._all[index]) >= size and sys.getrefcount(self._all[index]) == 2:
                return self._all[index][:size]
        self._all = [*self._all[-_KEPT:], np.empty(size, dtype=np.uint8)]
        return self._all[-1][:size]


class ShardFile:
    """A shard of a committed round.

    Args:
        run: The run's folder.
        number: The round.
        shard: Its entry in the round's manifest.
        verify: "sha256": the digests of the footer and of every row group that is fetched must be the manifest's; where
            it has none, that of the whole file, now. "size": only the file's size must be.

    Attributes:
        name: The file, relative to the run.
        layout: Where things lie in it.
        bytes_read: Bytes read of it so far.

    Raises:
        ManifestError: It is missing, or not what the manifest says.
    """

    def __init__(self, run: Folder, number: int, shard: Shard, verify: Verify) -> None:
        self.name = f"{round_folder(number)}/{shard.path}"
        self.bytes_read = 0
        self._shard, self._verify = shard, verify
        self._where, self._repair = run.path(self.name), _repair(number)
        try:
            size = run.size(self.name)
        except FileNotFoundError:
            raise ManifestError(_why_missing(run, number, shard, self._where)) from None
        if size != shard.bytes:
            raise self._fault(f"has {size} bytes, the manifest says {shard.bytes}")
        self._source: Any = run.open(self.name)
        self._buffers = _Buffers()
        if verify == "sha256" and shard.groups is None and (found := self._hash()) != shard.sha256:
            raise self._fault(f"sha256 is {found}, the manifest says {shard.sha256}")
        self.layout = self._read_layout()

    def fetch(self, groups: Sequence[int]) -> Window:
        """Read and check row groups, neighbours in one go.

        Raises:
            ManifestError: They cannot be read, or are damaged.
        """
        borders, digests = self.layout.borders, self._shard.groups
        base, end = borders[groups[0]], borders[groups[-1] + 1]
        data = self._buffers.take(end - base)
        view = data.data
        runs: list[list[int]] = []
        for group in groups:
            if runs and group == runs[-1][1]:
                runs[-1][1] = group + 1
            else:
                runs.append([group, group + 1])
        for first, last in runs:
            self._fill(view[borders[first] - base : borders[last] - base], borders[first])
        if self._verify == "sha256" and digests is not None:
            ranges = [view[borders[group] - base : borders[group + 1] - base] for group in groups]
            for group, found in zip(groups, _digests(ranges), strict=True):
                if found != digests[group]:
                    raise self._fault(
                        f"sha256 of row group {group} begins with {found}, the manifest says {digests[group]}"
                    )
        return Window(self.layout, groups, data, base)

    def close(self) -> None:
        """Close the file; windows stay."""
        self._source.close()

    def _read_layout(self) -> ShardLayout:
        size = self._shard.bytes
        if size < TAIL + len(MAGIC):
            raise self._fault(f"is not a readable Parquet file (it has {size} bytes)")
        tail = bytearray(TAIL)
        self._fill(memoryview(tail), size - TAIL)
        start = footer_start(tail, size)
        if start is None:
            raise self._fault("is not a readable Parquet file (it does not end as one)")
        footer = bytearray(size - start)
        self._fill(memoryview(footer), start)
        expected = self._shard.footer if self._verify == "sha256" else None
        if expected is not None and (found := range_digest(footer)) != expected:
            raise self._fault(f"sha256 of its footer begins with {found}, the manifest says {expected}")
        try:
            metadata = pq.read_metadata(pa.BufferReader(MAGIC + bytes(footer)))
            names = tuple(metadata.schema.to_arrow_schema().names)
        except (OSError, pa.ArrowException) as error:
            raise self._fault(f"is not a readable Parquet file ({error})") from error
        return self._checked(metadata, names, start)

    def _checked(self, metadata: pq.FileMetaData, names: tuple[str, ...], footer: int) -> ShardLayout:
        if metadata.num_rows != self._shard.samples:
            raise self._fault(f"has {metadata.num_rows} rows, the manifest says {self._shard.samples}")
        rows = [metadata.row_group(g).num_rows for g in range(metadata.num_row_groups)]
        if self._shard.groups is not None and len(self._shard.groups) != len(rows):
            raise self._fault(f"has {len(rows)} row groups, the manifest has digests of {len(self._shard.groups)}")
        borders = [*group_starts(metadata), footer]
        if borders != sorted(borders):
            raise self._fault("has row groups out of order")
        firsts = list(accumulate(rows, initial=0))
        return ShardLayout(self._where, self._shard.bytes, metadata, names, firsts, borders, self._repair)

    def _fill(self, view: memoryview, start: int) -> None:
        """Read the bytes from `start` on until the view is full."""
        try:
            self._source.seek(start)
            at = 0
            while at < len(view):
                count = self._source.readinto(view[at:])
                if not count:
                    raise self._fault(f"ends at byte {start + at}, the manifest says {self._shard.bytes}")
                at += count
        except (OSError, pa.ArrowException) as error:
            raise self._fault(f"bytes {start} to {start + len(view)} cannot be read ({error})") from error
        self.bytes_read += len(view)

    def _hash(self) -> str:
        digest = hashlib.sha256()
        self._source.seek(0)
        while block := self._source.read(_BLOCK):
            digest.update(block)
            self.bytes_read += len(block)
        return digest.hexdigest()

    def _fault(self, what: str) -> ManifestError:
        return ManifestError(f"{self._where}: {what}; {self._repair}")


def _digests(ranges: Sequence[memoryview]) -> list[str]:
    """Digests of ranges; of many bytes a second thread takes half, since hashing lets go of the interpreter."""
    if len(ranges) < 2 or sum(map(len, ranges)) < _THREADED:
        return [range_digest(data) for data in ranges]
    half, rest = len(ranges) // 2, list[str]()
    helper = threading.Thread(target=lambda: rest.extend(range_digest(data) for data in ranges[half:]))
    helper.start()
    mine = [range_digest(data) for data in ranges[:half]]
    helper.join()
    return mine + rest


def _repair(number: int) -> str:
    return f"run `prereq sample --repair {number}` with this run's configuration to draw it again"


def _why_missing(run: Folder, number: int, shard: Shard, where: str) -> str:
    expected = f"{where}: is missing, expected {shard.bytes} bytes with sha256 {shard.sha256}"
    if run.exists(f"{round_folder(number)}/deleted.json"):
        return (
            f"{expected}; retention (keep_rounds) deleted it behind the readers: load a newer checkpoint, "
            f"or {_repair(number)}"
        )
    return f"{expected}; {_repair(number)}"
