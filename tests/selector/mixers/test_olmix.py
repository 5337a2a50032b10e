"""Static mixtures under laws, a penalty and caps."""

import numpy as np
import pytest

from prereq.graph.errors import ConfigError
from prereq.selector.mixers.law_fit import MixingLaws
from prereq.selector.mixers.olmix import OlmixConfig, best_mixture, expand_parts, repetition_caps

LAWS = MixingLaws(floor=np.array([1.2, 0.4]), slopes=np.array([[-1.5, 0.8, 0.2], [0.5, -2.0, 1.0]]))
PRIOR = np.array([0.2, 0.3, 0.5])


def objective(p, penalty):
    ratio = np.divide(p, PRIOR)
    return LAWS.mean_loss(p) + penalty * float((p * np.log(np.where(p > 0, ratio, 1.0))).sum())


def grid(step=0.005):
    values = np.arange(0.0, 1.0 + step / 2, step)
    return [np.array([a, b, max(1.0 - a - b, 0.0)]) for a in values for b in values if a + b <= 1.0 + 1e-12]


@pytest.mark.parametrize("penalty", [0.0, 0.05, 0.5])
def test_no_mixture_on_a_grid_is_better(penalty):
    best = best_mixture(LAWS, PRIOR, penalty=penalty)
    assert best.sum() == pytest.approx(1.0, abs=1e-12)
    assert objective(best, penalty) <= min(objective(p, penalty) for p in grid()) + 1e-12


def test_no_mixture_on_a_grid_within_the_caps_is_better_and_a_binding_cap_is_met():
    caps = np.array([0.25, 0.4, 1.0])
    best = best_mixture(LAWS, PRIOR, caps, penalty=0.05)
    inside = [p for p in grid() if (p <= caps + 1e-12).all()]
    assert objective(best, 0.05) <= min(objective(p, 0.05) for p in inside) + 1e-12
    np.testing.assert_allclose(best[:2], caps[:2], rtol=1e-9)


def test_a_large_penalty_gives_the_prior_and_none_the_best_corner():
    np.testing.assert_allclose(best_mixture(LAWS, PRIOR, penalty=1e6), PRIOR, atol=1e-5)
    corner = MixingLaws(floor=np.zeros(1), slopes=np.array([[0.0, -1.0, 1.0]]))
    np.testing.assert_allclose(best_mixture(corner, PRIOR, penalty=0.0), [0, 1, 0], atol=1e-6)


def test_a_part_outside_the_prior_stays_out():
    best = best_mixture(LAWS, np.array([0.0, 0.5, 0.5]), penalty=0.01)
    assert best[0] == 0.0
    assert best.sum() == pytest.approx(1.0)


def test_caps_are_repeats_times_what_there_is_over_what_is_asked():
    assert repetition_caps(np.array([10.0, 100.0]), 200.0, 4.0).tolist() == [0.2, 2.0]
    with pytest.raises(ConfigError, match="leave no mixture"):
        best_mixture(LAWS, PRIOR, np.array([0.1, 0.1, 0.1]))
    with pytest.raises(ConfigError, match="prior"):
        best_mixture(LAWS, np.array([0.5, 0.4, 0.0]))


def test_a_collapsed_solution_expands_by_the_frozen_ratio():
    expanded = expand_parts(np.array([0.25, 0.25, 0.5]), np.array([0.4, 0.6]))
    np.testing.assert_allclose(expanded, [0.1, 0.1, 0.2, 0.6], rtol=1e-14)


def test_defaults_are_the_published_ones():
    assert (OlmixConfig().penalty, OlmixConfig().repeats) == (0.05, 4.0)
    with pytest.raises(ConfigError, match="penalty"):
        OlmixConfig(penalty=-1.0)
