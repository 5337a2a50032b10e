"""Shingles are n-gram sets of the normal form: against a second implementation in Python integers and strings."""

import hashlib
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prereq.graph.errors import ConfigError
from prereq.selector.corpus.normalise import normalise
from prereq.selector.corpus.shingles import CHUNK_CHARACTERS, chunks, distinct, jaccard, mix, shingle, shingle_sets

WRAP = 2**64 - 1
TEXTS = st.lists(st.text(max_size=40).map(normalise), max_size=8)


def python_mix(value: int) -> int:
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & WRAP
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & WRAP
    return value ^ (value >> 31)


def python_word(word: bytes) -> int:
    if len(word) > 64:
        return int.from_bytes(hashlib.blake2b(word, digest_size=8).digest(), "little")
    value = len(word) * 0x9E3779B97F4A7C15 & WRAP
    for start in range(0, max(1, len(word)), 8):
        value = python_mix(value ^ int.from_bytes(word[start : start + 8], "little"))
    return value


def python_shingles(text: str, ngram: int, unit: str) -> list[int]:
    if unit == "word":
        tokens = [python_word(word.encode("utf-8", "surrogatepass")) for word in text.split(" ")]
    else:
        tokens = [python_mix((ord(c) + 0x9E3779B97F4A7C15) & WRAP) for c in text or "\n"]
    result = []
    for start in range(max(1, len(tokens) - ngram + 1)):
        window = tokens[start : start + ngram]
        value = len(window)
        for token in window:
            value = (value * 0xC4CEB9FE1A85EC53 + token) & WRAP
        result.append(python_mix(value))
    return result


@given(texts=TEXTS, ngram=st.integers(1, 6), unit=st.sampled_from(["word", "character"]))
@settings(max_examples=60, deadline=None)
def test_shingle_equals_the_same_arithmetic_in_python_integers(texts, ngram, unit):
    hashes, offsets = shingle(texts, ngram, unit)
    assert len(offsets) == len(texts) + 1
    for text, lo, hi in zip(texts, offsets[:-1], offsets[1:], strict=True):
        assert hashes[lo:hi].tolist() == python_shingles(text, ngram, unit)


@pytest.mark.parametrize("size", [1, 7, 8, 9, 16, 17, 63, 64, 65, 200])
def test_words_of_every_length_hash_as_in_python(size):
    text = "a " + "xyz"[size % 3] * size + " b"
    assert shingle([text], 3)[0].tolist() == python_shingles(text, 3, "word")


def test_words_that_differ_in_one_byte_or_in_trailing_zeros_hash_apart():
    words = ["a", "a\0", "a\0\0", "aaaaaaaa", "aaaaaaaa\0", "\0" * 8, "\0" * 16, "b" * 64, "b" * 65, "b" * 66, ""]
    assert len({int(shingle([word], 1)[0][0]) for word in words}) == len(words)


@pytest.mark.parametrize("unit", ["word", "character"])
def test_sets_have_the_size_and_overlap_of_sets_of_strings(unit):
    rng = random.Random(3)
    vocabulary = [f"word{number}" for number in range(40)]
    texts = [" ".join(rng.choices(vocabulary, k=rng.randrange(0, 60))) for _ in range(60)]

    def strings(text):
        units = text.split(" ") if unit == "word" else list(text)
        return {tuple(units[i : i + 3]) for i in range(max(1, len(units) - 2))}

    hashed = list(shingle_sets(texts, 3, unit))
    for i, a in enumerate(hashed):
        assert len(a) == len(strings(texts[i]))
        for j in range(i):
            both, either = strings(texts[i]) & strings(texts[j]), strings(texts[i]) | strings(texts[j])
            assert jaccard(a, hashed[j]) == len(both) / len(either)


def test_a_text_shorter_than_the_window_is_one_shingle_of_all_its_words():
    short, same, shorter, empty = shingle_sets(["a b c", "a b c", "a b", ""], 5)
    assert [len(s) for s in (short, same, shorter, empty)] == [1, 1, 1, 1]
    assert jaccard(short, same) == 1.0
    assert jaccard(short, shorter) == jaccard(shorter, empty) == 0.0


def test_a_window_never_reaches_into_the_next_text():
    together = list(shingle_sets(["a b c d e f", "", "g h", "i j k l m n o"], 5))
    alone = [next(shingle_sets([text], 5)) for text in ("a b c d e f", "", "g h", "i j k l m n o")]
    for a, b in zip(together, alone, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_lone_surrogate_is_a_character_like_any_other():
    for unit in ("word", "character"):
        a, b = shingle_sets(["x \ud800 y", "x \ud801 y"], 2, unit)
        assert 0 <= jaccard(a, b) < 1


def test_no_texts_have_no_shingles():
    hashes, offsets = shingle([])
    assert (hashes.tolist(), offsets.tolist()) == ([], [0])
    assert list(shingle_sets([])) == []


def test_chunks_keep_every_text_once_and_in_order():
    texts = ["a" * CHUNK_CHARACTERS, "b", "c" * (3 * CHUNK_CHARACTERS), "", "d"]
    cut = list(chunks(texts))
    assert [text for chunk in cut for text in chunk] == texts
    assert [len(chunk) for chunk in cut] == [1, 2, 2]
    assert list(chunks([])) == []


@given(st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 3)))
def test_distinct_is_the_sorted_set(values):
    assert distinct(np.array(values, dtype=np.uint64)).tolist() == sorted(set(values))


def test_mix_is_a_bijection_on_a_sample():
    values = np.arange(100_000, dtype=np.uint64)
    assert len(np.unique(mix(values))) == len(values)


@pytest.mark.parametrize(("ngram", "unit", "said"), [(0, "word", "ngram"), (5, "line", "unit")])
def test_an_unknown_shingle_is_refused(ngram, unit, said):
    with pytest.raises(ConfigError, match=f"dedup.{said}"):
        shingle(["a"], ngram, unit)
