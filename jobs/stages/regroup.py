"""Grouping, merging and pruning fitted clusters, as stages; without such settings there is none of them.

groups/decide/{mapping.npy, centroids.npy, groups.json}    small cluster -> cluster, or -1 where it is pruned
cluster/NNNNN/part-00000.parquet, sample-00000.parquet     as `cluster` writes them, with the clusters of the mapping
pruned-{documents,vectors,clusters}/NNNNN/part-00000.parquet   the parts of these stages without the pruned rows
pruned-list/all/pruned.parquet                              id, source, place, cluster, score: what was pruned
"""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from prereq.graph.canonical import canonical_json
from prereq.graph.errors import ConfigError, TableError
from prereq.jobs.stages.runner import Bench, StageFile, StageResult, Task, run_stage
from prereq.selector.corpus.clustering import ClusteringConfig, number_of_clusters
from prereq.selector.corpus.grouping import (
    directions_of,
    group_centroids,
    merge_near,
    merge_small,
    without_gaps,
)

FloatArray = npt.NDArray[np.float64]
PRUNED_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("source", pa.string()),
        ("place", pa.string()),
        ("cluster", pa.int32()),  # number of the small cluster
        ("score", pa.float64()),  # mean of its documents
    ]
)


@dataclass(frozen=True, slots=True)
class Grouped:
    """What grouping leaves."""

    parts: StageResult  # as of the stage "cluster"; the cluster -1 is pruned
    centroids: StageFile
    mapping: StageFile
    counts: dict[str, int]


def regroup(
    bench: Bench, documents: StageResult, fitted: StageFile, assigned: StageResult, config: ClusteringConfig
) -> Grouped:
    """Decide what becomes of each fitted cluster, and rewrite the parts by it.

    Args:
        bench: Of this build.
        documents: Parts with the score column, where one is set.
        fitted: `centroids.npy` of the fit.
        assigned: The stage "cluster-fine": `id, cluster, similarity` and samples for names.
        config: With `config.regroups`.

    Raises:
        ConfigError: There is no such score column.
        TableError: A score is missing or not a number, or every cluster is pruned.
    """
    parts, texts = assigned.matching("part-"), documents.matching("part-")
    settings = {**asdict(config), "seed": bench.seed}
    args = (fitted.path, [file.path for file in parts], [file.path for file in texts], config, bench.seed)
    inputs = (fitted.sha256, *(file.sha256 for file in parts))
    if config.prune_column is not None:
        inputs += tuple(file.sha256 for file in texts)
    decided = run_stage(bench, "groups", decide, [Task("decide", args, inputs)], settings)
    mapping, centroids = (decided.matching(name)[0] for name in ("mapping", "centroids"))
    samples = assigned.matching("sample-")
    tasks = [
        Task(f"{number:05d}", (part.path, sample.path, mapping.path), (part.sha256, sample.sha256, mapping.sha256))
        for number, (part, sample) in enumerate(zip(parts, samples, strict=True))
    ]
    return Grouped(run_stage(bench, "cluster", rename_part, tasks, {}), centroids, mapping, decided.counts)


def decide(
    output: str, fitted: str, parts: list[str], documents: list[str], config: ClusteringConfig, seed: int
) -> dict[str, int]:
    """Write the mapping of fitted clusters to clusters, the clusters' centroids and what was decided why."""
    centroids = np.load(fitted, allow_pickle=False)
    sizes, scores = _facts(len(centroids), parts, documents, config)
    pruned = (scores < config.prune_below) & (sizes > 0)
    left = np.flatnonzero(~pruned & (sizes > 0))
    if not len(left):
        best = f"{np.nanmax(scores):g}" if len(scores) else "none"
        raise TableError(
            f"cluster: all {len(sizes)} clusters have a mean {config.prune_column} below clustering.prune_below "
            f"({config.prune_below:g}), the best {best}; lower it"
        )
    groups, merged = _groups(centroids[left], sizes[left], config, seed)
    found = directions_of(centroids[left], sizes[left], groups)
    mapping = np.full(len(centroids), -1, dtype=np.int32)
    mapping[left] = groups
    _save(output, "mapping.npy", mapping)
    _save(output, "centroids.npy", found)
    facts = {
        "documents": sizes.astype(np.int64).tolist(),
        "score": [None if math.isnan(s) else round(float(s), 6) for s in scores],
        "cluster": mapping.tolist(),
    }
    (Path(output) / "groups.json").write_bytes(canonical_json(facts))
    gone = int(sizes[pruned].sum())
    return {"small clusters": int((sizes > 0).sum()), "merged": merged, "pruned": int(pruned.sum()), "documents": gone}


def rename_part(output: str, part: str, sample: str, mapping_path: str) -> dict[str, int]:
    """Write the clusters of one part, and its sample for names, by the mapping."""
    mapping = np.load(mapping_path, allow_pickle=False)
    for path in (part, sample):
        table = pq.read_table(path)
        clusters = mapping[table["cluster"].to_numpy()]
        table = table.set_column(table.schema.get_field_index("cluster"), "cluster", pa.array(clusters))
        if path == sample:
            table = table.filter(pa.array(clusters >= 0))
        else:
            counts = {"documents": len(table), "pruned": int((clusters < 0).sum())}
        pq.write_table(table, Path(output) / Path(path).name, compression="zstd")
    return counts


