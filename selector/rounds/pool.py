"""Reading a pool: its manifest, its arms, and documents by arm and stored row. Writing one is a job (`jobs.stages`)."""

import json
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from prereq.graph.canonical import sha256_hex
from prereq.graph.errors import ManifestError
from prereq.graph.parquet_bytes import read_parquet
from prereq.selector.mixers.protocol import Arms
from prereq.selector.mixers.shares import SkillShares
from prereq.selector.mixers.simplex import FloatArray
from prereq.selector.rounds.order import IntArray
from prereq.selector.rounds.shape import misfit
from prereq.selector.storage import Folder

FORMAT = "prereq.pool/1"
SPLITS = ("control", "report")
_SHAPE = {
    "config": str,
    "seed": int,
    "documents": int,
    "tokens": int,
    "arms": [{"id": str, "rows": int, "tokens": int, "parts": [{"path": str, "row_groups": [int]}]}],
    "skills": [str],
    "holdout": str,
}
_CACHE_BYTES = 256 * 2**20  # decoded row groups kept for the next round


@dataclass(frozen=True, slots=True)
class ArmLayout:
    """Where an arm's documents lie: its row groups in order."""

    id: str
    rows: int
    tokens: int
    groups: tuple[tuple[str, int], ...]  # (part, row group)


class Pool:
    """A finished pool, opened for drawing by one thread.

    Raises:
        ManifestError: The manifest is absent, of another format, or a part is missing.
    """

    def __init__(self, path: str) -> None:
        self.folder = Folder(path)
        try:
            data = self.folder.read("manifest.json")
        except FileNotFoundError:
            raise ManifestError(
                f"{path}: no finished pool (manifest.json is missing); run `prereq build` with this configuration"
            ) from None
        self.sha256 = sha256_hex(data)
        self.manifest: dict[str, Any] = _parse(data, self.folder.path("manifest.json"))
        self.skills = tuple(self.manifest["skills"])
        self.layouts = tuple(_layout(arm) for arm in self.manifest["arms"])
        for part in sorted({path for layout in self.layouts for path, _ in layout.groups}):
            if not self.folder.exists(part):
                raise ManifestError(
                    f"{self.folder.path(part)}: is missing, the pool's manifest names it; build the pool again"
                )
        self._files: dict[str, pq.ParquetFile] = {}
        self._cache: OrderedDict[tuple[str, int], pa.Table] = OrderedDict()
        self._cached_bytes = 0
        self._tokens: dict[int, IntArray] = {}

    def arms(self) -> Arms:
        """The arms as mixers see them; ids ascend as in the manifest."""
        table = self._read_arms("T")
        rows = {
            str(arm): dict(shares) for arm, shares in zip(table["id"].to_pylist(), table["T"].to_pylist(), strict=True)
        }
        ids = tuple(layout.id for layout in self.layouts)
        if set(rows) != set(ids):
            raise ManifestError(
                f"{self.folder.path('arms.parquet')}: its arms are not those of the manifest; build the pool again"
            )
        return Arms(
            ids=ids,
            tokens=np.array([layout.tokens for layout in self.layouts], dtype=np.int64),
            rows=np.array([layout.rows for layout in self.layouts], dtype=np.int64),
            skills=self.skills,
            shares=SkillShares.from_rows([rows[arm] for arm in ids], self.skills),
            scores=self._scores(ids),
        )

    def _scores(self, ids: tuple[str, ...]) -> dict[str, FloatArray]:
        """Mean of each score per arm, by name; none in a pool without scores."""
        table = self._read_arms("scores")
        if "scores" not in table.column_names:
            return {}
        rows = dict(zip(table["id"].to_pylist(), map(dict, table["scores"].to_pylist()), strict=True))
        names = sorted({name for row in rows.values() for name in row})
        try:
            return {name: np.array([rows[arm][name] for arm in ids], dtype=np.float64) for name in names}
        except KeyError as error:
            raise ManifestError(
                f"{self.folder.path('arms.parquet')}: an arm has no score {error}; build the pool again"
            ) from error

    def names(self) -> dict[str, str]:
        """Readable name per arm id."""
        table = self._read_arms("name")
        return dict(zip(table["id"].to_pylist(), table["name"].to_pylist(), strict=True))

    def group_rows(self, arm: int) -> IntArray:
        """Rows of each row group of an arm (by position), `(G,)`."""
        groups = self.layouts[arm].groups
        return np.array([self._file(part).metadata.row_group(g).num_rows for part, g in groups], dtype=np.int64)

    def tokens(self, arm: int) -> IntArray:
        """Tokens of each document of an arm in stored order, `(rows,)`; read once, 8 bytes a document.

        Raises:
            ManifestError: The parts do not hold what the manifest says.
        """
        if arm not in self._tokens:
            layout = self.layouts[arm]
            columns = [self._read_group(p, g, ["n_tokens"])["n_tokens"] for p, g in layout.groups]
            values = np.concatenate([column.to_numpy() for column in columns]).astype(np.int64)
            if len(values) != layout.rows or int(values.sum()) != layout.tokens:
                raise ManifestError(
                    f"{self.folder.name}: arm {layout.id} has {len(values)} documents and {int(values.sum())} tokens, "
                    f"the manifest says {layout.rows} and {layout.tokens}; build the pool again"
                )
            self._tokens[arm] = values
        return self._tokens[arm]

    def text_columns(self, arm: int, names: tuple[str, ...]) -> list[list[str]]:
        """Columns of text of an arm's documents in stored order, a list per name."""
        groups = [self._read_group(part, group, list(names)) for part, group in self.layouts[arm].groups]
        return [[value for table in groups for value in table[name].to_pylist()] for name in names]

    def stored_tables(self, names: tuple[str, ...]) -> Iterator[pa.Table]:
        """Columns of all documents, a row group at a time: arms in the manifest's order, rows as they are stored."""
        for layout in self.layouts:
            for part, group in layout.groups:
                yield self._read_group(part, group, list(names))

    def read_rows(self, arm: int, rows: IntArray) -> pa.Table:
        """Documents of an arm by stored row, in the order given."""
        layout = self.layouts[arm]
        starts = np.concatenate([[0], np.cumsum(self.group_rows(arm))])
        of_group = np.searchsorted(starts, rows, side="right") - 1
        needed = np.unique(of_group)
        tables = [self._group(*layout.groups[g]) for g in needed]
        offsets = np.concatenate([[0], np.cumsum([table.num_rows for table in tables])])
        local = rows - starts[of_group] + offsets[np.searchsorted(needed, of_group)]
        return pa.concat_tables(tables).take(pa.array(local))

    def _read_arms(self, column: str) -> pa.Table:
        """Ids of `arms.parquet` and one more column."""
        try:
            with self.folder.open("arms.parquet") as file:
                return pq.ParquetFile(file, page_checksum_verification=True).read(columns=["id", column])
        except (OSError, pa.ArrowException) as error:
            raise self._damaged("arms.parquet", error) from error

    def _read_group(self, part: str, group: int, columns: list[str] | None = None) -> pa.Table:
        file = self._file(part)
        try:
            return file.read_row_group(group, columns=columns)
        except (OSError, IndexError, pa.ArrowException) as error:
            raise self._damaged(part, error, f", row group {group}") from error

    def _damaged(self, name: str, error: Exception, place: str = "") -> ManifestError:
        reason = " ".join(str(error).split())
        return ManifestError(
            f"{self.folder.path(name)}{place}: cannot be read ({reason}); build the pool again in a fresh pool_dir"
        )

    def _file(self, part: str) -> pq.ParquetFile:
        if part not in self._files:
            try:
                self._files[part] = pq.ParquetFile(self.folder.open(part), page_checksum_verification=True)
            except (OSError, pa.ArrowException) as error:
                raise self._damaged(part, error) from error
        return self._files[part]

    def _group(self, part: str, group: int) -> pa.Table:
        key = (part, group)
        if key not in self._cache:
            self._cache[key] = self._read_group(part, group)
            self._cached_bytes += self._cache[key].nbytes
            while self._cached_bytes > _CACHE_BYTES and len(self._cache) > 1:
                self._cached_bytes -= self._cache.popitem(last=False)[1].nbytes
        self._cache.move_to_end(key)
        return self._cache[key]


