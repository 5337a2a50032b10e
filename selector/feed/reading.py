"""Rows of a committed round from its shards: only the row groups that are asked for, each shard checked once.

A shard that does not hold what its manifest says stops the reader with the name of the file; nothing is skipped.
"""

import hashlib
from bisect import bisect_right
from itertools import accumulate
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from prereq.graph.errors import ConfigError, ManifestError
from prereq.selector.rounds.manifest import RoundManifest, Shard, round_folder
from prereq.selector.storage import Folder

Verify = Literal["sha256", "size"]
_BLOCK = 2**20  # bytes hashed at a time


class ShardReader:
    """Reads ranges of rows; keeps the shard and the row groups of the last range for the next one.

    Args:
        run: The run's folder.
        columns: Columns to read; None: `id, arm, skills, n_tokens` and `input_ids` where there is one, else `text`.
        verify: "sha256" reads every opened shard once as a whole; "size" compares its bytes only.
    """

    def __init__(self, run: Folder, columns: tuple[str, ...] | None, verify: Verify) -> None:
        if verify not in ("sha256", "size"):
            raise ConfigError(f"verify: {verify!r} is not one of sha256, size")
        self._run, self._columns, self._verify = run, columns, verify
        self._name: str | None = None  # of the open shard
        self._file: Any = None
        self._starts: list[int] = []  # first row of each row group of the open shard, and the end
        self._columns_there: list[str] = []  # that are read from the open shard
        self._kept: tuple[int, int, pa.Table] | None = None  # first and last row group of the last range, its rows

    def read(self, manifest: RoundManifest, start: int, stop: int) -> pa.Table:
        """Rows [start, stop) of a round, in order.

        Raises:
            ManifestError: A shard is missing, damaged, or lacks a column.
        """
        pieces = []
        ends = list(accumulate(shard.samples for shard in manifest.shards))
        while start < stop:
            index = bisect_right(ends, start)
            first = ends[index] - manifest.shards[index].samples
            end = min(stop, ends[index])
            pieces.append(self._read_shard(manifest, manifest.shards[index], start - first, end - first))
            start = end
        return pieces[0] if len(pieces) == 1 else pa.concat_tables(pieces)

    def close(self) -> None:
        """Close the open shard."""
        if self._file is not None:
            self._file.close(force=True)
        self._name, self._file, self._kept = None, None, None

    def _read_shard(self, manifest: RoundManifest, shard: Shard, start: int, stop: int) -> pa.Table:
        name = f"{round_folder(manifest.round)}/{shard.path}"
        where = self._run.path(name)
        if name != self._name:
            self.close()
            self._open(manifest.round, shard, name)
        first, last = bisect_right(self._starts, start) - 1, bisect_right(self._starts, stop - 1)
        try:
            table = self._groups(first, last)
        except (OSError, pa.ArrowInvalid) as error:
            repair = _repair(manifest.round)
            raise ManifestError(f"{where}: rows {start} to {stop} cannot be read ({error}); {repair}") from error
        return table.slice(start - self._starts[first], stop - start)

    def _groups(self, first: int, last: int) -> pa.Table:
        """Rows of the row groups [first, last) of the open shard; those of the last range are not read again."""
        pieces, read_from = [], first
        if self._kept is not None and self._kept[0] <= first < self._kept[1]:
            kept_first, kept_last, kept = self._kept
            read_from = min(kept_last, last)
            pieces.append(
                kept.slice(
                    self._starts[first] - self._starts[kept_first], self._starts[read_from] - self._starts[first]
                )
            )
        if read_from < last:
            pieces.append(self._file.read_row_groups(list(range(read_from, last)), columns=self._columns_there))
        table = pieces[0] if len(pieces) == 1 else pa.concat_tables(pieces)
        self._kept = (first, last, table)
        return table

    def _wanted(self, there: list[str], where: str) -> list[str]:
        wanted = self._columns or ("id", "arm", "skills", "n_tokens", "input_ids" if "input_ids" in there else "text")
        missing = [column for column in wanted if column not in there]
        if missing:
            raise ManifestError(f"{where}: has no columns {missing}; it has {there}: ask the feed for some of these")
        return list(wanted)

    def _open(self, number: int, shard: Shard, name: str) -> None:
        where, repair = self._run.path(name), _repair(number)
        try:
            size = self._run.size(name)
        except FileNotFoundError:
            raise ManifestError(_why_missing(self._run, number, shard, where)) from None
        if size != shard.bytes:
            raise ManifestError(f"{where}: has {size} bytes, the manifest says {shard.bytes}; {repair}")
        if self._verify == "sha256" and (found := self._hash(name)) != shard.sha256:
            raise ManifestError(f"{where}: sha256 is {found}, the manifest says {shard.sha256}; {repair}")
        try:
            self._file = pq.ParquetFile(self._run.open(name))
        except (OSError, pa.ArrowInvalid) as error:
            raise ManifestError(f"{where}: is not a readable Parquet file ({error}); {repair}") from error
        meta = self._file.metadata
        if meta.num_rows != shard.samples:
            raise ManifestError(f"{where}: has {meta.num_rows} rows, the manifest says {shard.samples}; {repair}")
        rows = (meta.row_group(g).num_rows for g in range(meta.num_row_groups))
        self._columns_there = self._wanted(self._file.schema_arrow.names, where)
        self._name, self._starts = name, list(accumulate(rows, initial=0))

    def _hash(self, name: str) -> str:
        digest = hashlib.sha256()
        with self._run.open(name) as file:
            while block := file.read(_BLOCK):
                digest.update(block)
        return digest.hexdigest()


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