def prune(
    bench: Bench, documents: StageResult, vectors: StageResult, grouped: StageResult
) -> tuple[StageResult, StageResult, StageResult]:
    """The three stages without the documents of pruned clusters; the documents' counts say how many went."""
    clusters = grouped.matching("part-")
    stages = {"documents": documents, "vectors": vectors, "clusters": grouped}
    left = {}
    for name, stage in stages.items():
        pairs = zip(stage.matching("part-"), clusters, strict=True)
        tasks = [
            Task(f"{i:05d}", (part.path, own.path), (part.sha256, own.sha256)) for i, (part, own) in enumerate(pairs)
        ]
        left[name] = run_stage(bench, f"pruned-{name}", drop_pruned, tasks, {})
    return left["documents"], left["vectors"], left["clusters"]


def list_pruned(bench: Bench, documents: StageResult, assigned: StageResult, groups: StageFile) -> None:
    """Write the list of the documents that are pruned, in corpus order."""
    pairs = list(zip(documents.matching("part-"), assigned.matching("part-"), strict=True))
    args = ([(text.path, own.path) for text, own in pairs], str(Path(groups.path).parent))
    inputs = (groups.sha256, *(file.sha256 for pair in pairs for file in pair))
    run_stage(bench, "pruned-list", write_list, [Task("all", args, inputs)], {})


def pruned_path(bench: Bench) -> Path:
    """Where `list_pruned` leaves its list."""
    return bench.stages / "pruned-list" / "all" / "pruned.parquet"


def write_list(output: str, pairs: list[tuple[str, str]], folder: str) -> dict[str, int]:
    """One row per pruned document: who, where, its small cluster and that one's score."""
    facts = json.loads((Path(folder) / "groups.json").read_bytes())
    gone = np.array([cluster < 0 for cluster in facts["cluster"]])
    scores = np.array([math.nan if s is None else s for s in facts["score"]])
    rows = 0
    with pq.ParquetWriter(Path(output) / "pruned.parquet", PRUNED_SCHEMA, compression="zstd") as writer:
        for documents, assigned in pairs:
            cluster = pq.read_table(assigned, columns=["cluster"])["cluster"].to_numpy()
            mask = gone[cluster]
            table = pq.read_table(documents, columns=["id", "source", "place"]).filter(pa.array(mask))
            own = pa.array(cluster[mask], pa.int32()), pa.array(scores[cluster[mask]])
            writer.write_table(pa.table([*table.columns, *own], schema=PRUNED_SCHEMA))
            rows += len(table)
    return {"documents": rows}


def drop_pruned(output: str, path: str, clusters: str) -> dict[str, int]:
    """Write one part without the rows whose cluster is pruned."""
    table = pq.read_table(path)
    mask = pq.read_table(clusters, columns=["cluster"])["cluster"].to_numpy() >= 0
    kept = table.filter(pa.array(mask))
    pq.write_table(kept, Path(output) / "part-00000.parquet", compression="zstd")
    return {"documents": len(table), "pruned": len(table) - len(kept), "kept": len(kept)}


def _groups(
    centroids: npt.NDArray[np.float32], sizes: FloatArray, config: ClusteringConfig, seed: int
) -> tuple[npt.NDArray[np.int64], int]:
    """Groups by size (ties by the first small cluster), and how many clusters merging took away."""
    groups = np.arange(len(centroids))
    if config.fine is not None:
        groups = group_centroids(centroids, sizes, number_of_clusters(int(sizes.sum()), config), seed)
    before = int(groups.max())
    if config.merge is not None:
        groups = merge_near(centroids, sizes, groups, config.merge)
    groups = merge_small(centroids, sizes, groups, config.min_documents)
    held = np.bincount(groups, weights=sizes)
    first = np.array([np.flatnonzero(groups == group)[0] for group in range(len(held))])
    rank = np.empty(len(held), dtype=np.int64)
    rank[np.lexsort((first, -held))] = np.arange(len(held))
    return rank[without_gaps(groups)], before - int(groups.max())


def _facts(
    clusters: int, parts: Sequence[str], documents: Sequence[str], config: ClusteringConfig
) -> tuple[FloatArray, FloatArray]:
    """Documents of each fitted cluster, and their mean score (NaN where none is asked for or none is there)."""
    sizes, sums = np.zeros(clusters), np.zeros(clusters)
    for part, texts in zip(parts, documents, strict=True):
        found = pq.read_table(part, columns=["cluster"])["cluster"].to_numpy()
        sizes += np.bincount(found, minlength=clusters)
        if config.prune_column is not None:
            sums += np.bincount(found, weights=_scores(texts, config.prune_column), minlength=clusters)
    if config.prune_column is None:
        return sizes, np.full(clusters, np.nan)
    return sizes, np.where(sizes > 0, sums / np.maximum(1, sizes), np.nan)


def _scores(path: str, column: str) -> FloatArray:
    names = pq.read_schema(path).names
    if column not in names:
        raise ConfigError(
            f"clustering.prune_column: the documents have no column {column!r}; name it in the metadata of each source"
        )
    table = pq.read_table(path, columns=["id", column])
    values: list[Any] = table[column].to_pylist()
    scores = np.empty(len(values))
    for row, value in enumerate(values):
        try:
            scores[row] = float(value)
        except (TypeError, ValueError):
            scores[row] = math.nan
        if not math.isfinite(scores[row]):
            name = table["id"][row].as_py()
            raise TableError(
                f"document {name!r}: {column} is {value!r}, not a finite number; clustering.prune_column needs one for "
                "every document"
            )
    return scores


def _save(output: str, name: str, array: npt.NDArray[Any]) -> None:
    np.save(Path(output) / name, array, allow_pickle=False)
