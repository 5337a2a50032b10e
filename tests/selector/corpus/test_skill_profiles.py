"""How near skills are by their documents: known answers, scipy, and the edges of the definitions."""

import numpy as np
import pytest
from scipy import sparse
from scipy.spatial.distance import jensenshannon

from prereq.selector.corpus.skill_profiles import (
    frequent_words,
    membership,
    together,
    vector_similarity,
    word_counts,
    word_similarity,
)
from prereq.selector.corpus.word_ids import WordIndex


def test_documents_split_evenly_over_their_skills() -> None:
    shares = membership([["b", "a"], [], ["c"], ["c", "c"]], "abc").toarray()
    np.testing.assert_array_equal(shares, [[0.5, 0.5, 0], [0, 0, 0], [0, 0, 1], [0, 0, 1]])
    with pytest.raises(ValueError, match=r"unknown skills \['x'\]"):
        membership([["x"]], "abc")


def test_occurring_together_by_hand() -> None:
    members = membership([["a", "b"], ["a", "b"], ["b", "c"]], "abcd")
    cosine = np.array([[0, 2 / np.sqrt(6), 0, 0], [0, 0, 1 / np.sqrt(3), 0], [0] * 4, [0] * 4])
    np.testing.assert_allclose(together(members), cosine + cosine.T)
    mass = np.array([[0, 2, 0, 0], [0, 0, 1, 0], [0] * 4, [0] * 4]) / 6
    np.testing.assert_allclose(together(members, "mass"), mass + mass.T)
    with pytest.raises(ValueError, match="no document has two skills"):
        together(membership([["a"], ["b"]], "ab"))


def test_jensen_shannon_is_that_of_scipy() -> None:
    rng = np.random.default_rng(0)
    counts = rng.integers(0, 3, (6, 30)).astype(float)
    near = word_similarity(sparse.csr_matrix(counts))
    for i in range(6):
        for j in range(6):
            expected = 0.0 if i == j else 1 - jensenshannon(counts[i], counts[j]) ** 2 / np.log(2)
            assert near[i, j] == pytest.approx(expected, abs=1e-12)


def test_equal_texts_are_one_disjoint_ones_nothing_and_empty_ones_near_nothing() -> None:
    counts = sparse.csr_matrix(np.array([[1.0, 3, 0], [2, 6, 0], [0, 0, 5], [0, 0, 0]]))
    for measure in ("js", "bhattacharyya"):
        near = word_similarity(counts, measure)  # type: ignore[arg-type]
        assert near[0, 1] == pytest.approx(1.0)
        np.testing.assert_allclose(near[2:], 0.0, atol=1e-15)
    halves = sparse.csr_matrix(np.array([[1.0, 1, 0], [0, 1, 1]]))
    assert word_similarity(halves, "bhattacharyya")[0, 1] == pytest.approx(0.5)
    assert word_similarity(halves)[0, 1] == pytest.approx(0.5)  # JS = ln 2 / 2


def test_words_count_by_share_and_add_up() -> None:
    texts = ["red red blue", "blue green", ""]
    words = frequent_words(texts, 100)
    assert words == ["blue", "red", "green"]  # ties by the alphabet
    members = membership([["a"], ["a", "b"], ["b"]], "ab")
    counts = word_counts(texts, members, WordIndex(words), 3, 100)
    np.testing.assert_allclose(counts.toarray(), [[1.5, 2, 0.5], [0.5, 0, 0.5]])
    apart = sum(word_counts([t], members[i], WordIndex(words), 3, 100).toarray() for i, t in enumerate(texts))
    np.testing.assert_allclose(apart, counts.toarray())


def test_vectors_by_cosine() -> None:
    near = vector_similarity(np.array([[2.0, 0], [1, 1], [-3, 0], [0, 0]]))
    np.testing.assert_allclose(near[0], [0, np.sqrt(0.5), -1, 0])
    np.testing.assert_allclose(near[3], 0)
