"""Orders over arms and their pacing."""

import numpy as np
import pytest

from prereq.graph.errors import ConfigError
from prereq.graph.influence import Influence
from prereq.selector.mixers import NO_SKILL, Arms, Observation, SkillShares, make_mixer
from prereq.selector.mixers.curriculum import exposed, skill_stages

ABC = ["a", "b", "c"]
ARMS = Arms.of_skills(ABC, [2, 1, 1])
CHAIN = Influence(train=("c", "b", "a"), eval=("a", "b", "c"), matrix=[[0, 0.5, 1], [0.5, 1, 0], [1, 0, 0]])
LOSSES = {"a": 2.0, "b": 1.0, "c": 3.0}


def mixtures(name, parameters, rounds, losses=LOSSES, arms=ARMS, influence=None):
    mixer = make_mixer(name, {"lookahead": 0} | parameters, arms, influence)
    state = mixer.update(mixer.init(), Observation(round=None, losses=losses))
    drawn = [mixer.mixture(state).tolist()]
    for number in range(rounds - 1):
        # later losses must not change the order
        state = mixer.update(state, Observation(round=number, losses={"a": 9.0 - number, "b": 5.0, "c": 0.1}))
        drawn.append(mixer.mixture(state).tolist())
    return np.array(drawn)


def test_easy_arms_come_first_and_what_was_opened_stays():
    # order b (1/4), a (1/2), c (1/4); four rounds open a quarter each
    drawn = mixtures("curriculum", {"rounds": 4}, 5)
    expected = [[0, 1, 0], [1 / 2, 1 / 2, 0], [2 / 3, 1 / 3, 0], [1 / 2, 1 / 4, 1 / 4], [1 / 2, 1 / 4, 1 / 4]]
    np.testing.assert_allclose(drawn, expected, atol=1e-12)


def test_hard_arms_come_first_in_the_anti_curriculum():
    drawn = mixtures("anti_curriculum", {"rounds": 4}, 3)
    np.testing.assert_allclose(drawn, [[0, 0, 1], [1 / 2, 0, 1 / 2], [2 / 3, 0, 1 / 3]], atol=1e-12)


def test_sequential_turns_mix_back_what_was_seen():
    drawn = mixtures("curriculum", {"rounds": 4, "exposure": "sequential"}, 5)
    expected = [[0, 1, 0], [0.6, 0.4, 0], [0.6 + 0.2, 0.2, 0], [0.4 * 2 / 3, 0.4 / 3, 0.6], [1 / 2, 1 / 4, 1 / 4]]
    np.testing.assert_allclose(drawn, expected, atol=1e-12)


def test_prerequisites_come_before_what_needs_them():
    # c helps b, b helps a
    drawn = mixtures("prerequisite_order", {"rounds": 4, "exposure": "sequential", "mix_back": 0}, 4, influence=CHAIN)
    np.testing.assert_allclose(drawn, [[0, 0, 1], [0, 1, 0], [1, 0, 0], [1, 0, 0]], atol=1e-12)


def test_stages_are_longest_ways_and_a_cycle_is_one_step():
    assert skill_stages(CHAIN) == {"a": 2, "b": 1, "c": 0}
    matrix = np.zeros((4, 4))
    matrix[0, 1] = matrix[1, 2] = matrix[2, 1] = matrix[2, 3] = 1.0
    ring = Influence(train=("a", "b", "c", "d"), eval=("a", "b", "c", "d"), matrix=matrix)
    assert skill_stages(ring) == {"a": 0, "b": 1, "c": 1, "d": 2}
    negative = Influence(train=("a", "b"), eval=("a", "b"), matrix=[[1, -1], [0, 1]])
    assert skill_stages(negative) == {"a": 0, "b": 0}


def test_equal_ranks_open_together_and_cutting_an_arm_changes_nothing():
    base = np.array([0.5, 0.25, 0.25])
    np.testing.assert_allclose(exposed(np.array([1.0, 1.0, 2.0]), base, 0.0, 0.3), [0.2, 0.1, 0.0], rtol=1e-13)
    cut = exposed(np.array([1.0, 0.0, 0.0, 2.0]), np.array([0.5, 0.1, 0.15, 0.25]), 0.0, 0.6)
    whole = exposed(np.array([1.0, 0.0, 2.0]), base, 0.0, 0.6)
    np.testing.assert_allclose([cut[0], cut[1] + cut[2], cut[3]], whole, rtol=1e-13)


def test_every_slice_of_the_order_holds_its_share_of_the_base():
    rng = np.random.default_rng(3)
    ranks, base = rng.integers(0, 4, 50).astype(float), rng.dirichlet(np.ones(50))
    slices = [exposed(ranks, base, i / 7, (i + 1) / 7) for i in range(7)]
    np.testing.assert_allclose([part.sum() for part in slices], 1 / 7, rtol=1e-12)
    np.testing.assert_allclose(np.sum(slices, axis=0), base, rtol=1e-12)


def test_before_any_loss_the_mixture_is_the_base_and_an_unmeasured_arm_counts_as_average():
    mixer = make_mixer("curriculum", {"rounds": 4, "lookahead": 0}, ARMS, None)
    assert mixer.mixture(mixer.init()).tolist() == [0.5, 0.25, 0.25]
    drawn = mixtures("curriculum", {"rounds": 4}, 2, losses={"a": None, "b": 1.0, "c": 3.0})
    np.testing.assert_allclose(drawn, [[0, 1, 0], [1 / 2, 1 / 2, 0]], atol=1e-12)


def test_losses_that_do_not_differ_rank_nothing():
    mixer = make_mixer("anti_curriculum", {"rounds": 8, "lookahead": 0}, ARMS, None)
    state = mixer.update(mixer.init(), Observation(round=None, losses={"a": 5.549, "b": 5.55, "c": 5.549}))
    assert mixer.mixture(state).tolist() == [0.5, 0.25, 0.25]
    state = mixer.update(state, Observation(round=0, losses=LOSSES))
    assert mixer.mixture(state).tolist() == [0.0, 0.0, 1.0]


def test_arms_of_several_skills_have_the_mean_stage_of_their_tokens():
    rows = [{"c": 1.0}, {"c": 0.5, "b": 0.5}, {"a": 1.0}, {NO_SKILL: 1.0}]
    arms = Arms(
        ids=("w", "x", "y", "z"),
        tokens=np.full(4, 10),
        rows=np.ones(4),
        skills=("a", "b", "c"),
        shares=SkillShares.from_rows(rows, ABC),
    )
    mixer = make_mixer("prerequisite_order", {}, arms, CHAIN)
    ranks = mixer.init()["ranks"]
    # untagged tokens count as the average of the arms that are known
    np.testing.assert_allclose(ranks, [0.0, 0.5, 2.0, 2.5 / 3], rtol=1e-14)


def test_the_order_by_prerequisites_needs_an_influence():
    with pytest.raises(ConfigError, match="needs an influence matrix"):
        make_mixer("prerequisite_order", {}, ARMS, None)
