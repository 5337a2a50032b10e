"""Signatures equal datasketch's; bands and sketches behave as their formulas say."""

import numpy as np
import pytest
from datasketch import MinHash, MinHashLSH

from prereq.selector.corpus import minhash
from prereq.selector.corpus.minhash import (
    band_keys,
    choose_bands,
    collision_probability,
    permutations,
    signatures,
    sketches,
)
from prereq.selector.corpus.shingles import shingle


def reference(hashes, num_perm, seed):
    made = MinHash(num_perm=num_perm, seed=seed, hashfunc=lambda value: value & 0xFFFFFFFF)
    made.update_batch([int(value) for value in hashes])
    return made.hashvalues


@pytest.mark.parametrize(("num_perm", "seed"), [(128, 1), (16, 7), (1, 0), (256, 2**32 - 1)])
def test_signatures_equal_datasketch_bit_for_bit(num_perm, seed):
    rng = np.random.default_rng(0)
    texts = [" ".join(f"w{n}" for n in rng.integers(0, 500, size)) for size in (0, 1, 4, 5, 6, 80, 400)]
    hashes, offsets = shingle(texts)
    signed = signatures(hashes, offsets, permutations(num_perm, seed))
    assert signed.dtype == np.uint32
    for row, lo, hi in zip(signed, offsets[:-1], offsets[1:], strict=True):
        np.testing.assert_array_equal(row, reference(hashes[lo:hi], num_perm, seed))


@pytest.mark.parametrize("block", [1, 7, 100])
def test_block_borders_change_nothing(monkeypatch, block):
    rng = np.random.default_rng(1)
    counts = rng.integers(1, 40, 50)
    offsets = np.concatenate([[0], np.cumsum(counts)])
    hashes = rng.integers(0, 2**64, offsets[-1], dtype=np.uint64)
    whole = signatures(hashes, offsets, permutations(32, 1))
    monkeypatch.setattr(minhash, "BLOCK", block)
    np.testing.assert_array_equal(signatures(hashes, offsets, permutations(32, 1)), whole)
    assert signatures(hashes[:0], offsets[:1], permutations(32, 1)).shape == (0, 32)


@pytest.mark.parametrize("weights", [(0.5, 0.5), (0.1, 0.9), (0.01, 0.99)])
@pytest.mark.parametrize("threshold", [0.5, 0.8])
def test_bands_are_those_of_datasketch(threshold, weights):
    index = MinHashLSH(threshold=threshold, num_perm=64, weights=weights)
    assert choose_bands(threshold, 64, weights) == (index.b, index.r)


def test_pairs_meet_in_a_band_as_often_as_the_formula_says():
    """Pairs of sets with Jaccard similarity 0.6: 300 elements in common out of 500."""
    rng = np.random.default_rng(2)
    trials, bands, rows = 1500, 8, 4
    permuted = permutations(bands * rows, 1)
    elements = rng.integers(0, 2**64, (trials, 500), dtype=np.uint64)
    offsets = np.arange(trials + 1) * 400
    a = band_keys(signatures(elements[:, :400].ravel(), offsets, permuted), bands, rows)
    b = band_keys(signatures(elements[:, 100:].ravel(), offsets, permuted), bands, rows)
    expected = collision_probability(0.6, bands, rows)
    # five standard deviations of the share of 1500 independent pairs
    assert abs((a == b).any(axis=0).mean() - expected) < 5 * np.sqrt(expected * (1 - expected) / trials)


def test_band_keys_are_equal_exactly_where_all_their_values_are():
    rng = np.random.default_rng(3)
    signed = rng.integers(0, 2, (300, 12), dtype=np.uint32)
    keys = band_keys(signed, 3, 4)
    for band in range(3):
        own = signed[:, band * 4 : band * 4 + 4]
        same = (own[:, np.newaxis] == own[np.newaxis]).all(axis=2)
        np.testing.assert_array_equal(keys[band][:, np.newaxis] == keys[band][np.newaxis], same)


def test_sketches_never_lose_an_equal_value():
    rng = np.random.default_rng(4)
    a = rng.integers(0, 2**32, (50, 128), dtype=np.uint32)
    b = np.where(rng.random((50, 128)) < 0.5, a, rng.integers(0, 2**32, (50, 128), dtype=np.uint32))
    assert ((sketches(a) == sketches(b)) >= (a == b)).all()
