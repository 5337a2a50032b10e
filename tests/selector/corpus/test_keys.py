"""Keys and seeded orders depend on the id and the seed alone, and are what they say they are."""

import hashlib

import numpy as np

from prereq.selector.corpus.keys import id_keys, seeded_order

MASK = 2**64 - 1


def _reference(key: int, offset: int) -> int:
    """splitmix64's finaliser with Python integers."""
    z = (key + offset) & MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def test_id_keys_are_the_first_eight_bytes_of_sha256() -> None:
    ids = ["a", "ä", "\ud800", ""]
    expected = [int(hashlib.sha256(i.encode("utf-8", "surrogatepass")).hexdigest()[:16], 16) for i in ids]
    assert id_keys(ids).tolist() == expected
    assert id_keys([]).shape == (0,)


def test_seeded_order_equals_the_reference_on_python_integers() -> None:
    keys = id_keys(f"doc {i}" for i in range(200))
    offset = int.from_bytes(hashlib.sha256(b"7/holdout").digest()[:8], "big")
    assert seeded_order(keys, 7, "holdout").tolist() == [_reference(int(k), offset) for k in keys]


def test_seeded_order_is_a_bijection_and_moves_with_seed_and_purpose() -> None:
    keys = np.arange(10_000, dtype=np.uint64)
    orders = [seeded_order(keys, seed, purpose) for seed, purpose in [(0, "a"), (1, "a"), (0, "b")]]
    assert all(len(np.unique(order)) == len(keys) for order in orders)
    ranks = [np.argsort(order) for order in orders]
    assert (ranks[0] != ranks[1]).mean() > 0.99
    assert (ranks[0] != ranks[2]).mean() > 0.99
