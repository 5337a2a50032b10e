"""Windows, gaps, delay and accumulation of losses."""

import json

import numpy as np
import pytest

from prereq.selector.mixers.history import LossHistory, reduce_window

GAP = float("nan")


def remember(history: LossHistory, *rows: list[float]) -> np.ndarray:
    state = history.empty()
    for row in rows:
        state = history.add(state, np.array(row))
    return history.reduced(state)


def test_a_gap_adds_nothing_to_the_sum_and_does_not_pull_the_mean():
    losses = np.array([[3.0, 8.0], [1.0, 99.0]])
    measured = np.array([[True, True], [True, False]])
    assert reduce_window(losses, measured, "sum").tolist() == [4.0, 8.0]
    assert reduce_window(losses, measured, "mean").tolist() == [2.0, 8.0]


def test_a_skill_that_no_round_measured_reduces_to_zero():
    assert reduce_window(np.array([[5.0]]), np.array([[False]]), "mean").tolist() == [0.0]


def test_a_loss_of_exactly_zero_is_a_loss_and_not_a_gap():
    history = LossHistory(skills=2, window=3, reduction="mean")
    assert remember(history, [1.0, 2.0], [1.0, 0.0]).tolist() == [1.0, 1.0]
    assert remember(history, [1.0, 2.0], [1.0, GAP]).tolist() == [1.0, 2.0]


def test_before_any_report_every_loss_is_one():
    for accumulate in (False, True):
        assert remember(LossHistory(skills=3, window=2, accumulate=accumulate)).tolist() == [1.0, 1.0, 1.0]


def test_only_the_last_reports_of_the_window_count():
    history = LossHistory(skills=1, window=3)
    assert remember(history, [100.0], [4.0], [2.0], [1.0]).tolist() == [7.0]
    assert remember(history, [4.0], [2.0]).tolist() == [6.0]


def test_a_delay_leaves_the_newest_report_out():
    history = LossHistory(skills=1, window=2, delay=1)
    assert remember(history, [8.0]).tolist() == [1.0]
    assert remember(history, [8.0], [4.0]).tolist() == [8.0]
    assert remember(history, [8.0], [4.0], [2.0], [1.0]).tolist() == [6.0]


@pytest.mark.parametrize(("delay", "expected"), [(0, [16.0, 3.0]), (1, [15.0, 3.0])])
def test_accumulation_adds_every_report_to_a_start_of_ones(delay, expected):
    history = LossHistory(skills=2, window=1, delay=delay, accumulate=True)
    assert remember(history, [8.0, 2.0], [4.0, GAP], [2.0, 0.0], [1.0, 0.0]).tolist() == expected


@pytest.mark.parametrize("accumulate", [False, True])
def test_a_report_that_measured_nothing_changes_nothing(accumulate):
    history = LossHistory(skills=2, window=2, delay=1, accumulate=accumulate)
    rows = [[8.0, 2.0], [4.0, GAP], [2.0, 0.0]]
    assert remember(history, *rows, [GAP, GAP]).tolist() == remember(history, *rows).tolist()


@pytest.mark.parametrize(("accumulate", "kept"), [(False, 4), (True, 1)])
def test_the_state_does_not_grow_and_is_never_changed_in_place(accumulate, kept):
    history = LossHistory(skills=2, window=3, delay=1, accumulate=accumulate)
    state = history.empty()
    for number in range(50):
        before = {key: value.copy() for key, value in state.items()}
        following = history.add(state, np.array([number, GAP]))
        assert all(np.array_equal(state[key], before[key]) for key in before)
        state = following
    assert state["losses"].shape == state["measured"].shape == (kept, 2)
    assert np.isfinite(state["losses"]).all()  # a gap is a flag, not a NaN: the state goes into canonical JSON


def test_a_state_that_went_through_lists_goes_on_with_the_same_bits():
    history = LossHistory(skills=2, window=2, delay=1)
    state = history.empty()
    for row in ([0.1, 0.2], [GAP, 0.3], [1 / 3, 0.7]):
        state = history.add({key: value.tolist() for key, value in state.items()}, np.array(row))
    assert history.reduced(state).tolist() == remember(history, [0.1, 0.2], [GAP, 0.3], [1 / 3, 0.7]).tolist()


def test_the_newest_loss_is_looked_for_in_the_reports_that_count():
    history = LossHistory(skills=3, window=2, delay=1)
    state = history.empty()
    assert np.isnan(history.newest(state)[0]).all()
    for row in ([9.0, 9.0, 9.0], [1.0, 2.0, np.nan], [3.0, np.nan, np.nan], [7.0, 7.0, 7.0]):
        state = history.add(state, np.array(row))
    newest, reports = history.newest(state)  # the last report does not count yet, the first one no more
    np.testing.assert_array_equal(newest, [3.0, 2.0, np.nan])
    assert reports == 2


def faded(decay: float, losses: list[float]) -> float:
    """Sum of decay^age * loss over the sum of decay^age, age counted in the measured losses behind it."""
    weights = decay ** np.arange(len(losses))[::-1]
    return float(weights @ losses / weights.sum())


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("delay", [0, 1])
def test_the_fading_mean_weighs_every_loss_by_its_age_and_a_gap_moves_nothing(decay: float, delay: int):
    history = LossHistory(skills=3, window=2, reduction="ema", decay=decay, delay=delay)
    rows = [[8.0, GAP, GAP], [4.0, 3.0, GAP], [GAP, 1.0, GAP], [0.0, GAP, GAP], [1.0, 5.0, GAP], [2.0, 7.0, GAP]]
    for reports in range(1 + delay, len(rows) + 1):
        counted = np.array(rows[: reports - delay]).T
        expected = [faded(decay, own[~np.isnan(own)].tolist()) if (~np.isnan(own)).any() else 0.0 for own in counted]
        np.testing.assert_allclose(remember(history, *rows[:reports]), expected, rtol=1e-14)
    assert remember(history, *rows[:delay]).tolist() == [1.0, 1.0, 1.0]


def test_the_fading_mean_of_a_half_by_hand():
    history = LossHistory(skills=1, window=1, reduction="ema", decay=0.5)
    assert remember(history, [4.0], [1.0]).tolist() == [2.0]  # (4 / 2 + 1) / (1 / 2 + 1)
    assert remember(history, [4.0], [1.0], [2.0]).tolist() == [2.0]  # (4 / 4 + 1 / 2 + 2) / (1 / 4 + 1 / 2 + 1)
    assert remember(history, *[[0.1]] * 50).tolist() == [0.1]


def test_the_fading_mean_keeps_a_skill_that_left_the_window_and_its_state_does_not_grow():
    history = LossHistory(skills=2, window=3, delay=1, reduction="ema", decay=0.9)
    state = history.add(history.empty(), np.array([5.0, 6.0]))
    for _ in range(40):
        before = json.dumps({key: value.tolist() for key, value in state.items()}, allow_nan=False)
        following = history.add(state, np.array([5.0, GAP]))
        assert json.dumps({key: value.tolist() for key, value in state.items()}) == before
        again = history.add(json.loads(before), np.array([5.0, GAP]))
        assert {key: value.tolist() for key, value in following.items()} == {k: v.tolist() for k, v in again.items()}
        state = following
    assert history.reduced(state).tolist() == [5.0, 6.0]
    assert {key: np.shape(value) for key, value in state.items()} == {
        "losses": (4, 2),
        "measured": (4, 2),
        "ema": (2,),
        "weight": (2,),
    }
