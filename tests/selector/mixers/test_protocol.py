"""Arms and observations: what fits together, and what a report may say."""

import math

import numpy as np
import pytest

from prereq.graph.errors import FeedbackError, ManifestError
from prereq.selector.mixers.protocol import Arms, Observation, aligned_losses, round_number
from prereq.selector.mixers.shares import NO_SKILL, SkillShares


def make_arms(ids=("c1", "c2"), tokens=(30, 10), rows=(3, 1), skills=("a", "b"), shares=None) -> Arms:
    shares = shares or SkillShares.from_rows([{"a": 0.5, NO_SKILL: 0.5}, {"a": 0.5, "b": 0.5}], ["a", "b"])
    return Arms(ids=ids, tokens=np.array(tokens), rows=np.array(rows), skills=skills, shares=shares)


def test_proportions_are_token_shares_and_skill_weights_follow_through_t():
    arms = make_arms()
    assert arms.proportions.tolist() == [0.75, 0.25]
    assert arms.skill_tokens.tolist() == [20.0, 5.0, 15.0]
    assert arms.skill_weights(arms.proportions) == {"a": 0.5, "b": 0.125, NO_SKILL: 0.375}


def test_a_skills_weight_goes_to_the_arms_that_hold_its_tokens():
    arms = make_arms()
    # a has 15 tokens in c1 and 5 in c2; b has 5 in c2
    np.testing.assert_allclose(arms.spread_skills(np.array([1.0, 0.0, 0.0])), [0.75, 0.25], rtol=1e-15)
    np.testing.assert_allclose(arms.spread_skills(np.array([0.0, 1.0, 0.0])), [0.0, 1.0], rtol=1e-15)
    np.testing.assert_allclose(arms.spread_skills(np.array([0.2, 0.5, 0.3])).sum(), 1.0, rtol=1e-15)


def test_arms_of_skills_are_ordered_by_id_with_their_tokens():
    arms = Arms.of_skills(["s2", "s10"], [5, 7])
    assert arms.ids == ("s10", "s2")
    assert arms.tokens.tolist() == [7, 5]
    assert arms.shares.row(0) == {"s10": 1.0}


def test_arms_cannot_be_changed():
    with pytest.raises(ValueError, match="read-only"):
        make_arms().tokens[0] = 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ids": ("c2", "c1")}, "ascending and unique"),
        ({"ids": ("c1", "c1")}, "ascending and unique"),
        ({"tokens": (1, 2, 3)}, "arms.tokens: expected 2 counts"),
        ({"rows": (1, -1)}, "arms.rows"),
        ({"skills": ("a",)}, "arms.shares"),
        ({"tokens": (0, 0)}, "no tokens in any arm"),
    ],
)
def test_arms_that_do_not_fit_together_are_refused(change, message):
    with pytest.raises(ManifestError, match=message):
        make_arms(**change)


def test_losses_are_aligned_by_id_and_gaps_become_nan():
    observation = Observation(round=2, losses={"c": 3.0, "a": 1, "b": None, "d": math.nan})
    row = aligned_losses(observation, ["a", "b", "c", "d", "e"], {"a", "b", "c", "d", "e"})
    np.testing.assert_array_equal(row, [1.0, np.nan, 3.0, np.nan, np.nan])


@pytest.mark.parametrize("loss", [-0.1, math.inf, -math.inf, "1.5", True, 1e200])
def test_a_malformed_loss_names_round_skill_and_value(loss):
    with pytest.raises(FeedbackError, match="feedback of round 4: loss of 'a' is"):
        aligned_losses(Observation(round=4, losses={"a": loss}), ["a"], {"a"})


def test_an_unknown_skill_is_refused_with_the_nearest_known_one():
    with pytest.raises(FeedbackError, match="the initial feedback: unknown skill 'loop'; did you mean 'loops'"):
        aligned_losses(Observation(round=None, losses={"loop": 1.0}), ["loops"], {"loops"})


def test_a_loss_over_no_tokens_is_refused_but_a_gap_over_no_tokens_is_not():
    gap = Observation(round=0, losses={"a": None}, eval_tokens={"a": 0})
    assert np.isnan(aligned_losses(gap, ["a"], {"a"})).all()
    with pytest.raises(FeedbackError, match="over 0 tokens"):
        aligned_losses(Observation(round=0, losses={"a": 1.0}, eval_tokens={"a": 0}), ["a"], {"a"})


def test_the_initial_report_comes_before_round_zero():
    assert round_number(Observation(round=None, losses={})) == -1
    assert round_number(Observation(round=0, losses={})) == 0


@pytest.mark.parametrize("number", [-1, 1.0, "1", True])
def test_a_round_that_is_no_round_is_refused(number):
    with pytest.raises(FeedbackError, match="expected a whole number"):
        round_number(Observation(round=number, losses={}))
