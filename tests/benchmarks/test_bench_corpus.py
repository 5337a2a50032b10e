"""The corpus benchmark's table of rows, and what it says when an input is missing."""

from pathlib import Path

import pytest
import yaml

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def test_a_missing_input_is_one_line_and_exit_code_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import bench_corpus

    out = ["--out", str(tmp_path / "out")]
    assert bench_corpus.main([*out, "--rows", "dedup"]) == 2
    assert bench_corpus.main([*out, "--rows", "build", "--corpus", str(tmp_path)]) == 2
    assert bench_corpus.main([*out, "--rows", "no_such_row"]) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 3
    assert "--corpus must name" in said[0]
    assert str(tmp_path / "parquet") in said[1]
    assert "no such row" in said[2]
    for folder in ("parquet", "jsonl", "venv"):
        (tmp_path / folder).mkdir()
    (tmp_path / "truth.json").touch()
    assert bench_corpus.main([*out, "--rows", "dedup", "--corpus", str(tmp_path), "--peers", str(tmp_path)]) == 2
    assert "no environment of the peer td" in capsys.readouterr().err


def test_every_row_is_in_one_group_and_check_leaves_out_the_long_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import bench_corpus
    from corpus_rows import select

    groups = bench_corpus.tables()
    names = [name for rows in groups.values() for name in rows]
    assert len(set(names)) == len(names)
    assert set(select(groups, None, "full")) - set(select(groups, None, "check")) == {"scale"}
    bars = yaml.safe_load((BENCHMARKS / "requirements.yaml").read_text())["corpus"]
    assert {"dedup_growth", "build_seconds", "tag_ratio"} <= set(bars)
