"""`prereq graph score`: graphs, configurations and influences beside each other."""

import json
from pathlib import Path

import numpy as np
import pytest

from prereq.graph.influence import Influence, save_influence
from prereq.jobs.cli import main


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A graph, a reference, a learned influence and a configuration of the reference in one folder."""
    monkeypatch.chdir(tmp_path)
    Path("graph.csv").write_text("prerequisite,target,weight\na,b,.9\nc,b,.5\na,c,.4\n")
    Path("reference.csv").write_text("prerequisite,target\na,b\nb,c\na,d\n")
    Path("c.yaml").write_text(
        "run_dir: r\npool_dir: p\nrounds: 1\nsources: [{name: a, paths: [x]}]\ngraph: {edges: reference.csv}\n"
    )
    matrix = np.array([[1.0, 0.6, 0.1], [0.2, 1.0, 0.7], [0.0, -0.3, 1.0]])
    save_influence(Influence(tuple("abc"), tuple("abc"), matrix), "learned.parquet")
    return tmp_path


def test_the_table_has_every_figure_beside_chance(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["graph", "score", "graph.csv", "--reference", "c.yaml", "--k", "1"]) == 0
    shown = capsys.readouterr().out
    # d has no edge in the graph and so is in no edge list: three skills are left
    assert "3 skills in both, 6 ordered pairs; edges: 3 of the graph, 2 of the reference (1 more are not" in shown
    assert "precision             0.333    0.333" in shown
    assert "direction             0.500    0.500  of 2 pairs that both link" in shown
    assert "Regret@1" in shown


def test_json_has_the_same_with_numbers(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["graph", "score", "learned.parquet", "--reference", "reference.csv", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["edges"], facts["reference_edges"], facts["both"], facts["outside"]) == (4, 2, 2, 1)
    assert facts["measures"]["average precision"]["value"] == 1.0  # .7 and .6 come first
    assert facts["measures"]["direction"] == {"value": 1.0, "random": 0.5}
    assert main(["graph", "score", "learned.parquet", "--reference", "reference.csv", "--json", "--least", ".65"]) == 0
    assert json.loads(capsys.readouterr().out)["edges"] == 1


def test_a_measured_influence_judges_the_order_of_helpers(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["graph", "score", "reference.csv", "--reference", "learned.parquet", "--json", "--k", "1"]) == 0
    measures = json.loads(capsys.readouterr().out)["measures"]
    # a: b and c tied, of gains .2 and 0; b: a before c, as measured; c: b before a, as measured
    assert measures["Regret@1"]["value"] == pytest.approx(0.5 / 3, abs=1e-6)
    assert measures["NDCG"]["value"] == pytest.approx(((1 + 1 / np.log2(3)) / 2 + 2) / 3, abs=1e-6)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["graph.csv", "--reference", "gone.csv"], "gone.csv"),
        (["graph.csv", "--reference", "gone.parquet"], "gone.parquet: cannot be read"),
        (["graph.csv", "--reference", "broken.parquet"], "broken.parquet: cannot be read as Parquet"),
        (["graph.csv", "--reference", "c.yaml", "--k", "0"], "expected 1 or more"),
        (["graph.csv", "--reference", "c.yaml", "--least", "inf"], "expected a finite number"),
        (["learned.parquet", "--reference", "c.yaml", "--set", "seed=1"], "is an influence, not a configuration"),
        (["graph.csv", "--reference", "other.csv"], "0 skills in common"),
    ],
)
def test_what_cannot_work_is_one_line(
    files: Path, more: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("other.csv").write_text("prerequisite,target\nx,y\n")
    Path("broken.parquet").write_bytes(Path("learned.parquet").read_bytes()[:-20])
    assert main(["graph", "score", *more]) == 2
    assert message in capsys.readouterr().err


def test_a_dry_run_reads_nothing(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["graph", "score", "gone.csv", "--reference", "gone.csv", "--dry-run"]) == 0
    assert "would read gone.csv and gone.csv" in capsys.readouterr().out
