"""Quad's confidence bounds and choice."""

import numpy as np
import pytest

from prereq.selector.mixers import Arms, Observation, make_mixer
from prereq.selector.mixers.quad import confidence_scores

IDS = ["a", "b", "c", "d", "e"]
ARMS = Arms.of_skills(IDS, [5, 4, 3, 2, 1])


def rounds(parameters, influence, count):
    """Play `count` rounds in which every drawn arm shows its influence; pulls per arm and the last mixture."""
    mixer = make_mixer("quad", parameters, ARMS, None)
    state = mixer.init()
    for number in range(count):
        drawn = mixer.mixture(state) * 100
        signals = {"influence": dict(zip(IDS, influence, strict=True))}
        state = mixer.update(state, Observation(round=number, losses={}, signals=signals, drawn_tokens=drawn))
    return np.asarray(state["pulls"]), mixer.mixture(state)


def test_the_known_scores_pick_the_under_explored_arm_and_without_bonus_the_better_one():
    mean, pulls = np.array([0.2, 0.3]), np.array([2.0, 8.0])
    np.testing.assert_allclose(confidence_scores(mean, pulls, 1.0), [1.7174, 1.0587], atol=5e-5)
    assert confidence_scores(mean, pulls, 0.0).tolist() == [0.2, 0.3]


def test_an_arm_that_was_never_pulled_comes_first():
    assert confidence_scores(np.array([9.0, 0.0]), np.array([5.0, 0.0]), 1.0)[1] == np.inf
    pulls, _ = rounds({"clusters": 2}, [9.0, 0.1, 0.1, 0.1, 0.1], 3)
    assert pulls.min() >= 1


def test_equal_rewards_are_pulled_equally_often():
    for count in (1, 7, 23):
        pulls, _ = rounds({"clusters": 2}, [0.4] * 5, count)
        assert pulls.max() - pulls.min() <= 1
        assert pulls.sum() == 2 * count


def test_the_best_arm_is_pulled_most():
    pulls, weights = rounds({"clusters": 1, "bonus": 0.3}, [0.1, 0.2, 0.9, 0.1, 0.1], 60)
    assert pulls.argmax() == 2
    assert weights.tolist() == [0.0, 0.0, 1.0, 0.0, 0.0]


def test_chosen_arms_share_by_the_base_and_the_floor_reaches_the_others():
    _, weights = rounds({"clusters": 2, "base": "tokens"}, [0.0] * 5, 0)
    np.testing.assert_allclose(weights, [5 / 9, 4 / 9, 0, 0, 0], rtol=1e-14)
    _, weights = rounds({"clusters": 2, "floor": 0.5}, [0.0] * 5, 0)
    np.testing.assert_allclose(weights, [0.35, 0.35, 0.1, 0.1, 0.1], rtol=1e-14)


def test_rescaling_makes_the_choice_free_of_the_influences_unit():
    small, _ = rounds({"clusters": 1}, [1e-6, 2e-6, 9e-6, 1e-6, 1e-6], 40)
    large, _ = rounds({"clusters": 1}, [1e6, 2e6, 9e6, 1e6, 1e6], 40)
    assert small.tolist() == large.tolist()


def test_the_mean_is_over_all_measurements():
    mixer = make_mixer("quad", {}, ARMS, None)
    state = mixer.init()
    for number, value in enumerate([1.0, None, 4.0]):
        signals = {"influence": {"b": value}}
        state = mixer.update(state, Observation(round=number, losses={}, signals=signals, drawn_tokens=np.ones(5)))
    assert (state["mean"][1], state["pulls"][1]) == (pytest.approx(2.5), 2.0)
