"""The verb: what it prints, and what signals do to a real process."""

import argparse
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from prereq.graph.errors import ConfigError
from prereq.jobs.train.config import TrainConfig
from prereq.jobs.train.loop import main_train
from prereq.jobs.train.trainer import train

MakeLessons = Callable[..., Any]


def whole(lessons: Any, config: TrainConfig) -> dict[str, bytes]:
    """Sample, train to the end, give the outputs."""
    with lessons.sampling():
        train(lessons.folder, config)
    return dict(lessons.outputs())


def test_the_verb_prints_what_came_of_it(
    make_lessons: MakeLessons, tiny: TrainConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    lessons = make_lessons(rounds=1)
    lessons.sampler.run()
    config: Any = SimpleNamespace(run_dir=str(lessons.folder), train=tiny, ahead=None)
    assert main_train(config, argparse.Namespace(json=False)) == 0
    assert capsys.readouterr().out.startswith("trained on 1 rounds, 2 global batches, ")
    assert main_train(config, argparse.Namespace(json=True)) == 0
    assert json.loads(capsys.readouterr().out)["rounds"] == 1


def test_checkpoints_rarer_than_ahead_would_starve_the_run(tiny: TrainConfig) -> None:
    config: Any = SimpleNamespace(run_dir="unused", train=replace(tiny, checkpoint_every=3), ahead=2)
    with pytest.raises(ConfigError, match="lower checkpoint_every or raise ahead"):
        main_train(config, argparse.Namespace(json=False))


_PROGRAM = """
import json, sys
from types import SimpleNamespace
from prereq.jobs.train.config import TrainConfig
from prereq.jobs.train.loop import main_train
config = SimpleNamespace(run_dir=sys.argv[1], train=TrainConfig(**json.loads(sys.argv[2])), ahead=None)
sys.exit(main_train(config, SimpleNamespace(json=False)))
"""


def start(lessons: Any, config: TrainConfig) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", _PROGRAM, str(lessons.folder), json.dumps(asdict(config))]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 120
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.005)


@pytest.mark.slow
def test_a_process_killed_for_real_ends_with_the_same_bytes(make_lessons: MakeLessons, tiny: TrainConfig) -> None:
    settings = {"mixer": "skill_it", "rounds": 4, "batches_per_round": 4}
    expected = whole(make_lessons("whole", **settings), tiny)
    lessons = make_lessons("killed", **settings)
    with lessons.sampling():
        for name in ("feedback/initial.json", "feedback/000000.json", "feedback/000002.json"):
            process = start(lessons, tiny)
            wait_for(lessons.folder / name)
            process.kill()
            process.communicate()
        process = start(lessons, tiny)
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
    assert out.startswith("trained on 4 rounds")
    assert lessons.outputs() == expected


@pytest.mark.slow
def test_sigterm_leaves_a_checkpoint_and_ends_by_that_signal(make_lessons: MakeLessons, tiny: TrainConfig) -> None:
    expected = whole(make_lessons("whole"), tiny)
    lessons = make_lessons("stopped", mixer="uniform")
    process = start(lessons, tiny)  # no sampler yet: it waits for round 0
    wait_for(lessons.folder / "feedback/initial.json")
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGTERM
    assert "a checkpoint is written" in err
    assert (lessons.folder / "train/checkpoint.pt").exists()
    with lessons.sampling():
        train(lessons.folder, tiny)
    assert lessons.outputs() == expected


def test_the_command_line_loads_no_torch_before_it_trains() -> None:
    code = "import sys, prereq.jobs.train.loop; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
