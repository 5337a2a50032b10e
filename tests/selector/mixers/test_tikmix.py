"""TiKMiX-D against its known answer, a grid, and what its constraint promises."""

import numpy as np
import pytest

from prereq.graph.errors import ConfigError
from prereq.selector.mixers.tikmix import TikmixConfig, expected_influence, tikmix_mixture

S = np.array([[2.0, 1.0], [1.0, 4.0]])
WIDE = np.array([[1.0, 0.2, 0.7], [-0.1, 0.8, 0.5]])  # the third domain helps both tasks
PRIOR = np.array([0.4, 0.4, 0.2])


def test_the_known_influence_of_an_even_mixture():
    np.testing.assert_allclose(expected_influence(S, np.array([0.5, 0.5])), [0.75, 0.625], atol=1e-7)


def loss(w, config):
    values = expected_influence(WIDE, w)
    inside = np.maximum(w, 1e-12)
    return (
        config.evenness * values.std() - config.gain * values.sum() + config.entropy * (inside * np.log(inside)).sum()
    )


@pytest.mark.parametrize(
    "config", [TikmixConfig(), TikmixConfig(evenness=5.0, entropy=0.1), TikmixConfig(evenness=0.0, entropy=0.0)]
)
def test_no_mixture_of_a_grid_that_makes_no_task_worse_off_is_better(config):
    found = tikmix_mixture(WIDE, PRIOR, config)
    assert found.sum() == pytest.approx(1.0, abs=1e-12)
    assert (found >= 0).all()
    steps = 100
    grid = [np.array([i, j, steps - i - j]) / steps for i in range(steps + 1) for j in range(steps + 1 - i)]
    allowed = [w for w in grid if (WIDE @ (w - PRIOR) >= -1e-9).all()]
    assert len(allowed) > 20
    assert loss(found, config) <= min(loss(w, config) for w in allowed) + 1e-6


def test_no_task_gets_less_than_from_the_prior():
    rng = np.random.default_rng(0)
    for _ in range(20):
        matrix, prior = rng.normal(0.3, 0.5, (4, 6)), rng.dirichlet(np.ones(6))
        matrix[:, 0] += 1.0
        found = tikmix_mixture(matrix, prior)
        assert ((matrix @ (found - prior)) / matrix.max(axis=1)).min() >= -1e-6


def test_much_entropy_gives_uniform_where_the_prior_allows_it():
    matrix = np.array([[1.0, 1.0, 1.1]])
    np.testing.assert_allclose(
        tikmix_mixture(matrix, np.array([0.9, 0.1, 0.0]), TikmixConfig(entropy=1e4)), [1 / 3] * 3, atol=1e-3
    )


def test_where_only_the_prior_makes_nobody_worse_off_it_stays():
    np.testing.assert_allclose(tikmix_mixture(np.eye(3), PRIOR), PRIOR, atol=1e-6)


def test_what_cannot_be_solved_is_refused():
    with pytest.raises(ConfigError, match="an entry above 0 in every row"):
        tikmix_mixture(np.array([[1.0, 1.0], [0.0, -1.0]]), np.array([0.5, 0.5]))
    with pytest.raises(ConfigError, match="tikmix: prior"):
        tikmix_mixture(WIDE, np.array([0.5, 0.5]))
    with pytest.raises(ConfigError, match=r"gain is -1\.0"):
        TikmixConfig(gain=-1.0)
