"""The exponentiated-gradient core against closed forms."""

import numpy as np
import pytest

from prereq.selector.mixers.exponentiated import log_weights, sharpness_warning, step, step_range

UNIFORM2 = np.log([0.5, 0.5])


def test_a_step_from_uniform_is_the_softmax_of_the_scaled_signal():
    weights = step(UNIFORM2, np.array([1.8, 0.9]), 0.5)
    np.testing.assert_allclose(weights, [0.61064, 0.38936], atol=5e-6)


def test_two_steps_from_the_previous_mixture_equal_one_step_of_the_summed_signal():
    first = step(UNIFORM2, np.array([1.0, 0.5]), 0.5)
    second = step(log_weights(first), np.array([0.8, 0.4]), 0.5)
    np.testing.assert_allclose(second, step(UNIFORM2, np.array([1.8, 0.9]), 0.5), rtol=1e-14)


def test_the_base_is_what_equal_signals_leave():
    base = np.array([0.7, 0.2, 0.1])
    np.testing.assert_allclose(step(np.log(base), np.full(3, 4.2), 1.0), base, rtol=1e-14)


@pytest.mark.parametrize("learning_rate", [1.0, 1e300])
def test_an_enormous_signal_gives_the_limit_not_nan(learning_rate):
    weights = step(UNIFORM2, np.array([1e200, 1.0]), learning_rate)
    assert weights.tolist() == [1.0, 0.0]


def test_an_arm_without_base_weight_stays_at_zero_even_with_the_best_signal():
    weights = step(log_weights(np.array([0.0, 0.5, 0.5])), np.array([1e300, 1.0, 1.0]), 10.0, floor=0.1)
    assert weights.tolist() == [0.0, 0.5, 0.5]


def test_the_floor_is_c_over_k_from_a_uniform_base_and_a_share_of_the_base_otherwise():
    weights = step(UNIFORM2, np.array([1e6, 0.0]), 1.0, floor=0.1)
    np.testing.assert_allclose(weights, [0.95, 0.05], rtol=1e-14)
    weights = step(np.log([0.8, 0.2]), np.array([0.0, 1e6]), 1.0, floor=0.5)
    np.testing.assert_allclose(weights, [0.4, 0.6], rtol=1e-14)


def test_a_step_without_a_drawable_arm_or_with_a_nan_signal_is_refused():
    with pytest.raises(ValueError, match="no arm has a base weight"):
        step(np.array([-np.inf]), np.array([1.0]), 1.0)
    with pytest.raises(ValueError, match="NaN"):
        step(UNIFORM2, np.array([np.nan, 1.0]), 1.0)


def test_the_range_counts_only_arms_that_may_be_drawn():
    log_base = log_weights(np.array([0.0, 0.5, 0.5]))
    assert step_range(log_base, np.array([100.0, 3.0, 1.0]), 0.5) == pytest.approx(1.0)
    assert step_range(log_base, np.array([-100.0, 3.0, 1.0]), 0.5) == pytest.approx(1.0)


def test_the_sharpness_warning_speaks_above_five_nats_only():
    assert sharpness_warning({"logit_range": 5.0}) is None
    assert sharpness_warning({"logit_range": 5.01}) is not None
    warning = sharpness_warning({"logit_range": 7.25})
    assert warning is not None
    assert "7.2 nats" in warning
    assert "mixer.parameters.learning_rate" in warning
