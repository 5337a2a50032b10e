"""Numbers by arm out of reports: through T, by id, with gaps."""

import numpy as np
import pytest

from prereq.graph.errors import ConfigError, FeedbackError
from prereq.selector.mixers import NO_SKILL, Arms, Observation, SkillShares
from prereq.selector.mixers.arm_signals import ArmReader, check_losses

ROWS = [{"loops": 0.5, "classes": 0.5}, {"loops": 0.25, NO_SKILL: 0.75}, {NO_SKILL: 1.0}]
ARMS = Arms(
    ids=("c0", "c1", "c2"),
    tokens=np.array([60, 40, 20]),
    rows=np.array([6, 2, 2]),
    skills=("loops", "classes"),
    shares=SkillShares.from_rows(ROWS, ["loops", "classes"]),
)
READER = ArmReader(ARMS)


def report(number=0, **kwargs):
    return Observation(round=number, **({"losses": {"loops": 1.0}} | kwargs))


def test_a_constant_by_skill_is_that_constant_by_arm_and_untagged_arms_are_not_measured():
    losses = READER.losses(report(losses={"loops": 2.5, "classes": 2.5}), "skills")
    np.testing.assert_array_equal(losses, [2.5, 2.5, np.nan])


def test_untagged_tokens_of_an_arm_count_as_average_ones():
    # tokens: loops 30 + 10, classes 30; average (40 * 1 + 30 * 8) / 70 = 4
    losses = READER.losses(report(losses={"loops": 1.0, "classes": 8.0}), "skills")
    np.testing.assert_allclose(losses[:2], [4.5, 0.25 * 1.0 + 0.75 * 4.0], rtol=1e-14)


def test_a_skill_that_was_not_measured_counts_as_average_not_as_zero():
    losses = READER.losses(report(losses={"loops": 1.0, "classes": None}), "skills")
    np.testing.assert_array_equal(losses, [1.0, 1.0, np.nan])


def test_signals_by_arm_are_placed_by_id_and_gaps_are_not_measured():
    values = READER.signal(report(signals={"score": {"c2": -3.0, "c0": 1.0, "c1": None}}), "score")
    np.testing.assert_array_equal(values, [1.0, np.nan, -3.0])


def test_signals_by_skill_go_through_the_shares():
    values = READER.signal(report(signals={"score": {"loops": 1.0, "classes": 8.0}}), "score")
    np.testing.assert_allclose(values[0], 4.5)


def test_an_empty_signal_means_nothing_was_measured():
    assert np.isnan(READER.signal(report(signals={"score": {}}), "score")).all()


def test_an_absent_signal_is_refused_except_before_training():
    with pytest.raises(FeedbackError, match=r"feedback of round 0: the signal 'score' is absent; report signals="):
        READER.signal(report(), "score")
    with pytest.raises(FeedbackError, match="absent"):
        READER.by_skill(report(), "score")
    assert np.isnan(READER.signal(report(None), "score")).all()
    assert np.isnan(READER.by_skill(report(None), "score")).all()


def test_arms_and_skills_are_not_mixed_in_one_signal():
    with pytest.raises(FeedbackError, match="unknown skill 'c0'; give a signal either by arm or by skill"):
        READER.signal(report(signals={"score": {"c0": 1.0, "loops": 2.0}}), "score")
    with pytest.raises(FeedbackError, match=r"unknown skill 'loop'; did you mean 'loops'"):
        READER.signal(report(signals={"score": {"loop": 1.0}}), "score")


@pytest.mark.parametrize("value", [float("inf"), -float("inf"), 1e101, "1", True])
def test_a_value_that_is_no_finite_number_is_refused(value):
    with pytest.raises(FeedbackError, match=r"signals\.score: 'c0' is .*; expected a finite number, or null"):
        READER.signal(report(signals={"score": {"c0": value}}), "score")


def test_training_losses_are_read_by_arm_and_must_be_there_after_training_began():
    losses = READER.losses(report(arm_losses={"c1": 2.0, "c0": 3.0}), "arms")
    np.testing.assert_array_equal(losses, [3.0, 2.0, np.nan])
    assert np.isnan(READER.losses(report(None), "arms")).all()
    with pytest.raises(FeedbackError, match="arm_losses are absent"):
        READER.losses(report(), "arms")
    with pytest.raises(FeedbackError, match="unknown arm 'c9'"):
        READER.losses(report(arm_losses={"c9": 2.0}), "arms")
    with pytest.raises(FeedbackError, match=r"loss of 'c1' is -2\.0; expected nats >= 0"):
        READER.losses(report(arm_losses={"c1": -2.0}), "arms")


def test_a_malformed_loss_is_refused_whichever_losses_count():
    for source in ("skills", "arms"):
        with pytest.raises(FeedbackError, match="loss of 'loops'"):
            READER.losses(report(losses={"loops": float("inf")}, arm_losses={}), source)


def test_parameters_by_id_are_checked_against_the_pool():
    np.testing.assert_array_equal(READER.named("x", {"c1": 2.0}), [np.nan, 2.0, np.nan])
    np.testing.assert_array_equal(READER.named("x", {"loops": 2.0}), [2.0, 2.0, np.nan])
    with pytest.raises(ConfigError, match=r"mixer\.parameters\.x: unknown id 'loop'; did you mean 'loops'"):
        READER.named("x", {"loop": 2.0})
    for bad in ({}, [], {"a": -1.0}, {"a": float("nan")}, {1: 1.0}):
        with pytest.raises(ConfigError, match=r"mixer\.parameters\.x"):
            check_losses("x", bad)


def test_cutting_an_arm_in_two_of_the_same_make_up_changes_no_number():
    cut = Arms(
        ids=("c0", "c0b", "c1", "c2"),
        tokens=np.array([20, 40, 40, 20]),
        rows=np.array([2, 4, 2, 2]),
        skills=("loops", "classes"),
        shares=SkillShares.from_rows([ROWS[0], *ROWS], ["loops", "classes"]),
    )
    losses = report(losses={"loops": 1.0, "classes": 8.0})
    whole, parts = READER.losses(losses, "skills"), ArmReader(cut).losses(losses, "skills")
    np.testing.assert_array_equal(parts, whole[[0, 0, 1, 2]])
