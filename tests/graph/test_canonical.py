"""Canonical JSON: one value, one string of bytes."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prereq.graph.canonical import canonical_json, digest, sha256_hex

PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text('aé\U0001f600\n"'),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abé"), inner, max_size=3),
    max_leaves=8,
)


@given(PLAIN)
def test_what_is_written_is_read_back(value: Any):
    assert json.loads(canonical_json(value)) == value


@given(st.dictionaries(st.text("abcé"), st.integers()))
def test_the_order_of_keys_does_not_count(value: dict[str, int]):
    turned = dict(reversed(value.items()))
    assert canonical_json(value) == canonical_json(turned)
    assert digest(value) == digest(turned)


def test_the_bytes_are_these():
    value = {"b": [1, 2.5, 1e22, 0.1, True, None], "a": {"é": "x\n\u2028"}}
    assert canonical_json(value).decode() == '{"a":{"é":"x\\n\u2028"},"b":[1,2.5,1e+22,0.1,true,null]}'
    assert digest({}) == sha256_hex(b"{}") == "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    assert canonical_json((1, 2)) == canonical_json([1, 2])
    assert canonical_json(np.float64(0.1)) == b"0.1"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {"a": [-float("inf")]}, "\ud800"])
def test_what_json_cannot_hold_is_refused(value: Any):
    with pytest.raises(ValueError):
        canonical_json(value)


@pytest.mark.parametrize("value", [{1: "a"}, {"a": [{None: 1}]}, [({True: 1},)], np.int64(1), {"a": b"x"}, {1, 2}])
def test_other_types_are_refused_instead_of_guessed(value: Any):
    with pytest.raises(TypeError):
        canonical_json(value)
