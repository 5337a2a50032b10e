"""Grouping centroids: planted hierarchies come back, merging stops where it says, prices bound the largest cluster."""

import numpy as np
import pytest

from prereq.graph.errors import ConfigError
from prereq.selector.corpus.clustering import ClusteringConfig, assign, balance_centroids, fit_centroids
from prereq.selector.corpus.grouping import (
    balancing_prices,
    directions_of,
    group_centroids,
    merge_near,
    merge_small,
)


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def test_small_clusters_of_one_topic_come_together() -> None:
    rng = np.random.default_rng(0)
    topics = np.repeat(np.arange(4), 8)
    centroids = unit(np.eye(4, 12)[topics] + 0.1 * rng.normal(size=(32, 12)))
    groups = group_centroids(centroids, np.ones(32), 4, seed=0)
    assert len(set(zip(topics.tolist(), groups.tolist(), strict=True))) == 4
    assert sorted(set(groups.tolist())) == [0, 1, 2, 3]


def test_a_group_leans_towards_its_larger_members() -> None:
    centroids = np.eye(2, dtype=np.float32)
    found = directions_of(centroids, np.array([3.0, 1.0]), np.array([0, 0]))
    np.testing.assert_allclose(found, [[3 / np.sqrt(10), 1 / np.sqrt(10)]], atol=1e-6)


def test_merging_by_distance_is_strict_and_only_ever_lessens() -> None:
    angles = np.radians([0, 10, 90, 180])
    centroids = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    ones, own = np.ones(4), np.arange(4)
    apart = 2 * np.sin(np.radians(5))  # chord of 10 degrees
    assert merge_near(centroids, ones, own, apart - 1e-4).tolist() == [0, 1, 2, 3]
    assert merge_near(centroids, ones, own, apart + 1e-4).tolist() == [0, 0, 1, 2]
    # 5 degrees (the merged pair) to 90: a chord of 85 degrees
    assert merge_near(centroids, ones, own, 2 * np.sin(np.radians(42.6))).tolist() == [0, 0, 0, 1]
    assert merge_near(centroids, ones, own, 2.0).max() == 0
    counts = [merge_near(centroids, ones, own, d).max() for d in np.linspace(0.01, 2, 40)]
    assert counts == sorted(counts, reverse=True)


def test_small_groups_join_the_nearest_until_all_are_large_enough() -> None:
    centroids = unit(np.array([[1, 0, 0], [0.9, 0.2, 0], [0, 1, 0], [0, 0, 1]]))
    sizes = np.array([50.0, 3.0, 40.0, 30.0])
    assert merge_small(centroids, sizes, np.arange(4), 4).tolist() == [0, 0, 1, 2]
    assert merge_small(centroids, sizes, np.arange(4), 3).tolist() == [0, 1, 2, 3]
    assert merge_small(centroids, sizes, np.arange(4), 1000).tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("slack", [1.0, 1.1, 1.2])
def test_prices_bound_the_largest_cluster(slack: float) -> None:
    rng = np.random.default_rng(3)
    topics = rng.choice(6, size=1200, p=[0.6, 0.2, 0.1, 0.05, 0.03, 0.02])
    vectors = unit(np.eye(6, 16)[topics] + 0.3 * rng.normal(size=(1200, 16)))
    config = ClusteringConfig(clusters=6, balance=slack)
    centroids = fit_centroids(vectors, 6, config, seed=0)
    before = np.bincount(assign(vectors, centroids)[0]).max()
    found, prices = balance_centroids(vectors, centroids, config)
    sizes = np.bincount(assign(vectors, found, prices)[0], minlength=6)
    bound = np.ceil(slack * 1200 / 6)
    assert before > bound
    assert sizes.sum() == 1200
    assert sizes.max() <= bound * (1.02 if slack == 1 else 1)  # no slack at all: the last documents are hard to place


def test_no_price_where_nothing_is_over_the_bound() -> None:
    assert balancing_prices(np.array([[1.0, 0.0], [0.0, 1.0]]), 1).tolist() == [0.0, 0.0]


def test_equal_documents_stay_together_and_prices_stay_finite() -> None:
    prices = balancing_prices(np.tile([[0.9, 0.1]], (10, 1)), 5)
    assert np.isfinite(prices).all()
    assert (prices >= 0).all()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"fine": 1}, "clustering.fine must be at least 2"),
        ({"fine": 5, "clusters": 6}, "no less than clustering.clusters, got 5"),
        ({"balance": 0.9}, "clustering.balance must be 1 or more"),
        ({"balance": float("nan")}, "clustering.balance must be 1 or more"),
        ({"merge": 2.1}, "clustering.merge must be above 0 and at most 2"),
        ({"min_documents": 0}, "clustering.min_documents must be at least 1"),
        ({"prune_column": "score", "prune_below": float("inf")}, "prune_below a number"),
    ],
)
def test_bad_configuration_is_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ClusteringConfig(**wrong)  # type: ignore[arg-type]
