"""Words as numbers: the same as splitting each text and looking each word up."""

import random
from itertools import pairwise

import numpy as np
import pytest

from prereq.graph.errors import TableError
from prereq.selector.corpus.word_ids import WordIndex
from prereq.selector.corpus.words import split_words

CORNERS = [
    "",
    "\0",
    "a" * 40,
    "a" * 41,
    "A" + "a" * 40,
    "A" * 41 + "b",
    "A" * 40 + "b",
    "1" * 41 + "a",
    "parseHTTPHeader2go",
]


@pytest.mark.parametrize("alphabet", ["aAbBzZ09_ .\n\0-", "aAbB09_ .\n\0-é字・K½ßА٣’", "aA9 -é’\ud800"])
def test_finds_what_splitting_and_a_dictionary_find(alphabet: str) -> None:
    draw = random.Random(1)
    texts = CORNERS + ["".join(draw.choices(alphabet, k=draw.randint(0, 60))) for _ in range(2000)]
    every = sorted({word for text in texts for word in split_words(text)})
    vocabulary = every[::2]
    numbers, offsets = WordIndex(vocabulary).find(texts, 50)
    lookup = {word: number for number, word in enumerate(vocabulary)}
    assert len(offsets) == len(texts) + 1
    for row, text in enumerate(texts):
        expected = sorted(lookup[word] for word in split_words(text, 50) if word in lookup)
        assert sorted(numbers[offsets[row] : offsets[row + 1]].tolist()) == expected, text


def test_a_large_vocabulary_with_slots_that_several_words_share() -> None:
    words = [f"w{number}x" for number in range(30_000)]
    vocabulary = ["w", "x"] + [
        f"{'abcdefghij'[number % 10]}{'klmnopqrst'[number // 10 % 10]}" * 3 for number in range(100)
    ]
    vocabulary += [word.translate(str.maketrans("0123456789", "abcdefghij")) for word in words]
    index = WordIndex(vocabulary)
    numbers, offsets = index.find([" ".join(vocabulary), "unknown wzzx"], 10**7)
    assert sorted(numbers.tolist()) == list(range(len(vocabulary)))
    assert offsets.tolist() == [0, len(vocabulary), len(vocabulary)]


def test_chunks_change_nothing() -> None:
    texts = ["alpha beta " * 40_000, "gamma", "beta é " * 30_000, "", "Alpha"]
    numbers, offsets = WordIndex(["beta", "alpha"]).find(texts, 10**6)
    assert np.diff(offsets).tolist() == [80_000, 0, 30_000, 0, 1]
    assert np.bincount(numbers).tolist() == [70_000, 40_001]


def test_no_words_and_no_texts() -> None:
    assert WordIndex([]).find(["some text"], 10)[1].tolist() == [0, 0]
    assert WordIndex(["a"]).find([], 10)[1].tolist() == [0]


def test_a_word_that_stands_twice_is_an_error() -> None:
    with pytest.raises(TableError, match="twice"):
        WordIndex(["a", "b", "a"])


@pytest.mark.parametrize(
    "sign", ["\u2019", "\u2014", "\u30fb", "\u00b2", "\u0660", "\u00e9", "\u4e2d", "\u00a0", "\U0001f600"]
)
def test_signs_outside_ascii_between_words(sign: str) -> None:
    """Dashes and quotes are no part of a word; digits, letters and what stands alone are, wherever they stand."""
    texts = [f"alpha{sign}beta", f"{sign}alpha {sign} beta{sign}"]
    words = sorted({word for text in texts for word in split_words(text)})
    numbers, offsets = WordIndex(words).find(texts, 100)
    found = [sorted(words[n] for n in numbers[a:b]) for a, b in pairwise(offsets)]
    assert found == [sorted(split_words(text)) for text in texts]
