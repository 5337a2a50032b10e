"""Figures of a ranking by numbers, ties included: average precision, AUC, NDCG, Regret@k.

A tie is no order. Where it matters, a figure is the mean over all orders of what is tied, so a ranking that says
nothing (all tied) gets exactly what a random one gets on average, and no figure depends on the order of the input.
"""

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]


def average_precision(scores: FloatArray, relevant: BoolArray) -> float | None:
    """Mean over what is relevant of the precision among all that scores at least as high; None where nothing is.

    Args:
        scores: `(n,)`, higher is first.
        relevant: `(n,)`.
    """
    if not relevant.any():
        return None
    ends, hits = _tied_groups(scores, relevant)
    gained = np.diff(np.concatenate([[0], hits]))
    return float((gained * hits / ends).sum() / hits[-1])


def chance_precision(scores: FloatArray, relevant: BoolArray) -> float | None:
    """What `average_precision` is on average where as many items are relevant, but any: exact, for these ties.

    A tied group of g items that ends at rank e adds, over R of n relevant at random, g / e * (1 + (e - 1) (R - 1) /
    (n - 1)) / n: an item meets itself, and each of the e - 1 others with chance (R - 1) / (n - 1).
    """
    n, wanted = len(relevant), int(relevant.sum())
    if not wanted:
        return None
    ends, _ = _tied_groups(scores, relevant)
    sizes = np.diff(np.concatenate([[0], ends]))
    return float((sizes / ends * (1 + (ends - 1) * (wanted - 1) / max(1, n - 1))).sum() / n)


def area_under_curve(scores: FloatArray, relevant: BoolArray) -> float | None:
    """Chance that a relevant item scores higher than another one, a tie counting half; None without either."""
    wanted = int(relevant.sum())
    others = len(relevant) - wanted
    if not wanted or not others:
        return None
    ends, hits = _tied_groups(scores, relevant)
    sizes, gained = (np.diff(np.concatenate([[0], each])) for each in (ends, hits))
    below = others - (ends - hits)  # of the others, how many score lower than the group
    return float((gained * (below + (sizes - gained) / 2)).sum() / (wanted * others))


def ndcg(scores: FloatArray, gains: FloatArray) -> float:
    """Normalised discounted cumulative gain of the whole ranking: sum of gain / log2(1 + rank), over the best sum.

    Args:
        scores: `(n,)`, higher is first.
        gains: `(n,)`, at least one above 0; negative ones count as 0.

    Source:
        Järvelin and Kekäläinen 2002, with linear gains; ties as McSherry and Najork 2008.
    """
    gains = np.maximum(gains, 0.0)
    discounts = 1 / np.log2(np.arange(2, len(gains) + 2))
    _, group, sizes = np.unique(-scores, return_inverse=True, return_counts=True)
    ends = np.cumsum(sizes)
    total = np.concatenate([[0.0], np.cumsum(discounts)])
    mean = (total[ends] - total[ends - sizes]) / sizes  # mean discount of each tied group
    return float((gains * mean[group]).sum() / (np.sort(gains)[::-1] * discounts).sum())


def regret(scores: FloatArray, gains: FloatArray, k: int) -> float:
    """Regret@k: the share of the best gain that is lost by taking the best of the first k only, 0 to 1.

    Args:
        scores: `(n,)`, higher is first; of items tied at the border any are taken (the mean over all choices).
        gains: `(n,)`, at least one above 0; negative ones count as 0: what harms can be left alone.
        k: 1 or more.

    Source:
        Kim et al. 2023, "TaskWeb", arXiv:2305.13256, section 5 (there in percent).
    """
    gains = np.maximum(gains, 0.0)
    border = np.sort(scores)[::-1][min(k, len(scores)) - 1]
    sure = gains[scores > border]
    best = sure.max() if len(sure) else 0.0
    tied = np.sort(gains[scores == border])[::-1]
    drawn, n = min(k, len(scores)) - len(sure), len(tied)
    # chances: (n,), that the s-th best of the tied is the best of those drawn: C(n - s, drawn - 1) / C(n, drawn)
    behind = np.arange(n - 1, 0, -1)
    chances = drawn / n * np.cumprod(np.concatenate([[1.0], np.maximum(0, behind - drawn + 1) / behind]))
    return float(1 - (chances * np.maximum(tied, best)).sum() / gains.max())


def _tied_groups(scores: FloatArray, relevant: BoolArray) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Of each group of equal scores, the highest first: the rank at which it ends, and the relevant up to there."""
    values, group = np.unique(-scores, return_inverse=True)
    sizes = np.bincount(group, minlength=len(values))
    hits = np.bincount(group[relevant], minlength=len(values))
    return np.cumsum(sizes), np.cumsum(hits)
