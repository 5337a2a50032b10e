"""DSIR: the published buckets, closed forms, and a draw in proportion to weights."""

import math

import numpy as np
import pytest

from prereq.selector.corpus.dsir import SMALLEST, GramCounts, bucket, gram_counts, importance, resample


def test_buckets_are_the_published_ones():
    assert bucket("alice") == 6720
    assert bucket("alice went") == 114
    kinds, counts = gram_counts("Alice went to the store")
    assert counts.sum() == 9
    assert {6720, 114} <= set(kinds.tolist())
    assert gram_counts("")[0].size == 0


def test_weights_are_log_ratios_of_shares():
    target, raw = GramCounts.of(["cat cat dog"]), GramCounts.of(["cat dog dog dog"])
    # the target's n-grams: cat 2, dog 1, "cat cat" 1, "cat dog" 1; the corpus's: cat 1, dog 3, "cat dog" 1, "dog dog" 2
    expected = math.log((2 / 5 + SMALLEST) / (1 / 7 + SMALLEST))
    assert importance("cat", target, raw) == pytest.approx(expected)
    assert importance("cat, cat", target, raw) == pytest.approx(2 * expected), "the other n-grams are in neither"
    assert importance("dog dog", target, raw) < importance("dog", target, raw) < 0 < importance("cat", target, raw)


def test_equal_sets_weigh_nothing_and_counts_merge():
    texts = ["some words here", "and other words"]
    both = GramCounts.of(texts)
    np.testing.assert_array_equal((GramCounts.of(texts[:1]) + GramCounts.of(texts[1:])).counts, both.counts)
    assert importance("words here and unseen ones", both, both) == 0.0


def test_the_draw_follows_the_weights():
    logs, ids = np.log(np.array([1.0, 2.0, 4.0])), ["a", "b", "c"]
    first = np.bincount([int(resample(logs, ids, 1, seed)[0]) for seed in range(4000)], minlength=3) / 4000
    np.testing.assert_allclose(first, np.array([1, 2, 4]) / 7, atol=0.03)
    assert resample(logs, ids, 3, 0).tolist() == [0, 1, 2], "all of them may be asked for"
    assert {ids[i] for i in resample(logs, ids, 2, 5)} == {ids[::-1][i] for i in resample(logs[::-1], ids[::-1], 2, 5)}
    with pytest.raises(ValueError, match="4 of 3"):
        resample(logs, ids, 4, 0)
