"""The clustering stages: rows as in the documents, the same clusters wherever part borders lie, names and numbers."""

import gzip
import itertools
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import normalized_mutual_info_score

from prereq.graph.canonical import sha256_hex
from prereq.graph.errors import TableError
from prereq.jobs.executor import InProcessExecutor, RayConfig, make_executor
from prereq.jobs.progress import Progress
from prereq.jobs.stages.cluster import Clusters, cluster, naming_texts
from prereq.jobs.stages.embed import embed
from prereq.jobs.stages.runner import Bench, StageFile, StageResult
from prereq.selector.corpus.clustering import ClusteringConfig
from prereq.selector.corpus.embedding import EmbeddingConfig

EMBEDDING = EmbeddingConfig(dim=8, method="tfidf")
CONFIG = ClusteringConfig(clusters=3)
TOPICS = ("apple pear plum cherry fig", "engine wheel brake clutch axle", "violin flute drum cello harp")


def corpus(documents: int = 300) -> list[tuple[str, str]]:
    """Document n is of topic n mod 3."""
    rng = np.random.default_rng(0)
    return [(f"doc {n}", "the " + " ".join(rng.choice(TOPICS[n % 3].split(), 12))) for n in range(documents)]


def documents_stage(folder: Path, rows: Sequence[tuple[str, str]], borders: Sequence[int]) -> StageResult:
    """Documents as deduplication leaves them, as far as these stages read them."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for index, (start, end) in enumerate(itertools.pairwise(borders)):
        path = folder / f"part-{index:05d}.parquet"
        columns = {"id": [i for i, _ in rows[start:end]], "text": [t for _, t in rows[start:end]]}
        schema = pa.schema([("id", pa.string()), ("text", pa.large_string())])
        pq.write_table(pa.table(columns, schema=schema), path)
        files.append(StageFile(str(path), end - start, path.stat().st_size, sha256_hex(path.read_bytes())))
    return StageResult("dedup", tuple(files), {}, 0, "")


def bench(folder: Path, executor: object = None, seed: int = 0) -> Bench:
    return Bench(stages=folder, executor=executor or InProcessExecutor(), progress=Progress(quiet=True), seed=seed)


def run(
    place: Bench,
    documents: StageResult,
    config: ClusteringConfig = CONFIG,
    embedding: EmbeddingConfig = EMBEDDING,
) -> Clusters:
    return cluster(place, documents, embed(place, documents, embedding), config)


def read(clusters: Clusters) -> pa.Table:
    return pa.concat_tables([pq.read_table(file.path) for file in clusters.parts.matching("part-")])


def everything(clusters: Clusters) -> tuple[bytes, ...]:
    table = read(clusters)
    model = [Path(clusters.model, name).read_bytes() for name in ("centroids.npy", "names.json", "stats.json")]
    return (*model, table["cluster"].to_numpy().tobytes(), table["similarity"].to_numpy().tobytes())


def test_planted_topics_become_clusters_with_telling_names(tmp_path: Path) -> None:
    rows = corpus()
    found = run(bench(tmp_path / "stages"), documents_stage(tmp_path, rows, [0, 100, 300]))
    table = read(found)
    assert table.schema.types == [pa.string(), pa.int32(), pa.float32()]
    assert table["id"].to_pylist() == [name for name, _ in rows]
    assert normalized_mutual_info_score([n % 3 for n in range(300)], table["cluster"].to_numpy()) > 0.99
    for number, name in enumerate(found.names):
        topic = TOPICS[table["cluster"].to_pylist().index(number) % 3].split()
        assert len(name.split(", ")) == 3
        assert set(name.split(", ")) <= set(topic)


def test_model_holds_centroids_and_numbers_that_agree_with_the_parts(tmp_path: Path) -> None:
    found = run(
        bench(tmp_path / "stages"), documents_stage(tmp_path, corpus(), [0, 100, 300]), ClusteringConfig(clusters=7)
    )
    table = read(found)
    assigned, similarity = table["cluster"].to_numpy(), table["similarity"].to_numpy()
    centroids = np.load(Path(found.model, "centroids.npy"), allow_pickle=False)
    stats = json.loads(Path(found.model, "stats.json").read_bytes())
    assert len(found.names) == len(centroids)
    np.testing.assert_allclose(np.linalg.norm(centroids, axis=1), 1, atol=1e-6)
    assert stats["documents"] == np.bincount(assigned, minlength=len(centroids)).tolist()
    assert min(stats["documents"]) > 0
    means = [similarity[assigned == number].mean() for number in range(len(centroids))]
    np.testing.assert_allclose(stats["mean_similarity"], means, atol=1e-5)


def test_same_bytes_twice_and_a_rerun_skips_all(tmp_path: Path) -> None:
    documents = documents_stage(tmp_path, corpus(), [0, 100, 300])
    first, other = (run(bench(tmp_path / name), documents) for name in ("a", "b"))
    assert everything(first) == everything(other)
    again = run(bench(tmp_path / "a"), documents)
    assert (again.parts.skipped, again.parts.digest, again.names) == (2, first.parts.digest, first.names)


def test_part_borders_change_nothing(tmp_path: Path) -> None:
    found = []
    config = ClusteringConfig(clusters=5, sample=120, name_documents=7)  # samples smaller than the corpus
    for name, borders in (("one", [0, 300]), ("two", [0, 7, 300]), ("many", [0, 50, 50, 120, 299, 300])):
        documents = documents_stage(tmp_path / f"{name}-docs", corpus(), borders)
        found.append(everything(run(bench(tmp_path / name), documents, config)))
    assert found[0] == found[1] == found[2]


def test_one_document_is_one_cluster(tmp_path: Path) -> None:
    documents = documents_stage(tmp_path, [("only", "some words of one document")], [0, 1])
    for method in ("fasttext", "tfidf"):
        place = bench(tmp_path / method)
        found = run(place, documents, ClusteringConfig(), EmbeddingConfig(dim=8, method=method))
        assert read(found)["cluster"].to_pylist() == [0]
        assert len(found.names) == 1


def test_identical_documents_are_one_cluster(tmp_path: Path) -> None:
    documents = documents_stage(tmp_path, [(f"{n}", "all the same") for n in range(40)], [0, 20, 40])
    found = run(bench(tmp_path / "stages"), documents, ClusteringConfig(clusters=4))
    assert set(read(found)["cluster"].to_pylist()) == {0}


def test_no_document_is_an_error(tmp_path: Path) -> None:
    documents = documents_stage(tmp_path, [], [0, 0])
    with pytest.raises(TableError, match="there is no document"):
        cluster(bench(tmp_path / "stages"), documents, documents, CONFIG)


def test_vectors_of_other_documents_are_refused(tmp_path: Path) -> None:
    place = bench(tmp_path / "stages")
    vectors = embed(place, documents_stage(tmp_path / "a", corpus(), [0, 300]), EMBEDDING)
    with pytest.raises(TableError, match="rows are not those of its vectors"):
        cluster(place, documents_stage(tmp_path / "b", corpus()[::-1], [0, 300]), vectors, CONFIG)
    with pytest.raises(TableError, match="has 200 rows, its vectors 300"):
        cluster(place, documents_stage(tmp_path / "c", corpus()[:200], [0, 200]), vectors, CONFIG)


@pytest.mark.ray
@pytest.mark.slow
def test_ray_workers_write_the_bytes_of_one_process(tmp_path: Path) -> None:
    documents = documents_stage(tmp_path, corpus(), [0, 60, 120, 180, 240, 300])
    alone = run(bench(tmp_path / "alone"), documents)
    with make_executor(RayConfig(num_cpus=2)) as executor:
        shared = run(bench(tmp_path / "ray", executor), documents)
    assert everything(shared) == everything(alone)
    assert [file.sha256 for file in shared.parts.files] == [file.sha256 for file in alone.parts.files]


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize(("method", "seeds"), [("fasttext", 1), ("tfidf", 3)])
def test_code_clusters_agree_with_the_categories_of_their_authors(
    tmp_path: Path, data_dir: Path, method: str, seeds: int, record_property: Callable[[str, object], None]
) -> None:
    """thealgorithms_python, k = 42, median over seeds; plain TF-IDF with full k-means reaches NMI .573."""
    with gzip.open(data_dir / "thealgorithms_python/documents.jsonl.gz", "rt", encoding="utf-8") as file:
        documents = [json.loads(line) for line in file]
    made = documents_stage(tmp_path, [(d["id"], d["text"]) for d in documents], [0, 500, len(documents)])
    scores = []
    for seed in range(seeds):
        place = bench(tmp_path / str(seed), seed=seed)
        found = run(place, made, ClusteringConfig(clusters=42), EmbeddingConfig(method=method))
        labels = [d["labels"]["category"] for d in documents]
        scores.append(normalized_mutual_info_score(labels, read(found)["cluster"].to_numpy()))
    record_property("nmi", scores)
    print(f"thealgorithms_python, {method}: NMI {sorted(scores)}")
    assert np.median(scores) > 0.573


def test_names_are_taken_from_the_first_documents_of_each_cluster_however_many_parts(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    rows: list[tuple[int, int, str, str]] = []
    paths = []
    for part in range(40):
        own = [
            (int(rng.integers(4)), int(rng.integers(90)), f"{part}-{row}", f"text {part} {row}")
            for row in range(int(rng.integers(30)))
        ]
        columns = dict(zip(("cluster", "order", "id", "text"), map(list, zip(*own, strict=True)), strict=False))
        schema = pa.schema(
            [("cluster", pa.int32()), ("order", pa.uint64()), ("id", pa.string()), ("text", pa.large_string())]
        )
        paths.append(str(tmp_path / f"sample-{part}.parquet"))
        pq.write_table(pa.table(columns, schema=schema) if own else schema.empty_table(), paths[-1])
        rows += own
    limit = 3
    expected = {
        cluster: [text for of, _, _, text in sorted(rows) if of == cluster][:limit] for cluster in range(4)
    }  # sorted by cluster, order, id
    assert naming_texts(paths, 5, limit) == expected
