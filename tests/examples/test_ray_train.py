"""Ray Train's real worker group on a live run: exact ids over two workers, and one worker goes on after a failure."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.ray]


def read_ids(path: Path) -> list[tuple[int, str]]:
    return [(int(step), name) for step, name in (line.split(" ", 1) for line in path.read_text().splitlines())]


def test_two_workers_fail_and_one_goes_on(make_example: Callable[..., Any], tmp_path: Path) -> None:
    pytest.importorskip("ray.train", exc_type=ImportError)
    example = make_example(4)
    options = ["--storage", str(tmp_path / "ray"), "--ids", str(tmp_path / "ids")]
    process = example.start("ray_train.py", *options, "--fail-behind", "7", RAY_DEDUP_LOGS="0")
    output, _ = process.communicate(timeout=300)
    assert process.returncode != 0
    assert "asked to fail behind step 7" in output, output[-3000:]
    first = [read_ids(tmp_path / f"ids-{rank}") for rank in (0, 1)]
    assert [[step for step, _ in ids] for ids in first] == [[s for s in range(8) for _ in range(4)]] * 2

    for rank in (0, 1):
        (tmp_path / f"ids-{rank}").unlink()
    output = example.finish("ray_train.py", *options, "--workers", "1")
    assert "trained to the end" in output
    second = read_ids(tmp_path / "ids-0")
    assert [step for step, _ in second] == [s for s in range(6, 12) for _ in range(8)], "behind round 1, its checkpoint"

    shards = sorted(example.run.glob("rounds/*/shard-*"))
    expected = [name for path in shards for name in pq.read_table(path, columns=["id"])["id"].to_pylist()]
    drawn = [
        name for step in range(6) for rank in (0, 1) for name in [found for at, found in first[rank] if at == step]
    ] + [name for _, name in second]
    assert drawn == expected, "two workers, then one: every row once, in the order of the run"
    assert example.reports() == ["000000.json", "000001.json", "000002.json", "000003.json", "initial.json"]
    reports = [
        json.loads((example.run / "feedback" / name).read_bytes())["losses"] for name in ("initial.json", "000003.json")
    ]
    assert all(reports[1][skill] < reports[0][skill] - 0.5 for skill in ("add", "count"))
    assert json.loads((example.run / "readers/trainer.json").read_bytes())["round"] == 3, (
        "the checkpoint before the last"
    )
