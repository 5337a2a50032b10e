"""Pairs of documents worth comparing: those that meet in a band of their MinHash signatures and look similar enough.

Documents are numbered in survivor order here, 0 first. All of it is sorting of integers. A bucket of `n` documents,
once larger than `FULL`, gives at most about `n * (LEADERS + NEIGHBOURS + FULL / 2)` pairs: a document is looked at with
the bucket's leaders, with its neighbours in survivor order, and with those that it shares a second band with. So no
template makes the work quadratic; what it may cost is recall among the documents of such a bucket, never a wrong drop.
"""

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from prereq.selector.corpus.minhash import SketchArray
from prereq.selector.corpus.shingles import HashArray, IntArray, distinct, mix

FULL = 32  # documents: up to this size every pair of a bucket is looked at
LEADERS = 16  # documents of a larger bucket that all others of it are looked at with
NEIGHBOURS = 8  # documents right before it, in survivor order, that each document of a larger bucket is looked at with
MARGIN = 4.0  # standard deviations that an estimate may lie below the threshold
_CHUNK = 1 << 15  # pairs compared at a time


def shared(keys: HashArray) -> npt.NDArray[np.bool_]:
    """Which of the keys `(n,)` occur more than once."""
    order = np.argsort(keys)
    ordered = keys[order]
    equal = ordered[1:] == ordered[:-1]
    result = np.zeros(len(keys), dtype=np.bool_)
    result[order[1:][equal]] = True
    result[order[:-1][equal]] = True
    return result


def fewest_matches(threshold: float, num_perm: int) -> int:
    """Equal bytes of two sketches below which a pair is not looked at further.

    Equal values are binomial with p = the similarity: a pair at the threshold falls short with chance 3e-5.
    """
    deviation = math.sqrt(threshold * (1 - threshold) / num_perm)
    return math.ceil(num_perm * max(0.0, threshold - MARGIN * deviation))


class PairFinder:
    """Collects pairs band by band, each once, of documents that share a bucket and whose sketches agree enough.

    Args:
        sketches: `(c, p)` of the documents in survivor order.
        threshold: Jaccard similarity.
    """

    def __init__(self, sketches: SketchArray, threshold: float) -> None:
        self._sketches = sketches
        self._least = fewest_matches(threshold, sketches.shape[1])
        self._sure = math.ceil(threshold * sketches.shape[1])
        self._found = np.empty(0, dtype=np.int64)

    def add(self, keys: HashArray, finer: HashArray) -> None:
        """Look at the buckets of one band.

        Args:
            keys: `(c,)` band keys in survivor order; equal keys are one bucket.
            finer: `(c,)` keys of another band; they split buckets larger than `FULL` for a second, complete look.
        """
        new = []
        large = np.zeros(len(keys), dtype=np.bool_)
        for members in buckets(keys):
            if members.shape[1] <= FULL:
                new += list(self._passing(_all_pairs(members)))
            else:
                large[members[0]] = True
                new += list(self._passing(_neighbours(members[0])))
                new += self._with_leaders(members[0])
        rows = np.flatnonzero(large)
        for members in buckets(mix(keys[rows]) ^ finer[rows]):
            if members.shape[1] <= FULL:
                new += list(self._passing(_all_pairs(rows[members])))
        self._found = distinct(np.concatenate([self._found, *(self._code(pair) for pair in new)]))

    def pairs(self) -> IntArray:
        """`(m, 2)` pairs (earlier, later), sorted by the later one, then by the earlier one."""
        later, earlier = np.divmod(self._found, max(1, len(self._sketches)))
        return np.stack([earlier, later], axis=1)

    def _code(self, pairs: IntArray) -> IntArray:
        return pairs[:, 1] * len(self._sketches) + pairs[:, 0]

    def _matches(self, earlier: IntArray, later: IntArray) -> IntArray:
        return np.count_nonzero(self._sketches[earlier] == self._sketches[later], axis=1)

    def _passing(self, pairs: IntArray) -> Iterator[IntArray]:
        for lo in range(0, len(pairs), _CHUNK):
            chunk = pairs[lo : lo + _CHUNK]
            yield chunk[self._matches(chunk[:, 0], chunk[:, 1]) >= self._least]

    def _with_leaders(self, members: IntArray) -> list[IntArray]:
        """Pairs of leaders with all behind them; the next leader is the first that no leader surely covers."""
        result = []
        uncovered = members
        for _ in range(LEADERS):
            if len(uncovered) < 2:
                break
            leader = uncovered[0]
            behind = members[members > leader]
            matches = self._matches(leader[np.newaxis], behind)
            near = behind[matches >= self._least]
            result.append(np.stack([np.full_like(near, leader), near], axis=1))
            uncovered = np.setdiff1d(uncovered[1:], behind[matches >= self._sure], assume_unique=True)
        return result


def buckets(keys: HashArray) -> Iterator[IntArray]:
    """Positions of equal keys as arrays `(buckets, size)`: those of one size together up to `FULL`, larger ones alone.

    Positions ascend within a bucket; buckets of one document are left out.
    """
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    starts = (
        np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]])) if len(keys) else np.empty(0, np.int64)
    )
    sizes = np.diff(np.concatenate([starts, [len(keys)]]))
    for size in distinct(sizes[sizes > 1]).tolist():
        first = starts[sizes == size]
        if size <= FULL:
            yield order[first[:, np.newaxis] + np.arange(size)]
        else:
            yield from (order[np.newaxis, lo : lo + size] for lo in first.tolist())


def _all_pairs(members: IntArray) -> IntArray:
    earlier, later = np.triu_indices(members.shape[1], k=1)
    return np.stack([members[:, earlier].ravel(), members[:, later].ravel()], axis=1)


def _neighbours(members: IntArray) -> IntArray:
    return np.concatenate(
        [np.stack([members[:-gap], members[gap:]], axis=1) for gap in range(1, min(NEIGHBOURS, len(members) - 1) + 1)]
    )
