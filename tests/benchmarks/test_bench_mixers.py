"""What --size check says about the stored results: the same, other numbers, other inputs, nothing stored."""

import json
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def store(folder: Path, kept: dict) -> None:
    folder.mkdir(parents=True)
    (folder / "metrics.json").write_text(json.dumps({"rows": {"worlds": {"comparable": kept}}}))
    (folder / "env.json").write_text(json.dumps({"commit": "c0ffee"}))


def test_numbers_within_their_tolerance_agree_and_others_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    from comparison import comparable, compare, say

    store(tmp_path / "r", comparable("d", ratio=(1.0, 0.01), count=(2, 0.0), only_full=(5, 0.0)))
    same = compare("worlds", comparable("d", ratio=(1.009, 0.01), count=(2, 0.0)), tmp_path / "r")
    assert same["agrees"]
    assert same["commit"] == "c0ffee"
    assert set(same["numbers"]) == {"ratio", "count"}
    other = compare("worlds", comparable("d", ratio=(1.011, 0.01), count=(2, 0.0)), tmp_path / "r")
    assert not other["agrees"]
    assert other["why"] == "ratio outside tolerance"
    say("worlds", other)
    assert "DIFFERS worlds: ratio = 1.011, stored 1 (within 1%)" in capsys.readouterr().out


def test_other_inputs_or_nothing_stored_never_agree(tmp_path: Path):
    from comparison import comparable, compare

    now = comparable("d", ratio=(1.0, 0.01))
    assert "--size full" in compare("worlds", now, tmp_path / "nothing")["why"]
    store(tmp_path / "r", comparable("e", ratio=(1.0, 0.01)))
    found = compare("worlds", now, tmp_path / "r")
    assert not found["agrees"]
    assert found["why"].startswith("the inputs are d, those of the stored results e")
    store(tmp_path / "s", comparable("d", another=(1.0, 0.01)))
    assert compare("worlds", now, tmp_path / "s")["why"] == "no number in common"


@pytest.mark.parametrize(("size", "code"), [("check", 1), ("full", 0)])
def test_a_check_that_differs_from_what_is_stored_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: str, code: int
):
    import bench_mixers
    import comparison

    monkeypatch.setattr(comparison, "RESULTS", tmp_path)
    store(tmp_path / "mixers-worlds", comparison.comparable("d", ratio=(2.0, 0.1)))
    kept = {"comparable": comparison.comparable("d", ratio=(1.0, 0.1))}
    monkeypatch.setitem(bench_mixers.ROWS, "worlds", lambda size: ({"bandit_worse_than_uniform_worlds": 0.0}, kept))
    assert bench_mixers.main(["--out", str(tmp_path / "out"), "--rows", "worlds", "--size", size]) == code
    written = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert ("compared" in written) == (size == "check")


def test_what_the_stored_rows_keep_can_be_compared():
    """The stored full results are those that a check looks for."""
    for row in ("worlds", "cost"):
        kept = json.loads((BENCHMARKS / "results" / f"mixers-{row}" / "metrics.json").read_text())
        assert kept["rows"][row]["comparable"]["numbers"]
        stored = json.loads((BENCHMARKS / "results" / f"mixers-{row}" / "params.json").read_text())
        assert stored["size"] == "full"
