"""The stages over part files: the same answer whatever the parts and buckets, and three stages that stay in step."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prereq.graph.canonical import sha256_hex
from prereq.jobs.executor import InProcessExecutor
from prereq.jobs.progress import Progress
from prereq.jobs.stages import semantic
from prereq.jobs.stages.dedup import LISTED, duplicates_path
from prereq.jobs.stages.runner import Bench, StageFile, StageResult
from prereq.jobs.stages.semantic import Clustered, drop_semantic, semantic_path

#         0    1    2    3    4    5    6   7
ANGLES = [10, 12, 90, 91, 12, 50, None, None]  # None: the vector of documents without a known word
CLUSTERS = [0, 0, 1, 1, 2, 0, 0, 0]
LENGTHS = [5, 9, 4, 4, 7, 3, 2, 2]


def vector(angle: float | None) -> list[float]:
    if angle is None:
        return [1.0, 0.0, 0.0]
    return [0.0, float(np.cos(np.radians(angle))), float(np.sin(np.radians(angle)))]


def stage(folder: Path, name: str, rows_per_part: int, columns: dict[str, Any]) -> StageResult:
    files = []
    (folder / name).mkdir(parents=True)
    for start in range(0, len(ANGLES), rows_per_part):
        path = folder / name / f"part-{start:05d}.parquet"
        part = pa.table({key: values[start : start + rows_per_part] for key, values in columns.items()})
        pq.write_table(part, path)
        files.append(StageFile(str(path), len(part), path.stat().st_size, sha256_hex(path.read_bytes())))
    return StageResult(name, tuple(files), {}, 0, "digest")


def run(folder: Path, rows_per_part: int = 3, keep: str = "longest") -> tuple[Clustered, list[dict[str, Any]]]:
    bench = Bench(stages=folder / "stages", executor=InProcessExecutor(), progress=Progress(quiet=True), seed=0)
    duplicates_path(bench).parent.mkdir(parents=True)
    first = {"id": "x", "survivor": "d0", "kind": "exact", "similarity": 1.0, "source": "web", "place": "p"}
    pq.write_table(pa.Table.from_pylist([first], schema=LISTED), duplicates_path(bench))
    ids = [f"d{number}" for number in range(len(ANGLES))]
    documents = {"id": ids, "text": ["x" * length for length in LENGTHS]}
    documents["quality"] = ["7", "3", "1", "none", None, "2", "2", "2"]
    documents |= {"source": ["web"] * len(ids), "place": [f"a:{name}" for name in ids]}
    vectors = pa.array([vector(angle) for angle in ANGLES], pa.list_(pa.float32(), 3))
    found = Clustered(
        stage(folder, "documents", rows_per_part, documents),
        stage(folder, "vectors", rows_per_part, {"id": ids, "vector": vectors}),
        stage(folder, "clusters", rows_per_part, {"id": ids, "cluster": pa.array(CLUSTERS, pa.int32())}),
    )
    left = drop_semantic(bench, found, 0.99, keep, "quality" if keep == "score" else None)
    return left, pq.read_table(semantic_path(bench)).to_pylist()


def ids_of(result: StageResult) -> list[str]:
    return [name for part in result.matching("part-") for name in pq.read_table(part.path)["id"].to_pylist()]


def test_the_longest_stays_inside_each_cluster_and_unknown_documents_all_stay(tmp_path: Path):
    left, listed = run(tmp_path)
    assert [(row["id"], row["survivor"], row["kind"]) for row in listed] == [
        ("x", "d0", "exact"),
        ("d0", "d1", "semantic"),
        ("d3", "d2", "semantic"),
    ]
    np.testing.assert_allclose(listed[1]["similarity"], np.cos(np.radians(2)), atol=1e-6)
    stayed = ["d1", "d2", "d4", "d5", "d6", "d7"]
    assert ids_of(left.documents) == ids_of(left.vectors) == ids_of(left.clusters) == stayed
    assert left.documents.counts == {"documents": 8, "semantic": 2, "kept": 6}


def test_the_first_stays_where_that_is_the_rule(tmp_path: Path):
    assert ids_of(run(tmp_path, keep="first")[0].documents) == ["d0", "d2", "d4", "d5", "d6", "d7"]


def test_the_best_stays_where_that_is_the_rule(tmp_path: Path):
    assert ids_of(run(tmp_path, keep="score")[0].documents) == ["d0", "d2", "d4", "d5", "d6", "d7"]


@pytest.mark.parametrize("rows_per_part", [1, 8])
@pytest.mark.parametrize("bucket_rows", [2, 100])
def test_parts_and_buckets_change_nothing(
    tmp_path: Path, rows_per_part: int, bucket_rows: int, monkeypatch: pytest.MonkeyPatch
):
    wanted = run(tmp_path / "wanted")[1]
    monkeypatch.setattr(semantic, "_BUCKET_ROWS", bucket_rows)
    left, listed = run(tmp_path / "found", rows_per_part)
    assert listed == wanted
    assert ids_of(left.clusters) == ["d1", "d2", "d4", "d5", "d6", "d7"]
