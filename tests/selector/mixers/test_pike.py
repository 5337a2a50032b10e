"""PiKE against the numbers of its formula."""

import numpy as np
import pytest

from prereq.graph.errors import FeedbackError
from prereq.selector.mixers import Arms, Observation, make_mixer
from prereq.selector.mixers.pike import balance_factor

ARMS = Arms.of_skills(["a", "b"])
KAT = {"norm_rate": 0.1, "variance_rate": 0.05, "batch": 8}


def after(parameters, squared_norms, variances, losses=None):
    mixer = make_mixer("pike", parameters, ARMS, None)
    signals = {
        "gradient_norm": dict(zip("ab", np.sqrt(squared_norms).tolist(), strict=True)),
        "gradient_variance": dict(zip("ab", variances, strict=True)),
    }
    return mixer.mixture(mixer.update(mixer.init(), Observation(round=0, losses=losses or {}, signals=signals)))


def test_the_known_step_from_uniform():
    np.testing.assert_allclose(after(KAT, [2.0, 1.0], [1.0, 4.0]), [0.52732, 0.47268], atol=5e-6)


def test_equal_gradients_leave_the_mixture():
    assert after(KAT, [2.0, 2.0], [3.0, 3.0]).tolist() == [0.5, 0.5]


def test_huge_norms_stay_in_log_space():
    assert after({"norm_rate": 1e6}, [1e12, 1.0], [0.0, 0.0]).tolist() == [1.0, 0.0]


def test_the_balanced_variant_favours_the_higher_loss_where_gradients_are_equal():
    weights = after(KAT | {"balance": 2.0}, [5.0, 5.0], [0.0, 0.0], {"a": 3.0, "b": 2.0})
    y = balance_factor(np.array([3.0, 2.0]), 2.0)
    np.testing.assert_allclose(y, 2.0 * np.exp([6.0, 4.0]) / np.exp([6.0, 4.0]).sum(), rtol=1e-14)
    np.testing.assert_allclose(np.log(weights[0] / weights[1]), 0.5 * (y[0] ** 2 - y[1] ** 2), rtol=1e-12)


def test_losses_that_were_not_measured_have_no_balance_factor():
    np.testing.assert_array_equal(balance_factor(np.array([np.nan, 1.0]), 3.0), [np.nan, 3.0])
    assert np.isnan(balance_factor(np.array([np.nan]), 1.0)).all()


def test_a_negative_norm_or_variance_is_refused():
    with pytest.raises(FeedbackError, match="must be >= 0"):
        after(KAT, [2.0, 1.0], [1.0, -4.0])
