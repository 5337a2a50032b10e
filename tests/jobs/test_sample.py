"""What `prereq sample` says about a configuration that is not the one of its pool."""

import contextlib
import json
from pathlib import Path

import pytest
import yaml
from loading import load_module

from prereq.jobs.cli import main

_builds = load_module(Path(__file__).with_name("test_build.py"))
corpus, copy, make = _builds.corpus, _builds.copy, _builds.make


def sample(folder: Path) -> int:
    config = make(folder, mixer={"name": "uniform"}, global_batch=8, batches_per_round=2)
    (folder / "config.yaml").write_text(yaml.safe_dump(config.resolved()))
    with contextlib.chdir(folder):
        return main(["sample", "config.yaml"])


def test_the_pools_own_graph_is_no_news(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sample(copy) == 0
    assert "graph" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"edges": []}, "edges or descriptions differ"),
        ({"skills": [{"id": "loops"}, {"id": "files"}, {"id": "maps"}]}, "2 skills are in one of them only"),
        (None, "graph.json"),  # the file is not here: a sampler needs the pool alone
    ],
)
def test_another_graph_than_the_pools_is_named_and_rounds_are_drawn(
    copy: Path, capsys: pytest.CaptureFixture[str], change: dict[str, object] | None, expected: str
) -> None:
    path = copy / "graph.json"
    path.unlink() if change is None else path.write_text(json.dumps(json.loads(path.read_bytes()) | change))
    assert sample(copy) == 0
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("graph: ")]
    assert len(said) == 1
    assert expected in said[0]
    assert "drawn with the pool's own" in said[0]
    assert json.loads((copy / "run/graph.json").read_bytes()) == json.loads((copy / "pool/graph.json").read_bytes())
