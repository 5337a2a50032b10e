"""MASS: the graph and both scores against known answers."""

import numpy as np
import pytest

from prereq.selector.corpus.mass import CooccurrenceGraph, cosine_similarities

COUNTS = np.array([[3.0, 2.0, 0.0], [2.0, 2.0, 1.0], [0.0, 1.0, 1.0]])
GRAPH = CooccurrenceGraph.of_counts(COUNTS, ["a", "b", "c"])
S = np.array([[0.9, 0.1, 0.2]])


def test_known_answers():
    expected = [[0.5, 1 / 3, 0.0], [1 / 3, 1 / 3, 1 / 6], [0.0, 1 / 6, 1 / 6]]
    np.testing.assert_allclose(GRAPH.adjacency, expected)
    assert np.trace(GRAPH.adjacency) == pytest.approx(1.0)
    assert GRAPH.adjacency.sum() - 1.0 == pytest.approx(1.0)
    assert GRAPH.linear(S)[0] == pytest.approx(0.9)
    assert GRAPH.compositional(S)[0] == pytest.approx(0.48167, abs=5e-6)


def test_the_graph_of_items_is_that_of_their_counts():
    items = [["a", "b"], ["b", "a", "a"], ["a"], ["c", "b"], []]
    counted = np.array([[3.0, 2.0, 0.0], [2.0, 3.0, 1.0], [0.0, 1.0, 1.0]])
    ours = CooccurrenceGraph.of(items, ["a", "b", "c"])
    np.testing.assert_array_equal(ours.adjacency, CooccurrenceGraph.of_counts(counted, ["a", "b", "c"]).adjacency)
    with pytest.raises(ValueError, match=r"unknown skills \['d'\]"):
        CooccurrenceGraph.of([["d"]], ["a"])
    with pytest.raises(ValueError, match="no item"):
        CooccurrenceGraph.of([[]], ["a"])


def test_without_edges_a_score_is_similarity_by_frequency():
    lone = CooccurrenceGraph.of([["a"], ["a"], ["b"]], ["a", "b"])
    assert lone.linear(np.array([[0.3, 0.6]]))[0] == pytest.approx(0.3 * 2 / 3 + 0.6 / 3)


def test_scores_grow_with_similarity_and_the_compositional_one_with_belonging_together():
    more = S + np.array([[0.0, 0.1, 0.0]])
    assert GRAPH.linear(more) > GRAPH.linear(S)
    assert GRAPH.compositional(more) > GRAPH.compositional(S)
    together, apart = np.array([[0.6, 0.6, 0.0]]), np.array([[0.6, 0.0, 0.6]])
    assert GRAPH.compositional(together) > 2 * GRAPH.compositional(apart)
    assert GRAPH.compositional(np.array([[0.9, -5.0, 0.2]])) == GRAPH.compositional(np.array([[0.9, 0.0, 0.2]]))
    assert GRAPH.compositional(S, top=1)[0] == pytest.approx(0.81 * 0.5)


def test_cosines_are_around_the_mean_of_the_documents():
    documents = np.array([[1.0, 0.1], [1.0, -0.1], [0.0, 0.0]])
    found = cosine_similarities(documents, np.array([[2.0, 0.0], [0.0, 3.0]]))
    np.testing.assert_allclose(found.mean(axis=0), 0.0, atol=1e-12)
    assert found[0, 1] > found[2, 1] > found[1, 1]
