"""The Vendi score against closed forms."""

from itertools import pairwise

import numpy as np
import pytest

from prereq.selector.corpus.diversity import Spread, effective_number, g_optimal, largest_spread, vendi_score

PAIR = np.array([[1, 0.9, 0], [0.9, 1, 0], [0, 0, 1]])
X = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
ORDERS = [0.0, 0.5, 1.0, 1.5, 2.0, 5.0, 300.0, np.inf]


def units(n, d, seed=0):
    rows = np.random.default_rng(seed).standard_normal((n, d))
    return rows / np.sqrt((rows**2).sum(axis=1, keepdims=True))


@pytest.mark.parametrize("q", ORDERS)
def test_different_items_count_each_and_copies_count_once(q):
    assert vendi_score(np.eye(5), q) == pytest.approx(5.0)
    assert vendi_score(np.ones((5, 5)), q) == pytest.approx(1.0)


def test_three_pairs_of_close_numbers_count_as_three():
    samples = np.array([0, 0, 10, 10, 20, 20], dtype=float)
    assert 2.9999 < vendi_score(np.exp(-np.abs(samples[:, None] - samples))) < 3.0


@pytest.mark.parametrize(("q", "score"), [(1, 2.1573), (2, 1.9481), (np.inf, 1.5789)])
def test_the_known_scores_of_a_close_pair_and_a_loner(q, score):
    assert vendi_score(PAIR, q) == pytest.approx(score, abs=5e-5)


def test_the_small_statistic_gives_the_score_of_the_large_kernel():
    assert Spread.of(X).vendi_score() == pytest.approx(1.88988, abs=5e-6)
    rows = units(40, 6)
    for q in ORDERS:
        assert Spread.of(rows).vendi_score(q) == pytest.approx(vendi_score(rows @ rows.T, q), rel=1e-9)


def test_statistics_of_parts_add_up_to_that_of_the_whole():
    rows = units(30, 5)
    parts = Spread.empty(5) + Spread.of(rows[:7]) + Spread.of(rows[7:])
    assert parts.vendi_score() == pytest.approx(Spread.of(rows).vendi_score(), rel=1e-12)
    assert Spread.empty(5).vendi_score() == 0.0
    assert vendi_score(np.zeros((0, 0))) == 0.0


def test_scores_fall_with_the_order_and_stay_in_their_range():
    rows = units(12, 7, seed=1)
    scores = [Spread.of(rows).vendi_score(q) for q in ORDERS]
    assert all(a >= b - 1e-12 for a, b in pairwise(scores))
    assert all(1.0 - 1e-12 <= score <= 7.0 + 1e-9 for score in scores)


def test_repeating_the_whole_set_changes_nothing_and_weights_are_repeats():
    rows = units(9, 4)
    once = Spread.of(rows)
    assert (once + once).vendi_score(2.0) == pytest.approx(once.vendi_score(2.0), rel=1e-12)
    weights = np.array([3, 1, 1, 2, 1, 1, 1, 1, 1], dtype=float)
    repeated = np.repeat(rows, weights.astype(int), axis=0)
    expected = Spread.of(repeated).vendi_score()
    assert Spread.of(rows, weights).vendi_score() == pytest.approx(expected, rel=1e-12)
    assert vendi_score(rows @ rows.T, weights=weights / weights.sum()) == pytest.approx(expected, rel=1e-9)


def test_the_determinant_is_that_of_the_kernel_form():
    assert Spread.of(X).log_det() == pytest.approx(np.log(6.0), rel=1e-12)
    rows = units(10, 3)
    assert Spread.of(rows).log_det() == pytest.approx(np.linalg.slogdet(np.eye(10) + rows @ rows.T)[1], rel=1e-10)
    assert Spread.of(rows).log_det() > Spread.of(rows[:9]).log_det()


def test_rounding_does_not_count_as_a_mode():
    assert effective_number(np.array([0.5, 0.5, 1e-17, -1e-18]), 0.0) == pytest.approx(2.0)


def test_what_is_no_kernel_no_unit_vector_or_no_order_is_refused():
    with pytest.raises(ValueError, match="ones on its diagonal"):
        vendi_score(2 * np.eye(2))
    with pytest.raises(ValueError, match="ones on its diagonal"):
        vendi_score(np.array([[1.0, 0.5], [0.1, 1.0]]))
    with pytest.raises(ValueError, match="sum to 1"):
        vendi_score(np.eye(2), weights=np.array([0.5, 0.6]))
    with pytest.raises(ValueError, match="vector 1 has length 2"):
        Spread.of(np.array([[1.0, 0.0], [2.0, 0.0]]))
    with pytest.raises(ValueError, match="order q is -1"):
        effective_number(np.ones(2), -1.0)


def test_g_optimal_takes_new_directions_first_and_is_the_greedy_one():
    vectors = np.array([[2.0, 0.0], [1.9, 0.0], [0.0, 1.0], [0.0, 0.9]])
    assert g_optimal(vectors, 3).tolist()[:2] == [0, 2]
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((40, 6))
    chosen = g_optimal(vectors, 12, ridge=0.1)
    assert len(set(chosen.tolist())) == 12
    for size in range(12):
        moments = 0.1 * np.eye(6) + vectors[chosen[:size]].T @ vectors[chosen[:size]]
        spread = np.einsum("nd,de,ne->n", vectors, np.linalg.inv(moments), vectors)
        spread[chosen[:size]] = -1.0
        assert int(np.argmax(spread)) == chosen[size]
    random = [largest_spread(vectors, rng.choice(40, 12, replace=False), 0.1) for _ in range(50)]
    assert largest_spread(vectors, chosen, 0.1) < np.quantile(random, 0.05)
    assert sorted(g_optimal(vectors, 40).tolist()) == list(range(40))
    with pytest.raises(ValueError, match="count <= n"):
        g_optimal(vectors, 41)
