"""How far clusters agree with the sections and categories that people made: normalised mutual information.

The product's own way, as a build goes it: the stages "sample", "embedding", "embed", "centroids", "cluster" with the
default configuration but for the number of clusters, over all documents in the order of their file; `pool.seed` 0, 1
and 2, the median counts. OpenStax: exposition and summaries, 13 clusters against 11 bundles; code: 42 clusters against
the 42 categories.
"""

import gzip
import json
import statistics
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from corpus_rows import Context, Found, Row
from sklearn.metrics import normalized_mutual_info_score

from prereq.graph.canonical import sha256_hex
from prereq.jobs.executor import InProcessExecutor, call_pinned
from prereq.jobs.progress import Progress
from prereq.jobs.stages.cluster import cluster
from prereq.jobs.stages.embed import embed
from prereq.jobs.stages.runner import Bench, StageFile, StageResult
from prereq.selector.corpus.clustering import ClusteringConfig
from prereq.selector.corpus.embedding import EmbeddingConfig

SEEDS = (0, 1, 2)
PART_ROWS = 5000  # documents in a part, as ingest makes them by default
SETS: dict[str, tuple[str, str, int, tuple[str, ...] | None]] = {
    "cluster_nmi_openstax": ("openstax_multi", "bundle", 13, ("exposition", "summary")),
    "cluster_nmi_algorithms": ("thealgorithms_python", "category", 42, None),
}


def documents_of(folder: Path, kinds: tuple[str, ...] | None) -> list[dict[str, Any]]:
    """The documents of a data set, of some kinds where kinds are given."""
    with gzip.open(folder / "documents.jsonl.gz", "rt", encoding="utf-8") as file:
        found = [json.loads(line) for line in file]
    return [d for d in found if kinds is None or d["labels"]["kind"] in kinds]


def stage(folder: Path, documents: list[dict[str, Any]]) -> StageResult:
    """Documents as the stages before embedding leave them, as far as it reads them."""
    schema = pa.schema([("id", pa.string()), ("text", pa.large_string())])
    folder.mkdir(parents=True)
    files = []
    for start in range(0, len(documents), PART_ROWS):
        rows = documents[start : start + PART_ROWS]
        path = folder / f"part-{start // PART_ROWS:05d}.parquet"
        pq.write_table(pa.table([[d["id"] for d in rows], [d["text"] for d in rows]], schema=schema), path)
        files.append(StageFile(str(path), len(rows), path.stat().st_size, sha256_hex(path.read_bytes())))
    return StageResult("dedup", tuple(files), {}, 0, "")


def agreement(scratch: Path, documents: list[dict[str, Any]], label: str, clusters: int, seed: int) -> dict[str, Any]:
    """One build of vectors and clusters: agreement with the labels, processor seconds, names of the clusters."""
    folder = scratch / str(seed)
    bench = Bench(stages=folder / "stages", executor=InProcessExecutor(), progress=Progress(quiet=True), seed=seed)
    made = stage(folder / "documents", documents)
    start = time.process_time()
    vectors = embed(bench, made, EmbeddingConfig())
    found = cluster(bench, made, vectors, ClusteringConfig(clusters=clusters))
    seconds = time.process_time() - start
    tables = [pq.read_table(file.path, columns=["cluster"]) for file in found.parts.matching("part-")]
    assigned: np.ndarray[Any, Any] = pa.concat_tables(tables)["cluster"].to_numpy()
    score = normalized_mutual_info_score([d["labels"][label] for d in documents], assigned)
    sizes = np.bincount(assigned).tolist()
    return {"seed": seed, "nmi": float(score), "cpu_seconds": round(seconds, 2), "names": found.names, "sizes": sizes}


def clusters_row(context: Context) -> Found:
    """Both data sets, three seeds each."""
    values, details = {}, dict[str, Any]()
    for name, (folder, label, clusters, kinds) in SETS.items():
        documents = documents_of(context.data / folder, kinds)
        place = context.scratch / folder
        runs = [call_pinned(agreement, place, documents, label, clusters, seed) for seed in SEEDS]
        values[name] = statistics.median(run["nmi"] for run in runs)
        details[name] = {"documents": len(documents), "clusters": clusters, "runs": runs}
    settings = {"embedding": asdict(EmbeddingConfig()), "clustering": asdict(ClusteringConfig())}
    return values, details | {"settings": settings}


ROWS: dict[str, Row] = {"clusters": Row(run=clusters_row, needs=("data",))}
