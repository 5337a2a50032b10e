"""Which near-duplicate candidates stay: each one judged against the kept ones before it, and who belongs together."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from prereq.selector.corpus.shingles import HashArray, IntArray, jaccard

FloatArray = npt.NDArray[np.float64]

_PLAIN = 1 << 16  # pairs turned into Python integers at a time, at some 150 bytes each


class Verdict:
    """Survivors and components of candidates, built up pair by pair on exact Jaccard similarities.

    Args:
        candidates: How many there are; they are numbered in survivor order.
        threshold: Jaccard similarity.
    """

    def __init__(self, candidates: int, threshold: float) -> None:
        self._threshold = threshold
        self._survivor = list(range(candidates))
        self._parent = list(range(candidates))
        self._similarity = [1.0] * candidates

    def judge(self, pairs: IntArray, sets: dict[int, HashArray]) -> None:
        """Decide the later document of every pair.

        Args:
            pairs: `(m, 2)` (earlier, later), sorted by the later one, then the earlier one.
            sets: The shingle sets of all documents in the pairs.
        """
        best = 0.0
        current = -1
        for earlier, later in _plain(pairs):
            if later != current:
                current, best = later, 0.0
            kept = self._survivor[earlier] == earlier
            if not kept and self._root(earlier) == self._root(later):
                continue  # it can neither be a survivor nor connect anything
            a, b = sets[earlier], sets[later]
            if min(len(a), len(b)) / max(len(a), len(b)) < self._threshold:
                continue  # no set resembles one so much larger
            similarity = jaccard(a, b)
            if similarity < self._threshold:
                continue
            self._join(earlier, later)
            if kept and similarity > best:
                best = similarity
                self._survivor[later], self._similarity[later] = earlier, similarity

    def arrays(self) -> tuple[IntArray, IntArray, FloatArray]:
        """Survivor and component of every candidate (its own number where it is kept or alone), and the similarity."""
        roots = [self._root(candidate) for candidate in range(len(self._parent))]
        return np.array(self._survivor, np.int64), np.array(roots, np.int64), np.array(self._similarity, np.float64)

    def _root(self, candidate: int) -> int:
        parent = self._parent
        while parent[candidate] != candidate:
            parent[candidate] = candidate = parent[parent[candidate]]
        return candidate

    def _join(self, a: int, b: int) -> None:
        a, b = self._root(a), self._root(b)
        self._parent[max(a, b)] = min(a, b)


def _plain(pairs: IntArray) -> Iterator[list[int]]:
    for lo in range(0, len(pairs), _PLAIN):
        yield from pairs[lo : lo + _PLAIN].tolist()
