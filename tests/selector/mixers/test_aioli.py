"""Aioli: probes unmixed, effects recovered, and Skill-It's orientation."""

import numpy as np
import pytest

from prereq.graph.errors import ConfigError, FeedbackError
from prereq.graph.influence import Influence
from prereq.selector.mixers import Arms, Observation, make_mixer, mixer_config
from prereq.selector.mixers.aioli import normalised_effects, unmix_probes

ABC = ("a", "b", "c")
ARMS = Arms.of_skills(ABC)


def probe(number, drops, ids=ABC):
    """A report of drops `(k, m)`: probed arms by skills."""
    columns = {f"probe_drop.{skill}": dict(zip(ids, drops[:, j].tolist(), strict=True)) for j, skill in enumerate(ids)}
    return Observation(round=number, losses={}, signals=columns)


def after(parameters, *reports):
    mixer = make_mixer("aioli", parameters, ARMS, None)
    state = mixer.init()
    for number, drops in enumerate(reports):
        state = mixer.update(state, probe(number, drops))
    return mixer.mixture(state)


def test_probes_of_pure_arms_are_the_effects_and_the_known_system_is_solved():
    drops = np.array([[0.1], [0.06]])
    np.testing.assert_array_equal(unmix_probes(drops, 1.0), drops)
    np.testing.assert_allclose(unmix_probes(drops, 0.75), [[0.10667], [0.05333]], atol=5e-6)


def test_unmixing_solves_the_linear_system():
    rng = np.random.default_rng(0)
    effects = rng.normal(size=(5, 4))
    mixtures = 0.6 * np.eye(5) + 0.4 / 5
    np.testing.assert_allclose(unmix_probes(mixtures @ effects, 0.6), effects, rtol=1e-10, atol=1e-12)


def test_effects_are_recovered_from_a_model_that_learns_by_the_linear_law():
    rng = np.random.default_rng(1)
    truth = rng.uniform(0.0, 0.2, size=(3, 3))
    losses = np.array([3.0, 2.0, 1.0])
    mixtures = 0.75 * np.eye(3) + 0.25 / 3
    drops = losses - losses * (1.0 - mixtures @ truth)
    np.testing.assert_allclose(unmix_probes(drops, 0.75), truth * losses, rtol=1e-10)


def test_a_diagonal_of_effects_is_hedge_on_them():
    gains = [np.array([0.3, 0.2, 0.1]), np.array([0.1, 0.1, 0.4])]
    weights = after({"memory": None, "one_hot_share": 1.0}, *(np.diag(gain) for gain in gains))
    total = sum(gain / gain.sum() for gain in gains)
    np.testing.assert_allclose(weights, np.exp(total) / np.exp(total).sum(), rtol=1e-13)


def test_skill_it_with_the_transposed_matrix_of_the_papers_notation_gives_the_same_mixture():
    rng = np.random.default_rng(2)
    val_by_train = rng.uniform(0.1, 0.5, size=(3, 3))
    losses = np.array([2.0, 1.0, 3.0])
    # the paper's A[i, j], train j on validation i, is the relative effect scaled by the current loss
    effects = (val_by_train * losses[:, None]).T
    weights = after({"memory": None, "one_hot_share": 1.0, "learning_rate": 0.4 * effects.sum()}, effects)
    influence = Influence(train=ABC, eval=ABC, matrix=val_by_train.T)
    skill_it = make_mixer("skill_it", {"learning_rate": 0.4, "window": 1, "base": "uniform"}, ARMS, influence)
    observed = Observation(round=0, losses=dict(zip(ABC, losses.tolist(), strict=True)))
    expected = skill_it.mixture(skill_it.update(skill_it.init(), observed))
    np.testing.assert_allclose(weights, expected, rtol=1e-12)


def test_effects_with_a_negative_entry_are_shifted_and_equal_ones_do_not_divide_by_zero():
    np.testing.assert_allclose(normalised_effects(np.array([[-1.0, 0.0], [1.0, 2.0]])), np.array([[0, 1], [2, 3]]) / 6)
    for value in (-0.3, 0.0, 0.2):
        np.testing.assert_allclose(normalised_effects(np.full((2, 2), value)), np.full((2, 2), 0.25))
    assert after({}, np.full((3, 3), -0.2)).tolist() == [1 / 3] * 3


def test_averaged_effects_restart_every_mixture_from_the_base():
    one, two = np.diag([0.3, 0.2, 0.1]), np.diag([0.1, 0.1, 0.4])
    weights = after({"one_hot_share": 1.0}, one, two)
    mean = 0.9 * np.diag(two) / 0.6 + 0.1 * np.diag(one) / 0.6
    np.testing.assert_allclose(weights, np.exp(mean) / np.exp(mean).sum(), rtol=1e-13)


def test_only_complete_columns_count_and_none_moves_nothing():
    drops = np.array([[0.3, 9.0, 0.0], [0.2, 0.0, 0.1], [0.1, 0.1, 0.1]])
    gap = drops.copy()
    gap[2, 1] = np.nan
    mixer = make_mixer("aioli", {}, ARMS, None)
    weights = mixer.mixture(mixer.update(mixer.init(), probe(0, gap)))
    fewer = make_mixer("aioli", {"targets": ["c", "a"]}, ARMS, None)
    np.testing.assert_array_equal(weights, fewer.mixture(fewer.update(fewer.init(), probe(0, drops))))
    nothing = mixer.update(mixer.init(), probe(0, np.full((3, 3), np.nan)))
    assert mixer.mixture(nothing).tolist() == [1 / 3] * 3


def test_signals_are_one_per_target_and_their_absence_is_refused():
    mixer = make_mixer("aioli", {"targets": ["b"]}, ARMS, None)
    assert mixer.required_signals == ("probe_drop.b",)
    with pytest.raises(FeedbackError, match=r"'probe_drop\.b' is absent"):
        mixer.update(mixer.init(), Observation(round=0, losses={}))
    with pytest.raises(ConfigError, match="unknown skill 'd'"):
        make_mixer("aioli", {"targets": ["d"]}, ARMS, None)


def test_defaults_are_those_of_the_slimpajama_run():
    config = mixer_config("aioli", {})
    assert (config.learning_rate, config.memory, config.one_hot_share) == (1.0, 0.1, 0.75)
