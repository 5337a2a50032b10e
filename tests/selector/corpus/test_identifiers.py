"""Repeated ids are found without holding the ids."""

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from prereq.selector.corpus.identifiers import find_repeats, id_digests, repeated_id


@given(st.lists(st.sampled_from("abcdefgh"), max_size=30))
def test_repeats_are_those_of_a_plain_count(names: list[str]):
    seen: Counter[str] = Counter()
    expected = []
    for row, name in enumerate(names):
        if seen[name]:
            expected.append((row, names.index(name), seen[name]))
        seen[name] += 1
    repeats = find_repeats(id_digests(names))
    assert list(zip(*(column.tolist() for column in repeats), strict=True)) == expected


def test_half_a_digest_in_common_is_no_repeat():
    digests = np.array([[7, 1], [7, 2], [7, 1], [9, 1], [7, 2], [7, 3]], dtype=np.uint64)
    repeats = find_repeats(digests)
    assert repeats.rows.tolist() == [2, 4]
    assert repeats.firsts.tolist() == [0, 1]
    assert repeats.numbers.tolist() == [1, 1]


def test_a_large_corpus_without_repeats_has_none():
    digests = np.random.default_rng(0).integers(0, 2**64, size=(200_000, 2), dtype=np.uint64)
    assert len(find_repeats(digests).rows) == 0
    digests[150_000] = digests[3]
    assert find_repeats(digests).rows.tolist() == [150_000]


def test_a_repeat_takes_its_pieces_along():
    assert repeated_id("ab12", "ab12", 1) == ("ab12-1", "ab12-1")
    assert repeated_id("ab12#00003", "ab12", 2) == ("ab12-2#00003", "ab12-2")
