"""Canonical JSON and digests: the one way in which prereq turns plain values into bytes.

Canonical means UTF-8, sorted keys, no spaces, shortest float repr, no NaN or infinity. Two equal values give equal
bytes on every machine, so a digest of them is an identity.
"""

import hashlib
import json
from typing import Any


def canonical_json(value: Any) -> bytes:
    """Encode plain values (dict with string keys, list, str, int, float, bool, None) canonically.

    Raises:
        ValueError: A float is NaN or infinite.
        TypeError: A value or key is of another type.
    """
    _check_keys(value)
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def sha256_hex(data: bytes) -> str:
    """Hex sha256 of bytes."""
    return hashlib.sha256(data).hexdigest()


def digest(value: Any) -> str:
    """Hex sha256 of the canonical JSON of a plain value."""
    return sha256_hex(canonical_json(value))


def _check_keys(value: Any) -> None:
    # json.dumps turns the keys 1 and None into "1" and "null" in silence: two different dicts would share bytes
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise TypeError(f"canonical JSON needs string keys, got {key!r}")
            _check_keys(item)
    elif isinstance(value, list | tuple):
        for item in value:
            _check_keys(item)
