"""Splitting loses nothing, keeps to its limit, and cuts where a reader would."""

from hypothesis import given
from hypothesis import strategies as st

from prereq.selector.corpus.splitting import split_text


@given(st.text(alphabet=st.sampled_from("ab \n\u00e9\u20ac\U0001f600")), st.integers(4, 40))
def test_pieces_are_short_and_joined_they_are_the_text(text: str, limit: int):
    parts = list(split_text(text, limit))
    assert "".join(parts) == text
    assert all(len(part.encode()) <= limit for part in parts)
    assert all(parts) or parts == [""]


def test_the_best_border_in_the_second_half_is_taken():
    assert next(split_text("first part\n\nsecond line\nthird words", 30)) == "first part\n\nsecond line\n"
    assert next(split_text("eight words\n\nmore. lines\nand so on", 20)) == "eight words\n\n"
    assert next(split_text("some words without a line end", 20)) == "some words without "
    assert next(split_text("x" * 100, 20)) == "x" * 20


def test_one_giant_line_is_cut_between_code_points():
    text = "\U0001f600" * 1000
    parts = list(split_text(text, 10))
    assert {len(part) for part in parts} == {2}
    assert "".join(parts) == text


def test_ten_megabytes_are_split_in_linear_time():
    text = "word " * 2_000_000 + "x" * 100_000
    parts = list(split_text(text, 65_536))
    assert "".join(parts) == text
    assert len(parts) < 2.2 * len(text) / 65_536
