"""From many small clusters to few large ones, and clusters of bounded size.

- `group_centroids`: small clusters are clustered once more by their centroids, as MoDE does (1,024 fine ones to a few
  coarse ones); a document's coarse cluster is a function of its fine one.
- `merge_near`: clusters whose centroids lie nearer than a distance become one, as CLIMB does.
- `merge_small`: clusters of too few documents join the nearest one.
- `balancing_prices`: a price per cluster, so that "largest cosine minus price" fills no cluster beyond a bound.

Sources:
    Ma et al. 2024, "MoDE: CLIP data experts via clustering"; Diao et al. 2025, "CLIMB: clustering-based iterative
    data mixture bootstrapping", arXiv:2504.13161. Prices: the dual of the assignment problem with capacities
    (Bertsekas 1988, "The auction algorithm").
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]

_KMEANS = 0x636F6172  # purpose of the random numbers of the coarse k-means
_STARTS = 10  # k-means++ starts over the fine centroids, of which the best counts
_ROUNDS = 300  # steps of prices at most
_MARGIN = 0.98  # of the bound: what prices aim at, because they swing around their aim
_STEP = 0.5  # of the first step, in units of the spread of cosines
_SHORTEST = 1e-6


def group_centroids(centroids: FloatArray, weights: npt.NDArray[np.float64], clusters: int, seed: int) -> IntArray:
    """Cluster the centroids of small clusters, each counting by its documents.

    Args:
        centroids: `(f, d)`, unit length.
        weights: `(f,)`, documents of each, at least one above 0.
        clusters: Wanted, at least 1; no more than f are made.
        seed: Chooses starts.

    Returns:
        `(f,)`, the group of each from 0 on, without gaps.
    """
    from sklearn.cluster import KMeans

    distinct = len(np.unique(centroids, axis=0))
    wanted = min(clusters, distinct)
    start = int(np.random.default_rng([seed, _KMEANS]).integers(2**31))
    with threadpool_limits(1):  # after the import above: only libraries that are loaded by then are held to one thread
        fitted = KMeans(wanted, n_init=_STARTS, random_state=start)
        groups = fitted.fit_predict(centroids.astype(np.float64), sample_weight=np.maximum(weights, _SHORTEST))
    return without_gaps(groups.astype(np.int64))


def merge_near(centroids: FloatArray, weights: npt.NDArray[np.float64], groups: IntArray, distance: float) -> IntArray:
    """Merge the two nearest groups, by their mean directions, until none lie nearer than `distance`.

    Args:
        centroids: `(f, d)` of what is grouped.
        weights: `(f,)`, documents of each.
        groups: `(f,)`, group of each, without gaps.
        distance: Euclidean, between unit vectors: 0 to 2 (1.414 is a right angle).

    Returns:
        `(f,)`, groups without gaps; never more than before.
    """

    def nearest(directions: npt.NDArray[np.float64], _sizes: npt.NDArray[np.float64]) -> tuple[int, int] | None:
        cosines = np.triu(directions @ directions.T, 1) + np.tril(np.full((len(directions),) * 2, -np.inf))
        best = int(np.argmax(cosines))  # the first of equals: the lowest numbers
        left, right = divmod(best, len(directions))
        apart = np.sqrt(max(0.0, 2 - 2 * float(cosines[left, right])))
        return (left, right) if apart < distance else None

    return _merge(centroids, weights, groups, nearest)


def merge_small(centroids: FloatArray, weights: npt.NDArray[np.float64], groups: IntArray, documents: int) -> IntArray:
    """Merge the smallest group into the nearest one until none has fewer than `documents`, or one is left."""

    def smallest(directions: npt.NDArray[np.float64], sizes: npt.NDArray[np.float64]) -> tuple[int, int] | None:
        small = int(np.argmin(sizes))
        if sizes[small] >= documents:
            return None
        cosines = directions @ directions[small]
        cosines[small] = -np.inf
        other = int(np.argmax(cosines))
        return min(small, other), max(small, other)

    return _merge(centroids, weights, groups, smallest)


def directions_of(centroids: FloatArray, weights: npt.NDArray[np.float64], groups: IntArray) -> FloatArray:
    """Unit centroid of each group, `(groups, d)`: the direction of its members' weighted sum."""
    return _unit(_sums(centroids, weights, groups)).astype(np.float32)


def without_gaps(groups: IntArray) -> IntArray:
    """Groups renumbered 0, 1, ... in their order."""
    return np.unique(groups, return_inverse=True)[1].astype(np.int64)


def balancing_prices(cosines: npt.NDArray[np.floating], bound: int) -> npt.NDArray[np.float32]:
    """Prices under which no cluster is the best of more than `bound` documents, where that can be had.

    Prices start at 0. A cluster over its bound becomes dearer, one below it cheaper down to 0, by a step times
    the share over or under; steps shrink, and the prices with the smallest largest cluster (the first of equals) win.
    Documents with equal vectors cannot be told apart, so more of them than the bound stay together.

    Args:
        cosines: `(n, k)`, of documents to centroids.
        bound: Documents, at least n / k.

    Returns:
        `(k,)`, 0 or more.
    """
    clusters = cosines.shape[1]
    prices = np.zeros(clusters)
    best, largest = prices, len(cosines) + 1
    spread = float(cosines.std()) or 1.0
    target = max(len(cosines) / clusters, _MARGIN * bound)
    for step in range(_ROUNDS):
        sizes = np.bincount((cosines - prices.astype(np.float32)).argmax(axis=1), minlength=clusters)
        if sizes.max() < largest:
            best, largest = prices, int(sizes.max())
        if largest <= bound:
            break
        over = np.clip((sizes - target) / target, -1.0, 1.0)
        prices = np.maximum(0.0, prices + _STEP * spread / np.sqrt(1 + step) * over)
    return best.astype(np.float32)


def _merge(
    centroids: FloatArray,
    weights: npt.NDArray[np.float64],
    groups: IntArray,
    choose: Callable[[npt.NDArray[np.float64], npt.NDArray[np.float64]], tuple[int, int] | None],
) -> IntArray:
    """Merge the pair that `choose` names (the second into the first), until it names none or one group is left."""
    groups = without_gaps(groups)
    sums = _sums(centroids, weights, groups)
    sizes: npt.NDArray[np.float64] = np.bincount(groups, weights=weights).astype(np.float64)
    while len(sums) > 1 and (pair := choose(_unit(sums), sizes)) is not None:
        left, right = pair
        sums[left] += sums[right]
        sizes[left] += sizes[right]
        sums, sizes = np.delete(sums, right, axis=0), np.delete(sizes, right)
        groups = np.where(groups == right, left, groups)
        groups = groups - (groups > right)
    return groups


def _sums(centroids: FloatArray, weights: npt.NDArray[np.float64], groups: IntArray) -> npt.NDArray[np.float64]:
    sums = np.zeros((int(groups.max()) + 1, centroids.shape[1]))
    np.add.at(sums, groups, centroids.astype(np.float64) * np.maximum(weights, _SHORTEST)[:, None])
    return sums


def _unit(sums: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    lengths = np.sqrt((sums * sums).sum(axis=1, keepdims=True))
    unit: npt.NDArray[np.float64] = sums / np.maximum(lengths, _SHORTEST)
    return unit
