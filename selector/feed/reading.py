"""Rows of a committed round from its shards: only the row groups that are asked for, each byte checked once.

A shard that does not hold what its manifest says stops the reader with the name of the file; nothing is skipped.
"""

import threading
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

from prereq.graph.errors import ConfigError, ManifestError
from prereq.selector.feed.shard_file import ShardFile, Verify
from prereq.selector.feed.window import Part, Rows, ShardLayout, Window
from prereq.selector.rounds.manifest import RoundManifest, Shard, round_folder
from prereq.selector.storage import Folder

_AHEAD = 2**20  # bytes of row groups read in one go, about, where a loop's next batches can be foreseen
_WORTH = 2**18  # bytes from which reading in a second thread is worth its start
_PACKED_NAMES = {"id": "ids", "arm": "arms"}


class _Coming:
    """A window that a second thread reads and checks while the loop is busy with the one before.

    The thread is no daemon: one that is inside of pyarrow when the interpreter ends would abort the process.
    """

    def __init__(self, file: ShardFile, groups: Sequence[int]) -> None:
        self._window: Window | None = None
        self._thread = threading.Thread(target=self._read, args=(file, groups))
        self._thread.start()

    def _read(self, file: ShardFile, groups: Sequence[int]) -> None:
        try:
            self._window = file.fetch(groups)
        except ManifestError:
            self._window = None  # found again, and said, when the loop gets there

    def take(self) -> Window | None:
        """Wait for it; None where it could not be read, or the process is a fork and the thread was the parent's."""
        self._thread.join()
        return self._window


class ShardReader:
    """Reads ranges of rows; what a steady loop will ask for next is read along with what it asks for, and ahead of it.

    Args:
        run: The run's folder.
        columns: Columns to offer; None: `id, arm, skills, n_tokens` and `input_ids` where there is one, else `text`; of
            packed rows all.
        verify: As in `ShardFile`.
    """

    def __init__(self, run: Folder, columns: tuple[str, ...] | None, verify: Verify) -> None:
        if verify not in ("sha256", "size"):
            raise ConfigError(f"verify: {verify!r} is not one of sha256, size")
        self._run, self._columns, self._verify = run, columns, verify
        self._file: ShardFile | None = None
        self._names: tuple[str, ...] = ()  # columns that are offered of the open shard
        self._windows: list[Window] = []  # what was read last
        self._coming: _Coming | None = None  # the open file is its alone until it is taken
        self._last: tuple[int, int] | None = None  # rows of the last range in the open shard
        self._bytes = 0  # read of shards that were closed

    @property
    def bytes_read(self) -> int:
        """Bytes of shards read so far."""
        return self._bytes + (0 if self._file is None else self._file.bytes_read)

    def read(self, manifest: RoundManifest, start: int, stop: int) -> Rows:
        """Rows [start, stop) of a round, in order.

        Raises:
            ManifestError: A shard is missing, damaged, or lacks a column.
        """
        parts: list[Part] = []
        ends = list(accumulate(shard.samples for shard in manifest.shards))
        while start < stop:
            index = bisect_right(ends, start)
            first = ends[index] - manifest.shards[index].samples
            end = min(stop, ends[index])
            file = self._open(manifest.round, manifest.shards[index])
            parts += self._parts(file, start - first, end - first)
            start = end
        return Rows(parts, self._names)

    def close(self) -> None:
        """Close the open shard."""
        if self._coming is not None:
            self._coming.take()
        if self._file is not None:
            self._file.close()
            self._bytes += self._file.bytes_read
        self._file, self._windows, self._last, self._coming = None, [], None, None

    def _open(self, number: int, shard: Shard) -> ShardFile:
        if self._file is None or self._file.name != f"{round_folder(number)}/{shard.path}":
            self.close()
            self._file = ShardFile(self._run, number, shard, self._verify)
            self._names = self._wanted(self._file.layout)
        return self._file

    def _parts(self, file: ShardFile, start: int, stop: int) -> list[Part]:
        """Rows [start, stop) of the open shard as ranges of row groups, which are read if they are not there."""
        layout, firsts = file.layout, file.layout.first_rows
        groups = _groups(layout, start, stop)
        missing = [group for group in groups if not any(group in window for window in self._windows)]
        if missing:
            self._windows = [window for window in self._windows if any(group in window for group in groups)]
            coming, self._coming = self._coming, None
            window = None if coming is None else coming.take()
            if window is None or not all(group in window for group in missing):
                window = file.fetch(self._foreseen(layout, missing, start, stop))
            self._windows.append(window)
            following = self._foreseen(layout, (), start, stop)
            if sum(layout.borders[g + 1] - layout.borders[g] for g in following) >= _WORTH:
                self._coming = _Coming(file, following)
        self._last = start, stop
        parts = []
        for group in groups:
            window = next(window for window in self._windows if group in window)
            first = max(start, firsts[group]) - firsts[group]
            parts.append(Part(window, group, first, min(stop, firsts[group + 1]) - firsts[group] - first))
        return parts

    def _foreseen(self, layout: ShardLayout, groups: Sequence[int], start: int, stop: int) -> list[int]:
        """These row groups, and those that the next ranges will need if the loop goes on as it does."""
        wanted, there = dict.fromkeys(groups), {group for window in self._windows for group in window.groups}
        last, rows = self._last, layout.first_rows[-1]
        stride = start - last[0] if last is not None and last[1] - last[0] == stop - start else 0
        size = sum(layout.borders[g + 1] - layout.borders[g] for g in wanted)
        while stride > 0 and size < _AHEAD and stop + stride <= rows:
            start, stop = start + stride, stop + stride
            new = [g for g in _groups(layout, start, stop) if g not in wanted and g not in there]
            size += sum(layout.borders[g + 1] - layout.borders[g] for g in new)
            wanted.update(dict.fromkeys(new))
        return sorted(wanted)

    def _wanted(self, layout: ShardLayout) -> tuple[str, ...]:
        there, packed = layout.names, "ids" in layout.names
        usual = ("id", "arm", "skills", "n_tokens", "input_ids" if "input_ids" in there else "text")
        names = self._columns or (there if packed else usual)
        wanted = tuple(dict.fromkeys(_PACKED_NAMES.get(name, name) if packed else name for name in names))
        missing = [column for column in wanted if column not in there]
        if missing:
            raise ManifestError(
                f"{layout.where}: has no columns {missing}; it has {list(there)}: ask the feed for some of these"
            )
        return wanted


def _groups(layout: ShardLayout, start: int, stop: int) -> range:
    """The row groups with rows of [start, stop)."""
    return range(bisect_right(layout.first_rows, start) - 1, bisect_right(layout.first_rows, stop - 1))
