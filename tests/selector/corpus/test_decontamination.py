"""Overlap with a reference set: closed forms, and a second way to count in plain Python."""

import re
import unicodedata
from typing import Any

import numpy as np
import pytest

from prereq.graph.errors import ConfigError
from prereq.selector.corpus import shingles
from prereq.selector.corpus.decontamination import DecontaminationConfig, find_matches, index_references, words_of


def words(start: int, stop: int) -> str:
    return " ".join(f"w{number}" for number in range(start, stop))


def matches(references: list[str], documents: list[str], **config: Any) -> list[tuple[int, float, int]]:
    found = find_matches(documents, index_references(references, DecontaminationConfig(**config)))
    return list(zip(*(column.tolist() for column in found), strict=True))


NONE = (-1, 0.0, 0)


def test_a_page_that_quotes_a_reference_whole_overlaps_it_whole():
    page = words(100, 900) + " " + words(0, 20) + " " + words(900, 1500)
    assert matches([words(0, 20)], [page, words(100, 900)]) == [(0, 1.0, 8), NONE]


def test_the_overlap_is_the_share_of_the_references_ngrams():
    # 25 words: 13 n-grams, of which the first 16 words hold 4
    assert matches([words(0, 25)], [words(0, 16), words(0, 12), words(0, 13)]) == [(0, 4 / 13, 4), NONE, (0, 1 / 13, 1)]
    assert matches([words(0, 25)], [" ".join([words(0, 13)] * 5)])[0][2] == 1, "a repeated n-gram counts once"


def test_case_punctuation_and_spacing_hide_nothing():
    assert words_of("“Straße”,\n  don't_stop -- ﬁne!") == "strasse don t stop fine"
    text = words(0, 14)
    assert matches([text], [text.upper().replace(" ", ",\n")]) == [(0, 1.0, 2)]


def test_short_references_are_found_inside_and_very_short_ones_only_as_a_whole():
    documents = [f"x {words(0, 9)} y", f"x {words(50, 54)} y", words(50, 54)]
    assert matches([words(0, 9), words(50, 54)], documents) == [(0, 1.0, 1), NONE, (1, 1.0, 1)]
    assert matches([words(0, 9)], [words(0, 8) + " z"]) == [NONE]


def test_texts_without_words_match_nothing():
    assert matches(["", "?!", "  "], ["", "...", words(0, 20)]) == [NONE] * 3
    assert matches([], ["text"]) == [NONE]
    assert matches([words(0, 20)], []) == []


def test_the_reference_that_is_overlapped_most_is_named_and_the_first_of_equals():
    references = [words(0, 15), words(0, 14), words(0, 14), words(0, 9)]
    assert matches(references, [words(0, 14)]) == [(1, 1.0, 2)]
    assert matches(references[::-1], [words(0, 14)])[0] == (0, 1.0, 1)


def naive(text: str, ngram: int) -> set[tuple[str, ...]]:
    plain = re.findall(r"[^\W_]+", unicodedata.normalize("NFKC", text).casefold())
    return {tuple(plain[at : at + ngram]) for at in range(len(plain) - ngram + 1)}


def test_counted_a_second_way(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(shingles, "CHUNK_CHARACTERS", 200)  # documents of many chunks
    rng = np.random.default_rng(3)
    references = [" ".join(rng.choice(list("abc"), rng.integers(4, 20))) for _ in range(40)]
    documents = [" ".join(rng.choice(list("abc"), rng.integers(1, 60))) for _ in range(200)]
    found = matches(references, documents, ngram=6, min_words=4)
    assert len({row[0] for row in found}) > 10
    for document, (reference, overlap, shared) in zip(documents, found, strict=True):
        shares = []
        for text in references:
            grams = naive(text, min(6, len(text.split())))
            common = len(grams & naive(document, min(6, len(text.split()))))
            shares.append((common / len(grams), common))
        best = max(share for share, _ in shares)
        assert overlap == pytest.approx(best, abs=1e-12)
        if best:
            assert (reference, shared) == next((n, common) for n, (share, common) in enumerate(shares) if share == best)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"paths": "x"}, "decontaminate.paths: must be a list"),
        ({"min_words": 14}, "decontaminate.min_words: must be 1 to decontaminate.ngram"),
        ({"max_overlap": 1.0}, "decontaminate.max_overlap: must be 0 or more and below 1"),
        ({"action": "keep"}, "decontaminate.action: must be drop or list"),
        ({"text_field": ""}, "must not be empty"),
    ],
)
def test_a_wrong_configuration_is_refused(values: dict[str, Any], message: str):
    with pytest.raises(ConfigError, match=message):
        DecontaminationConfig(**values)
