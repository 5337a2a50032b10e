"""When two texts are the same text."""

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prereq.selector.corpus.normalise import CONTENT_BYTES, content_digest, normalise


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Hello  World", "hello world"),
        ("a\r\nb", "a b"),
        ("\u00a0a\u2003b ", "a b"),
        ("ﬁne", "fine"),
        ("Straße", "STRASSE"),
        ("e\u0301", "é"),
        ("\uff21", "a"),
    ],
)
def test_case_white_space_and_compatible_forms_do_not_count(one: str, other: str):
    assert normalise(one) == normalise(other)
    assert content_digest(one) == content_digest(other)


@pytest.mark.parametrize(("one", "other"), [("a b", "ab"), ("a", "b"), ("x = 1", "x = 2"), ("", "a"), ("a.", "a")])
def test_different_texts_stay_different(one: str, other: str):
    assert content_digest(one) != content_digest(other)


@given(st.text())
def test_the_normal_form_is_normal(text: str):
    assert normalise(normalise(text)) == normalise(text)


def test_every_code_point_has_a_normal_form_that_stays():
    characters = [chr(code) for code in range(sys.maxunicode + 1) if not 0xD800 <= code < 0xE000]
    assert [c for c in characters if normalise(normalise(c)) != normalise(c)] == []


def test_digests_have_one_length_and_take_any_string():
    assert {len(content_digest(text)) for text in ("", "a", "\ud800", "\0")} == {CONTENT_BYTES}
