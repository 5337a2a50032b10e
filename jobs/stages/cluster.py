"""Clustering, as stages: "centroids" (one task: the fit), "cluster" (per part), "clusters" (one task: names, numbers).

Where clusters are grouped, merged or pruned, "cluster" is called "cluster-fine", and `regroup` writes "cluster".

centroids/fit/centroids.npy           (k, d) float32, unit length; with `balance` also prices.npy, (k,) float32
cluster/NNNNN/part-00000.parquet      id, cluster, similarity (cosine to the centroid); rows as in the documents
cluster/NNNNN/sample-00000.parquet    cluster, order, id, text: documents that names are taken from
clusters/model/{centroids.npy, names.json, stats.json}
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from prereq.graph.canonical import canonical_json
from prereq.graph.errors import TableError
from prereq.jobs.stages.regroup import list_pruned, prune, regroup
from prereq.jobs.stages.runner import Bench, StageFile, StageResult, Task, run_stage
from prereq.selector.corpus.clustering import (
    ClusteringConfig,
    assign,
    balance_centroids,
    fit_centroids,
    name_clusters,
    number_to_fit,
    sample_order,
)

CLUSTERS_SCHEMA = pa.schema([("id", pa.string()), ("cluster", pa.int32()), ("similarity", pa.float32())])
_NAMING_SCHEMA = pa.schema(
    [("cluster", pa.int32()), ("order", pa.uint64()), ("id", pa.string()), ("text", pa.large_string())]
)
_BATCH = 4096  # documents in memory at a time; the result does not depend on it
_Keyed = tuple[npt.NDArray[np.uint64], npt.NDArray[np.object_], npt.NDArray[np.float32]]  # sample order, id, vector
_LIBRARIES = ("numpy", "scikit-learn", "scipy")  # a fit depends on their versions


@dataclass(frozen=True, slots=True)
class Clusters:
    """What clustering leaves."""

    parts: StageResult  # one part per part of the documents: id, cluster, similarity
    names: tuple[str, ...]  # of cluster 0, 1, ...
    model: str  # folder of centroids.npy, names.json, stats.json
    documents: StageResult  # as given, without the documents of pruned clusters
    vectors: StageResult  # likewise


def cluster(bench: Bench, documents: StageResult, vectors: StageResult, config: ClusteringConfig) -> Clusters:
    """Give every document its cluster.

    Args:
        bench: Of this build.
        documents: Parts with columns id, text.
        vectors: The stage "embed": one part per part of the documents.
        config: See `ClusteringConfig`.

    Raises:
        TableError: There is no document, or the rows of a part of `vectors` are not those of the documents.
        ConfigError: The documents have no column `config.prune_column`.
    """
    pairs = list(zip(documents.matching("part-"), vectors.matching("part-"), strict=True))
    total = sum(part.rows for part, _ in pairs)
    if not total:
        raise TableError("cluster: there is no document; see the counts of ingest and dedup for what was left out")
    settings = {**_settings(config), "seed": bench.seed}
    fitted = settings | {"libraries": {name: version(name) for name in _LIBRARIES}}
    wanted = number_to_fit(total, config)
    paths, digests = [file.path for _, file in pairs], tuple(file.sha256 for _, file in pairs)
    fit = run_stage(bench, "centroids", fit_model, [Task("fit", (paths, wanted, config, bench.seed), digests)], fitted)
    tasks = list(_assign_tasks(pairs, fit, config, bench.seed))
    parts = run_stage(bench, "cluster-fine" if config.regroups else "cluster", assign_part, tasks, settings)
    centroids = fit.matching("centroids")[0]
    if not config.regroups:
        return _describe(bench, Clusters(parts, (), "", documents, vectors), centroids, parts, config)
    grouped = regroup(bench, documents, centroids, parts, config)
    kept = documents, vectors, grouped.parts
    if config.prune_column is not None:
        list_pruned(bench, documents, parts, grouped.mapping)
        kept = prune(bench, documents, vectors, grouped.parts)
    found = Clusters(kept[2], (), "", kept[0], kept[1])
    return _describe(bench, found, grouped.centroids, grouped.parts, config)


def _settings(config: ClusteringConfig) -> dict[str, Any]:
    """What decides the fit and the assignment; keys that came later count where they are set."""
    later = {"balance": None, "fine": None}
    regrouping = ("merge", "min_documents", "prune_column", "prune_below")
    return {
        key: value
        for key, value in asdict(config).items()
        if key not in regrouping and (key not in later or value != later[key])
    }


def _assign_tasks(
    pairs: list[tuple[StageFile, StageFile]], fit: StageResult, config: ClusteringConfig, seed: int
) -> Iterator[Task]:
    model, digests = [file.path for file in fit.files], [file.sha256 for file in fit.files]
    for index, (part, vectors) in enumerate(pairs):
        yield Task(
            f"{index:05d}",
            (part.path, vectors.path, model, config, seed),
            (part.sha256, vectors.sha256, *digests),
        )


def _describe(
    bench: Bench, found: Clusters, centroids: StageFile, parts: StageResult, config: ClusteringConfig
) -> Clusters:
    assigned, samples = found.parts.matching("part-"), parts.matching("sample-")
    args = (centroids.path, [file.path for file in assigned], [file.path for file in samples], config)
    inputs = (centroids.sha256, *(file.sha256 for file in (*assigned, *samples)))
    model = run_stage(bench, "clusters", describe, [Task("model", args, inputs)], _settings(config))
    names = Path(model.matching("names.json")[0].path)
    return replace(found, names=tuple(json.loads(names.read_bytes())), model=str(names.parent))


def fit_model(output: str, paths: list[str], clusters: int, config: ClusteringConfig, seed: int) -> dict[str, int]:
    """Fit centroids on the sample of all vectors and write them."""
    vectors = _sample_vectors(paths, config.sample, seed)
    centroids = fit_centroids(vectors, clusters, config, seed)
    if config.balance is not None:
        centroids, prices = balance_centroids(vectors, centroids, config)
        np.save(Path(output) / "prices.npy", prices, allow_pickle=False)
    np.save(Path(output) / "centroids.npy", centroids, allow_pickle=False)
    return {"documents": len(vectors), "clusters": len(centroids)}


def assign_part(
    output: str, path: str, vectors_path: str, model: list[str], config: ClusteringConfig, seed: int
) -> dict[str, int]:
    """Write the clusters of one part, and the documents of it that names may be taken from."""
    arrays = {Path(name).stem: np.load(name, allow_pickle=False) for name in model}
    table = pq.read_table(vectors_path, columns=["id", "vector"])
    ids = table["id"].to_pylist()
    found, similarity = assign(vector_array(table["vector"]), arrays["centroids"], arrays.get("prices"))
    written = pa.table([table["id"], pa.array(found), pa.array(similarity)], schema=CLUSTERS_SCHEMA)
    pq.write_table(written, Path(output) / "part-00000.parquet", compression="zstd")
    order = sample_order(ids, seed)
    chosen = _first_of_each(found, order, ids, config.name_documents)
    texts = _texts(path, ids, chosen, config.name_characters)
    columns = [found[chosen], order[chosen], [ids[row] for row in chosen], texts]
    naming = pa.table(
        [pa.array(c, t) for c, t in zip(columns, _NAMING_SCHEMA.types, strict=True)], schema=_NAMING_SCHEMA
    )
    pq.write_table(naming, Path(output) / "sample-00000.parquet", compression="zstd")
    return {"documents": len(ids)}


def describe(
    output: str, centroids_path: str, parts: list[str], samples: list[str], config: ClusteringConfig
) -> dict[str, int]:
    """Name the clusters and count their documents."""
    centroids = np.load(centroids_path, allow_pickle=False)
    documents, similarity = np.zeros(len(centroids), dtype=np.int64), np.zeros(len(centroids))
    for path in parts:
        table = pq.read_table(path, columns=["cluster", "similarity"])
        found = table["cluster"].to_numpy()
        documents += np.bincount(found, minlength=len(centroids))
        # part by part and in order, so that the sum's last bits do not depend on scheduling
        similarity += np.bincount(found, weights=table["similarity"].to_numpy(), minlength=len(centroids))
    texts = naming_texts(samples, len(centroids), config.name_documents)
    names = name_clusters(texts, len(centroids), config)
    mean = (similarity / np.maximum(1, documents)).round(6).tolist()
    stats: dict[str, Any] = {"documents": documents.tolist(), "mean_similarity": mean}
    np.save(Path(output) / "centroids.npy", centroids, allow_pickle=False)
    (Path(output) / "names.json").write_bytes(canonical_json(names))
    (Path(output) / "stats.json").write_bytes(canonical_json(stats))
    sizes = {"smallest": int(documents.min()), "largest": int(documents.max())}
    return {"clusters": len(centroids), "empty": int((documents == 0).sum()), **sizes}


def vector_array(column: pa.ChunkedArray) -> npt.NDArray[np.float32]:
    """A column of fixed-size lists as `(n, d)` float32."""
    # flatten() heeds a slice's offset, .values would not
    flat = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return flat.astype(np.float32, copy=False).reshape(len(column), column.type.list_size)


def _sample_vectors(paths: list[str], limit: int, seed: int) -> npt.NDArray[np.float32]:
    """The vectors of the first `limit` documents in sample order, in that order (ties by id), `(n, d)`.

    Part after part; never more than twice `limit` vectors and one part are held.
    """
    held: list[_Keyed] = []
    for path in paths:
        table = pq.read_table(path, columns=["id", "vector"])
        names = table["id"].to_pylist()
        held.append((sample_order(names, seed), np.asarray(names, dtype=object), vector_array(table["vector"])))
        if sum(len(order) for order, _, _ in held) > 2 * limit:
            held = [_first(held, limit)]
    return _first(held, limit)[2]


def _first(held: list[_Keyed], limit: int) -> _Keyed:
    order, ids, vectors = (np.concatenate(arrays) for arrays in zip(*held, strict=True))
    rows = np.lexsort((ids, order))[:limit]
    return order[rows], ids[rows], vectors[rows]


def _first_of_each(
    clusters: npt.NDArray[np.int32], order: npt.NDArray[np.uint64], ids: list[str], limit: int
) -> npt.NDArray[np.int64]:
    """Rows of the first `limit` documents of each cluster in sample order, by cluster, then order, then id."""
    ranked = np.lexsort((np.asarray(ids, dtype=object), order, clusters))
    of = clusters[ranked]
    place = np.arange(len(of)) - np.searchsorted(of, of)  # 0, 1, ... within each cluster
    return ranked[place < limit]


def _texts(path: str, ids: list[str], rows: npt.NDArray[np.int64], characters: int) -> list[str]:
    """The beginnings of some documents of a part, after checking that its ids are `ids`."""
    wanted, texts, row = set(rows.tolist()), dict[int, str](), 0
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=_BATCH, columns=["id", "text"]):
            if batch["id"].to_pylist() != ids[row : row + len(batch)]:
                raise TableError(
                    f"{path}: rows are not those of its vectors; delete the folder of stage embed, build again"
                )
            texts |= {row + i: batch["text"][i].as_py()[:characters] for i in range(len(batch)) if row + i in wanted}
            row += len(batch)
    if row != len(ids):
        raise TableError(
            f"{path}: has {row} rows, its vectors {len(ids)}; delete the folder of stage embed, build again"
        )
    return [texts[int(row)] for row in rows]


def naming_texts(paths: list[str], clusters: int, limit: int) -> dict[int, list[str]]:
    """The texts of the first `limit` documents of each cluster in sample order (ties by id), `{cluster: texts}`.

    Part after part; about `2 * limit * clusters` documents and one part are held, however large the corpus.
    """
    held = _NAMING_SCHEMA.empty_table()
    bound = np.full(clusters, np.iinfo(np.uint64).max, dtype=np.uint64)  # what comes later in a cluster is not taken
    for number, path in enumerate(paths, start=1):
        table = pq.read_table(path)
        near = table["order"].to_numpy() <= bound[table["cluster"].to_numpy()]
        held = pa.concat_tables([held, table.filter(pa.array(near))])
        if len(held) > 2 * limit * clusters or number == len(paths):
            found, order = held["cluster"].to_numpy(), held["order"].to_numpy()
            held = held.take(pa.array(_first_of_each(found, order, held["id"].to_pylist(), limit)))
            counts = np.bincount(held["cluster"].to_numpy(), minlength=clusters)
            full = counts == limit
            bound[full] = held["order"].to_numpy()[np.cumsum(counts)[full] - 1]
    texts: dict[int, list[str]] = {}
    for number, text in zip(held["cluster"].to_pylist(), held["text"].to_pylist(), strict=True):
        texts.setdefault(number, []).append(text)
    return texts
