"""The exponentiated-gradient core against closed forms."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prereq.selector.mixers.exponentiated import (
    Tilt,
    log_weights,
    sharpness_warning,
    step,
    step_range,
    with_neutral,
)

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


# --- signals with gaps, and the tilt around the step


def test_an_arm_without_a_measurement_keeps_its_share_of_the_base():
    log_base = np.log([0.2, 0.5, 0.3])
    signal = np.array([1.0, np.nan, -2.0])
    weights = step(log_base, with_neutral(log_base, signal, 0.7), 0.7)
    assert weights[1] == pytest.approx(0.5, rel=1e-14)
    np.testing.assert_allclose(weights[0] / weights[2], 0.2 / 0.3 * np.exp(0.7 * 3.0), rtol=1e-13)


def test_gaps_are_filled_with_the_common_value_when_all_others_are_equal():
    filled = with_neutral(UNIFORM2, np.array([np.nan, 4.0]), 2.0)
    assert filled.tolist() == [4.0, 4.0]
    assert with_neutral(UNIFORM2, np.array([np.nan, 4.0]), 0.0).tolist() == [4.0, 4.0]


def test_enormous_signals_with_gaps_stay_finite():
    filled = with_neutral(np.log([0.4, 0.3, 0.3]), np.array([1e300, -1e300, np.nan]), 1e300)
    assert np.isfinite(filled).all()
    with pytest.raises(ValueError, match="no drawable arm was measured"):
        with_neutral(log_weights(np.array([0.0, 1.0])), np.array([1.0, np.nan]), 1.0)


def run(tilt, *signals):
    state = tilt.start()
    for signal in signals:
        state = json.loads(json.dumps({k: v.tolist() if hasattr(v, "tolist") else v for k, v in state.items()}))
        state = tilt.move(state, np.array(signal))
    return tilt.weights(state)


def test_a_carried_tilt_adds_signals_up_and_one_from_the_prior_forgets_them():
    carried = Tilt(log_prior=UNIFORM2, learning_rate=0.5)
    fresh = Tilt(log_prior=UNIFORM2, learning_rate=0.5, carry=False)
    np.testing.assert_allclose(run(carried, [1.0, 0.5], [0.8, 0.4]), [0.61064, 0.38936], atol=5e-6)
    np.testing.assert_allclose(run(fresh, [9.0, 0.5], [0.8, 0.4]), run(fresh, [0.8, 0.4]), rtol=0)


def test_a_floor_returns_to_the_prior_not_to_the_previous_mixture():
    tilt = Tilt(log_prior=np.log([0.8, 0.2]), learning_rate=1.0, floor=0.5)
    np.testing.assert_allclose(run(tilt, [0.0, 1e6]), [0.4, 0.6], rtol=1e-14)
    # from [0.4, 0.6] and no difference: half of it, and half of the prior
    np.testing.assert_allclose(run(tilt, [0.0, 1e6], [1.0, 1.0]), [0.6, 0.4], rtol=1e-14)


def test_memory_blends_signals_and_remembers_what_a_report_left_out():
    tilt = Tilt(log_prior=UNIFORM2, learning_rate=1.0, carry=False, memory=0.25)
    blended = 0.75 * 2.0 + 0.25 * 1.0
    np.testing.assert_allclose(run(tilt, [1.0, 0.0], [2.0, np.nan]), step(UNIFORM2, np.array([blended, 0.0]), 1.0))
    newest = Tilt(log_prior=UNIFORM2, learning_rate=1.0, carry=False, memory=0.0)
    np.testing.assert_allclose(run(newest, [1.0, 3.0], [2.0, np.nan]), step(UNIFORM2, np.array([2.0, 3.0]), 1.0))


def test_averaging_gives_the_mean_of_the_mixtures_that_reports_led_to():
    plain = Tilt(log_prior=UNIFORM2, learning_rate=1.0)
    mean = Tilt(log_prior=UNIFORM2, learning_rate=1.0, average=True)
    reports = [[1.0, 0.0], [np.nan, np.nan], [1.0, 0.0]]
    expected = (run(plain, reports[0]) + run(plain, *reports)) / 2
    np.testing.assert_allclose(run(mean, *reports), expected, rtol=1e-14)
    assert run(mean).tolist() == [0.5, 0.5]


reports = st.lists(
    st.lists(st.one_of(st.just(float("nan")), st.floats(-1e30, 1e30)), min_size=3, max_size=3), max_size=6
)


@settings(max_examples=80, deadline=None)
@given(
    reports,
    st.sampled_from([0.0, 0.01, 0.7]),
    st.booleans(),
    st.sampled_from([None, 0.0, 0.5]),
    st.booleans(),
    st.floats(0, 1e6),
)
def test_any_signals_give_a_mixture_on_the_simplex_and_a_state_without_nan(rows, floor, carry, memory, average, rate):
    prior = np.array([0.0, 0.25, 0.75])
    tilt = Tilt(
        log_prior=log_weights(prior), learning_rate=rate, floor=floor, carry=carry, memory=memory, average=average
    )
    state = tilt.start()
    for row in rows:
        state = tilt.move(state, np.array(row))
    weights = tilt.weights(state)
    assert weights[0] == 0.0
    assert weights.sum() == pytest.approx(1.0, abs=1e-12)
    assert (weights >= floor * prior * (1 - 1e-9)).all()
    assert all(np.isfinite(np.asarray(value, dtype=float)).all() for value in state.values())
    assert np.isfinite(tilt.spread(state))


def test_a_closed_arm_stays_at_zero_through_floors_and_gaps_and_thousands_of_steps():
    log_prior = log_weights(np.array([0.0, 0.5, 0.5]))
    for floor in (0.0, 0.1):
        tilt = Tilt(log_prior=log_prior, learning_rate=1e200, floor=floor)
        weights = run(tilt, *[[1e100, 1e100, np.nan]] * 5, *[[np.nan, 0.0, 1e100]] * 5)
        assert weights[0] == 0.0
        assert weights.sum() == pytest.approx(1.0, abs=1e-12)
    assert tilt.move(tilt.start(), np.array([3.0, np.nan, np.nan]))["updates"] == 0
