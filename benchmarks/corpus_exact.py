"""All pairs of near-duplicate documents, found without hashing or sampling: what deduplication is judged by.

Written apart from the product's code on purpose. A document is the set of its word 5-grams after NFKC, case folding and
collapsing of white space (a shorter text is one shingle of all its words); the similarity of two is that of Jaccard.
"""

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

IntArray = npt.NDArray[np.int64]
GROUP = 4096  # documents that share a shingle, at most, before all of their pairs are formed row by row


def normal_form(text: str) -> str:
    """The text by which documents are compared."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


@dataclass(frozen=True, slots=True)
class ShingleSets:
    """Sets of integers, one per document: `shingles[offsets[i]:offsets[i + 1]]`, ascending in rarity, rarest first."""

    shingles: IntArray
    offsets: IntArray

    def of(self, document: int) -> IntArray:
        """The set of one document."""
        return self.shingles[self.offsets[document] : self.offsets[document + 1]]

    def similarity(self, a: int, b: int) -> float:
        """Jaccard similarity of two documents."""
        common = len(np.intersect1d(self.of(a), self.of(b), assume_unique=True))
        return common / (len(self.of(a)) + len(self.of(b)) - common)


def shingle_sets(normal: Sequence[str], ngram: int = 5) -> ShingleSets:
    """Number the distinct n-grams of all documents, rarest first, and collect each document's.

    n-grams are numbered step by step: words first, then pairs of (number so far, next word), so equal numbers are equal
    n-grams, always.
    """
    words = [text.split(" ") for text in normal]
    # shorter documents are filled up with a word that no text can hold, so that they have exactly one n-gram
    filled = [own + [" "] * (ngram - len(own)) for own in words]
    counts = np.array([len(own) for own in filled])
    column = pa.array([word for own in filled for word in own], pa.large_string()).dictionary_encode()
    tokens = column.indices.to_numpy().astype(np.int64)
    grams = tokens
    for step in range(1, ngram):
        pairs = grams[: len(tokens) - step] * len(column.dictionary) + tokens[step:]
        grams = np.unique(pairs, return_inverse=True)[1]
    document = np.repeat(np.arange(len(normal)), counts)
    position = np.arange(len(tokens)) - np.repeat(np.cumsum(counts) - counts, counts)
    inside = (position + ngram <= np.repeat(counts, counts))[: len(grams)]
    owner, grams = document[: len(grams)][inside], grams[inside]
    size = int(grams.max()) + 1
    members = np.unique(owner * size + grams)
    owner, grams = np.divmod(members, size)
    rank = np.empty(size, dtype=np.int64)
    rank[np.argsort(np.bincount(grams, minlength=size), kind="stable")] = np.arange(size)
    ranked = np.sort(owner * size + rank[grams])
    offsets = np.searchsorted(ranked, np.arange(len(normal) + 1) * size)
    return ShingleSets(ranked % size, offsets)


def near_pairs(sets: ShingleSets, threshold: float) -> list[tuple[int, int, float]]:
    """Every pair of documents (a < b) whose similarity reaches the threshold.

    Prefix filtering (Chaudhuri, Ganti and Kaushik 2006; Bayardo, Ma and Srikant 2007): two sets of similarity t share
    one of the first |x| - ceil(t |x|) + 1 elements of each under any common order; the rarest first keeps lists short.
    """
    sizes = np.diff(sets.offsets)
    prefix = sizes - np.ceil(threshold * sizes - 1e-9).astype(np.int64) + 1
    document = np.repeat(np.arange(len(sizes)), prefix)
    place = np.arange(len(document)) - np.repeat(np.cumsum(prefix) - prefix, prefix)
    element = sets.shingles[sets.offsets[document] + place]
    order = np.lexsort((document, element))
    found = []
    codes = [np.unique(code) for code in _candidates(element[order], document[order], sizes, threshold)]
    for code in np.unique(np.concatenate([np.empty(0, np.int64), *codes])).tolist():
        a, b = divmod(code, len(sizes))
        similarity = sets.similarity(a, b)
        if similarity >= threshold:
            found.append((a, b, similarity))
    return found


def _candidates(element: IntArray, document: IntArray, sizes: IntArray, threshold: float) -> Iterator[IntArray]:
    """Codes a * n + b of pairs that share an element and whose sizes allow the threshold."""
    starts = np.flatnonzero(np.concatenate([[True], element[1:] != element[:-1]]))
    lengths = np.diff(np.concatenate([starts, [len(element)]]))
    for length in np.unique(lengths[lengths > 1]).tolist():
        first = starts[lengths == length]
        step = max(1, GROUP * GROUP // (length * length))
        for lo in range(0, len(first), step):
            members = document[first[lo : lo + step, np.newaxis] + np.arange(length)]
            left, right = np.triu_indices(length, k=1)
            a, b = members[:, left].ravel(), members[:, right].ravel()
            near = np.minimum(sizes[a], sizes[b]) >= threshold * np.maximum(sizes[a], sizes[b]) - 1e-9
            yield a[near] * len(sizes) + b[near]
