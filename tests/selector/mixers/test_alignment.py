"""Influence, targets and mask by id."""

import numpy as np
import pytest

from prereq.graph.errors import ConfigError
from prereq.graph.influence import Influence
from prereq.selector.mixers import NO_SKILL, Arms, SkillShares
from prereq.selector.mixers.alignment import aligned_influence, base_weights, masked_base, reaches, target_columns

CHAIN = Influence(("a", "b", "c", "d"), ("a", "b", "c", "d"), np.eye(4) + np.diag([0.5, 0.5, 0.0], 1))


def test_rows_follow_the_pool_and_columns_the_targets_whatever_the_order_of_the_matrix():
    influence = Influence(("b", "a"), ("y", "x", "z"), np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]))
    arms = Arms.of_skills(["a", "b", "c"])
    assert target_columns(influence, None) == ("x", "y", "z")
    columns = target_columns(influence, ["z", "x"])
    assert aligned_influence(influence, arms, columns).tolist() == [[5, 6], [2, 3], [0, 0], [0, 0]]


def test_a_row_for_a_skill_that_the_pool_does_not_know_is_refused_by_name():
    with pytest.raises(ConfigError, match=r"influence: unknown training skill 'd'.*one graph"):
        aligned_influence(CHAIN, Arms.of_skills(["a", "b", "c"]), ("a",))


def test_paths_lead_to_a_target_over_several_edges_and_not_over_negative_ones():
    assert reaches(CHAIN, ("c",)) == {"a", "b", "c"}
    assert reaches(CHAIN, ("d",)) == {"d"}
    negative = Influence(("a", "b"), ("a", "b"), np.array([[1.0, -0.5], [0.0, 1.0]]))
    assert reaches(negative, ("b",)) == {"b"}


def test_a_target_counts_even_where_the_diagonal_is_zero_and_an_outside_target_needs_no_row():
    influence = Influence(("a", "b"), ("a", "outside"), np.array([[0.0, 0.0], [0.0, 0.3]]))
    assert reaches(influence, ("a",)) == {"a"}
    assert reaches(influence, ("outside",)) == {"b", "outside"}


def test_an_arm_keeps_the_share_of_its_tokens_that_help():
    rows = [{"c": 0.25, "d": 0.75}, {"d": 1.0}, {"b": 1.0}, {NO_SKILL: 1.0}]
    shares = SkillShares.from_rows(rows, CHAIN.train)
    tokens = np.array([100, 100, 25, 775])
    arms = Arms(ids=("c0", "c1", "c2", "c3"), tokens=tokens, rows=tokens, skills=CHAIN.train, shares=shares)
    assert masked_base(arms, arms.proportions, CHAIN, ["c"]).tolist() == [0.025, 0.0, 0.025, 0.0]


def test_a_mask_that_leaves_nothing_and_a_target_that_nobody_knows_are_refused():
    arms = Arms.of_skills("abcd", [0, 0, 0, 9])
    with pytest.raises(ConfigError, match=r"mixer\.parameters\.mask leaves nothing to draw"):
        masked_base(arms, arms.proportions, CHAIN, ["c"])
    with pytest.raises(ConfigError, match=r"parameters\.targets: unknown evaluation skill 'cc'; did you mean 'c'"):
        target_columns(CHAIN, ["cc"])


def test_the_uniform_base_leaves_out_arms_without_tokens():
    arms = Arms.of_skills(["a", "b", "c", "d"], [7, 0, 1, 2])
    assert base_weights(arms, "uniform").tolist() == [0.25, 0.0, 0.25, 0.25]
    assert base_weights(arms, "tokens").tolist() == [0.7, 0.0, 0.1, 0.2]
