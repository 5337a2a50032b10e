"""Canonical JSON: equal values, equal bytes; different values, different bytes."""

import hashlib
import json
import math

import numpy as np
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


def test_many_floats_at_once_are_written_as_one_by_one():
    rng = np.random.default_rng(0)
    values = np.concatenate(
        [
            10.0 ** rng.uniform(-12, 8.9, 4000),
            10.0 ** rng.integers(-12, 9, 300),
            rng.integers(0, 2**62, 4000).view(np.float64),  # any exponent
            rng.integers(0, 1000, 300) / 64,
            [0.0, 5e-324, 1e-6, 1e-5, np.nextafter(1e-5, 0), 1e-4, np.nextafter(1e-4, 0), 1.0],
        ]
    )
    values = values[values < 1e9]
    weights = {f"{index:05x}": value for index, value in enumerate(values.tolist())}
    text = ",".join(f'"{key}":{value!r}' for key, value in weights.items())
    assert canonical_json({"b": {"weights": weights}, "a": 1}).decode() == '{"a":1,"b":{"weights":{' + text + "}}}"


@pytest.mark.parametrize("odd", [("é", 0.5), ('"', 0.5), ("\n", 0.5), ("a", -0.5), ("a", -0.0), ("a", 1e300), ("a", 1)])
def test_keys_and_numbers_beyond_the_fast_way_take_the_slow_one(odd):
    value = {f"{index:05x}": index / 7 for index in range(3000)} | dict([odd])
    plain = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    assert canonical_json(value) == plain.encode()


def test_nan_among_many_floats_is_refused():
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json({f"{index:05x}": index / 7 for index in range(3000)} | {"x": math.nan})
