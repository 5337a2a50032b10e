"""MASS: documents by the skills they are near, weighed by a graph of which skills occur together in a reference set."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class CooccurrenceGraph:
    """Adjacency A `(k, k)`, symmetric, >= 0: how important each skill and each pair of skills is.

    The diagonal (how often a skill occurs) sums to 1, and so does everything beside it (how often two occur together),
    unless no two do.
    """

    skills: tuple[str, ...]
    adjacency: FloatArray

    @classmethod
    def of(cls, items: Iterable[Sequence[str]], skills: Sequence[str]) -> "CooccurrenceGraph":
        """From the skills of each item of a reference set; a skill named twice in an item counts once.

        Raises:
            ValueError: An item names a skill that is not among `skills`, or no item names any.
        """
        index = {skill: place for place, skill in enumerate(skills)}
        counts = np.zeros((len(skills), len(skills)))
        for item in items:
            unknown = sorted(set(item) - set(index))
            if unknown:
                raise ValueError(f"co-occurrence: unknown skills {unknown[:5]}")
            places = sorted(index[skill] for skill in set(item))
            counts[places, places] += 1
            for one, other in combinations(places, 2):
                counts[one, other] += 1
                counts[other, one] += 1
        return cls.of_counts(counts, skills)

    @classmethod
    def of_counts(cls, counts: FloatArray, skills: Sequence[str]) -> "CooccurrenceGraph":
        """From occurrences (diagonal) and co-occurrences (both sides of it) `(k, k)`.

        Source:
            Li et al. 2025, "MASS", arXiv:2503.14917, eqs. 1 and 2: diagonal and rest are normalised apart.
        """
        occurrences = np.diag(counts).astype(np.float64)
        if not occurrences.sum() > 0:
            raise ValueError("co-occurrence: no item of the reference set names a skill")
        beside = counts - np.diag(occurrences)
        total = beside.sum()
        adjacency = np.diag(occurrences / occurrences.sum()) + (beside / total if total > 0 else 0.0)
        return cls(tuple(skills), adjacency)

    def linear(self, similarities: FloatArray) -> FloatArray:
        """s A 1 per document `(n,)` of similarities s `(n, k)`: nearness weighed by degree.

        Being linear in s, it sees of the graph only each skill's weighted degree.
        """
        scores: FloatArray = similarities @ self.adjacency.sum(axis=1)
        return scores

    def compositional(self, similarities: FloatArray, top: int | None = None) -> FloatArray:
        """s' A s per document `(n,)`, over similarities >= 0: also rewards skills that belong together.

        Args:
            similarities: s `(n, k)`; negative ones count as 0.
            top: Keep only each document's largest ones, ties by skill; None: all.
        """
        near = np.maximum(similarities, 0.0)
        if top is not None and top < near.shape[1]:
            order = np.argsort(-near, axis=1, kind="stable")[:, top:]
            near = near.copy()
            np.put_along_axis(near, order, 0.0, axis=1)
        scores: FloatArray = ((near @ self.adjacency) * near).sum(axis=1)
        return scores


def cosine_similarities(documents: FloatArray, skills: FloatArray) -> FloatArray:
    """Cosines of documents `(n, d)` and skills `(k, d)`, each skill's mean over the documents taken away.

    Raw cosines of text embeddings all lie near one value, so a ranking by them is one by that value; without the mean
    it is one by what sets documents apart. A vector of zeros is near nothing.

    Returns:
        `(n, k)`.
    """
    sides = []
    for vectors in (documents, skills):
        lengths = np.sqrt((vectors**2).sum(axis=1, keepdims=True))
        sides.append(np.divide(vectors, lengths, out=np.zeros_like(vectors, dtype=np.float64), where=lengths > 0))
    cosines: FloatArray = sides[0] @ sides[1].T
    return cosines - cosines.mean(axis=0)
