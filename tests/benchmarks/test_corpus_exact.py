"""The judge of deduplication against brute force over sets of strings."""

import random
from itertools import combinations
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def grams(normal: str) -> set[tuple[str, ...]]:
    words = normal.split(" ")
    return {tuple(words[i : i + 5]) for i in range(max(1, len(words) - 4))}


def test_every_pair_at_the_threshold_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from corpus_exact import near_pairs, normal_form, shingle_sets

    draw = random.Random(5)
    texts = ["", "one", "One  two", "one two three four", "one two three four five"]
    for _ in range(40):
        words = draw.choices(["Alpha", "beta", "gamma", "delta", "eps"], k=draw.randint(6, 60))
        texts.append(" ".join(words))
        for _ in range(4):
            words = list(words)
            words[draw.randrange(len(words))] = draw.choice(["zeta", "eta"])
            texts.append("\t".join(words[draw.randint(0, 1) :]))
    normal = sorted({normal_form(text) for text in texts})
    sets = shingle_sets(normal)
    expected = {}
    for a, b in combinations(range(len(normal)), 2):
        left, right = grams(normal[a]), grams(normal[b])
        similarity = len(left & right) / len(left | right)
        assert sets.similarity(a, b) == pytest.approx(similarity)
        if similarity >= 0.8:
            expected[a, b] = similarity
    assert len(expected) > 10
    assert {(a, b): s for a, b, s in near_pairs(sets, 0.8)} == pytest.approx(expected)
