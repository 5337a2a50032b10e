"""Signals: closed forms for each, and every mixer of the registry moved by the reference trainer."""

import json
import math

import numpy as np
import pytest
import torch

from prereq.graph.errors import ConfigError
from prereq.jobs.train.arm_texts import ArmTexts
from prereq.jobs.train.config import TrainConfig
from prereq.jobs.train.evaluate import evaluate
from prereq.jobs.train.gradients import dot, group_gradient
from prereq.jobs.train.model import ByteTransformer, make_optimizer
from prereq.jobs.train.probes import mixed_windows, steps
from prereq.jobs.train.signals import Signals, hits, token_losses
from prereq.jobs.train.trainer import train
from prereq.jobs.train.windows import IGNORE, VOCABULARY, Windows, training_windows
from prereq.selector.feed import Feed
from prereq.selector.mixers import MIXERS
from prereq.selector.rounds.run import read_run
from prereq.selector.storage import Folder

NEEDED = {  # parameters without which a mixer makes no sense
    "static": {"skills": {"add": 0.5, "count": 0.25, "spell": 0.25}},
    "phases": {"phases": [{"start": 0, "skills": {"add": 1.0}}, {"start": 1, "skills": {"spell": 1.0}}]},
    "velocitune": {"target_losses": {"add": 1.0, "count": 1.0, "spell": 1.5}},
}


@pytest.fixture
def model(tiny):
    torch.manual_seed(0)
    made = ByteTransformer(tiny)
    with torch.no_grad():
        for weight in made.parameters():
            weight.add_(0.1 * torch.randn_like(weight))  # the head and what adds to the stream start at zero
    return made


@pytest.mark.parametrize("mixer", sorted(MIXERS))
def test_every_mixer_is_moved_by_the_reference_trainer(make_lessons, tiny, mixer):
    lessons = make_lessons(mixer=mixer, parameters=NEEDED.get(mixer, {}))
    with lessons.sampling():
        summary = train(lessons.folder, tiny)
    assert summary.rounds == 3
    info = read_run(Folder(lessons.folder))
    report = json.loads((lessons.folder / "feedback/000001.json").read_bytes())
    assert set(report.get("signals", {})) == set(info.signals)
    for name, values in report.get("signals", {}).items():
        assert values, f"{name} was measured for nothing"
        assert all(math.isfinite(value) for value in values.values())


def test_arm_losses_are_reported_where_the_mixer_reads_them(make_lessons, tiny):
    lessons = make_lessons(mixer="odm", parameters={"losses": "arms"})
    with lessons.sampling():
        train(lessons.folder, tiny)
    report = json.loads((lessons.folder / "feedback/000000.json").read_bytes())
    assert report["arm_losses"]
    assert set(report["arm_losses"]) <= {"arm-add", "arm-count", "arm-spell"}
    assert all(0.5 < loss < 6 for loss in report["arm_losses"].values())


def test_a_killed_trainer_reports_the_same_signals(make_lessons, tiny):
    outputs = []
    for name, stops in (("straight", []), ("killed", [3])):
        lessons = make_lessons(name, mixer="doge")
        asked = iter(range(10**6))
        with lessons.sampling():
            for stop_at in stops:
                train(lessons.folder, tiny, stop=lambda at=stop_at, asked=asked: next(asked) >= at)
            train(lessons.folder, tiny)
        outputs.append(lessons.outputs())
    assert outputs[0] == outputs[1]


def test_a_signal_that_nobody_measures_is_refused_at_the_start(make_lessons, tiny):
    lessons = make_lessons(mixer="quad")
    path = lessons.folder / "run.json"
    path.write_text(path.read_text().replace('"influence"]', '"wisdom"]'))
    with pytest.raises(ConfigError, match=r"wisdom.*does not measure"):
        Signals(Folder(lessons.folder), read_run(Folder(lessons.folder)), tiny, [])


def test_texts_are_the_first_that_the_round_drew(make_lessons, tiny):
    lessons = make_lessons(mixer="uniform")
    with lessons.sampling():
        pass
    info = read_run(Folder(lessons.folder))
    drawn = {}
    for batch in Feed(lessons.folder, columns=("text", "arm")):
        if batch.round == 1:
            for arm, text in zip(batch.arms, batch.texts, strict=True):
                drawn.setdefault(arm, set()).add(text)
    few = ArmTexts(Folder(lessons.folder), info, 30).drawn(1)
    every = ArmTexts(Folder(lessons.folder), info, 10**6).drawn(1)
    assert {arm: set(texts) for arm, texts in every.items()} == drawn
    for arm, texts in few.items():
        assert texts == every[arm][: len(texts)]
        sizes = [len(text.encode()) for text in texts]
        assert sum(sizes[:-1]) < 30
        assert sum(sizes) >= 30 or texts == every[arm]


