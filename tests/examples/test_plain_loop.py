"""The plain loop under torchrun, with a live sampler; killed and resumed at another world size."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow
REPORTS = ["000000.json", "000001.json", "000002.json", "000003.json", "initial.json"]


def loss(example: Any, name: str) -> float:
    losses = json.loads((example.run / "feedback" / name).read_bytes())["losses"]
    return sum(losses.values()) / len(losses)


def test_two_processes_train_while_rounds_are_made(make_example: Callable[..., Any], tmp_path: Path) -> None:
    example = make_example(4)
    output = example.finish("plain_loop.py", "--checkpoint", str(tmp_path / "plain.pt"), processes=2)
    assert "round 3, step 11: loss" in output
    assert example.reports() == REPORTS
    assert loss(example, "000003.json") < loss(example, "initial.json") - 0.5
    manifest = json.loads((example.run / "rounds/000003/manifest.json").read_bytes())
    assert [entry["round"] for entry in manifest["feedback"]] == [1], "the report of round 1 moved round 3"
    assert json.loads((example.run / "readers/trainer.json").read_bytes())["round"] == 4


def test_killed_it_goes_on_with_another_number_of_processes(make_example: Callable[..., Any], tmp_path: Path) -> None:
    example = make_example(4)
    checkpoint = tmp_path / "plain.pt"
    ranks = example.start_ranks("plain_loop.py", "--checkpoint", str(checkpoint), world_size=2)
    deadline = time.monotonic() + 120
    while not checkpoint.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    for rank in ranks:
        rank.kill()
    for rank in ranks:
        rank.communicate()
    assert checkpoint.exists()
    output = example.finish("plain_loop.py", "--checkpoint", str(checkpoint))
    assert "round 0," not in output, "round 0 was behind the checkpoint"
    assert "round 3, step 11" in output
    assert example.reports() == REPORTS
    again = example.finish("plain_loop.py", "--checkpoint", str(checkpoint))
    assert "round" not in again, "nothing is left to train on"
