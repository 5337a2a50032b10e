"""DoReMi and group DRO against the numbers of their formulas."""

import numpy as np
import pytest

from prereq.graph.errors import ConfigError, FeedbackError
from prereq.selector.mixers import Arms, Observation, make_mixer, mixer_config

ABC = ["a", "b", "c"]
ARMS = Arms.of_skills(ABC)
KAT = {"atol": 5e-6}


def after(name, parameters, *excesses, arms=ARMS):
    mixer = make_mixer(name, parameters, arms, None)
    state = mixer.init()
    for number, excess in enumerate(excesses):
        values = dict(zip(ABC, excess, strict=True))
        state = mixer.update(state, Observation(round=number, losses={}, signals={"excess_loss": values}))
    return mixer.mixture(state)


def test_the_known_step_from_uniform():
    np.testing.assert_allclose(after("doremi", {}, [0.3, 0.0, 0.1]), [0.39069, 0.28944, 0.31987], **KAT)


def test_no_excess_leaves_the_mixture_and_no_weight_falls_under_its_floor():
    assert after("doremi", {}, [0.0] * 3, [0.0] * 3).tolist() == pytest.approx([1 / 3] * 3, rel=1e-14)
    assert after("doremi", {}, *[[50.0, 0.0, 0.0]] * 20).min() >= 1e-4 / 3 * (1 - 1e-12)


def test_an_arm_that_was_not_measured_keeps_its_newest_excess():
    gap = after("doremi", {}, [0.3, 0.0, 0.1], [0.3, None, 0.1])
    np.testing.assert_array_equal(gap, after("doremi", {}, [0.3, 0.0, 0.1], [0.3, 0.0, 0.1]))


def test_the_average_is_over_all_mixtures_so_far():
    first, second = after("doremi", {}, [0.3, 0.0, 0.1]), after("doremi", {}, [0.3, 0.0, 0.1], [0.0, 0.5, 0.1])
    mean = after("doremi", {"average": True}, [0.3, 0.0, 0.1], [0.0, 0.5, 0.1])
    np.testing.assert_allclose(mean, (first + second) / 2, rtol=1e-13)


def test_reference_losses_in_the_configuration_replace_the_signal():
    mixer = make_mixer("doremi", {"reference_losses": {"a": 1.7, "b": 2.5, "c": 1.9}}, ARMS, None)
    assert mixer.required_signals == ()
    state = mixer.update(mixer.init(), Observation(round=0, losses={"a": 2.0, "b": 2.0, "c": 2.0}))
    np.testing.assert_allclose(mixer.mixture(state), [0.39069, 0.28944, 0.31987], **KAT)


def test_a_model_as_good_as_the_reference_keeps_the_token_shares_for_ever():
    arms = Arms.of_skills(ABC, [5, 3, 2])
    mixer = make_mixer("doremi", {"reference_losses": {"a": 2.0, "b": 2.0, "c": 2.0}}, arms, None)
    state = mixer.init()
    for number in range(30):
        state = mixer.update(state, Observation(round=number, losses={"a": 2.0, "b": 1.0, "c": 1.9}))
    np.testing.assert_allclose(mixer.mixture(state), [0.5, 0.3, 0.2], rtol=1e-12)


def test_group_dro_tilts_toward_the_highest_loss_by_the_closed_form():
    mixer = make_mixer("group_dro", {"learning_rate": 0.5, "base": "uniform"}, Arms.of_skills(ABC, [5, 3, 2]), None)
    state = mixer.init()
    total = np.zeros(3)
    for number, losses in enumerate(([3.0, 1.0, 2.0], [2.0, 1.5, 2.5])):
        state = mixer.update(state, Observation(round=number, losses=dict(zip(ABC, losses, strict=True))))
        total += losses
    expected = np.exp(0.5 * total) / np.exp(0.5 * total).sum()
    np.testing.assert_allclose(mixer.mixture(state), expected, rtol=1e-13)


def test_group_dro_is_doremi_with_a_reference_of_zero_and_no_floor():
    losses = Observation(round=0, losses={"a": 3.0, "b": 1.0, "c": 2.0})
    dro = make_mixer("group_dro", {"learning_rate": 1.0}, ARMS, None)
    doremi = make_mixer("doremi", {"reference_losses": dict.fromkeys(ABC, 0.0), "floor": 0.0}, ARMS, None)
    np.testing.assert_array_equal(
        dro.mixture(dro.update(dro.init(), losses)), doremi.mixture(doremi.update(doremi.init(), losses))
    )


def test_defaults_are_those_of_the_papers_and_mistakes_are_named():
    config = mixer_config("doremi", {})
    assert (config.learning_rate, config.floor, config.average) == (1.0, 1e-4, False)
    assert mixer_config("group_dro", {}).learning_rate == 0.01
    with pytest.raises(ConfigError, match=r"reference_losses: unknown id 'd'"):
        make_mixer("doremi", {"reference_losses": {"d": 1.0}}, ARMS, None)
    mixer = make_mixer("doremi", {}, ARMS, None)
    with pytest.raises(FeedbackError, match="'excess_loss' is absent"):
        mixer.update(mixer.init(), Observation(round=0, losses={"a": 1.0}))
