"""What a mixer would refuse for good is refused where it is reported, and nothing is recorded."""

import logging
from dataclasses import replace

import numpy as np
import pytest

from prereq.graph.errors import FeedbackError
from prereq.graph.influence import Influence, save_influence
from prereq.selector.feed import Feed
from prereq.selector.mixers import MIXERS, make_mixer
from prereq.selector.rounds.feedback import Feedback
from prereq.selector.rounds.trial import Trial, observe

PARAMETERS = {
    "phases": {"phases": [{"start": 0}]},
    "quad": {"clusters": 1},
}


def ready(make_driver, **settings):
    """A run with its influence on disk and round 0 written, and a feed that has read it."""
    run = make_driver(**settings)
    run.info()
    skills = run.pool.arms().skills
    save_influence(Influence(train=skills, eval=skills, matrix=np.eye(len(skills))), run.run.path("influence.parquet"))
    run.report("initial")
    run.sampler().run(patient=False)
    feed = Feed(run.folder, pool=run.pool.folder.name)
    while not feed.round_ended:
        next(feed)
    return run, feed


@pytest.mark.parametrize("spoil", [{"tokens": 0}, {"loss": 1e200}])
def test_a_report_that_the_mixer_refuses_is_not_recorded_and_the_next_one_is(make_driver, spoil):
    run, feed = ready(make_driver, mixer="skill_bandit")
    losses = run.losses(0)
    bad = dict.fromkeys(losses, spoil.get("loss", 1.0))
    with pytest.raises(FeedbackError, match=r"feedback of round 0: .*nothing was recorded"):
        feed.report(bad, eval_tokens=dict.fromkeys(losses, spoil.get("tokens", 10)))
    assert feed.round_ended, "it is still to be reported"
    assert not (run.folder / "feedback/000000.json").exists()
    assert feed.report(losses) == "recorded"
    before = len(run.manifests())
    run.sampler().run(patient=False)
    assert len(run.manifests()) == before + 1


def test_without_the_pool_the_log_says_that_reports_are_not_tried(make_driver, caplog):
    run, _ = ready(make_driver)
    with caplog.at_level(logging.WARNING):
        Trial(run.run, run.info(), str(run.folder / "elsewhere")).check(
            Feedback(round=0, step=1, tokens_seen=1, losses={"x": 1.0}, eval_tokens={})
        )
    assert "reports cannot be tried on the mixer" in caplog.text


@pytest.mark.parametrize("name", sorted(MIXERS))
def test_a_trial_passes_what_the_sampler_would_apply(make_driver, name):
    run = make_driver()
    arms = run.pool.arms()
    parameters = PARAMETERS.get(name, {})
    if name == "static":
        parameters = {"arms": {arms.ids[0]: 1.0}}
    if name == "velocitune":
        parameters = {"target_losses": dict.fromkeys(arms.ids, 1.0)}
    influence = Influence(train=arms.skills, eval=arms.skills, matrix=np.eye(len(arms.skills)))
    mixer = make_mixer(name, parameters, arms, influence)
    run.run.commit("run.json", b"{}")
    save_influence(influence, run.run.path("influence.parquet"))
    info = replace(make_driver("other").info(), mixer=name, parameters=parameters, uses_feedback=True)
    ids = arms.skills if name == "missing_skills" else arms.ids
    trial, state = Trial(run.run, info, run.pool.folder.name), mixer.init()
    for number in ["initial", 0, 1, 2]:
        report = Feedback(
            round=number,
            step=0,
            tokens_seen=100,
            losses=run.losses(number),
            eval_tokens={},
            signals={s: dict.fromkeys(ids, 1.0) for s in mixer.required_signals},
        )
        trial.check(report)
        state = mixer.update(state, observe(report, np.full(len(arms.ids), 10.0)))
