"""Canonical JSON: equal values, equal bytes; different values, different bytes."""

import hashlib
import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prereq.graph.canonical import canonical_json, digest, sha256_hex

plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=3)
    ),
    max_leaves=8,
)


def test_the_bytes_are_those_documented():
    assert canonical_json({"b": [1, 2.5, None, True], "a": "é"}) == '{"a":"é","b":[1,2.5,null,true]}'.encode()


@settings(max_examples=60, deadline=None)
@given(plain)
def test_values_come_back_and_key_order_does_not_matter(value):
    data = canonical_json(value)
    assert json.loads(data) == value
    if isinstance(value, dict):
        assert canonical_json(dict(reversed(value.items()))) == data


@pytest.mark.parametrize("value", [math.nan, math.inf, [-math.inf], {"a": math.nan}])
def test_numbers_that_json_has_no_word_for_are_refused(value):
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json(value)


@pytest.mark.parametrize("value", [{1: "a"}, {None: "a"}, [{"a": {True: 1}}]])
def test_keys_that_would_turn_into_text_in_silence_are_refused(value):
    with pytest.raises(TypeError, match="string keys"):
        canonical_json(value)


def test_digest_is_the_sha256_of_the_bytes():
    assert digest({"a": 1}) == sha256_hex(b'{"a":1}') == hashlib.sha256(b'{"a":1}').hexdigest()
