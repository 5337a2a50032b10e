"""The shipped configurations, whole, on real data and on the embedded default, read by the independent reader."""

import json
import os
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
CONFIGS = Path(__file__).resolve().parents[2] / "configs"
SMALL = (
    "train.eval_tokens_per_skill=512",
    "train.report_tokens_per_skill=512",
    "train.layers=1",
    "train.width=64",
)  # evaluations were most of the time
HERE = "ray.num_cpus=0"  # Ray's start costs more than its workers gain; the quickstart runs as it is shipped


def run(prereq, reader, name: str, *overrides: str) -> tuple[list[dict], str]:
    sets = [f"run_dir={prereq.root}/run", f"pool_dir={prereq.root}/pool", *overrides]
    result = prereq(
        "run", CONFIGS / f"{name}.yaml", *(word for value in sets for word in ("--set", value)), timeout=560
    )
    pool = reader.check_pool(prereq.root / "pool")
    return reader.check_run(prereq.root / "run", pool), result.stdout


def losses(root: Path, name: str) -> dict[str, float]:
    report = json.loads((root / "run/feedback" / f"{name}.json").read_bytes())
    return {skill: loss for skill, loss in report["losses"].items() if loss is not None}


def here(data_dir: Path) -> list[str]:
    """The shipped files say ../shared/data; a test runs elsewhere."""
    name = "exercism" if "exercism" in str(data_dir) else "dm_mathematics"
    changes = [f"sources.0.paths=[{data_dir}/documents.jsonl.gz]", f"graph.edges={data_dir}/edges.csv"]
    return [*changes, f"graph.skills={data_dir}/skills.jsonl"] if name == "exercism" else changes


@pytest.mark.data
def test_exercism(prereq, reader, data_dir):
    """Six programming tracks, 410 gold edges, several skills to a document."""
    small = ["rounds=2", "batches_per_round=2", HERE, *SMALL]
    manifests, table = run(prereq, reader, "exercism", *here(data_dir / "exercism"), *small)
    assert len(manifests) == 2
    graph = json.loads((prereq.root / "pool/graph.json").read_bytes())
    assert len(graph["edges"]) == 410
    first, last = losses(prereq.root, "initial"), losses(prereq.root, "000001")
    assert len(last) > 180, "most of the 233 skills have a control document"
    assert sum(last.values()) / len(last) < sum(first.values()) / len(first) - 1
    assert "python/basics" in table


@pytest.mark.data
def test_dm_mathematics(prereq, reader, data_dir):
    """150k questions, 56 skills, one to a document: T is the identity."""
    small = ["rounds=4", "batches_per_round=4", HERE, *SMALL]
    manifests, _ = run(prereq, reader, "dm_mathematics", *here(data_dir / "dm_mathematics"), *small)
    assert len(manifests) == 4
    pool = json.loads((prereq.root / "pool/manifest.json").read_bytes())
    assert len(pool["arms"]) == len(pool["skills"]) == 56
    assert pool["documents"] > 140_000
    first, last = losses(prereq.root, "initial"), losses(prereq.root, "000003")
    assert len(last) == 56
    assert all(last[skill] < first[skill] for skill in last)
    weights = [max(m["mixture"]["skills"].values()) for m in manifests]
    assert len({round(w, 9) for w in weights}) > 1, "the mixture moved"


def test_quickstart(prereq, reader):
    """The embedded default, two rounds of it: needs nothing but the interpreter."""
    if not (Path(os.__file__).parent / "argparse.py").is_file():
        pytest.skip(f"this Python ({sys.executable}) has no source of its standard library")
    manifests, table = run(prereq, reader, "quickstart", "rounds=2", *SMALL)
    assert len(manifests) == 2
    pool = json.loads((prereq.root / "pool/manifest.json").read_bytes())
    assert len(pool["skills"]) >= 40
    assert pool["documents"] > 5000
    page = (prereq.root / "run/report.html").read_text(encoding="utf-8")
    assert "http://" not in page.replace("http://www.w3.org/2000/svg", "")
    assert page.count("<svg") >= 3
    assert "decorators" in table
