"""Clustering: planted groups come back, ties and degenerate inputs are settled, names tell groups apart."""

import numpy as np
import pytest
from sklearn.metrics import normalized_mutual_info_score

from prereq.graph.errors import ConfigError
from prereq.selector.corpus.clustering import (
    ClusteringConfig,
    assign,
    fit_centroids,
    name_clusters,
    number_of_clusters,
    sample_order,
)

CONFIG = ClusteringConfig()


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def planted(groups: int, rows: int, dim: int = 16, noise: float = 0.2, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    centres = unit(rng.normal(size=(groups, dim)))
    labels = rng.integers(0, groups, rows)
    return unit(centres[labels] + noise * rng.normal(size=(rows, dim)) / np.sqrt(dim)), labels


def test_planted_clusters_come_back() -> None:
    vectors, labels = planted(12, 3000)
    found, similarity = assign(vectors, fit_centroids(vectors, 12, CONFIG, seed=0))
    assert normalized_mutual_info_score(labels, found) > 0.95
    assert similarity.mean() > 0.95


def test_fit_beats_random_documents_as_centroids() -> None:
    vectors, _ = planted(30, 3000, noise=1.0)
    _, fitted = assign(vectors, fit_centroids(vectors, 30, CONFIG, seed=0))
    for seed in range(5):
        chosen = np.random.default_rng(seed).choice(3000, 30, replace=False)
        assert fitted.mean() > assign(vectors, vectors[chosen])[1].mean() + 0.02


def test_polish_never_makes_the_fit_worse() -> None:
    vectors, _ = planted(20, 2000, noise=1.5)
    means = [
        assign(vectors, fit_centroids(vectors, 20, ClusteringConfig(polish=p), seed=1))[1].mean() for p in (0, 1, 5)
    ]
    assert means == sorted(means)


def test_same_input_and_seed_give_the_same_bytes() -> None:
    vectors, _ = planted(10, 1000, noise=1.0)
    first, again = (fit_centroids(vectors, 10, CONFIG, seed=4) for _ in range(2))
    assert first.tobytes() == again.tobytes()
    assert fit_centroids(vectors, 10, CONFIG, seed=5).tobytes() != first.tobytes()


def test_clusters_are_numbered_by_size_and_none_is_empty() -> None:
    vectors, _ = planted(10, 1000, noise=1.0)
    sizes = np.bincount(assign(vectors, fit_centroids(vectors, 40, CONFIG, seed=0))[0])
    assert sizes.min() >= 1
    assert sizes.tolist() == sorted(sizes, reverse=True)


@pytest.mark.parametrize("clusters", [1, 2, 7])
@pytest.mark.parametrize("rows", [1, 2, 5])
def test_fewer_documents_than_clusters(rows: int, clusters: int) -> None:
    vectors, _ = planted(rows, rows)
    centroids = fit_centroids(vectors, clusters, CONFIG, seed=0)
    assert 1 <= len(centroids) <= min(clusters, rows)
    np.testing.assert_allclose(np.linalg.norm(centroids, axis=1), 1, atol=1e-6)


def test_identical_documents_make_one_cluster() -> None:
    vectors = unit(np.ones((50, 8)))
    centroids = fit_centroids(vectors, 5, CONFIG, seed=0)
    np.testing.assert_allclose(centroids, vectors[:1], atol=1e-6)


def test_two_distinct_vectors_make_two_clusters_at_most() -> None:
    vectors = np.repeat(np.eye(2, 8, dtype=np.float32), 20, axis=0)
    assert len(fit_centroids(vectors, 9, CONFIG, seed=0)) == 2


def test_opposite_vectors_whose_mean_is_zero_stay_finite() -> None:
    vectors = np.array([[1, 0], [-1, 0]] * 10, dtype=np.float32)
    centroids = fit_centroids(vectors, 1, CONFIG, seed=0)
    np.testing.assert_allclose(np.linalg.norm(centroids, axis=1), 1, atol=1e-6)


def test_assign_agrees_with_brute_force() -> None:
    vectors, _ = planted(5, 2500, noise=2.0)
    centroids = unit(np.random.default_rng(1).normal(size=(37, 16)))
    found, similarity = assign(vectors, centroids)
    exact = vectors.astype(np.float64) @ centroids.astype(np.float64).T
    np.testing.assert_allclose(similarity, exact.max(axis=1), atol=1e-6)
    assert (found == exact.argmax(axis=1)).mean() > 0.999  # float32 may settle a near-tie otherwise


def test_assign_gives_ties_to_the_lower_number() -> None:
    vectors = np.array([[1, 0], [0, 1]], dtype=np.float32)
    assert assign(vectors, np.array([[1, 0], [1, 0], [0, 1], [0, 1]], dtype=np.float32))[0].tolist() == [0, 2]


def test_assign_does_not_depend_on_the_other_rows() -> None:
    vectors, _ = planted(5, 2500, noise=2.0)
    centroids = unit(np.random.default_rng(1).normal(size=(37, 16)))
    found, similarity = assign(vectors, centroids)
    for rows in (slice(0, 1), slice(3, 1500), slice(2499, 2500)):
        again, same = assign(vectors[rows], centroids)
        np.testing.assert_array_equal(again, found[rows])
        assert same.tobytes() == similarity[rows].tobytes()


def test_assign_of_nothing() -> None:
    found, similarity = assign(np.zeros((0, 4), dtype=np.float32), np.eye(4, dtype=np.float32))
    assert (found.shape, similarity.shape) == ((0,), (0,))


@pytest.mark.parametrize(("documents", "expected"), [(1, 1), (2, 2), (8, 2), (200, 10), (10_000, 71), (10**7, 256)])
def test_rule_for_the_number_of_clusters(documents: int, expected: int) -> None:
    assert number_of_clusters(documents, CONFIG) == expected


def test_a_given_number_of_clusters_is_capped_by_documents() -> None:
    assert number_of_clusters(100, ClusteringConfig(clusters=7)) == 7
    assert number_of_clusters(3, ClusteringConfig(clusters=7)) == 3


def test_names_hold_what_is_telling() -> None:
    texts = {
        0: ["the red planet orbits", "a planet and its moon", "planet moon orbits the sun"],
        1: ["the guitar and the piano", "piano chords on a guitar", "the piano"],
    }
    names = name_clusters(texts, 2, ClusteringConfig(name_terms=2))
    assert names == ["planet, moon", "piano, guitar"]


def test_one_long_document_does_not_name_a_cluster() -> None:
    texts = {0: ["shout " * 500, "apple pear", "apple plum", "apple pear"], 1: ["other words", "other words"]}
    assert name_clusters(texts, 2, ClusteringConfig(name_terms=1))[0] == "apple"


def test_names_are_distinct_even_where_texts_are_not() -> None:
    texts = {cluster: ["alike alike twin", "alike twin"] for cluster in range(4)}
    names = name_clusters(texts, 4, CONFIG)
    assert len(set(names)) == 4
    assert all(name.startswith("alike, twin") for name in names), names


def test_clusters_without_words_get_a_name_all_the_same() -> None:
    assert name_clusters({0: ["12 + 3", "!"], 1: []}, 2, CONFIG) == ["unnamed", "unnamed (2)"]


def test_names_do_not_depend_on_the_order_of_documents() -> None:
    texts = {0: ["one two three", "two three four", "three four five"], 1: ["six seven", "seven eight", "eight six"]}
    turned = {cluster: list(reversed(held)) for cluster, held in reversed(texts.items())}
    assert name_clusters(texts, 2, CONFIG) == name_clusters(turned, 2, CONFIG)


def test_sample_order_depends_on_seed_and_id_only() -> None:
    ids = [f"{n}" for n in range(100)]
    np.testing.assert_array_equal(sample_order(ids, 0)[::-1], sample_order(ids[::-1], 0))
    assert (sample_order(ids, 0) != sample_order(ids, 1)).all()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"clusters": 0}, "clustering.clusters must be at least 1, or null"),
        ({"sample": 0}, "clustering.sample must be at least 1, got 0"),
        ({"polish": -1}, "clustering.polish must be 0 or more, got -1"),
    ],
)
def test_bad_configuration_is_refused(wrong: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ClusteringConfig(**wrong)  # type: ignore[arg-type]
