"""The reference trainer on small runs: what it reports, and that being killed changes none of it."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from prereq.graph.errors import ConfigError, ManifestError, PrereqError
from prereq.jobs.train import trainer
from prereq.jobs.train.config import TrainConfig
from prereq.jobs.train.trainer import train
from prereq.selector.storage import Folder

MakeLessons = Callable[..., Any]


class Killed(BaseException):
    """Stands for SIGKILL: nothing in the trainer may catch it."""


def whole(lessons: Any, config: TrainConfig) -> dict[str, bytes]:
    """Sample, train to the end, give the outputs."""
    with lessons.sampling():
        train(lessons.folder, config)
    return dict(lessons.outputs())


@pytest.mark.slow
def test_a_run_is_trained_reported_and_judged(make_lessons: MakeLessons, tiny: TrainConfig) -> None:
    lessons = make_lessons(mixer="skill_it")
    said: list[str] = []
    with lessons.sampling():
        summary = train(lessons.folder, replace(tiny, learning_rate=0.01), say=said.append)
    assert (summary.rounds, summary.steps, summary.stopped) == (3, 6, False)
    manifests = [json.loads(p.read_bytes()) for p in sorted(lessons.folder.glob("rounds/*/manifest.json"))]
    assert summary.tokens == sum(m["tokens"] for m in manifests)
    reports = [json.loads(p.read_bytes()) for p in sorted(lessons.folder.glob("feedback/*.json"))]
    assert [(r["round"], r["step"]) for r in reports] == [(0, 2), (1, 4), (2, 6), ("initial", 0)]
    assert [r["tokens_seen"] for r in reports[:3]] == [sum(m["tokens"] for m in manifests[: n + 1]) for n in range(3)]
    assert reports[3]["losses"]["add"] == pytest.approx(5.549076)  # ln 257: the untrained head is zero
    assert all(0 < loss < 5.5 for loss in reports[2]["losses"].values())
    final = json.loads((lessons.folder / "train/final.json").read_bytes())
    assert final["format"] == "prereq.final/1"
    assert summary.final_loss == pytest.approx(sum(final["final"]["losses"].values()) / 3)
    assert summary.initial_loss == pytest.approx(5.549076)
    assert final["control"]["final"]["losses"] == reports[2]["losses"]
    assert any("round 2: mean control loss" in line for line in said)


def test_the_log_has_every_step_once_with_loss_speed_and_waits(make_lessons: MakeLessons, tiny: TrainConfig) -> None:
    lessons = make_lessons()
    whole(lessons, tiny)
    lines = [json.loads(line) for line in (lessons.folder / "train/log.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "loss" in line]
    assert [(line["round"], line["step"]) for line in steps] == [(s // 2, s) for s in range(6)]
    assert all(line["loss"] > 0 and line["tokens_per_s"] > 0 and line["waited_s"] >= 0 for line in steps)
    assert [line["round"] for line in lines if "control_loss" in line] == ["initial", 0, 1, 2]


@pytest.mark.slow
def test_two_trainings_give_the_same_bytes(make_lessons: MakeLessons, tiny: TrainConfig) -> None:
    two = replace(tiny, threads=2, width=32)
    assert whole(make_lessons("a"), two) == whole(make_lessons("b"), two)


def test_another_seed_gives_another_model(make_lessons: MakeLessons, tiny: TrainConfig) -> None:
    first, second = whole(make_lessons("a"), tiny), whole(make_lessons("b"), replace(tiny, seed=1))
    assert first["feedback/initial.json"] == second["feedback/initial.json"]  # the head starts at zero
    assert first["feedback/000000.json"] != second["feedback/000000.json"]


def crash_points(monkeypatch: pytest.MonkeyPatch, at: int | None, late: bool) -> list[str]:
    """Count file writes and optimizer steps; raise Killed around number `at`. Returns what was counted."""
    seen: list[str] = []

    def around(original: Callable[..., Any], what: Callable[..., str]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            number = len(seen)
            seen.append(what(*args))
            if number == at and not late:
                raise Killed
            result = original(*args, **kwargs)
            if number == at:
                raise Killed
            return result

        return call

    monkeypatch.setattr(Folder, "replace", around(Folder.replace, lambda self, name, data: name))
    monkeypatch.setattr(Folder, "commit", around(Folder.commit, lambda self, name, data: name))
    monkeypatch.setattr(trainer.Trainer, "_update", around(trainer.Trainer._update, lambda *args: "update"))
    return seen


@pytest.mark.slow
@pytest.mark.parametrize("checkpoint_every", [1, 2])
def test_killed_around_every_write_and_update_it_ends_with_the_same_bytes(
    make_lessons: MakeLessons, tiny: TrainConfig, checkpoint_every: int
) -> None:
    """Rounds are all there beforehand (uniform needs no reports), so each moment can be tried in this process."""
    config = replace(tiny, checkpoint_every=checkpoint_every)
    reference = make_lessons("reference")
    reference.sampler.run()
    with pytest.MonkeyPatch.context() as patch:
        events = crash_points(patch, None, late=False)
        train(reference.folder, config)
    assert {"update", "feedback/initial.json", "feedback/000001.json", "train/checkpoint.pt"} <= set(events)
    log = [line for line in log_lines(reference.folder) if "loss" in line]
    for at in range(len(events)):
        lessons = make_lessons(f"killed-{at}")
        lessons.sampler.run()
        with pytest.MonkeyPatch.context() as patch:
            crash_points(patch, at, late=at % 2 == 1)
            with pytest.raises(Killed):
                train(lessons.folder, config)
        train(lessons.folder, config)
        assert lessons.outputs() == reference.outputs(), f"killed around {events[at]}, number {at}"
        again = [line for line in log_lines(lessons.folder) if "loss" in line]
        assert [(x["step"], x["loss"]) for x in again] == [(x["step"], x["loss"]) for x in log]


def log_lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "train/log.jsonl").read_text().splitlines()]


def test_stopped_in_the_middle_of_a_round_it_goes_on_there(make_lessons: MakeLessons, tiny: TrainConfig) -> None:
    expected = whole(make_lessons("whole"), tiny)
    lessons = make_lessons("stopped")
    lessons.sampler.run()
    for after, steps in ((1, 1), (2, 3), (1, 4), (1, 5)):
        asked = iter([False] * after + [True] * 3)
        summary = train(lessons.folder, tiny, stop=asked.__next__)
        assert (summary.stopped, summary.steps) == (True, steps)
    summary = train(lessons.folder, tiny)
    assert not summary.stopped
    assert lessons.outputs() == expected


def test_a_finished_run_is_only_looked_up(make_lessons: MakeLessons, tiny: TrainConfig) -> None:
    lessons = make_lessons()
    expected = whole(lessons, tiny)
    stamp = (lessons.folder / "train/checkpoint.pt").stat().st_mtime_ns
    said: list[str] = []
    summary = train(lessons.folder, tiny, say=said.append)
    assert (summary.rounds, summary.steps) == (3, 6)
    assert summary.final_loss is not None
    assert "nothing to do" in said[0]
    assert (lessons.folder / "train/checkpoint.pt").stat().st_mtime_ns == stamp
    assert lessons.outputs() == expected


def test_report_every_evaluates_only_the_rounds_that_are_reported(make_lessons: MakeLessons, tiny: TrainConfig) -> None:
    lessons = make_lessons(mixer="skill_it", report_every=2, rounds=4)
    names = whole(lessons, tiny)
    assert [n for n in names if n.startswith("feedback")] == [
        "feedback/000001.json",
        "feedback/000003.json",
        "feedback/initial.json",
    ]


def test_a_skill_without_holdout_is_reported_as_not_measured(
    make_lessons: MakeLessons, tiny: TrainConfig, tmp_path: Path, pool_writer: Callable[..., Path]
) -> None:
    pool = pool_writer(tmp_path / "pool", holdout_skills=("add", "count"))
    lessons = make_lessons(pool=pool, rounds=1)
    report = json.loads(whole(lessons, tiny)["feedback/000000.json"])
    assert report["losses"]["spell"] is None
    assert report["eval_tokens"]["spell"] == 0
    assert report["losses"]["add"] > 0


def test_no_holdout_trains_without_reports_unless_the_mixer_needs_them(
    make_lessons: MakeLessons, tiny: TrainConfig, tmp_path: Path, pool_writer: Callable[..., Path]
) -> None:
    pool = pool_writer(tmp_path / "pool", holdout_skills=())
    lessons = make_lessons("free", pool=pool, rounds=1)
    assert "feedback/initial.json" not in whole(lessons, tiny)
    with pytest.raises(PrereqError, match=r"holdout's control split holds no tokens of any skill; build the pool"):
        train(make_lessons("bound", mixer="skill_it", pool=pool).folder, tiny)


def test_a_checkpoint_of_another_model_is_refused_by_key(make_lessons: MakeLessons, tiny: TrainConfig) -> None:
    lessons = make_lessons(rounds=1)
    lessons.sampler.run()
    train(lessons.folder, tiny, stop=iter([False, True, True, True]).__next__)
    with pytest.raises(ConfigError, match=r"train\.width was 16, is 32; go back to that"):
        train(lessons.folder, replace(tiny, width=32))
    assert train(lessons.folder, replace(tiny, checkpoint_every=3)).rounds == 1


@pytest.mark.parametrize("damage", [b"", b"not a checkpoint", None])
def test_a_damaged_checkpoint_is_an_error_that_says_what_to_do(
    make_lessons: MakeLessons, tiny: TrainConfig, damage: bytes | None
) -> None:
    lessons = make_lessons(rounds=1)
    lessons.sampler.run()
    train(lessons.folder, tiny, stop=iter([False, True, True, True]).__next__)
    path = lessons.folder / "train/checkpoint.pt"
    path.write_bytes(path.read_bytes()[:-100] if damage is None else damage)
    with pytest.raises(ManifestError, match=r"checkpoint\.pt: cannot be read .*delete it to train again"):
        train(lessons.folder, tiny)


def test_a_checkpoint_that_runs_code_is_refused(make_lessons: MakeLessons, tiny: TrainConfig, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "owned"),)

    lessons = make_lessons(rounds=1)
    lessons.sampler.run()
    (lessons.folder / "train").mkdir()
    torch.save({"format": "prereq.checkpoint/1", "config": Evil()}, lessons.folder / "train/checkpoint.pt")
    with pytest.raises(ManifestError, match="cannot be read"):
        train(lessons.folder, tiny)
    assert not (tmp_path / "owned").exists()


def test_a_diverging_model_is_an_error(
    make_lessons: MakeLessons, tiny: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    lessons = make_lessons(rounds=1)
    lessons.sampler.run()
    monkeypatch.setattr(trainer.Trainer, "_update", lambda *args: float("nan"))
    with pytest.raises(PrereqError, match=r"step 0: the training loss is nan; lower train\.learning_rate"):
        train(lessons.folder, tiny)


def test_cuda_where_there_is_none_is_a_configuration_error(make_lessons: MakeLessons, tiny: TrainConfig) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    with pytest.raises(ConfigError, match="cuda was asked for, torch finds none"):
        train(make_lessons().folder, replace(tiny, device="cuda"))
