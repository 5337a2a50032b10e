"""DSIR: documents by how much likelier their hashed n-grams are in a target set than in the corpus."""

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from prereq.selector.corpus.keys import KeyArray, id_keys, seeded_order

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

BUCKETS = 10_000
SMALLEST = 1e-8
"""Added to every probability, so that an n-gram which one side lacks has a finite weight."""

_WORDS = re.compile(r"\w+|[^\w\s]+")  # a word, or a run of punctuation


@lru_cache(maxsize=1 << 18)
def bucket(gram: str, buckets: int = BUCKETS) -> int:
    """The bucket of an n-gram, words joined by single spaces: its sha256 as an integer, modulo the buckets."""
    return int.from_bytes(hashlib.sha256(gram.encode()).digest()) % buckets


def gram_counts(text: str, buckets: int = BUCKETS) -> tuple[IntArray, IntArray]:
    """Buckets of a lower-cased text's words and pairs of words, ascending, and how often each occurs."""
    words = _WORDS.findall(text.lower())
    grams = words + [f"{one} {other}" for one, other in pairwise(words)]
    found = np.array([bucket(gram, buckets) for gram in grams], dtype=np.int64)
    kinds, counts = np.unique(found, return_counts=True)
    return kinds, counts


@dataclass(frozen=True, slots=True, eq=False)
class GramCounts:
    """How often each bucket occurs in a set of texts, `(buckets,)`; sets add up, so workers merge them."""

    counts: IntArray

    @classmethod
    def of(cls, texts: Iterable[str], buckets: int = BUCKETS) -> "GramCounts":
        """Of some texts."""
        total = np.zeros(buckets, dtype=np.int64)
        for text in texts:
            kinds, counts = gram_counts(text, buckets)
            total[kinds] += counts
        return cls(total)

    def __add__(self, other: "GramCounts") -> "GramCounts":
        """Of both sets together."""
        return GramCounts(self.counts + other.counts)

    def log_shares(self) -> FloatArray:
        """Log of each bucket's share plus SMALLEST `(buckets,)`, nats."""
        logs: FloatArray = np.log(self.counts / max(1, int(self.counts.sum())) + SMALLEST)
        return logs


def importance(text: str, target: GramCounts, raw: GramCounts) -> float:
    """Log importance weight of a text, nats: sum over its n-grams of log(share in target) - log(share in raw).

    Long documents reach larger weights; `weight` gives one per n-gram.

    Source:
        Xie et al. 2023, "Data Selection for Language Models via Importance Resampling", arXiv:2302.03169; code
        p-lambda/dsir (4802a1c): lower case, words and punctuation, one and two words, 10,000 buckets.
    """
    return weight(text, target.log_shares() - raw.log_shares())


def weight(text: str, ratio: FloatArray, *, per_gram: bool = False) -> float:
    """As `importance`, from the log ratio of each bucket `(buckets,)`; with `per_gram` the mean over the n-grams.

    A text without n-grams weighs 0: nothing speaks for it or against it.
    """
    kinds, counts = gram_counts(text, len(ratio))
    total = float((counts * ratio[kinds]).sum())
    return total / max(1, int(counts.sum())) if per_gram else total


def resample(log_weights: FloatArray, ids: Sequence[str], count: int, seed: int) -> IntArray:
    """Draw `count` documents without replacement, in proportion to their weights: the largest log weights + noise.

    Args:
        log_weights: `(n,)`, nats.
        ids: n document ids; the noise of each follows from its id and the seed, whatever part it lies in.
        count: At most n.
        seed: Of the noise.

    Returns:
        int64 `(count,)`, ascending indices; ties by index.

    Source:
        As `importance`; Gumbel top-k: Kool et al. 2019, arXiv:1903.06059.
    """
    if not 0 <= count <= len(log_weights) or len(ids) != len(log_weights):
        raise ValueError(f"resample: {count} of {len(log_weights)} documents")
    noise = gumbel_noise(id_keys(ids), seed, "dsir")
    return np.sort(np.argsort(-(log_weights + noise), kind="stable")[:count]).astype(np.int64)


def gumbel_noise(keys: KeyArray, seed: int, purpose: str) -> FloatArray:
    """Standard Gumbel noise of each document `(n,)`, a function of its key, the seed and the purpose."""
    uniform = (seeded_order(keys, seed, purpose) >> np.uint64(12)).astype(np.float64) + 0.5
    noise: FloatArray = -np.log(-np.log(uniform / 2.0**52))
    return noise
