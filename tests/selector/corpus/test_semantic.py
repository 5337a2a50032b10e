"""Who stays of a cluster: closed forms, and a second way to decide in plain Python."""

import numpy as np
import pytest

from prereq.selector.corpus import semantic
from prereq.selector.corpus.semantic import FloatArray, find_survivors


def at(*degrees: float) -> FloatArray:
    """Unit vectors in the plane."""
    radians = np.radians(degrees)
    return np.stack([np.cos(radians), np.sin(radians)], axis=1).astype(np.float32)


def decided(vectors: FloatArray, degrees: float) -> list[int]:
    return find_survivors(vectors, float(np.cos(np.radians(degrees))))[0].tolist()


def test_no_chain_drops_what_no_kept_one_resembles():
    assert decided(at(0, 8, 16, 24), 10) == [0, 0, 2, 2]


def test_the_nearest_kept_one_is_named_and_the_first_of_equals():
    assert decided(at(0, 14, 8), 10) == [0, 1, 1]
    assert decided(at(0, 14, 7), 10) == [0, 1, 0]


def test_the_similarity_is_the_cosine_and_one_where_kept():
    survivor, similarity = find_survivors(at(0, 60, 5), 0.9)
    assert survivor.tolist() == [0, 1, 0]
    np.testing.assert_allclose(similarity, [1, 1, np.cos(np.radians(5))], atol=1e-6)  # rounded to 6 decimals


def test_equal_vectors_stay_once_and_nothing_stays_of_nothing():
    assert decided(at(30, 30, 30), 1) == [0, 0, 0]
    assert decided(at(), 1) == []
    assert decided(np.zeros((2, 3), dtype=np.float32), 1) == [0, 1]


@pytest.mark.parametrize("block", [1, 3, 7, 512])
def test_decided_a_second_way_whatever_the_block(block: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(semantic, "_BLOCK", block)
    rng = np.random.default_rng(5)
    vectors = rng.normal(size=(60, 3)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    survivor, similarity = find_survivors(vectors, 0.9)
    kept: list[int] = []
    for row, vector in enumerate(vectors.astype(np.float64)):
        cosines = [round(float(vector @ vectors[other].astype(np.float64)), 5) for other in kept]
        if cosines and max(cosines) >= 0.9:
            assert survivor[row] == kept[int(np.argmax(cosines))]
            assert similarity[row] == pytest.approx(max(cosines), abs=1e-4)
        else:
            assert survivor[row] == row
            kept.append(row)
    assert 5 < len(kept) < 60
