"""The embedding stages: rows as in the documents, the same model wherever part borders lie."""

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import prereq.jobs.stages.embed
from prereq.graph.canonical import sha256_hex
from prereq.graph.errors import TableError
from prereq.jobs.executor import InProcessExecutor, RayConfig, make_executor
from prereq.jobs.progress import Progress
from prereq.jobs.stages.embed import embed
from prereq.jobs.stages.runner import Bench, StageFile, StageResult
from prereq.selector.corpus.embedding import EmbeddingConfig

CONFIG = EmbeddingConfig(dim=8, epochs=2, sample_mib=0.01)  # the sample is about a third of the corpus


def corpus(documents: int = 300) -> list[tuple[str, str]]:
    rng = np.random.default_rng(0)
    draws = rng.integers(0, 9, (documents, 30))
    return [(f"doc {n}", " ".join(f"w{'abc'[n % 3]}{'xyz'[w % 3]}q" for w in row)) for n, row in enumerate(draws)]


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


def read(result: StageResult) -> tuple[list[str], np.ndarray]:
    table = pa.concat_tables([pq.read_table(file.path) for file in result.matching("part-")])
    return table["id"].to_pylist(), np.stack(table["vector"].to_numpy(zero_copy_only=False))


def model_bytes(folder: Path) -> dict[str, bytes]:
    paths = (folder / "embedding/fit").iterdir()
    return {path.name: path.read_bytes() for path in paths if path.name != "receipt.json"}


def test_every_document_has_a_unit_vector_in_its_row(tmp_path: Path) -> None:
    rows = corpus()
    result = embed(bench(tmp_path / "stages"), documents_stage(tmp_path, rows, [0, 100, 250, 300]), CONFIG)
    ids, vectors = read(result)
    assert [file.rows for file in result.matching("part-")] == [100, 150, 50]
    assert ids == [name for name, _ in rows]
    assert (vectors.dtype, vectors.shape) == (np.float32, (300, 8))
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    schema = pq.read_schema(result.files[0].path)
    assert schema.field("vector").type == pa.list_(pa.float32(), 8)


def test_same_bytes_twice_and_a_rerun_skips_all(tmp_path: Path) -> None:
    documents = documents_stage(tmp_path, corpus(), [0, 100, 300])
    first, other = (embed(bench(tmp_path / name), documents, CONFIG) for name in ("a", "b"))
    assert [file.sha256 for file in first.files] == [file.sha256 for file in other.files]
    again = embed(bench(tmp_path / "a"), documents, CONFIG)
    assert (again.skipped, again.digest) == (2, first.digest)


def test_part_borders_change_neither_model_nor_vectors(tmp_path: Path) -> None:
    rows, found = corpus(), []
    for name, borders in (("one", [0, 300]), ("two", [0, 7, 300]), ("many", [0, 50, 50, 120, 299, 300])):
        result = embed(bench(tmp_path / name), documents_stage(tmp_path / f"{name}-docs", rows, borders), CONFIG)
        found.append((model_bytes(tmp_path / name), read(result)[1].tobytes()))
    assert found[0] == found[1] == found[2]


def test_seed_changes_the_sample(tmp_path: Path) -> None:
    documents = documents_stage(tmp_path, corpus(), [0, 300])
    for seed in (0, 1):
        embed(bench(tmp_path / str(seed), seed=seed), documents, CONFIG)
    samples = [pq.read_table(tmp_path / f"{seed}/sample/00000/part-00000.parquet")["id"].to_pylist() for seed in (0, 1)]
    assert samples[0] != samples[1]
    assert 60 < len(samples[0]) < 200, "the sample is part of the corpus"


def test_counts_say_how_many_documents_are_unknown(tmp_path: Path) -> None:
    rows = [*corpus(60), ("empty", "..."), ("odd", "zzzzunseen")]
    config = EmbeddingConfig(dim=8, epochs=1, min_count=2, method="tfidf")
    result = embed(bench(tmp_path / "stages"), documents_stage(tmp_path, rows, [0, 62]), config)
    assert result.counts["documents"] == 62
    assert result.counts["without known words"] >= 1
    np.testing.assert_array_equal(read(result)[1][60], np.eye(8)[0])


@pytest.mark.parametrize("method", ["fasttext", "tfidf"])
def test_one_document_is_a_corpus(tmp_path: Path, method: str) -> None:
    documents = documents_stage(tmp_path, [("only", "a few words")], [0, 1])
    _, vectors = read(embed(bench(tmp_path / "stages"), documents, EmbeddingConfig(dim=8, method=method)))
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_no_document_is_an_error_that_says_where_to_look(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="no document to embed; see the counts of ingest and dedup"):
        embed(bench(tmp_path / "stages"), documents_stage(tmp_path, [], [0, 0]), CONFIG)


@pytest.mark.ray
@pytest.mark.slow
def test_ray_workers_write_the_bytes_of_one_process(tmp_path: Path) -> None:
    documents = documents_stage(tmp_path, corpus(), [0, 60, 120, 180, 240, 300])
    alone = embed(bench(tmp_path / "alone"), documents, CONFIG)
    with make_executor(RayConfig(num_cpus=2)) as executor:
        shared = embed(bench(tmp_path / "ray", executor), documents, CONFIG)
    assert [file.sha256 for file in shared.files] == [file.sha256 for file in alone.files]
    assert model_bytes(tmp_path / "ray") == model_bytes(tmp_path / "alone")


def test_a_sample_that_is_chosen_part_by_part_is_that_of_all_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = corpus()
    embed(bench(tmp_path / "one"), documents_stage(tmp_path / "whole", rows, [0, 300]), CONFIG)
    monkeypatch.setattr(prereq.jobs.stages.embed, "_KEYS", 0)
    parts = documents_stage(tmp_path / "cut", rows, [*range(0, 300, 10), 300])
    embed(bench(tmp_path / "many"), parts, CONFIG)
    assert model_bytes(tmp_path / "many") == model_bytes(tmp_path / "one")
