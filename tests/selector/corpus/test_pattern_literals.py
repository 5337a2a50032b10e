"""Required literals: what they are for known patterns, and that no match ever lacks them."""

import importlib
import random
import re

import pytest

from prereq.selector.corpus.pattern_literals import required_literals


@pytest.mark.parametrize(
    ("pattern", "literals"),
    [
        (r"\byield\b", ("yield",)),
        (r"\b(?:min|max)\(", ("max(", "min(")),
        (r"__(?:name|doc)__", ("__doc__", "__name__")),
        (r"def (?:test_\w+|_?test)\(", ("def _test", "def test", "def test_")),
        (r" [<>]=? ", (" < ", " <= ", " > ", " >= ")),
        (r"(?:ab)+c", ("abc",)),
        (r"(?:ab){2,}c", ("abc",)),
        (r"x(?:ab|c\w)y", ("xab", "xc")),
        (r"(?=abc)\w+", ("abc",)),
        (r"(?<=abc)\w+", ("abc",)),
        (r"(?!abc)de", ("de",)),
        (r"[^a]bc", ("bc",)),
        (r"(?>abc)d", ("abcd",)),
        (r"(?i:abc)d", ("d",)),
        (r"(foo|)x", ("foox", "x")),
        (r"(?i)abc", ()),
        (r"\w+", ()),
        (r"a?\d", ()),
        (r"(?:a|\d)", ()),
        (r"(a)(?(1)b|c)", ("a",)),
    ],
)
def test_known_patterns(pattern: str, literals: tuple[str, ...]) -> None:
    assert required_literals(pattern) == literals


def test_a_long_list_of_literals_counts_as_none() -> None:
    assert required_literals("|".join(letter + "!" for letter in "abcdefghijklmnopqrst")) == ()


def test_no_match_lacks_its_literals_for_random_patterns() -> None:
    """Patterns from a small grammar against texts from their own alphabet, so that many match."""
    rng = random.Random(5)
    matches = 0
    for _ in range(1500):
        pattern = _pattern(rng, depth=3)
        compiled, literals = re.compile(pattern, re.MULTILINE), required_literals(pattern)
        for _ in range(20):
            text = "".join(rng.choice("abc\n") for _ in range(rng.randrange(1, 14)))
            if compiled.search(text):
                matches += 1
                assert not literals or any(literal in text for literal in literals), (pattern, text, literals)
    assert matches > 5000


def _pattern(rng: random.Random, depth: int) -> str:
    if depth == 0:
        return rng.choice(["a", "b", "c", "ab", "bc", "[ab]", "[^a]", ".", "^", "$", r"\b", r"\w", "(?i:b)", "\\n"])
    inner = [_pattern(rng, depth - 1) for _ in range(rng.randrange(1, 4))]
    shape = rng.choice(["sequence", "branch", "repeat", "look"])
    if shape == "branch":
        return "(?:" + "|".join(inner) + ")"
    if shape == "repeat":
        return f"(?:{''.join(inner)}){rng.choice(['?', '+', '*', '{2}', '{1,2}', '+?', '{0,1}'])}"
    if shape == "look":
        return rng.choice(["(?={})", "(?!{})", "(?>{})", "({})"]).format("".join(inner))
    return "".join(inner)


def test_an_interpreter_without_the_parser_only_loses_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", absent)
    assert required_literals("yield") == ()