def _parse(data: bytes, where: str) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ManifestError(f"{where}: not JSON ({error}); build the pool again") from error
    if not isinstance(value, dict) or value.get("format") != FORMAT or not _SHAPE.keys() <= value.keys():
        raise ManifestError(f"{where}: is not a {FORMAT} manifest with the keys {sorted(_SHAPE)}; build the pool again")
    fault = misfit(value, _SHAPE)
    if fault is not None:
        raise ManifestError(f"{where}: {fault}; the file was changed: build the pool again in a fresh pool_dir")
    return value


def _layout(arm: dict[str, Any]) -> ArmLayout:
    groups = tuple((part["path"], int(g)) for part in arm["parts"] for g in part["row_groups"])
    return ArmLayout(arm["id"], int(arm["rows"]), int(arm["tokens"]), groups)


def read_holdout(pool: Folder, split: str | None = None) -> pa.Table:
    """The holdout of a pool, checked against the manifest's digest.

    Args:
        pool: The pool's folder.
        split: "control" (steers the mixer) or "report" (only judges); None for both.

    Returns:
        Table `id, text, skills, split` in stored order.

    Raises:
        ManifestError: The split is unknown, or the files are not those that the manifest was written for.
    """
    if split is not None and split not in SPLITS:
        raise ManifestError(f"holdout split {split!r} is not one of {', '.join(SPLITS)}")
    try:
        manifest = _parse(pool.read("manifest.json"), pool.path("manifest.json"))
    except FileNotFoundError:
        raise ManifestError(
            f"{pool.path('manifest.json')}: is missing, so there is no pool to read the holdout of; a relative "
            "path is looked for from the current folder: start there, or give the pool's own (Feed(..., pool=...))"
        ) from None
    names = [name for name in pool.names("holdout") if name.startswith("part-")]
    files = [pool.read(f"holdout/{name}") for name in names]
    found = sha256_hex(b"".join(files))
    if found != manifest["holdout"]:
        raise ManifestError(
            f"{pool.path('holdout')}: sha256 of its parts is {found}, the manifest says {manifest['holdout']}; "
            "a holdout file was changed: build the pool again in a fresh pool_dir"
        )
    tables = [read_parquet(data) for data in files]
    if not tables:
        schema = [
            ("id", pa.string()),
            ("text", pa.large_string()),
            ("skills", pa.list_(pa.string())),
            ("split", pa.string()),
        ]
        return pa.schema(schema).empty_table()
    table = pa.concat_tables(tables)
    if split is None:
        return table
    return table.filter(pc.equal(table["split"], split))
