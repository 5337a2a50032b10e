"""Fine to coarse, merging and pruning as stages: every document is where its small cluster went, or on the list."""

import itertools
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import normalized_mutual_info_score

from prereq.graph.canonical import sha256_hex
from prereq.graph.errors import ConfigError, TableError
from prereq.jobs.build import build
from prereq.jobs.config import make_config
from prereq.jobs.executor import InProcessExecutor
from prereq.jobs.progress import Progress
from prereq.jobs.stages.cluster import Clusters, cluster
from prereq.jobs.stages.embed import embed
from prereq.jobs.stages.regroup import pruned_path
from prereq.jobs.stages.runner import Bench, StageFile, StageResult
from prereq.selector.corpus.clustering import ClusteringConfig
from prereq.selector.corpus.embedding import EmbeddingConfig

TOPICS = ("apple pear plum cherry fig", "engine wheel brake clutch axle", "violin flute drum cello harp")
SCORES = ("4.0", "1.5", "3")  # of topic 0, 1, 2


def stage(folder: Path, borders: Sequence[int] = (0, 100, 240), **changed: str | None) -> StageResult:
    """Document n is of topic n mod 3, and its score is its topic's unless `changed` gives one by id."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    texts = ["the " + " ".join(rng.choice(TOPICS[n % 3].split(), 12)) for n in range(240)]
    columns = {
        "id": [f"doc{n}" for n in range(240)],
        "text": texts,
        "source": ["s"] * 240,
        "place": [f"p{n}" for n in range(240)],
        "quality": [changed.get(f"doc{n}", SCORES[n % 3]) for n in range(240)],
    }
    table, files = pa.table(columns), []
    for index, (start, end) in enumerate(itertools.pairwise(borders)):
        path = folder / f"part-{index:05d}.parquet"
        pq.write_table(table.slice(start, end - start), path)
        files.append(StageFile(str(path), end - start, path.stat().st_size, sha256_hex(path.read_bytes())))
    return StageResult("dedup", tuple(files), {}, 0, "")


def run(folder: Path, documents: StageResult, config: ClusteringConfig) -> tuple[Bench, Clusters]:
    bench = Bench(stages=folder, executor=InProcessExecutor(), progress=Progress(quiet=True), seed=0)
    vectors = embed(bench, documents, EmbeddingConfig(dim=8, method="tfidf"))
    return bench, cluster(bench, documents, vectors, config)


def read(result: StageResult) -> pa.Table:
    return pa.concat_tables([pq.read_table(file.path) for file in result.matching("part-")])


def test_fine_clusters_become_coarse_ones(tmp_path: Path) -> None:
    bench, found = run(tmp_path / "s", stage(tmp_path), ClusteringConfig(clusters=3, fine=20))
    coarse = read(found.parts)["cluster"].to_numpy()
    fine = np.concatenate(
        [pq.read_table(p)["cluster"].to_numpy() for p in sorted((bench.stages / "cluster-fine").glob("*/part-*"))]
    )
    assert normalized_mutual_info_score(np.arange(240) % 3, coarse) > 0.99
    assert len(set(fine.tolist())) > 10
    assert len(set(zip(fine.tolist(), coarse.tolist(), strict=True))) == len(set(fine.tolist()))  # a function of fine
    stats = json.loads(Path(found.model, "stats.json").read_bytes())
    assert stats["documents"] == np.bincount(coarse).tolist() == sorted(stats["documents"], reverse=True)
    for number, name in enumerate(found.names):
        assert set(name.split(", ")) <= set(TOPICS[int(np.argmax(coarse == number)) % 3].split())


def test_part_borders_change_nothing_and_a_rerun_skips_all(tmp_path: Path) -> None:
    config = ClusteringConfig(clusters=3, fine=20, balance=2.0, min_documents=5, prune_column="quality", prune_below=2)
    seen = []
    for name, borders in (("a", (0, 240)), ("b", (0, 7, 150, 240))):
        _, found = run(tmp_path / name / "s", stage(tmp_path / name, borders), config)
        table = read(found.parts)
        seen.append((table["id"].to_pylist(), table["cluster"].to_pylist(), found.names))
    assert seen[0] == seen[1]
    _, again = run(tmp_path / "b" / "s", stage(tmp_path / "b", (0, 7, 150, 240)), config)
    assert (again.parts.skipped, again.documents.skipped) == (3, 3)


def test_near_and_small_clusters_are_merged(tmp_path: Path) -> None:
    _, plain = run(tmp_path / "plain", stage(tmp_path), ClusteringConfig(clusters=12))
    assert len(plain.names) == 12
    _, merged = run(tmp_path / "merged", stage(tmp_path), ClusteringConfig(clusters=12, merge=1.2))
    assert normalized_mutual_info_score(np.arange(240) % 3, read(merged.parts)["cluster"].to_numpy()) > 0.99
    _, large = run(tmp_path / "large", stage(tmp_path), ClusteringConfig(clusters=12, min_documents=60))
    assert np.bincount(read(large.parts)["cluster"].to_numpy()).min() >= 60


def test_clusters_of_a_low_score_leave_with_their_documents_and_are_listed(tmp_path: Path) -> None:
    documents = stage(tmp_path)
    config = ClusteringConfig(clusters=3, prune_column="quality", prune_below=2.0)
    bench, found = run(tmp_path / "s", documents, config)
    kept = [f"doc{n}" for n in range(240) if n % 3 != 1]
    assert all(read(r)["id"].to_pylist() == kept for r in (found.documents, found.vectors, found.parts))
    listed = pq.read_table(pruned_path(bench))
    assert listed["id"].to_pylist() == [f"doc{n}" for n in range(240) if n % 3 == 1]
    assert set(listed["score"].to_pylist()) == {1.5}
    assert found.documents.counts == {"documents": 240, "pruned": 80, "kept": 160}
    assert len(found.names) == 2
    assert min(read(found.parts)["cluster"].to_pylist()) == 0


def test_all_pruned_and_bad_scores_are_errors(tmp_path: Path) -> None:
    with pytest.raises(TableError, match=r"below clustering.prune_below \(9\), the best 4; lower it"):
        run(tmp_path / "a", stage(tmp_path), ClusteringConfig(clusters=3, prune_column="quality", prune_below=9))
    with pytest.raises(ConfigError, match="no column 'worth'"):
        run(tmp_path / "b", stage(tmp_path), ClusteringConfig(clusters=3, prune_column="worth"))
    for number, wrong in enumerate((None, "high", "nan")):
        documents = stage(tmp_path / f"d{number}", doc5=wrong)
        with pytest.raises(TableError, match=r"document 'doc5': quality is .*, not a finite number"):
            run(tmp_path / f"c{number}", documents, ClusteringConfig(clusters=3, prune_column="quality"))


def test_a_build_leaves_pruned_documents_out_and_lists_them(tmp_path: Path) -> None:
    table = read(stage(tmp_path / "docs"))
    rows = table.select(["id", "text", "quality"]).to_pylist()
    (tmp_path / "docs.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    graph = {"format": "prereq.graph/1", "kind": "prerequisite", "skills": [{"id": "fruit", "patterns": ["apple"]}]}
    (tmp_path / "graph.json").write_text(json.dumps({**graph, "edges": []}))
    config = make_config(
        {
            "run_dir": str(tmp_path / "run"),
            "pool_dir": str(tmp_path / "pool"),
            "rounds": 1,
            "sources": [{"name": "s", "paths": [str(tmp_path / "docs.jsonl")], "metadata": ["quality"]}],
            "ingest": {"part_rows": 100},
            "dedup": {"near": False},
            "embedding": {"dim": 8},
            "clustering": {"clusters": 3, "fine": 12, "prune_column": "quality", "prune_below": 2.0},
            "graph": {"path": str(tmp_path / "graph.json")},
            "tagging": {"methods": ["patterns"]},
            "ray": {"num_cpus": 0},
        },
        "test",
    )
    summary = build(config, Progress(quiet=True))
    pool = tmp_path / "pool"
    files = [*pool.glob("part-*.parquet"), *(pool / "holdout").glob("part-*.parquet")]
    held = {name for path in files for name in pq.read_table(path, columns=["id"])["id"].to_pylist()}
    gone = set(pq.read_table(pool / "pruned.parquet")["id"].to_pylist())
    assert gone == {f"doc{n}" for n in range(240) if n % 3 == 1}
    assert not held & gone
    assert summary.counts["prune"]["pruned"] == 80
