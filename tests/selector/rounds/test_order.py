"""Orders: the published splitmix64 stream, permutations, and how evenly arms are spread over batches."""

import hashlib
import json

import numpy as np

from prereq.selector.rounds.order import arm_order, key_of, permutation, splitmix64, stratified_order


def splitmix64_by_integers(state: int, count: int) -> list[int]:
    mask, out = 2**64 - 1, []
    for _ in range(count):
        state = (state + 0x9E3779B97F4A7C15) & mask
        z = state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        out.append(z ^ (z >> 31))
    return out


def test_splitmix64_matches_python_integers_and_the_published_first_output():
    for key in (0, 1, 2**64 - 1, 0xDEADBEEF):
        assert splitmix64(key, 50).tolist() == splitmix64_by_integers(key, 50)
    assert int(splitmix64(0, 1)[0]) == 0xE220A8397B1DCDAF


def test_key_is_the_head_of_the_sha256_of_the_canonical_parts():
    data = json.dumps([3, "arm", 0], separators=(",", ":")).encode()
    assert key_of(3, "arm", 0) == int.from_bytes(hashlib.sha256(data).digest()[:8], "big")


def test_arm_order_permutes_groups_then_rows_inside_them():
    group_rows = np.array([4, 4, 3])
    order = arm_order(1, "arm", 0, group_rows)
    assert sorted(order.tolist()) == list(range(11))
    group = np.repeat([0, 1, 2], group_rows)[order]
    assert np.count_nonzero(np.diff(group)) == 2, "each row group is one run"
    assert not np.array_equal(order, arm_order(1, "arm", 1, group_rows)), "another epoch, another order"
    assert not np.array_equal(order, arm_order(2, "arm", 0, group_rows)), "another seed, another order"


def test_every_batch_carries_every_arms_share():
    rng = np.random.default_rng(0)
    tokens = [rng.integers(50, 150, n) for n in (320, 160, 80, 80)]
    order = stratified_order(tokens, 64, seed=5, number=3)
    assert sorted(order.tolist()) == list(range(640))
    owner = np.repeat(np.arange(4), [320, 160, 80, 80])[order].reshape(10, 64)
    counts = np.stack([np.bincount(batch, minlength=4) for batch in owner])
    np.testing.assert_allclose(counts, np.tile([32, 16, 8, 8], (10, 1)), atol=4)
    # a plain permutation of the same rows is far less even
    plain = np.repeat(np.arange(4), [320, 160, 80, 80])[permutation(640, 9)].reshape(10, 64)
    plain_counts = np.stack([np.bincount(batch, minlength=4) for batch in plain])
    assert counts.std(axis=0).sum() < 0.6 * plain_counts.std(axis=0).sum()


def test_rows_inside_a_batch_are_as_mixed_as_a_random_order():
    tokens = [np.full(64, 10) for _ in range(4)]
    same = []
    for number in range(30):
        owner = np.repeat(np.arange(4), 64)[stratified_order(tokens, 64, seed=1, number=number)]
        same.append(np.mean(owner[1:] == owner[:-1]))
    assert abs(float(np.mean(same)) - 0.25) < 0.02
