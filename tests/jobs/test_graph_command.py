"""`prereq graph check` and `show`, on configurations and on graph files."""

import json
from pathlib import Path

import pytest

from prereq.jobs.cli import main


@pytest.fixture
def edges(tmp_path: Path) -> Path:
    """An edge list of three skills."""
    path = tmp_path / "e.csv"
    path.write_text("prerequisite,target\na,b\nb,c\n")
    return path


def write_config(edges: Path) -> Path:
    """A configuration that names the edge list."""
    path = edges.parent / "c.yaml"
    path.write_text(
        f"run_dir: r\npool_dir: p\nrounds: 1\nsources: [{{name: a, paths: [x]}}]\ngraph: {{edges: '{edges}'}}\n"
    )
    return path


def test_check_says_how_large_a_sound_graph_is(edges: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["graph", "check", str(edges)]) == 0
    assert "sound: 3 skills, 2 edges, 3 stages (prerequisite)" in capsys.readouterr().out
    assert main(["graph", "check", str(write_config(edges)), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "kind": "prerequisite",
        "skills": 3,
        "edges": 2,
        "stages": 3,
        "merged": {},
    }


def test_check_of_a_cycle_prints_it(edges: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edges.write_text("prerequisite,target\na,b\nb,c\nc,a\n")
    assert main(["graph", "check", str(edges)]) == 2
    assert "a -> b -> c -> a" in capsys.readouterr().err
    config = str(write_config(edges))
    assert main(["graph", "check", config, "--set", "graph.on_cycle=condense"]) == 0
    assert "2 skills merged into others" in capsys.readouterr().out


def test_the_graph_that_comes_with_prereq_is_sound(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["graph", "check", "quickstart", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["skills"] >= 40


def test_show_describes_dumps_or_draws(edges: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["graph", "show", str(edges)]) == 0
    assert "3 skills" in capsys.readouterr().out
    assert main(["graph", "show", str(edges), "--json"]) == 0
    dumped = capsys.readouterr().out
    again = edges.parent / "g.json"
    again.write_text(dumped)
    assert main(["graph", "show", str(again), "--json"]) == 0
    assert capsys.readouterr().out == dumped
    drawing = edges.parent / "g.svg"
    assert main(["graph", "show", str(edges), "--svg", str(drawing)]) == 0
    assert drawing.read_text().startswith("<svg")


def test_a_graph_file_in_yaml_is_told_from_a_configuration(edges: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = edges.parent / "g.yaml"
    path.write_text("format: prereq.graph/1\nkind: prerequisite\nskills: [{id: a}]\nedges: []\n")
    assert main(["graph", "check", str(path)]) == 0
    assert main(["graph", "check", str(path), "--set", "graph.on_cycle=condense"]) == 2
    assert "is a graph, not a configuration" in capsys.readouterr().err


def test_a_graph_file_without_its_format_is_told_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is not taken for a configuration with seven wrong keys."""
    path = tmp_path / "g.yaml"
    path.write_text("kind: prerequisite\nskills: [{id: a}]\nedges: []\n")
    assert main(["graph", "check", str(path)]) == 2
    assert "format: prereq.graph/1" in capsys.readouterr().err
