"""Canonical JSON and digests: the one way in which prereq turns plain values into bytes.

Canonical means UTF-8, sorted keys, no spaces, shortest float repr, no NaN or infinity. Two equal values give equal
bytes on every machine, so a digest of them is an identity.
"""

import hashlib
import json
from collections.abc import Sequence
from functools import cache
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

_MANY = 1024  # floats of one dict from which on they are written all at once
_LEAVES = {str, int, float, bool, type(None)}
_PROBES = (
    0.0,
    5e-324,
    1e-300,
    1 / 3e10,
    1e-9,
    2.5e-7,
    1e-6,
    6.8e-06,
    1e-5,
    7 / 3e5,
    1e-4,
    0.1,
    1 / 3,
    1.0,
    2.5,
    123456.0,
)


def canonical_json(value: Any) -> bytes:
    """Encode plain values (dict with string keys, list, str, int, float, bool, None) canonically.

    Raises:
        ValueError: A float is NaN or infinite.
        TypeError: A value or key is of another type.
    """
    _check_keys(value)
    return _encode(value).encode()


def sha256_hex(data: bytes) -> str:
    """Hex sha256 of bytes."""
    return hashlib.sha256(data).hexdigest()


def digest(value: Any) -> str:
    """Hex sha256 of the canonical JSON of a plain value."""
    return sha256_hex(canonical_json(value))


def _check_keys(value: Any) -> None:
    # json.dumps turns the keys 1 and None into "1" and "null" in silence: two different dicts would share bytes
    level = [value]
    while level:  # level by level, not call by call: a manifest holds a list and a dict for each arm that was drawn
        dicts = [item for item in level if isinstance(item, dict)]
        if not set(map(type, chain.from_iterable(dicts))) <= {str}:
            wrong = [key for item in dicts for key in item if not isinstance(key, str)]
            if wrong:
                raise TypeError(f"canonical JSON needs string keys, got {wrong[0]!r}")
        lists = [item for item in level if isinstance(item, list | tuple)]
        inside = [
            items for items in (*(item.values() for item in dicts), *lists) if not set(map(type, items)) <= _LEAVES
        ]
        level = [item for items in inside for item in items if type(item) not in _LEAVES]


def _encode(value: Any) -> str:
    """What json.dumps gives; a dict of many floats (a weight for each arm of a large pool) is written in one go."""
    if isinstance(value, dict) and value:
        if len(value) >= _MANY and set(map(type, value.values())) == {float}:
            keys = sorted(value)
            ordered = value.values() if keys == list(value) else map(value.__getitem__, keys)
            text = _float_dict(keys, np.fromiter(ordered, np.float64, len(keys)))
            if text is not None:
                return text
        elif any(isinstance(item, dict) for item in value.values()):
            return "{" + ",".join(f"{_dumps(key)}:{_encode(value[key])}" for key in sorted(value)) + "}"
    return _dumps(value)


def _dumps(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _float_dict(keys: Sequence[str], values: NDArray[np.float64]) -> str | None:
    """The JSON object of these keys, in their order; None where that is left to the json module."""
    plain = (values >= 0.0) & (values < 1e9) & ~np.signbit(values)  # NaN and infinity are not
    if not plain.all() or not _as_is("".join(keys)) or not _arrow_has_shortest_digits():
        return None
    import pyarrow as pa
    import pyarrow.compute as pc

    items = pc.binary_join_element_wise(pa.array(keys, pa.string()), _texts(values), '":')
    whole = pa.ListArray.from_arrays(pa.array([0, len(items)], pa.int32()), items)
    return '{"' + str(pc.binary_join(whole, ',"')[0].as_py()) + "}"


def _as_is(text: str) -> bool:
    """Whether JSON writes a text as it stands: printable ASCII without what needs a backslash."""
    return text.isascii() and text.isprintable() and '"' not in text and "\\" not in text


@cache
def _arrow_has_shortest_digits() -> bool:
    return _texts(np.array(_PROBES)).to_pylist() == [repr(value) for value in _PROBES]


def _texts(values: NDArray[np.float64]) -> Any:
    """`float.__repr__` of numbers `(n,)` in [0, 1e9), without a Python float in between: a string Array `(n,)`.

    Arrow's digits are the shortest too (Loitsch 2010, "Printing floating-point numbers quickly and accurately", with a
    fallback), but it writes 1 for 1.0, 0.00001 for 1e-05 and 1e-7 for 1e-07: these are put right.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    texts = pc.cast(pa.array(values), pa.string())
    whole = values == np.floor(values)
    fixed = (values >= 1e-6) & (values < 1e-4)  # written without an exponent
    short = (values >= 1e-9) & (values < 1e-6)  # written with an exponent of one digit
    for mask, mend in ((whole, _with_point), (fixed, _with_exponent), (short, _with_two_digits)):
        if mask.any():
            chosen = pa.array(mask)
            texts = pc.replace_with_mask(texts, chosen, mend(texts.filter(chosen)))
    return texts


def _with_point(texts: Any) -> Any:
    import pyarrow.compute as pc

    return pc.binary_join_element_wise(texts, ".0", "")


def _with_two_digits(texts: Any) -> Any:
    import pyarrow.compute as pc

    return pc.replace_substring(texts, "e-", "e-0")


def _with_exponent(texts: Any) -> Any:
    """0.0000123 as 1.23e-05: what is cut off before the first digit of n characters is a power of 1 - n."""
    import pyarrow as pa
    import pyarrow.compute as pc

    digits = pc.utf8_ltrim(texts, "0.")
    cut = pc.subtract(pc.binary_length(texts), pc.binary_length(digits))
    power = pc.cast(pc.subtract(cut, 1), pa.string())
    point = pc.cast(pc.if_else(pc.greater(pc.binary_length(digits), 1), ".", ""), pa.string())
    first, rest = pc.utf8_slice_codeunits(digits, 0, 1), pc.utf8_slice_codeunits(digits, 1)
    return pc.binary_join_element_wise(first, point, rest, "e-0", power, "")
