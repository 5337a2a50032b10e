"""Whole builds with vectors that prereq does not fit itself."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from loading import load_module

from prereq.graph.errors import ConfigError, TableError
from prereq.graph.skill import Skill
from prereq.graph.skill_graph import SkillGraph
from prereq.jobs.config import RunConfig
from prereq.jobs.stages.embed import embed
from prereq.selector.corpus.embedding import EmbeddingConfig

_TESTS = Path(__file__).resolve().parent.parent
_BUILDING = load_module(_TESTS / "jobs" / "test_build.py")
_STAGES = load_module(_TESTS / "jobs" / "stages" / "test_embed.py")
_MODELS = load_module(_TESTS / "selector" / "corpus" / "test_text_models.py")
TOPICS, make, run, write_corpus = _BUILDING.TOPICS, _BUILDING.make, _BUILDING.run, _BUILDING.write_corpus


def test_own_vectors_decide_arms_and_belong_to_the_pool(tmp_path: Path) -> None:
    """A cluster per direction; another vector is another pool, and a document that was split has its parent's."""
    write_corpus(tmp_path)
    files = [tmp_path / name for name in ("one.jsonl", "two.jsonl")]
    rows = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    files[1].unlink()
    place = list(TOPICS)
    for row in rows:
        if row["id"] == "d0001":
            row["text"] = "\n".join(f"line {n} of a long text about {n * n}" for n in range(400))
    files[0].write_text("\n".join(map(json.dumps, rows)) + "\n")

    def write(turn: float = 0.0) -> None:
        vectors = [[float(k == place.index(row["topic"])) + 0.1 for k in range(3)] for row in reversed(rows)]
        vectors[5][0] += turn
        table = pa.table({"id": [row["id"] for row in reversed(rows)], "vector": vectors})
        pq.write_table(table, tmp_path / "vectors.parquet", row_group_size=50)

    def own(into: str) -> RunConfig:
        settings = {"embedding": {"method": "column", "vectors": {"paths": ["vectors.parquet"]}}}
        ingest = {"part_rows": 70, "max_document_bytes": 5000}
        return make(tmp_path, into, ingest=ingest, clustering={"clusters": 3}, dedup={"near": False}, **settings)

    write()
    summary = run(own("pool"))
    assert summary.arms == 3
    counts = json.loads((tmp_path / "pool/stages/embed/manifest.json").read_bytes())["counts"]
    assert counts["by the vector of the whole"] >= 2
    arms = pq.read_table(tmp_path / "pool/arms.parquet").to_pylist()
    assert sorted(np.argmax([arm["centroid"] for arm in arms], axis=1)) == [0, 1, 2]
    parts = [pq.read_table(path) for path in sorted((tmp_path / "pool").glob("part-*.parquet"))]
    topics = {(row["arm"], row["topic"]) for part in parts for row in part.to_pylist()}
    assert len(topics) == 3, "every arm holds one topic"
    assert run(own("pool")).was_done
    write(turn=1e-3)
    with pytest.raises(ConfigError, match=r"embedding\.vectors\.content was"):
        run(own("pool"))
    run(own("other"))
    manifests = [json.loads((tmp_path / name / "manifest.json").read_bytes()) for name in ("pool", "other")]
    assert manifests[0]["config"] != manifests[1]["config"]


def test_a_model_embeds_every_part_and_counts_by_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [(f"d{number}", text) for number, text in enumerate(_MODELS.TEXTS)]
    folder = _MODELS.write_onnx(tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    config = EmbeddingConfig(method="onnx", model_path="model", batch_size=2)
    documents = _STAGES.documents_stage(tmp_path / "docs", rows, [0, 3, 3, 5])  # the second part is empty
    result = embed(_STAGES.bench(tmp_path / "a"), documents, config)
    ids, vectors = _STAGES.read(result)
    assert ids == [name for name, _ in rows]
    means = np.array([_MODELS.rows_of(text).mean(axis=0) for _, text in rows])
    np.testing.assert_allclose(vectors, means / np.linalg.norm(means, axis=1, keepdims=True), atol=1e-6)
    assert [file.rows for file in result.matching("part-")] == [3, 0, 2]
    assert embed(_STAGES.bench(tmp_path / "a"), documents, config).skipped == 3
    other = embed(_STAGES.bench(tmp_path / "b"), documents, config)
    assert [file.sha256 for file in other.files] == [file.sha256 for file in result.files]

    plain = make(tmp_path, embedding={"method": "onnx", "model_path": folder})
    before = building_settings(plain)
    (tmp_path / "model" / "vocab.txt").write_text("another file")
    assert building_settings(plain) != before
    assert embed(_STAGES.bench(tmp_path / "a"), documents, config).skipped == 0


def test_a_document_without_a_direction_is_named(tmp_path: Path) -> None:
    folder = _MODELS.write_onnx(tmp_path / "model")
    documents = _STAGES.documents_stage(tmp_path / "docs", [("d0", "w1"), ("d1", " ")], [0, 2])
    config = EmbeddingConfig(method="onnx", model_path=folder)
    with pytest.raises(TableError, match=r"document 'd1' by the model in .* the vector is zero"):
        embed(_STAGES.bench(tmp_path / "a"), documents, config)


def building_settings(config: RunConfig) -> dict[str, object]:
    return config.pool_settings(SkillGraph("prerequisite", [Skill(id="a")], []))