def test_gradient_of_a_group_is_the_mean_and_its_variance_the_spread_around_it(model):
    windows = training_windows(["abc abc abc", "1 2 3 4 5 6 7 8 9", "zzzzzz" * 12], 32)
    each = [group_gradient(model, Windows(w[None], t[None]), 1).mean for w, t in zip(*windows, strict=True)]
    group = group_gradient(model, windows, 99)
    mean = {name: sum(one[name] for one in each) / len(each) for name in each[0]}
    for name, value in mean.items():
        torch.testing.assert_close(group.mean[name], value)
    spread = [dot(gap, gap) for one in each if (gap := {n: one[n] - mean[n] for n in one})]
    assert group.variance == pytest.approx(sum(spread) / len(each), rel=1e-4)
    assert group.norm == pytest.approx(dot(mean, mean) ** 0.5, rel=1e-5)
    alone = group_gradient(model, Windows(windows.inputs[:1], windows.targets[:1]), 5)
    assert alone.variance == pytest.approx(0.0, abs=1e-4 * alone.norm**2)


def test_alignment_is_what_a_small_step_takes_off_the_target(model):
    ours, target = training_windows(["1 + 1 = 2. 2 + 2 = 4."], 32), training_windows(["3 + 4 = 7. 1 + 6 = 7."], 32)
    step, gradient = 1e-3, group_gradient(model, ours, 1).mean
    aligned = dot(gradient, group_gradient(model, target, 1).mean)
    before = token_losses(model, target).sum() / (target.targets != IGNORE).sum()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight -= step * gradient[name]
    after = token_losses(model, target).sum() / (target.targets != IGNORE).sum()
    assert before - after == pytest.approx(step * aligned, rel=0.05)


def test_losses_and_hits_of_tokens_leave_padding_out(model):
    windows = training_windows(["abcdefg"], 32)
    losses, right = token_losses(model, windows), hits(model, windows)
    assert (losses[0, :8] > 0).all()
    assert not losses[0, 8:].any()
    assert not right[0, 8:].any()
    assert losses[0, :8].mean() == pytest.approx(math.log(VOCABULARY), rel=0.5)


def test_a_probe_holds_its_own_share_in_every_step(tiny):
    config = TrainConfig(windows_per_step=4, probe_steps=2, seq_len=4)
    arms = {name: Windows(np.full((3, 4), i), np.full((3, 4), i)) for i, name in enumerate("abcd")}
    windows = mixed_windows(arms, "b", 0.5, config)
    owners = windows.inputs[:, 0].reshape(2, 4)
    assert [(step == 1).sum() for step in owners] == [2, 3], "two of four are its own, and its even part of the rest"
    assert sorted(owners.ravel().tolist()) == [0, 1, 1, 1, 1, 1, 2, 3]
    assert set(mixed_windows(arms, "b", 1.0, config).inputs[:, 0].tolist()) == {1}


def test_probing_an_arm_helps_what_it_teaches_and_leaves_the_model_alone(make_lessons, tiny):
    lessons = make_lessons(mixer="aioli")
    config = TrainConfig(layers=1, width=32, heads=2, seq_len=32, windows_per_step=8, threads=1, probe_steps=8)
    run = Folder(lessons.folder)
    signals = Signals(run, read_run(run), config, Feed(lessons.folder).holdout("control"))
    model = ByteTransformer(config)
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    optimizer = make_optimizer(model, config)
    drops = signals._probes(model)
    assert all(torch.equal(weight, before[name]) for name, weight in model.named_parameters())
    assert drops["probe_drop.spell"]["arm-spell"] > drops["probe_drop.spell"]["arm-add"]
    assert drops["probe_drop.add"]["arm-add"] > drops["probe_drop.add"]["arm-spell"]
    first = evaluate(model, signals._control, 8).losses["add"]
    steps(model, optimizer, mixed_windows(signals._probe_windows, "arm-add", 0.75, config), config)
    assert first - evaluate(model, signals._control, 8).losses["add"] == pytest.approx(
        drops["probe_drop.add"]["arm-add"], abs=1e-5
    )
