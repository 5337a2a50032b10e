"""Pseudo-random order that depends on a document's id and a seed, and on nothing else.

A document keeps its key whatever part it lies in, so orders and choices made by key survive other part borders, other
worker counts and retries.
"""

import hashlib
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

KeyArray = NDArray[np.uint64]


def id_keys(ids: Iterable[str]) -> KeyArray:
    """The first 8 bytes of the sha256 of each id, `(n,)` uint64."""
    data = b"".join(hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()[:8] for name in ids)
    return np.frombuffer(data, dtype=">u8").astype(np.uint64)


def seeded_order(keys: KeyArray, seed: int, purpose: str) -> KeyArray:
    """Values that sort `keys` in a pseudo-random order, `(n,)` uint64; a bijection for each (seed, purpose).

    splitmix64's finaliser over key + offset, where the offset is the first 8 bytes of sha256("seed/purpose"). uint64
    arithmetic wraps here on purpose: splitmix64 is defined modulo 2**64.

    Source:
        Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators", OOPSLA, figure 17 (variant 13).
    """
    offset = np.uint64(int.from_bytes(hashlib.sha256(f"{seed}/{purpose}".encode()).digest()[:8], "big"))
    z = keys.astype(np.uint64) + offset
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
