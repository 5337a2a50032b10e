"""Features of texts: against a reference with a regular expression, and never depending on neighbours."""

import re
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from prereq.selector.corpus.text_features import text_features

TOKEN = re.compile(r"(\s*)(?:([A-Z]+(?=[A-Z][a-z])|[A-Z]?[^\W\d_A-Z]+|[A-Z]+)|(\d+)|([^\w\s]|_))")


def reference(text: str) -> Counter[tuple[str, ...]]:
    """Tokens and pairs as tuples."""
    found = [
        (word.lower() if word else f"#{min(4, len(digits))}" if digits else sign, bool(blank))
        for blank, word, digits, sign in TOKEN.findall(text)
    ]
    tokens = Counter((token,) for token, _ in found)
    pairs = Counter((a, b, "blank" if blank else "") for (a, _), (b, blank) in pairwise(found))
    return tokens + pairs


TEXTS = [
    "",
    " \n\t ",
    "Hello, hello World",
    "parseHTTPHeader(x_1, y22)",
    "for i in range(10): total += i ** 2",
    "4\u00d710^26W and 4 \u00d7 10^26 W",
    "\u00c4rger \u00fcber \u0416\u0443\u043a, na\u00efve caf\u00e9",
    "a=>b a = > b",
    "1 12 123 1234 12345678",
    "word",
    "word word",
]


def test_equal_features_are_those_of_the_reference() -> None:
    """Hashes stand for the reference's features one to one, with the same counts, over all texts."""
    hashes, owner = text_features(TEXTS, 1000)
    meaning: dict[int, tuple[str, ...]] = {}
    for place, text in enumerate(TEXTS):
        counts = Counter(hashes[owner == place].tolist())
        expected = reference(text)
        assert sorted(counts.values()) == sorted(expected.values())
        for feature in expected:
            own = Counter(text_features([text], 1000)[0].tolist())
            assert own == counts
            # a text of one feature's tokens says which hash stands for it
            made = text_features([feature[0]], 10)[0].tolist() if len(feature) == 1 and "#" not in feature[0] else []
            for number in made[:1]:
                assert meaning.setdefault(number, feature) == feature
                assert counts[number] == expected[feature]
    assert len(meaning) > 20


def test_pairs_tell_order_and_blanks() -> None:
    one, two, glued = (set(text_features([text], 99)[0].tolist()) for text in ("a b", "b a", "a-b"))
    assert len(one & two) == 2
    assert len(one - two) == 1
    spaced = set(text_features(["a - b"], 99)[0].tolist())
    assert len(glued & spaced) == 3
    assert len(glued - spaced) == 2


def test_chinese_characters_stand_alone_and_case_is_folded() -> None:
    assert len(text_features(["\u4e2d\u6587"], 9)[0]) == 3
    assert Counter(text_features(["\u00c9T\u00c9"], 9)[0].tolist()) == Counter(
        text_features(["\u00e9t\u00e9"], 9)[0].tolist()
    )


def test_features_do_not_depend_on_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    from prereq.selector.corpus import text_features as module

    alone = [text_features([text], 50)[0] for text in TEXTS]
    for chunk in (1, 30, 1 << 19):
        monkeypatch.setattr(module, "_CHUNK", chunk)
        hashes, owner = text_features(TEXTS, 50)
        for place, expected in enumerate(alone):
            np.testing.assert_array_equal(hashes[owner == place], expected)


def test_only_the_beginning_is_read_and_hostile_text_is_taken() -> None:
    np.testing.assert_array_equal(text_features(["abc def"], 3)[0], text_features(["abc"], 99)[0])
    strange = "\ud800 \U0010ffff \x00 " + "a" * 100_000
    hashes, _ = text_features([strange], 200_000)
    assert len(hashes) == 2 * 3 - 1
    assert len(text_features([], 9)[0]) == 0
