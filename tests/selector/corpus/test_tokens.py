"""Tokenizers: counts agree with what is encoded."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prereq.graph.errors import ConfigError
from prereq.selector.corpus.tokens import make_tokenizer


@given(st.lists(st.text(), max_size=5))
def test_bytes_count_what_they_encode(texts: list[str]):
    tokenizer = make_tokenizer("bytes")
    counts = tokenizer.counts(texts)
    assert counts.tolist() == [len(text.encode()) for text in texts]
    assert counts.dtype == np.int64
    for text, count in zip(texts, counts, strict=True):
        tokens = tokenizer.encode(text)
        assert tokens.dtype == np.int32
        assert len(tokens) == count == tokenizer.count(text)
        assert bytes(tokens.tolist()).decode() == text
        assert (tokens < tokenizer.vocabulary).all()


def test_an_unknown_tokenizer_is_refused_with_the_known_ones():
    with pytest.raises(ConfigError, match="tokenizer 'gpt9' is unknown; the tokenizers are: bytes"):
        make_tokenizer("gpt9")
