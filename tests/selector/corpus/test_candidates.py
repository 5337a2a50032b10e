"""Candidate pairs: complete in small buckets, linear in large ones."""

from collections import Counter
from itertools import combinations

import numpy as np

from prereq.selector.corpus.candidates import FULL, LEADERS, NEIGHBOURS, PairFinder, buckets, fewest_matches, shared

ALIKE = np.zeros((30_000, 16), dtype=np.uint8)


def test_shared_marks_the_keys_that_occur_twice():
    keys = np.array([5, 3, 5, 9, 3, 3, 1, 2**63], dtype=np.uint64)
    counts = Counter(keys.tolist())
    assert shared(keys).tolist() == [counts[key] > 1 for key in keys.tolist()]
    assert shared(keys[:0]).tolist() == []


def test_buckets_hold_every_repeated_key_once_in_order():
    keys = np.random.default_rng(0).integers(0, 60, 400).astype(np.uint64)
    keys[:100] = 1000
    found = [tuple(row) for block in buckets(keys) for row in block.tolist()]
    expected = {tuple(np.flatnonzero(keys == key).tolist()) for key in np.unique(keys) if (keys == key).sum() > 1}
    assert len(found) == len(expected)
    assert set(found) == expected


def test_every_pair_of_small_buckets_is_found_once_and_sorted():
    rng = np.random.default_rng(1)
    finder = PairFinder(ALIKE[:200], 0.8)
    bands = rng.integers(0, 40, (3, 200)).astype(np.uint64)
    for keys in bands:
        finder.add(keys, keys)
    pairs = [tuple(pair) for pair in finder.pairs().tolist()]
    expected = {(i, j) for i, j in combinations(range(200), 2) if (bands[:, i] == bands[:, j]).any()}
    assert pairs == sorted(expected, key=lambda pair: (pair[1], pair[0]))


def test_pairs_whose_sketches_disagree_too_much_are_left_out():
    sketches = np.zeros((3, 128), dtype=np.uint8)
    least = fewest_matches(0.8, 128)
    sketches[1, : 128 - least] = 1
    sketches[2, : 128 - least + 1] = 2
    finder = PairFinder(sketches, 0.8)
    keys = np.zeros(3, dtype=np.uint64)
    finder.add(keys, keys)
    assert [0, 1] in finder.pairs().tolist()
    assert [0, 2] not in finder.pairs().tolist()


def test_the_least_agreement_lies_four_deviations_below_the_threshold():
    # 128 (0.8 - 4 sqrt(0.8 0.2 / 128)) = 84.3
    assert fewest_matches(0.8, 128) == 85
    assert fewest_matches(1.0, 128) == 128
    assert fewest_matches(0.01, 16) == 0


def test_a_huge_bucket_of_one_template_gives_linearly_many_pairs():
    finder = PairFinder(ALIKE, 0.8)
    keys = np.zeros(len(ALIKE), dtype=np.uint64)
    finder.add(keys, keys)
    pairs = finder.pairs()
    assert len(pairs) <= len(ALIKE) * (1 + NEIGHBOURS)
    # all of them are looked at with the first, so the first can stand for all
    assert np.isin(np.arange(1, len(ALIKE)), pairs[pairs[:, 0] == 0, 1]).all()


def test_a_huge_bucket_of_several_templates_pairs_each_document_with_its_own():
    rng = np.random.default_rng(2)
    template = rng.integers(0, LEADERS, 2000)
    sketches = rng.integers(0, 256, (LEADERS, 128), dtype=np.uint8)[template]
    finder = PairFinder(sketches, 0.8)
    keys = np.zeros(len(template), dtype=np.uint64)
    finder.add(keys, keys)
    pairs = {tuple(pair) for pair in finder.pairs().tolist()}
    for kind in range(LEADERS):
        first, *others = np.flatnonzero(template == kind).tolist()
        assert {(first, other) for other in others} <= pairs


def test_a_huge_bucket_of_unlike_documents_is_split_by_another_band():
    count = 40 * FULL
    sketches = np.random.default_rng(3).integers(0, 256, (count // 2, 128), dtype=np.uint8)[
        np.arange(count) % (count // 2)
    ]
    finder = PairFinder(sketches, 0.8)
    finder.add(np.zeros(count, dtype=np.uint64), (np.arange(count) % (count // 2)).astype(np.uint64))
    assert {(i, i + count // 2) for i in range(count // 2)} <= {tuple(pair) for pair in finder.pairs().tolist()}


def test_no_documents_give_no_pairs():
    finder = PairFinder(ALIKE[:0], 0.8)
    finder.add(np.empty(0, dtype=np.uint64), np.empty(0, dtype=np.uint64))
    assert finder.pairs().shape == (0, 2)
