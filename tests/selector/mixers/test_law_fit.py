"""Data mixing laws recovered from runs."""

import numpy as np
import pytest

from prereq.graph.errors import ConfigError
from prereq.selector.mixers.law_fit import MixingLaws, fit_mixing_laws

RNG = np.random.default_rng(0)
TRUTH = MixingLaws(floor=np.array([1.2, 0.4]), slopes=np.array([[-1.5, 0.8, 0.2], [0.5, -2.0, 1.0]]))
RUNS = RNG.dirichlet(np.ones(3), 24)


def test_laws_are_recovered_from_runs_without_noise():
    laws = fit_mixing_laws(RUNS, TRUTH.predict(RUNS))
    np.testing.assert_allclose(laws.floor, TRUTH.floor, atol=1e-6)
    np.testing.assert_allclose(laws.slopes, TRUTH.slopes, atol=1e-5)


def test_the_published_factor_is_a_shift_of_all_slopes():
    published = 1.2 + 3.0 * np.exp(RUNS @ TRUTH.slopes.T)
    laws = fit_mixing_laws(RUNS, published)
    np.testing.assert_allclose(laws.slopes, TRUTH.slopes + np.log(3.0), atol=1e-5)


def test_with_two_parts_the_logarithm_above_the_floor_is_a_straight_line():
    laws = MixingLaws(floor=np.array([0.7]), slopes=np.array([[-1.0, 2.0]]))
    shares = np.linspace(0, 1, 5)
    logs = np.log(laws.predict(np.stack([shares, 1 - shares], axis=1))[:, 0] - 0.7)
    np.testing.assert_allclose(np.diff(logs), -0.75, rtol=1e-12)


def test_slopes_of_zero_predict_a_constant_and_a_constant_loss_is_fitted():
    flat = MixingLaws(floor=np.array([1.0]), slopes=np.zeros((1, 3)))
    np.testing.assert_allclose(flat.predict(RUNS), 2.0)
    np.testing.assert_allclose(fit_mixing_laws(RUNS, flat.predict(RUNS)).predict(RUNS), 2.0, rtol=1e-6)


def test_noisy_runs_predict_new_mixtures_to_within_a_few_times_the_noise():
    losses = TRUTH.predict(RUNS) + 0.005 * RNG.standard_normal((24, 2))
    new = RNG.dirichlet(np.ones(3), 50)
    errors = fit_mixing_laws(RUNS, losses).predict(new) - TRUTH.predict(new)
    assert np.abs(errors).max() < 0.03


def test_the_mean_loss_weighs_groups():
    losses = TRUTH.predict(RUNS[:1])[0]
    assert TRUTH.mean_loss(RUNS[0]) == pytest.approx(losses.mean())
    assert TRUTH.mean_loss(RUNS[0], np.array([3.0, 1.0])) == pytest.approx(0.75 * losses[0] + 0.25 * losses[1])


def test_runs_that_cannot_be_are_refused():
    with pytest.raises(ConfigError, match=r"mixtures \(24, 3\) and losses \(3, 2\)"):
        fit_mixing_laws(RUNS, TRUTH.predict(RUNS[:3]))
    with pytest.raises(ConfigError, match=r"mixture 1: weights sum to .*2"):
        fit_mixing_laws(np.array([[0.5, 0.5], [1.0, 1.0]]), np.ones((2, 1)))
    with pytest.raises(ConfigError, match="loss of run 1 on group 0 is nan"):
        fit_mixing_laws(np.array([[0.5, 0.5], [1.0, 0.0]]), np.array([[1.0], [np.nan]]))
