"""RegMix and CLIMB on objectives whose best mixture is known."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from prereq.graph.errors import ConfigError
from prereq.selector.mixers.proposals import SMALLEST_SHARE, propose_mixtures
from prereq.selector.mixers.regression import RegressionConfig, fit_regression
from prereq.selector.mixers.search import climb, climb_best, next_runs, regmix

PRIOR = np.array([0.4, 0.3, 0.2, 0.1])
SLOPES = np.array([[-1.0, 0.2, 0.3, 0.1], [0.1, -0.8, 0.4, 0.0], [0.2, 0.1, -0.2, -1.5]]).T  # (k, m)


def linear(mixtures: np.ndarray) -> np.ndarray:
    return 3.0 + mixtures @ SLOPES


def bowl(mixtures: np.ndarray) -> np.ndarray:
    return 2.0 + ((mixtures - np.array([0.1, 0.2, 0.3, 0.4])) ** 2).sum(axis=1, keepdims=True)


def test_proposals_are_on_the_simplex_within_caps_and_the_first_of_more_are_the_same():
    caps = np.array([0.6, 0.6, 0.6, 0.5])
    mixtures = propose_mixtures(PRIOR, 60, 7, caps=caps)
    np.testing.assert_allclose(mixtures.sum(axis=1), 1.0)
    assert (mixtures <= caps + 1e-12).all()
    assert ((mixtures == 0) | (mixtures >= SMALLEST_SHARE)).all()
    np.testing.assert_array_equal(propose_mixtures(PRIOR, 20, 7, caps=caps), mixtures[:20])
    assert not np.array_equal(propose_mixtures(PRIOR, 20, 8, caps=caps), mixtures[:20])
    assert np.std(mixtures, axis=0).min() > 0.05, "they spread"
    with pytest.raises(ConfigError, match="draws in a row"):
        propose_mixtures(PRIOR, 1, 0, caps=np.full(4, 0.2))


@pytest.mark.parametrize(("regressor", "runs"), [("linear", 8), ("lightgbm", 256)])
def test_a_linear_truth_is_ranked_right(regressor, runs):
    mixtures = propose_mixtures(PRIOR, runs, 0)
    predict = fit_regression(mixtures, linear(mixtures), RegressionConfig(regressor=regressor))
    fresh = propose_mixtures(PRIOR, 300, 1)
    for group in range(SLOPES.shape[1]):
        assert spearmanr(predict(fresh)[:, group], linear(fresh)[:, group]).statistic > 0.95


def test_a_single_target_pulls_to_its_part():
    mixtures = propose_mixtures(PRIOR, 256, 0)
    predict = fit_regression(mixtures, linear(mixtures)[:, 2:], RegressionConfig(regressor="linear"))
    found = regmix(predict, PRIOR, simulated=20_000)
    assert found.sum() == pytest.approx(1.0)
    assert int(np.argmax(found)) == 3, "the third target falls fastest with the last part"
    capped = regmix(predict, PRIOR, simulated=20_000, caps=np.array([1.0, 1.0, 1.0, 0.25]))
    assert capped[3] <= 0.25
    weighed = regmix(
        fit_regression(mixtures, linear(mixtures), RegressionConfig(regressor="linear")),
        PRIOR,
        simulated=20_000,
        weights=np.array([1.0, 0.0, 0.0]),
    )
    assert int(np.argmax(weighed)) == 0


@pytest.mark.slow
def test_climb_gets_better_every_round_and_near_the_best_of_a_smooth_objective():
    search = climb(bowl, PRIOR, rounds=(64, 32, 16), seed=3)
    assert len(search.mixtures) == 112
    np.testing.assert_allclose(search.mixtures.sum(axis=1), 1.0)
    assert list(search.history) == sorted(search.history, reverse=True)
    assert search.history[-1] < search.history[0]
    assert bowl(search.best[None])[0, 0] - 2.0 < 0.02
    narrowed = [bowl(part).mean() for part in np.split(search.mixtures, [64, 96])]
    assert narrowed[0] > 2 * narrowed[1] - 2.0
    assert narrowed[1] < narrowed[0], "later rounds look where it is good"
    again = climb(bowl, PRIOR, rounds=(64, 32, 16), seed=3)
    np.testing.assert_array_equal(search.best, again.best)


def test_the_steps_of_climb_are_those_of_the_whole():
    search = climb(bowl, PRIOR, rounds=(12, 6), seed=1)
    np.testing.assert_array_equal(
        next_runs(search.mixtures[:12], search.losses[:12], PRIOR, 6, seed=1), search.mixtures[12:]
    )
    np.testing.assert_array_equal(climb_best(search.mixtures, search.losses, PRIOR, seed=1), search.best)
    with pytest.raises(ConfigError, match="number of proxy runs"):
        climb(bowl, PRIOR, rounds=())


def test_regression_refuses_what_it_cannot_learn_from():
    with pytest.raises(ConfigError, match="two runs or more"):
        fit_regression(PRIOR[None], np.ones((1, 2)))
    with pytest.raises(ConfigError, match="not finite"):
        fit_regression(np.vstack([PRIOR, PRIOR]), np.array([[1.0], [np.nan]]))
