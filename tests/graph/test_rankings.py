"""Figures of rankings: against scikit-learn, and against all orders of what is tied."""

from itertools import combinations, permutations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, ndcg_score, roc_auc_score

from prereq.graph.rankings import area_under_curve, average_precision, chance_precision, ndcg, regret


@pytest.mark.parametrize("seed", range(5))
def test_precision_and_area_are_those_of_scikit_learn_with_ties(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores, relevant = rng.integers(0, 5, 40) / 4, rng.random(40) < 0.3
    assert average_precision(scores, relevant) == pytest.approx(average_precision_score(relevant, scores))
    assert area_under_curve(scores, relevant) == pytest.approx(roc_auc_score(relevant, scores))


def test_chance_precision_is_the_mean_over_all_choices_of_what_is_relevant() -> None:
    for scores in (np.array([3.0, 2, 2, 1, 0, 0]), np.arange(6.0), np.zeros(6)):
        found = []
        for chosen in combinations(range(6), 2):
            relevant = np.isin(np.arange(6), chosen)
            found.append(average_precision_score(relevant, scores))
        assert chance_precision(scores, relevant) == pytest.approx(np.mean(found))


@pytest.mark.parametrize("seed", range(5))
def test_ndcg_is_that_of_scikit_learn_with_ties(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores, gains = rng.integers(0, 4, 12) / 2, rng.random(12)
    assert ndcg(scores, gains) == pytest.approx(ndcg_score([gains], [scores]))
    assert ndcg(gains, gains) == pytest.approx(1.0)
    assert ndcg(scores, np.where(gains < 0.5, -gains, gains)) == pytest.approx(
        ndcg_score([np.where(gains < 0.5, 0, gains)], [scores])
    )


@pytest.mark.parametrize("k", [1, 2, 4, 6, 9])
def test_regret_is_the_mean_over_all_orders_of_what_is_tied(k: int) -> None:
    gains = np.array([0.2, 1.0, -3.0, 0.5, 0.5, 0.0])
    for scores in (np.zeros(6), np.array([1.0, 0, 2, 1, 0, 1]), np.array([0.0, 0, 5, 0, 1, 2])):
        losses = []
        for turned in permutations(range(6)):
            ranked = sorted(turned, key=lambda item: -scores[item])  # stable: ties in the order of the permutation
            losses.append(1 - max(0.0, *gains[ranked[:k]]) / gains.max())
        assert regret(scores, gains, k) == pytest.approx(np.mean(losses), abs=1e-12)


def test_nothing_relevant_has_no_figure() -> None:
    none, scores = np.zeros(3, dtype=bool), np.arange(3.0)
    assert average_precision(scores, none) is None
    assert chance_precision(scores, none) is None
    assert area_under_curve(scores, none) is None
    assert area_under_curve(scores, ~none) is None
