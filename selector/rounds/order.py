"""Orders that stay: every permutation of a run comes from sorting splitmix64 values under a keyed digest.

Library generators may change their streams between versions; these numbers depend on nothing but integers.
"""

import numpy as np
import numpy.typing as npt

from prereq.graph.canonical import canonical_json, sha256_hex

IntArray = npt.NDArray[np.int64]

_GAMMA = 0x9E3779B97F4A7C15


def splitmix64(key: int, count: int) -> npt.NDArray[np.uint64]:
    """Outputs 1..count of the splitmix64 generator that starts in state `key`, uint64 `(count,)`.

    Source:
        Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators". All arithmetic is mod 2**64, so the
        wrap of uint64 is the intended one.
    """
    state = np.uint64(key) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(_GAMMA)
    mixed = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def key_of(*parts: int | str) -> int:
    """The first 8 bytes (big endian) of the sha256 of the parts' canonical JSON list."""
    return int(sha256_hex(canonical_json(list(parts)))[:16], 16)


def permutation(count: int, *parts: int | str) -> IntArray:
    """A permutation of 0..count-1, int64 `(count,)`: sorted by the key's splitmix64 values, ties by index."""
    return np.argsort(splitmix64(key_of(*parts), count), kind="stable").astype(np.int64)


def arm_order(seed: int, arm: str, epoch: int, group_rows: IntArray) -> IntArray:
    """The order in which an arm's documents are drawn in one epoch: row groups permuted, then rows inside each.

    With key = sha256(seed, arm, epoch), value i of its stream ranks row group i, and value G + j ranks stored row j,
    where G is the number of row groups.

    Args:
        seed: The run's seed.
        arm: Arm id.
        epoch: 0 for the first time through.
        group_rows: `(G,)` rows of each of the arm's row groups, in the order of the pool's manifest.

    Returns:
        int64 `(rows,)`: position in the epoch -> stored row of the arm (row groups end to end).
    """
    groups, rows = len(group_rows), int(group_rows.sum())
    values = splitmix64(key_of(seed, arm, epoch), groups + rows)
    rank = np.empty(groups, dtype=np.int64)
    rank[np.argsort(values[:groups], kind="stable")] = np.arange(groups)
    group_of_row = np.repeat(np.arange(groups), group_rows)  # (rows,)
    return np.lexsort((np.arange(rows), values[groups:], rank[group_of_row])).astype(np.int64)


def stratified_order(tokens: list[IntArray], global_batch: int, seed: int, number: int) -> IntArray:
    """Order of a round's rows in which every global batch carries each arm's share as evenly as whole documents allow.

    Each arm's documents lie on a circle of circumference 1, each as long as its share of the arm's tokens, turned by a
    keyed phase; reading all arms along the circle spreads each evenly. Consecutive runs of `global_batch` are the
    batches, and inside a batch the rows are permuted.

    Args:
        tokens: Per arm, tokens `(c_a,)` of its drawn documents in draw order.
        global_batch: Rows of a batch; divides the number of rows.
        seed: The run's seed.
        number: The round.

    Returns:
        int64 `(samples,)`: position in the round -> row in the arms' concatenation.
    """
    phases = splitmix64(key_of(seed, "phase", number), len(tokens)) / 2.0**64
    spots = [_on_circle(t, phase) for t, phase in zip(tokens, phases, strict=True)]
    along = np.argsort(np.concatenate(spots), kind="stable").astype(np.int64)
    batches = along.reshape(-1, global_batch)
    inside = [permutation(global_batch, seed, "batch", number, b) for b in range(len(batches))]
    return np.concatenate([batch[order] for batch, order in zip(batches, inside, strict=True)])


def _on_circle(tokens: IntArray, phase: float) -> npt.NDArray[np.float64]:
    total = max(1, int(tokens.sum()))
    middles = np.cumsum(tokens) - tokens / 2.0
    return np.mod(middles / total + phase, 1.0)
