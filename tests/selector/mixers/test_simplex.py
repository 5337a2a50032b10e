"""Softmax, apportionment and water-filling against exact and brute-force references."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prereq.selector.mixers.simplex import (
    SIMPLEX_TOLERANCE,
    apportion,
    check_simplex,
    log_softmax,
    logit_range,
    softmax,
    water_fill,
)

weight = st.one_of(st.just(0.0), st.floats(1e-6, 1e3, allow_subnormal=False))
weight_lists = st.lists(weight, min_size=1, max_size=12).filter(any)


def test_softmax_of_huge_logits_is_finite_and_equal_logits_give_equal_bits():
    weights = softmax(np.array([1e4, 1e4, -1e4]))
    assert weights.tolist() == [0.5, 0.5, 0.0]


def test_softmax_keeps_a_masked_entry_at_exactly_zero():
    weights = softmax(np.array([-np.inf, 0.0, np.log(3.0)]))
    np.testing.assert_allclose(weights, [0.0, 0.25, 0.75], rtol=1e-15)
    assert weights[0] == 0.0


def test_log_softmax_is_the_log_of_softmax():
    logits = np.array([0.3, -2.0, 700.0, 699.0])
    np.testing.assert_allclose(np.exp(log_softmax(logits)), softmax(logits), rtol=1e-12)


@pytest.mark.parametrize("logits", [[], [-np.inf, -np.inf], [np.nan, 0.0], [np.inf, 0.0]])
def test_softmax_refuses_what_has_no_answer(logits):
    with pytest.raises(ValueError, match="at least one finite logit"):
        softmax(np.array(logits, dtype=np.float64))
    with pytest.raises(ValueError, match="at least one finite logit"):
        log_softmax(np.array(logits, dtype=np.float64))


def test_logit_range_ignores_masked_entries():
    assert logit_range(np.array([-np.inf, 1.0, 4.5])) == 3.5
    assert logit_range(np.array([-np.inf])) == 0.0


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([0.5, 0.4], "sum to"),
        ([1.5, -0.5], "weight 1 is -0.5"),
        ([np.nan, 1.0], "weight 0 is nan"),
        ([[1.0]], "shape"),
        ([], "shape"),
    ],
)
def test_check_simplex_names_what_is_wrong(weights, message):
    with pytest.raises(ValueError, match=message):
        check_simplex(np.array(weights, dtype=np.float64))


def test_check_simplex_checks_the_size_and_names_the_place():
    with pytest.raises(ValueError, match=r"mixture of round 3: expected weights of shape \(3,\)"):
        check_simplex(np.array([0.5, 0.5]), size=3, where="mixture of round 3")


# --- apportion


def test_apportion_keeps_the_total_when_all_weights_tie_and_the_first_ones_get_the_rest():
    assert apportion([1, 1, 1], 5).tolist() == [2, 2, 1]


def test_apportion_breaks_ties_by_id():
    assert apportion([1, 1, 1], 4, ids=["c", "b", "a"]).tolist() == [1, 1, 2]


def test_apportion_gives_the_rest_to_the_largest_remainder_not_to_the_last():
    # quotas 4.7, 2.9, 2.4: floors 4 + 2 + 2, the two left over go to .9 and .7
    assert apportion([0.47, 0.29, 0.24], 10).tolist() == [5, 3, 2]


def test_apportion_needs_no_rounding_where_the_quotas_are_whole():
    assert apportion([0.25, 0.5, 0.25], 8).tolist() == [2, 4, 2]


def test_apportion_is_exact_where_floats_are_not():
    total = 2**62 + 1  # float64 holds 53 bits: quotas computed in floats would lose documents
    counts = apportion([1.0, 1.0, 1e-300], total)
    assert counts.tolist() == [2**61 + 1, 2**61, 0]


@pytest.mark.parametrize(
    ("weights", "total", "ids"),
    [
        ([0.0, 0.0], 3, None),
        ([-1.0, 2.0], 3, None),
        ([np.nan], 3, None),
        ([], 0, None),
        ([1.0], -1, None),
        ([1.0], 1, []),
    ],
)
def test_apportion_refuses_what_cannot_be_divided(weights, total, ids):
    with pytest.raises(ValueError, match="apportion"):
        apportion(weights, total, ids)


@settings(max_examples=150, deadline=None)
@given(weights=weight_lists, total=st.integers(0, 10**12))
def test_apportion_conserves_the_total_and_stays_within_one_of_every_quota(weights, total):
    counts = apportion(weights, total).tolist()
    exact = [Fraction(value) for value in weights]
    assert sum(counts) == total
    for value, count in zip(exact, counts, strict=True):
        assert abs(count - value * total / sum(exact)) < 1
        assert count == 0 or value > 0


@settings(max_examples=100, deadline=None)
@given(weights=weight_lists, total=st.integers(0, 1000), data=st.data())
def test_apportion_by_ids_does_not_depend_on_the_order_of_the_arms(weights, total, data):
    ids = [f"a{i:02d}" for i in range(len(weights))]
    order = data.draw(st.permutations(range(len(weights))))
    plain = dict(zip(ids, apportion(weights, total, ids).tolist(), strict=True))
    moved = apportion([weights[i] for i in order], total, [ids[i] for i in order]).tolist()
    assert {ids[i]: count for i, count in zip(order, moved, strict=True)} == plain


# --- water_fill


def pour(weights: np.ndarray, caps: np.ndarray) -> np.ndarray:
    """The reference: cap, hand the excess to those with room in proportion to their weight, repeat."""
    share, capped = weights.copy(), np.zeros(len(weights), dtype=bool)
    for _ in range(len(weights) + 1):
        over = (share > caps) & ~capped
        if not over.any():
            break
        capped |= over
        share[capped] = caps[capped]
        room = ~capped & (weights > 0)
        if room.any():
            share[room] = weights[room] / weights[room].sum() * max(1.0 - share[capped].sum(), 0.0)
    return share


def test_water_fill_hands_the_excess_on_in_proportion():
    filled = water_fill(np.array([0.6, 0.3, 0.1]), np.array([0.2, 1.0, 1.0]))
    np.testing.assert_allclose(filled, [0.2, 0.6, 0.2], rtol=1e-14)


def test_water_fill_cascades_when_the_flow_overfills_another():
    filled = water_fill(np.array([0.6, 0.3, 0.1]), np.array([0.2, 0.35, np.inf]))
    np.testing.assert_allclose(filled, [0.2, 0.35, 0.45], rtol=1e-14)


def test_water_fill_leaves_a_mixture_under_its_caps_bit_for_bit():
    weights = np.array([0.1, 0.2, 0.7])
    assert water_fill(weights, np.array([0.1, 1.0, 0.7])).tolist() == weights.tolist()


def test_water_fill_keeps_a_weight_of_zero_however_much_room_it_has():
    filled = water_fill(np.array([0.9, 0.0, 0.1]), np.array([0.5, np.inf, 0.2]))
    assert filled.tolist() == [0.5, 0.0, 0.2]  # the caps of the positive weights sum to .7: they are all there is


def test_water_fill_of_an_exhausted_pool_is_zero():
    assert water_fill(np.array([0.5, 0.5]), np.zeros(2)).tolist() == [0.0, 0.0]


def test_water_fill_survives_weights_whose_ratio_overflows():
    filled = water_fill(np.array([1.0, 1e-320]), np.array([0.5, np.inf]))
    np.testing.assert_allclose(filled, [0.5, 0.5], rtol=1e-14)


@pytest.mark.parametrize("caps", [[0.5], [-0.1, 1.0], [np.nan, 1.0]])
def test_water_fill_refuses_malformed_caps(caps):
    with pytest.raises(ValueError, match="caps must be"):
        water_fill(np.array([0.5, 0.5]), np.array(caps))


cap = st.one_of(st.just(0.0), st.just(np.inf), st.floats(1e-6, 1.5))


@settings(max_examples=300, deadline=None)
@given(pairs=st.lists(st.tuples(weight, cap), min_size=1, max_size=10).filter(lambda pairs: any(w for w, _ in pairs)))
def test_water_fill_agrees_with_pouring_by_hand(pairs):
    weights = np.array([w for w, _ in pairs])
    weights, caps = weights / weights.sum(), np.array([c for _, c in pairs])
    filled = water_fill(weights, caps)
    room = caps[weights > 0].sum()
    assert (filled <= np.maximum(caps, 0.0)).all()
    assert (filled[weights == 0] == 0).all()
    assert abs(filled.sum() - min(1.0, room)) <= SIMPLEX_TOLERANCE
    np.testing.assert_allclose(filled, pour(weights, caps), atol=1e-9)  # both round at 1e-16 a few dozen times
