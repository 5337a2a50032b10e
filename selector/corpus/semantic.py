"""Semantic near duplicates: documents of one cluster whose vectors point the same way.

In survivor order, a document is kept unless the cosine of its vector with that of a kept one before it is at or above
the threshold; the most similar kept one, the first of equals, is named as its survivor. So no chain drops a document
that no kept one resembles.

Source:
    Abbas et al. 2023, "SemDeDup", arXiv:2303.09540. They keep, of each group that is connected by the threshold, the
    one farthest from the centroid; here the stated survivor order decides, as for other near duplicates.
"""

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]

_BLOCK = 512  # documents judged together; fixed, because the last bits of a product depend on its shape
_DIGITS = 6  # decimals that similarities are rounded to before they are compared, for the same reason


def find_survivors(vectors: FloatArray, threshold: float) -> tuple[IntArray, npt.NDArray[np.float64]]:
    """Apply the rule of this module to one cluster.

    Time grows with the documents of the cluster times those that stay; memory is that of the vectors and of `_BLOCK`
    rows of similarities.

    Args:
        vectors: `(n, d)` unit vectors in survivor order; a row of zeros resembles nothing.
        threshold: Cosine in (0, 1].

    Returns:
        `(n,)` the position of each document's survivor, its own where it is kept; `(n,)` their cosine, 1 where it is.
    """
    survivor, similarity = np.arange(len(vectors)), np.ones(len(vectors))
    kept = np.empty_like(vectors)  # the vectors that stay so far come first
    places = np.empty(len(vectors), dtype=np.int64)
    count = 0
    for start in range(0, len(vectors), _BLOCK):
        block = vectors[start : start + _BLOCK]
        best, place = _best(block, kept[:count], places[:count])
        within = _rounded(block @ block.T)
        own: list[int] = []  # rows of this block that stay, in order
        for row in range(len(block)):
            if own:
                nearest = own[int(np.argmax(within[row, own]))]
                if within[row, nearest] > best[row]:
                    best[row], place[row] = within[row, nearest], start + nearest
            if best[row] >= threshold:
                survivor[start + row], similarity[start + row] = place[row], best[row]
            else:
                kept[count], places[count] = block[row], start + row
                count += 1
                own.append(row)
    return survivor, similarity


def _best(block: FloatArray, kept: FloatArray, places: IntArray) -> tuple[npt.NDArray[np.float64], IntArray]:
    """The most similar of the kept ones for each row of a block, the first of equals: cosine (0 for none) and place."""
    best, place = np.zeros(len(block)), np.full(len(block), -1)
    for start in range(0, len(kept), _BLOCK):
        cosines = _rounded(block @ kept[start : start + _BLOCK].T)
        nearest = np.argmax(cosines, axis=1)
        found = cosines[np.arange(len(block)), nearest]
        better = found > best
        best[better], place[better] = found[better], places[start + nearest[better]]
    return best, place


def _rounded(cosines: FloatArray) -> npt.NDArray[np.float64]:
    return np.minimum(1.0, cosines.astype(np.float64)).round(_DIGITS)
