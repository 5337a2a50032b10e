"""Semantic near duplicates, as stages; without `dedup.semantic` there is none of them.

semantic-scatter/NNNNN/rows-00000.parquet    a part's documents by cluster, one row group per bucket of clusters
semantic-pairs/NNNNN/dropped.parquet         who is dropped for whom in the clusters of a bucket
semantic-list/all/duplicates.parquet         those of deduplication, then these, in corpus order
semantic-list/all/rows-NNNNN.parquet         the dropped rows of a part
semantic-{documents,vectors,clusters}/NNNNN/part-00000.parquet   the parts of these stages without the dropped rows

Nothing of a dropped document is merged onto its survivor: it resembles it in meaning, it is not the same text.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from prereq.graph.errors import TableError
from prereq.jobs.stages.cluster import vector_array
from prereq.jobs.stages.dedup import LISTED, duplicates_path, numbers
from prereq.jobs.stages.runner import Bench, StageFile, StageResult, Task, run_stage
from prereq.selector.corpus.semantic import find_survivors

_BUCKET_ROWS = 50_000  # documents that a bucket of clusters holds about; a cluster is in one bucket
_DROPPED = pa.schema([("part", pa.int64()), ("row", pa.int64()), *LISTED])
_ROW = ("cluster", "part", "row", "length", "id", "source", "place", "vector")


@dataclass(frozen=True, slots=True)
class Clustered:
    """What is known of each document behind clustering: three stages with the same parts."""

    documents: StageResult
    vectors: StageResult
    clusters: StageResult


def drop_semantic(bench: Bench, found: Clustered, threshold: float, keep: str, score: str | None = None) -> Clustered:
    """Drop documents that a longer (with `keep` first an earlier, with score a better) one of their cluster resembles.

    Args:
        bench: Of this build.
        found: After clustering.
        threshold: Cosine of two vectors from which on the later document is dropped.
        keep: `longest` text, then smallest id; `first` in the corpus; or highest `score`, then as longest.
        score: The documents' column with the score.

    Returns:
        The same parts without the dropped rows; the documents' counts are documents, semantic (dropped) and kept.
    """
    stages = {"documents": found.documents, "vectors": found.vectors, "clusters": found.clusters}
    parts = list(zip(*(stage.matching("part-") for stage in stages.values()), strict=True))
    buckets = max(1, -(-sum(own[0].rows for own in parts) // _BUCKET_ROWS))
    scatter = [
        Task(
            f"{number:05d}", (number, *(file.path for file in own), buckets, score), tuple(file.sha256 for file in own)
        )
        for number, own in enumerate(parts)
    ]
    settings = {"buckets": buckets} if score is None else {"buckets": buckets, "score": score}
    rows = run_stage(bench, "semantic-scatter", scatter_part, scatter, settings).files
    paths, digests = [file.path for file in rows], tuple(file.sha256 for file in rows)
    pairs = [Task(f"{number:05d}", (paths, number, threshold, keep), digests) for number in range(buckets)]
    dropped = run_stage(bench, "semantic-pairs", find_pairs, pairs, {"threshold": threshold, "keep": keep}).files
    args = (str(duplicates_path(bench)), [file.path for file in dropped], len(parts))
    task = Task("all", args, tuple(file.sha256 for file in dropped))
    settings = {"duplicates": found.documents.digest, "parts": len(parts)}
    gone = run_stage(bench, "semantic-list", list_all, [task], settings).matching("rows-")
    left = {name: _without(bench, name, stage.matching("part-"), gone) for name, stage in stages.items()}
    left["documents"] = replace(
        left["documents"],
        counts={"semantic" if key == "dropped" else key: n for key, n in left["documents"].counts.items()},
    )
    return Clustered(left["documents"], left["vectors"], left["clusters"])


def semantic_path(bench: Bench) -> Path:
    """Where `drop_semantic` leaves the list of all dropped documents, those of deduplication included."""
    return bench.stages / "semantic-list" / "all" / "duplicates.parquet"


def _without(bench: Bench, name: str, parts: Sequence[StageFile], gone: Sequence[StageFile]) -> StageResult:
    tasks = [
        Task(f"{number:05d}", (part.path, rows.path), (part.sha256, rows.sha256))
        for number, (part, rows) in enumerate(zip(parts, gone, strict=True))
    ]
    return run_stage(bench, f"semantic-{name}", drop_rows, tasks, {})


def scatter_part(
    output: str, number: int, documents: str, vectors: str, clusters: str, buckets: int, score: str | None = None
) -> dict[str, int]:
    """Write the documents of one part by bucket, one row group each; those without a known word are left out."""
    kept = ["id", "text", "source", "place"]
    table = pq.read_table(documents, columns=kept if score is None else [*kept, score])
    vector, cluster = pq.read_table(vectors)["vector"], pq.read_table(clusters)["cluster"].to_numpy()
    if not len(table) == len(vector) == len(cluster):
        raise TableError(f"{documents}: {len(table)} documents, {len(vector)} vectors and {len(cluster)} clusters")
    columns = {
        "cluster": pa.array(cluster),
        "part": pa.array(np.full(len(table), number)),
        "row": pa.array(np.arange(len(table))),
        "length": pc.utf8_length(table["text"]).cast(pa.int64()),
        "vector": vector,
    } | {name: table[name] for name in ("id", "source", "place")}
    rows = pa.table({name: columns[name] for name in _ROW})
    if score is not None:
        rows = rows.append_column("score", numbers(table[score]))
    values = vector_array(vector)
    # documents without a known word share one vector, the first unit vector: nothing says that they are alike
    known = ~(values == np.eye(1, values.shape[1], dtype=np.float32)).all(axis=1)
    with pq.ParquetWriter(Path(output) / "rows-00000.parquet", rows.schema, compression="zstd") as writer:
        for bucket in range(buckets):
            own = rows.filter(pa.array(known & (cluster % buckets == bucket)))
            writer.write_table(own, row_group_size=max(1, len(own)))
    return {"documents": len(table), "without known words": int((~known).sum())}


def find_pairs(output: str, paths: Sequence[str], bucket: int, threshold: float, keep: str) -> dict[str, int]:
    """Decide the clusters of one bucket, one after the other."""
    tables = [pq.ParquetFile(path).read_row_group(bucket) for path in paths]
    table = pa.concat_tables(tables)
    order = [] if keep == "first" else [("length", "descending"), ("id", "ascending")]
    if keep == "score":
        order = [("score", "descending"), *order]
    keys = [("cluster", "ascending"), *order, ("part", "ascending"), ("row", "ascending")]
    table = table.take(pc.sort_indices(table, sort_keys=keys)).combine_chunks()
    cluster = table["cluster"].to_numpy()
    borders = [0, *(np.flatnonzero(np.diff(cluster)) + 1).tolist(), len(cluster)]
    survivor, similarity = np.arange(len(table)), np.ones(len(table))
    for lo, hi in pairwise(borders):
        if lo < hi:
            vectors = vector_array(table["vector"].slice(lo, hi - lo))
            place, similarity[lo:hi] = find_survivors(vectors, threshold)
            survivor[lo:hi] = place + lo
    rows = np.flatnonzero(survivor != np.arange(len(table)))
    dropped = table.take(pa.array(rows))
    columns = {name: dropped[name] for name in ("part", "row", "id", "source", "place")} | {
        "survivor": table["id"].take(pa.array(survivor[rows])),
        "kind": ["semantic"] * len(rows),
        "similarity": similarity[rows],
    }
    listed = pa.table([columns[name] for name in _DROPPED.names], schema=_DROPPED)
    pq.write_table(listed, Path(output) / "dropped.parquet", compression="zstd")
    return {"dropped": len(rows)}


def drop_rows(output: str, path: str, gone: str) -> dict[str, int]:
    """Write one part without its dropped rows."""
    table = pq.read_table(path)
    mask = np.ones(len(table), dtype=np.bool_)
    mask[pq.read_table(gone)["row"].to_numpy()] = False
    kept = table.filter(pa.array(mask))
    pq.write_table(kept, Path(output) / "part-00000.parquet", compression="zstd")
    return {"documents": len(table), "dropped": len(table) - len(kept), "kept": len(kept)}


def list_all(output: str, first: str, dropped: Sequence[str], parts: int) -> dict[str, int]:
    """Write one list of who was dropped for whom, and the dropped rows of each part."""
    table = pa.concat_tables([_DROPPED.empty_table(), *(pq.read_table(path) for path in dropped)])
    table = table.take(pc.sort_indices(table, sort_keys=[("part", "ascending"), ("row", "ascending")]))
    joined = pa.concat_tables([pq.read_table(first), table.select(LISTED.names)])
    pq.write_table(joined, Path(output) / "duplicates.parquet", compression="zstd")
    borders = np.searchsorted(table["part"].to_numpy(), np.arange(parts + 1))
    for number, (start, stop) in enumerate(pairwise(borders.tolist())):
        pq.write_table(table.select(["row"]).slice(start, stop - start), Path(output) / f"rows-{number:05d}.parquet")
    return {}
