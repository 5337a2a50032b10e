"""How diverse a pool and the rounds of a run are: Vendi scores of the vectors that the build embedded documents with.

The vectors are in the build's stages; without them (they may be deleted) nothing can be said. A round is what its
shards hold, each document as often as it was drawn. Vectors are read part by part and a round is kept as one d x d
matrix, so memory grows with rounds and drawn documents, not with the pool.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from prereq.graph.errors import ManifestError
from prereq.selector.corpus.diversity import Spread
from prereq.selector.corpus.keys import KeyArray, id_keys
from prereq.selector.rounds.manifest import RoundManifest, read_chain, round_folder
from prereq.selector.rounds.pool import Pool
from prereq.selector.rounds.run import RunInfo
from prereq.selector.storage import Folder

ORDERS = (1.0, 2.0, np.inf)
CHEAP = 5e10
"""Documents times d (d + 1000) up to which a report measures diversity: some ten seconds, with 64 numbers 700,000."""
_NUMBERS = 2**25  # of the matrices in memory at a time: 256 MiB
FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A set of documents: how many, and its Vendi score by order, the effective number of different ones."""

    documents: int
    scores: dict[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Diversity:
    """Of a pool, and where there is a run of what it drew.

    Attributes:
        pool: All documents of the pool.
        rounds: By round, those whose shards are there.
        drawn: All these rounds together, a document counted as often as it was drawn.
        uncovered: (id, x' M^-1 x) of the pool's document that was covered least, M = I + sum of the drawn x x':
            1 where nothing near it was drawn, toward 0 where much was (the criterion of a G-optimal design).
    """

    pool: Measured
    rounds: dict[int, Measured]
    drawn: Measured | None
    uncovered: tuple[str, float] | None


def find_vectors(pool: Folder, work_dir: str | None = None) -> list[str]:
    """Parts of a build's embedding, in order; none where they were deleted.

    Args:
        pool: Its folder.
        work_dir: Folder of the build's stages, where it is not the pool's own.
    """
    if work_dir is None and not pool.is_local:
        return []
    stage = (Path(work_dir) / "stages" if work_dir is not None else Path(pool.path("stages"))) / "embed"
    try:
        tasks = json.loads((stage / "manifest.json").read_bytes())["tasks"]
        return [str(stage / task["name"] / f["path"]) for task in tasks for f in task["files"]]
    except (OSError, ValueError, KeyError, TypeError):  # not there, or torn: the same as deleted
        return []


def measure(
    pool: Pool, vectors: Sequence[str], run: Folder | None = None, orders: Sequence[float] = ORDERS
) -> Diversity:
    """Vendi scores of a pool and of the rounds of a run.

    Args:
        pool: The pool.
        vectors: From `find_vectors`.
        run: A run over that pool.
        orders: q of the scores.

    Raises:
        ManifestError: A vector is missing or cannot be read: the stages are not those of this pool.
    """
    inside = np.sort(np.concatenate([id_keys(ids) for ids in _pool_ids(pool)]))
    drawn = {m.round: keys for m in read_chain(run) if (keys := _drawn_keys(run, m)) is not None} if run else {}
    spreads = list(_spreads(vectors, inside, [inside, *(drawn[number] for number in sorted(drawn))]))
    held = round(spreads[0].weight) if spreads else 0
    if held != len(inside):
        raise ManifestError(
            f"{pool.folder.name}: the stages hold vectors of {held} of its {len(inside)} documents, so they are not "
            "those that it was built with; delete the folder `stages`, or build the pool again"
        )
    of_pool = _measured(spreads[0], orders)
    if not drawn:
        return Diversity(pool=of_pool, rounds={}, drawn=None, uncovered=None)
    total = sum(spreads[1:], Spread.empty(len(spreads[0].moments)))
    return Diversity(
        pool=of_pool,
        rounds={n: _measured(each, orders) for n, each in zip(sorted(drawn), spreads[1:], strict=True)},
        drawn=_measured(total, orders),
        uncovered=_least_covered(pool, vectors, inside, total),
    )


def measure_if_cheap(run: Folder, info: RunInfo, work_dir: str | None) -> Diversity | str | None:
    """As `measure`, for a page that must not wait: None without vectors or over `CHEAP`; on a fault, words."""
    try:
        pool = Pool(info.pool_path)
        vectors = find_vectors(pool.folder, work_dir)
        if not vectors or pool.sha256 != info.pool:
            return None
        drawn = sum(manifest.documents for manifest in read_chain(run))
        dimensions = _dimensions(vectors[0])
        if (pool.manifest["documents"] + drawn) * dimensions * (dimensions + 1000) > CHEAP:
            return None
        return measure(pool, vectors, run)
    except (ManifestError, OSError, pa.ArrowException) as error:
        return f"diversity is not shown: {' '.join(str(error).split())}"


def _spreads(vectors: Sequence[str], inside: KeyArray, sets: Sequence[KeyArray]) -> Iterator[Spread]:
    """The spread of each set of documents, by their keys, as often as a key is in it.

    As many sets are gone through at a time as have room for their matrices; for each such lot vectors are read once.
    """
    if not vectors:
        return
    dimensions = _dimensions(vectors[0])
    lot = max(1, _NUMBERS // dimensions**2)
    for first in range(0, len(sets), lot):
        chosen = sets[first : first + lot]
        keys, owner = np.concatenate(chosen), np.repeat(np.arange(len(chosen)), [len(each) for each in chosen])
        order = np.argsort(keys, kind="stable")
        keys, owner = keys[order], owner[order]
        found = [Spread.empty(dimensions)] * len(chosen)
        for ids, rows in read_vectors(vectors, inside):
            place, row = _matches(keys, ids)
            by_set = np.argsort(owner[place], kind="stable")
            present, starts = np.unique(owner[place][by_set], return_index=True)
            for number, own in zip(present.tolist(), np.split(row[by_set], starts[1:]), strict=False):
                found[number] += Spread.of(rows[own])
        yield from found


def _measured(spread: Spread, orders: Sequence[float]) -> Measured:
    scores = {float(q): round(spread.vendi_score(q), 6) for q in orders}
    return Measured(documents=round(spread.weight), scores=scores)


def _pool_ids(pool: Pool) -> Iterator[list[str]]:
    yield []
    for arm in range(len(pool.layouts)):
        yield pool.text_columns(arm, ("id",))[0]


def _drawn_keys(run: Folder, manifest: RoundManifest) -> KeyArray | None:
    """Keys of the documents that a round holds; None where its shards are gone.

    Raises:
        ManifestError: A shard cannot be read.
    """
    if run.exists(f"{round_folder(manifest.round)}/deleted.json"):
        return None
    ids: list[str] = []
    for shard in manifest.shards:
        name = f"{round_folder(manifest.round)}/{shard.path}"
        try:
            with run.open(name) as file:
                parquet = pq.ParquetFile(file)
                if "ids" not in parquet.schema_arrow.names:
                    ids += parquet.read(columns=["id"])["id"].to_pylist()
                    continue
                table = parquet.read(columns=["ids", "starts"])
        except (OSError, pa.ArrowException) as error:
            reason = " ".join(str(error).split())
            raise ManifestError(
                f"{run.path(name)}: cannot be read ({reason}); see `prereq inspect --verify`"
            ) from error
        pairs = zip(table["ids"].to_pylist(), table["starts"].to_pylist(), strict=True)
        # a document may be cut into several pieces: it counts where it begins
        ids += [one for row, starts in pairs for one, start in zip(row, starts, strict=True) if start == 0]
    return id_keys(ids)


def read_vectors(vectors: Sequence[str], inside: KeyArray) -> Iterator[tuple[KeyArray, FloatArray]]:
    """Keys `(n,)` and unit vectors `(n, d)` of the pool's documents, part by part.

    Args:
        vectors: From `find_vectors`.
        inside: Sorted keys of the pool's documents.

    Raises:
        ManifestError: A part cannot be read.
    """
    for path in vectors:
        try:
            table = pq.read_table(path, columns=["id", "vector"])
        except (OSError, pa.ArrowException) as error:
            raise _damaged(path, error) from error
        ids = id_keys(table["id"].to_pylist())
        column = table["vector"].combine_chunks()
        rows = np.asarray(column.flatten().to_numpy(zero_copy_only=False), dtype=np.float64).reshape(len(ids), -1)
        kept = np.flatnonzero(_among(inside, ids))
        rows = rows[kept]
        yield ids[kept], rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-300)


def _dimensions(path: str) -> int:
    try:
        return int(pq.read_schema(path).field("vector").type.list_size)
    except (OSError, pa.ArrowException, KeyError, AttributeError) as error:
        raise _damaged(path, error) from error


def _damaged(path: str, error: Exception) -> ManifestError:
    return ManifestError(f"{path}: cannot be read ({' '.join(str(error).split())}); build the pool again")


def _among(inside: KeyArray, keys: KeyArray) -> NDArray[np.bool_]:
    if not len(inside):
        return np.zeros(len(keys), dtype=np.bool_)
    place = np.minimum(np.searchsorted(inside, keys), len(inside) - 1)
    return np.asarray(inside[place] == keys)


def _matches(keys: KeyArray, ids: KeyArray) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Places in the sorted keys that are among the ids, and for each the row of its id."""
    low, high = np.searchsorted(keys, ids, "left"), np.searchsorted(keys, ids, "right")
    counts = high - low
    rows = np.repeat(np.arange(len(ids)), counts)
    inside = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    return low[rows] + inside, rows


def _least_covered(pool: Pool, vectors: Sequence[str], inside: KeyArray, drawn: Spread) -> tuple[str, float]:
    """The pool's document of the largest x' M^-1 x, ties by key, and that value."""
    inverse = np.linalg.inv(np.eye(len(drawn.moments)) + drawn.moments)
    best, key = -1.0, np.uint64(0)
    for keys, rows in read_vectors(vectors, inside):
        values = np.einsum("nd,de,ne->n", rows, inverse, rows, optimize=True)
        for place in np.lexsort((keys, -values))[:1]:
            if values[place] > best or (values[place] == best and keys[place] < key):
                best, key = float(values[place]), keys[place]
    name = next(name for ids in _pool_ids(pool) for name, own in zip(ids, id_keys(ids), strict=True) if own == key)
    return name, round(best, 6)


def describe(found: Diversity) -> list[str]:
    """A table for a terminal: the score of each order for each round, all rounds and the pool."""
    orders = list(found.pool.scores)
    head = ["Vendi score of", "documents", *(f"q = {order:g}" for order in orders)]
    sets: Mapping[str, Measured] = {f"round {n}": each for n, each in found.rounds.items()}
    sets = {**sets, **({"all rounds": found.drawn} if found.drawn else {}), "pool": found.pool}
    rows = [[name, f"{m.documents:,}", *(f"{m.scores[order]:.3f}" for order in orders)] for name, m in sets.items()]
    lines = [
        "  ".join(f"{cell:<14}" if not i else f"{cell:>10}" for i, cell in enumerate(row)) for row in [head, *rows]
    ]
    if found.uncovered:
        name, value = found.uncovered
        lines.append(f"least covered by what was drawn: {name} ({value:.4f}; 1: nothing like it was drawn)")
    return lines


def plain(found: Diversity) -> dict[str, object]:
    """Plain values for JSON; orders are text, because infinity is none of JSON's numbers."""

    def of(each: Measured) -> dict[str, object]:
        return {"documents": each.documents, "vendi": {f"{order:g}": value for order, value in each.scores.items()}}

    return {
        "pool": of(found.pool),
        "rounds": {str(number): of(each) for number, each in found.rounds.items()},
        "drawn": of(found.drawn) if found.drawn else None,
        "uncovered": {"id": found.uncovered[0], "value": found.uncovered[1]} if found.uncovered else None,
    }
