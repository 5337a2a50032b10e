"""ODM against the numbers of its released code's formula."""

import numpy as np
import pytest

from prereq.selector.mixers import Arms, Observation, make_mixer
from prereq.selector.mixers.odm import exploration

AB = Arms.of_skills(["a", "b"])


def pull(mixer, state, number, arm, loss):
    drawn = np.array([1000.0 * (arm == "a"), 1000.0 * (arm == "b")])
    return mixer.update(state, Observation(round=number, losses={arm: loss}, drawn_tokens=drawn))


def test_three_pulls_give_the_known_mixtures_and_exploration_rates():
    mixer = make_mixer("odm", {}, AB, None)
    state = mixer.init()
    known = [[0.5, 0.5], [0.50834, 0.49166], [0.53815, 0.46185]]
    for number, (arm, loss) in enumerate([("a", 4.0), ("b", 2.0), ("a", 3.9)]):
        state = pull(mixer, state, number, arm, loss)
        np.testing.assert_allclose(mixer.mixture(state), known[number], atol=5e-6)
    np.testing.assert_allclose([exploration(2, t) for t in (1, 2, 3)], [0.5, 0.41628, 0.33989], atol=5e-6)


def test_every_weight_stays_above_the_exploration_rate():
    mixer = make_mixer("odm", {}, Arms.of_skills(["a", "b", "c"]), None)
    state = mixer.init()
    for number in range(40):
        losses = {"a": 9.0, "b": 0.1, "c": 0.1}
        state = mixer.update(state, Observation(round=number, losses=losses, drawn_tokens=np.array([5.0, 3.0, 2.0])))
        weights = mixer.mixture(state)
        assert weights.sum() == pytest.approx(1.0, abs=1e-12)
        assert weights.min() >= exploration(3, number + 1) * (1 - 1e-12)
    assert weights[0] > 0.5


def test_a_round_drawn_as_asked_adds_each_arms_loss_once():
    mixer = make_mixer("odm", {}, AB, None)
    state = mixer.update(mixer.init(), Observation(round=0, losses={"a": 4.0, "b": 2.0}, drawn_tokens=np.ones(2)))
    np.testing.assert_allclose(state["rewards"], [0.4, 0.2], rtol=1e-14)


def test_an_arm_that_was_not_drawn_or_not_measured_gets_nothing_and_no_draw_is_no_time():
    mixer = make_mixer("odm", {}, AB, None)
    state = mixer.update(mixer.init(), Observation(round=None, losses={"a": 4.0, "b": 2.0}, drawn_tokens=np.zeros(2)))
    assert (state["reports"], state["rewards"].tolist()) == (0, [0.0, 0.0])
    state = mixer.update(state, Observation(round=0, losses={"a": 4.0, "b": None}, drawn_tokens=np.ones(2)))
    assert (state["reports"], state["rewards"][1]) == (1, 0.0)


def test_the_mixture_waits_for_the_warm_up():
    mixer = make_mixer("odm", {"warm_up": 3}, AB, None)
    state = mixer.init()
    for number in range(5):
        state = mixer.update(state, Observation(round=number, losses={"a": 9.0, "b": 0.1}, drawn_tokens=np.ones(2)))
        assert (mixer.mixture(state).tolist() == [0.5, 0.5]) == (number < 3)


def test_one_arm_takes_everything():
    mixer = make_mixer("odm", {}, Arms.of_skills(["a"]), None)
    state = mixer.update(mixer.init(), Observation(round=0, losses={"a": 4.0}, drawn_tokens=np.ones(1)))
    assert mixer.mixture(state).tolist() == [1.0]
