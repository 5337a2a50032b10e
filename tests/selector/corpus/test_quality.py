"""The quality classifier: what it tells apart, and that it is a function of its examples."""

from itertools import product

import numpy as np
import pytest

from prereq.graph.errors import TableError
from prereq.selector.corpus.quality import fit_quality, quality_scores

WORDS = ["".join(pair) for pair in product("bcdfgh", "aeiouyklmn")]


def texts(seed: int, first: int, count: int = 60) -> list[str]:
    """Texts of which two words in three are from 30 words of their kind."""
    rng = np.random.default_rng(seed)
    own, other = WORDS[first : first + 30], WORDS
    return [" ".join([*rng.choice(own, 20), *rng.choice(other, 10)]) for _ in range(count)]


GOOD, BAD = texts(1, 0), texts(2, 30)


def test_texts_of_the_wanted_kind_have_log_odds_above_zero_and_others_below():
    model, judged = fit_quality(GOOD, BAD, 1000, 0)
    assert judged.held_back == 24
    assert judged.right >= 20
    assert (quality_scores(model, texts(3, 0), 1000) > 0).mean() > 0.95
    assert (quality_scores(model, texts(4, 30), 1000) < 0).mean() > 0.95


def test_the_two_kinds_swapped_give_the_opposite_log_odds():
    model, _ = fit_quality(GOOD, BAD, 1000, 0)
    swapped, _ = fit_quality(BAD, GOOD, 1000, 0)
    new = texts(5, 15)
    np.testing.assert_allclose(
        quality_scores(swapped, new, 1000), -quality_scores(model, new, 1000), rtol=0.2, atol=0.3
    )


def test_a_text_without_known_words_is_even():
    model, _ = fit_quality(GOOD, BAD, 1000, 0)
    assert quality_scores(model, ["zzz", ""], 1000) == pytest.approx([0.0, 0.0], abs=0.2)


def test_examples_that_cannot_be_told_apart_are_told_by_chance():
    _, judged = fit_quality(texts(6, 0, 100), texts(7, 0, 100), 1000, 0)
    assert 0.25 < judged.right / judged.held_back < 0.75


def test_the_model_is_a_function_of_the_examples_and_the_seed():
    first, _ = fit_quality(GOOD, BAD, 1000, 0)
    again, _ = fit_quality(GOOD[::-1], BAD[::-1], 1000, 0)
    assert first.files() == again.files()


def test_too_few_examples_are_refused():
    with pytest.raises(TableError, match="9 examples of what is wanted and 60 of what is not"):
        fit_quality(GOOD[:9], BAD, 1000, 0)
