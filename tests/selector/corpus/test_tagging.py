"""Configuration, specificity, choice of skills, sample and threshold: closed forms and brute force."""

import math
from typing import Any

import numpy as np
import pytest

from prereq.graph.errors import ConfigError
from prereq.selector.corpus.tagging import (
    TaggingConfig,
    choose_sample,
    choose_skills,
    choose_threshold,
    hit_weight,
    specificity,
)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"methods": ()}, "at most once and one of them"),
        ({"methods": ("labels", "labels")}, "at most once"),
        ({"methods": ("pattern",)}, "tagging.methods: 'pattern' is not one of .*did you mean 'patterns'"),
        ({"methods": ("classifier",)}, "nothing to learn from; add labels or patterns"),
        ({"unknown_labels": "drop"}, "tagging.unknown_labels: 'drop'"),
        ({"classifier_for": "some"}, "tagging.classifier_for: 'some'"),
        ({"min_hits": 0}, "tagging.min_hits must be at least 1, got 0"),
        ({"max_skills": 0}, "tagging.max_skills"),
        ({"classifier_epochs": 0}, "tagging.classifier_epochs"),
        ({"pattern_timeout_s": math.nan}, "tagging.pattern_timeout_s"),
        ({"classifier_threshold": 1.5}, "tagging.classifier_threshold must lie between 0 and 1, got 1.5"),
        ({"classifier_precision": -0.1}, "tagging.classifier_precision"),
        ({"classifier": "bays"}, "tagging.classifier: 'bays' is not one of .*did you mean 'bayes'"),
        ({"classifier_negatives": "some"}, "tagging.classifier_negatives"),
        ({"classifier_beta": 0.0}, "tagging.classifier_beta must be above 0, got 0.0"),
    ],
)
def test_config_refuses(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TaggingConfig(**values)


def test_config_takes_a_list_of_methods() -> None:
    assert TaggingConfig(methods=["labels"]).methods == ("labels",)  # type: ignore[arg-type]


def test_specificity_falls_with_frequency_and_stays_positive() -> None:
    values = specificity(np.array([0, 1, 50, 100]), 100)
    np.testing.assert_allclose(values, [math.log(101), math.log(101), math.log(3), math.log(2)], rtol=1e-15)
    assert specificity(np.array([0]), 0)[0] == 0


def test_hit_weight_grows_slowly() -> None:
    assert [hit_weight(0), hit_weight(1)] == [0, 1]
    assert 3.2 < hit_weight(10) < 3.4


def test_skills_are_ranked_by_weight_times_specificity_and_returned_in_graph_order() -> None:
    weights = {4: 1.0, 0: 3.0, 2: 1.0}
    specific = [0.5, 1.0, 2.0, 1.0, 5.0]
    assert choose_skills(weights, frozenset(), specific, 2) == ([2, 4], [2.0, 5.0])
    assert choose_skills(weights, frozenset(), specific, 9) == ([0, 2, 4], [1.5, 2.0, 5.0])


def test_ties_go_to_the_skill_that_comes_first_in_the_graph() -> None:
    assert choose_skills({3: 1.0, 1: 1.0, 2: 1.0}, frozenset(), [1.0] * 4, 2)[0] == [1, 2]


def test_stated_skills_are_never_cut() -> None:
    weights = {0: 1.0, 1: 1.0, 2: 9.0, 3: 9.0}
    assert choose_skills(weights, frozenset({0, 1}), [1.0] * 4, 3)[0] == [0, 1, 2]
    assert choose_skills(weights, frozenset({0, 1}), [1.0] * 4, 1)[0] == [0, 1]


def test_sample_is_the_union_of_each_skills_first_documents() -> None:
    rng = np.random.default_rng(0)
    keys = rng.permutation(200).astype(np.uint64)
    pairs = sorted({(int(row), int(skill)) for row, skill in rng.integers(0, (200, 9), (400, 2))})
    sample = choose_sample(keys, np.array([r for r, _ in pairs]), np.array([s for _, s in pairs]), 45)
    expected = set()
    for skill in range(9):
        expected |= set(sorted((r for r, s in pairs if s == skill), key=lambda row: keys[row])[:5])
    assert list(sample) == sorted(expected, key=lambda row: keys[row])


def test_sample_follows_the_documents_when_they_are_reordered() -> None:
    rng = np.random.default_rng(1)
    keys = rng.permutation(300).astype(np.uint64)
    rows, skills = np.arange(300), rng.integers(0, 4, 300)
    order = rng.permutation(300)
    moved = choose_sample(keys[order], np.arange(300), skills[order], 40)
    np.testing.assert_array_equal(keys[order][moved], keys[choose_sample(keys, rows, skills, 40)])


def test_sample_takes_all_of_a_rare_skill_and_one_at_least() -> None:
    keys = np.arange(10, dtype=np.uint64)
    skills = np.array([0] * 9 + [1])
    assert list(choose_sample(keys, np.arange(10), skills, 4)) == [0, 1, 9]
    assert list(choose_sample(keys, np.arange(10), skills, 1)) == [0, 9]
    assert len(choose_sample(keys, np.zeros(0, np.int64), np.zeros(0, np.int64), 4)) == 0


@pytest.mark.parametrize(("precision", "threshold"), [(0.75, 0.55), (0.9, 0.85), (0.0, 0.55)])
def test_threshold_has_the_best_f1_among_the_precise(precision: float, threshold: float) -> None:
    p = np.array([0.9, 0.8, 0.7, 0.6, 0.5])
    right = np.array([True, False, True, True, False])
    value = choose_threshold(p, right, 3, precision)
    assert value is not None
    np.testing.assert_allclose(value, threshold, rtol=1e-12)


def test_threshold_agrees_with_brute_force() -> None:
    rng = np.random.default_rng(6)
    for _ in range(200):
        p = rng.integers(1, 12, 20) / 12
        right = rng.random(20) < p
        labels, wanted = int(right.sum()) + 3, float(rng.choice([0.3, 0.6, 0.9]))
        value = choose_threshold(p, right, labels, wanted)
        scores = {}
        for cut in sorted(set(p)):
            made = p >= cut
            if right[made].mean() >= wanted and right[made].any():
                scores[cut] = 2 * right[made].sum() / (made.sum() + labels)
        if not scores:
            assert value is None
        else:
            assert value is not None
            made = p >= value
            np.testing.assert_allclose(2 * right[made].sum() / (made.sum() + labels), max(scores.values()), rtol=1e-12)
            assert right[made].mean() >= wanted


def test_no_threshold_where_nothing_is_precise() -> None:
    assert choose_threshold(np.array([0.5, 0.5]), np.array([True, False]), 1, 0.9) is None
    assert choose_threshold(np.array([0.5, 0.4]), np.array([False, False]), 1, 0.0) is None
    assert choose_threshold(np.zeros(0), np.zeros(0, dtype=bool), 0, 0.5) is None


def test_threshold_never_splits_equal_probabilities() -> None:
    assert choose_threshold(np.array([0.5, 0.5]), np.array([True, False]), 1, 0.5) == 0.25


def test_beta_weighs_recall_against_precision() -> None:
    p = np.array([0.9, 0.8, 0.7, 0.6])
    right = np.array([True, True, False, True])
    assert choose_threshold(p, right, 4, 0.0, beta=0.5) == pytest.approx(0.75)
    assert choose_threshold(p, right, 4, 0.0, beta=2.0) == pytest.approx(0.3)
