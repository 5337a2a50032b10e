"""Settings that cannot work are refused with their key."""

import subprocess
import sys
from typing import Any

import pytest

from prereq.graph.errors import ConfigError
from prereq.jobs.train.config import TrainConfig


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layers": 0}, r"train\.layers: must be 1 or more, got 0"),
        ({"width": 100}, r"train\.width: 100 is not a multiple of twice train\.heads \(8\)"),
        ({"learning_rate": 0.0}, r"train\.learning_rate: must be above 0"),
        ({"learning_rate": float("nan")}, r"train\.learning_rate: must be above 0"),
        ({"warmup_steps": -1}, r"train\.warmup_steps: must be 0 or more"),
        ({"report_tokens_per_skill": 0}, r"train\.report_tokens_per_skill: must be 1 or more"),
        ({"device": "tpu"}, r"train\.device: 'tpu' is not one of cpu, cuda"),
    ],
)
def test_a_setting_that_cannot_work_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TrainConfig(**changes)


def test_reading_a_configuration_does_not_load_torch() -> None:
    code = "import sys, prereq.jobs.train.config; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
