"""Deciding the pool's layout, as the stage "arms" (one task).

arms/arms/part-NNNNN.parquet  split, arm and bucket of each document of part NNNNN
arms/arms/arms.parquet        id, name, centroid, T, where there are scores their means: goes into the pool
arms/arms/stats.json          documents, tokens, cohesion, scores of each arm: goes into the pool's summary.json

The task sees the vectors of one part at a time and the facts of all. Measured with two skills a document: 440 MiB at
its peak for a million documents, 300 bytes for each further one.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from prereq.graph.canonical import canonical_json
from prereq.graph.errors import TableError
from prereq.jobs.stages.holdout import Facts, Parts, read_facts
from prereq.jobs.stages.runner import Bench, StageResult, Task, run_stage
from prereq.jobs.stages.score import read_scores
from prereq.selector.corpus.holdout import POOL, IntArray
from prereq.selector.corpus.keys import KeyArray, seeded_order
from prereq.selector.corpus.layout import (
    STORED_ORDER,
    UNTAGGED,
    Buckets,
    FloatArray,
    LayoutConfig,
    arm_ids,
    cosines,
    plan_buckets,
    rarest_skills,
    skill_shares,
    unit_rows,
    vector_sums,
)

ARMS_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("name", pa.string()),
        ("centroid", pa.list_(pa.float32())),
        ("T", pa.map_(pa.string(), pa.float64())),
    ]
)


@dataclass(frozen=True, slots=True)
class Labelling:
    """What arms are made from, before they have ids: label number i is called names[i]."""

    names: tuple[str, ...]  # of clusters, skills (untagged last) or sources
    skills: tuple[str, ...]  # ids, graph order
    scores: tuple[str, ...] = ()  # names of columns of the documents


def choose_arms(
    bench: Bench,
    parts: Sequence[Parts],
    facts: StageResult,
    holdout: StageResult,
    labelling: Labelling,
    config: LayoutConfig,
) -> StageResult:
    """Decide arm and bucket of every pool document.

    Args:
        bench: Of this build.
        parts: Files of every documents part.
        facts: The stage "facts".
        holdout: The stage "holdout".
        labelling: Names of the arms to be, and the graph's skills.
        config: Kind of arm, size of a part.

    Raises:
        TableError: No document is left for the pool.
    """
    splits, vectors = holdout.matching("part-"), [part.vectors for part in parts]
    inputs = tuple(file.sha256 for file in (*facts.files, *splits, *vectors))
    paths = [(f.path, s.path, v.path) for f, s, v in zip(facts.files, splits, vectors, strict=True)]
    settings = {"layout": asdict(config), "seed": bench.seed, **asdict(labelling), "stats": 1}
    documents: list[str] = []
    if labelling.scores:
        documents = [part.documents.path for part in parts]
        inputs = (*inputs, *(part.documents.sha256 for part in parts))
    else:
        del settings["scores"]
    task = Task("arms", (paths, documents, labelling, config, bench.seed), inputs)
    return run_stage(bench, "arms", plan_arms, [task], settings)


def plan_arms(
    output: str,
    paths: list[tuple[str, str, str]],
    documents: list[str],
    labelling: Labelling,
    config: LayoutConfig,
    seed: int,
) -> dict[str, int]:
    """Give every pool document its arm and bucket, and write what is known of each arm."""
    columns = ["key", "text", "n_tokens", "bytes", "label"]
    facts = read_facts([path for path, _, _ in paths], columns, len(labelling.skills))
    splits = np.concatenate([pq.read_table(path)["split"].to_numpy() for _, path, _ in paths])
    inside = splits == POOL
    if not inside.any():
        raise TableError(
            f"no document is left for the pool: {len(splits)} were kept and all are held out or read like the holdout; "
            "give more input or a smaller holdout"
        )
    labels = facts.columns["label"].astype(np.int64)
    if config.arms == "skill":
        labels = rarest_skills(facts.tags, facts.tags.counts(inside))
    present, raw = np.unique(labels[inside], return_inverse=True)
    arms = np.full(len(splits), -1, dtype=np.int64)
    arms[inside] = raw
    centroids, central, cohesion = _centres(
        arms, facts.columns["key"], facts.borders, [v for _, _, v in paths], len(present)
    )
    ids = arm_ids([_digest(facts.columns["text"][row]) for row in central], [str(label) for label in present])
    order = np.array(sorted(range(len(ids)), key=ids.__getitem__))
    position = np.empty(len(ids), dtype=np.int64)
    position[order] = np.arange(len(ids))
    arms[inside] = position[raw]
    shares = skill_shares(arms, facts.columns["n_tokens"], facts.tags, len(ids))
    names = [labelling.names[present[place]] for place in order]
    sorted_ids, rows = [ids[place] for place in order], np.bincount(arms[inside])
    tokens = np.bincount(arms[inside], weights=facts.columns["n_tokens"][inside]).astype(np.int64)
    scores = mean_scores(documents, labelling.scores, arms, facts.columns["n_tokens"], len(ids))
    _write_stats(output, sorted_ids, rows, tokens, cohesion[order], scores)
    _write_arms(output, sorted_ids, names, centroids[order], shares, labelling.skills, scores)
    sizes = np.bincount(arms[inside], weights=facts.columns["bytes"][inside], minlength=len(ids)).astype(np.int64)
    buckets = plan_buckets(sizes, config.part_mib * 2**20)
    _write_plan(output, facts, splits, arms, buckets, seed)
    return {"arms": len(ids), "parts": buckets.count, "documents of the smallest arm": int(rows.min())}


def mean_scores(
    documents: Sequence[str], names: Sequence[str], arms: IntArray, tokens: IntArray, count: int
) -> dict[str, list[float]]:
    """Mean of each score over the tokens of each arm, `count` numbers per name.

    Args:
        documents: Paths of the documents' parts, which hold the scores.
        names: Of the scores.
        arms: `(n,)` arm of each document, negative where it is not in the pool.
        tokens: `(n,)`.
        count: Number of arms.
    """
    sums, start = {name: np.zeros(count) for name in names}, 0
    for path in documents:
        table = pq.read_table(path, columns=["id", *names])
        rows = slice(start, start := start + len(table))
        own = arms[rows] >= 0
        for name, total in sums.items():
            weighted = (read_scores(table, name, path) * tokens[rows])[own]
            total += np.bincount(arms[rows][own], weights=weighted, minlength=count)
    held = np.bincount(arms[arms >= 0], weights=tokens[arms >= 0], minlength=count)
    means = {name: total / np.maximum(held, 1.0) for name, total in sums.items()}
    return {name: [float(f"{value:.9g}") for value in mean.tolist()] for name, mean in means.items()}


def _digest(value: bytes) -> bytes:
    return bytes(value).ljust(32, b"\0")  # numpy drops zero bytes at the end


def _centres(
    arms: IntArray, keys: KeyArray, borders: IntArray, vectors: Sequence[str], count: int
) -> tuple[FloatArray, list[int], FloatArray]:
    """Unit mean vector of each arm `(count, d)`, the row of its most central document, ties by key, and its cohesion.

    Cohesion is the mean cosine of an arm's documents to its unit mean vector, `(count,)`.
    """
    sums = np.zeros((count, 0))
    for rows, part in _vectors(borders, vectors):
        found = vector_sums(arms[rows], part, count)
        sums = sums + found if sums.size else found
    centroids = unit_rows(sums)
    best = np.full(count, -np.inf)
    central = np.full(count, -1, dtype=np.int64)
    cosine_sums, documents = np.zeros(count), np.zeros(count, dtype=np.int64)
    for rows, part in _vectors(borders, vectors):
        arm, key = arms[rows], keys[rows]
        score = cosines(arm, part, centroids)
        own = arm >= 0
        cosine_sums += np.bincount(arm[own], weights=score[own], minlength=count)
        documents += np.bincount(arm[own], minlength=count)
        order = np.lexsort((key, -score, arm))
        order = order[arm[order] >= 0]
        present, first = np.unique(arm[order], return_index=True)
        for place, row in zip(present, order[first], strict=True):
            tied = score[row] == best[place] and key[row] < keys[central[place]]
            if score[row] > best[place] or tied:
                best[place], central[place] = score[row], rows.start + row
    return centroids, central.tolist(), cosine_sums / np.maximum(1, documents)


def _vectors(borders: IntArray, paths: Sequence[str]) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    """Rows and vectors `(n, d)` of each part."""
    for path, start, stop in zip(paths, borders, borders[1:], strict=False):
        column = pq.read_table(path, columns=["vector"])["vector"].combine_chunks()
        flat = column.flatten().to_numpy(zero_copy_only=False).astype(np.float32)
        yield slice(int(start), int(stop)), flat.reshape(len(column), column.type.list_size)


def _write_stats(
    output: str,
    ids: Sequence[str],
    documents: NDArray[np.int64],
    tokens: NDArray[np.int64],
    cohesion: FloatArray,
    scores: Mapping[str, Sequence[float]],
) -> None:
    facts: dict[str, dict[str, Any]] = {
        arm: {"documents": int(documents[row]), "tokens": int(tokens[row]), "cohesion": round(float(cohesion[row]), 6)}
        for row, arm in enumerate(ids)
    }
    if scores:
        for row, arm in enumerate(ids):
            facts[arm]["scores"] = {name: values[row] for name, values in scores.items()}
    (Path(output) / "stats.json").write_bytes(canonical_json(facts))


def _write_arms(
    output: str,
    ids: Sequence[str],
    names: Sequence[str],
    centroids: FloatArray,
    shares: FloatArray,
    skills: Sequence[str],
    scores: Mapping[str, Sequence[float]],
) -> None:
    columns = (*skills, UNTAGGED)
    table = {
        "id": ids,
        "name": names,
        "centroid": [row.astype(np.float32).tolist() for row in centroids],
        "T": [[(columns[k], float(row[k])) for k in np.flatnonzero(row)] for row in shares],
    }
    schema = ARMS_SCHEMA
    if scores:
        schema = schema.append(pa.field("scores", pa.map_(pa.string(), pa.float64())))
        table["scores"] = [[(name, scores[name][row]) for name in sorted(scores)] for row in range(len(ids))]
    # a flipped bit in a pool must be found when it is read, not drawn
    path, written = Path(output) / "arms.parquet", pa.table(table, schema=schema)
    pq.write_table(written, path, compression="zstd", write_page_checksum=True)


def _write_plan(output: str, facts: Facts, splits: NDArray[Any], arms: IntArray, buckets: Buckets, seed: int) -> None:
    where = buckets.of(arms, seeded_order(facts.columns["key"], seed, STORED_ORDER))
    for number, (start, stop) in enumerate(zip(facts.borders, facts.borders[1:], strict=False)):
        rows = slice(start, stop)
        table = {"split": splits[rows], "arm": arms[rows].astype(np.int32), "bucket": where[rows].astype(np.int32)}
        pq.write_table(pa.table(table), Path(output) / f"part-{number:05d}.parquet", compression="zstd")
