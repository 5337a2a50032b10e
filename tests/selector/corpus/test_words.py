"""Words of prose and code."""

import time

from prereq.selector.corpus.words import split_words


def test_split_words_reads_prose_and_code() -> None:
    assert split_words("def parseHTTPHeader(raw_line2): return 12345") == (
        ["def", "parse", "http", "header", "raw", "line", "#1", "return", "#4"]
    )
    assert split_words("Don't STOP, été 2024!") == ["don", "t", "stop", "été", "#4"]
    assert split_words("日本語 text") == ["日", "本", "語", "text"]
    assert split_words("") == split_words("+-*/ \n\t") == []


def test_split_words_is_linear_in_hostile_text() -> None:
    start = time.process_time()
    for text in ("A" * 10**6, "a" * 10**6, "_" * 10**6, "Aa" * 5 * 10**5, "9" * 10**6):
        split_words(text, max_characters=10**6)
    assert time.process_time() - start < 5


def test_split_words_stops_reading_where_told() -> None:
    assert split_words("one two three", max_characters=7) == ["one", "two"]
