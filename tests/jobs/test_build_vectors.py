"""Whole builds with vectors that prereq does not fit itself."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prereq.graph.errors import ConfigError
from prereq.jobs.config import RunConfig

# test folders are no packages
_SPEC = importlib.util.spec_from_file_location("building_tests", Path(__file__).with_name("test_build.py"))
assert _SPEC is not None
assert _SPEC.loader is not None
_BUILDING = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_BUILDING)
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
