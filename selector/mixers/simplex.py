"""Numbers on the simplex: softmax in log space, whole-number shares, caps. No mixer and no file is known here."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

SIMPLEX_TOLERANCE = 1e-9
"""How far the sum of a mixture may be from 1: thousands of roundings of 1e-16, far below one token of a round."""


def log_softmax(logits: FloatArray) -> FloatArray:
    """Logits minus the log of the sum of their exponentials, shifted by the largest so that nothing overflows.

    Args:
        logits: `(n,)`, nats; -inf marks an entry of weight exactly 0. At least one is finite, none is NaN or +inf.

    Returns:
        `(n,)` log weights, normalised.
    """
    if logits.size == 0 or not np.isfinite(np.max(logits)):
        raise ValueError("softmax needs at least one finite logit and no NaN or +inf")
    shifted = logits - np.max(logits)
    return shifted - np.log(np.exp(shifted).sum())


def softmax(logits: FloatArray) -> FloatArray:
    """Weights `(n,)` in proportion to exp(logits), summing to 1; equal logits give equal bits."""
    if logits.size == 0 or not np.isfinite(np.max(logits)):
        raise ValueError("softmax needs at least one finite logit and no NaN or +inf")
    weights = np.exp(logits - np.max(logits))
    return weights / weights.sum()


def logit_range(logits: FloatArray) -> float:
    """Largest minus smallest finite logit (nats): above about 5 a mixture is close to one-hot."""
    finite = logits[np.isfinite(logits)]
    return float(finite.max() - finite.min()) if finite.size else 0.0


def check_simplex(weights: FloatArray, *, size: int | None = None, where: str = "mixture") -> FloatArray:
    """Return `weights` as float64 `(n,)` after checking that they are finite, not negative and sum to 1.

    Args:
        weights: Shares `(n,)`.
        size: Expected n.
        where: Words for the message.

    Raises:
        ValueError: Shape, sign, NaN, or a sum more than 1e-9 away from 1.
    """
    array = np.asarray(weights, dtype=np.float64)
    if array.ndim != 1 or array.size == 0 or (size is not None and array.size != size):
        expected = "(n,)" if size is None else f"({size},)"
        raise ValueError(f"{where}: expected weights of shape {expected}, got {array.shape}")
    if not np.isfinite(array).all() or (array < 0).any():
        index = int(np.flatnonzero(~(np.isfinite(array) & (array >= 0)))[0])
        raise ValueError(f"{where}: weight {index} is {array[index]}; expected a finite number >= 0")
    if abs(float(array.sum()) - 1.0) > SIMPLEX_TOLERANCE:
        raise ValueError(f"{where}: weights sum to {array.sum()!r}; expected 1")
    return array


def apportion(weights: Sequence[float] | FloatArray, total: int, ids: Sequence[str] | None = None) -> IntArray:
    """Divide `total` things in proportion to the weights: the largest remainders get what rounding down leaves over.

    Computed in exact integers (a float is an exact fraction), so the result is the same on every machine, conserves
    `total` at any size, and ties are real ties. A weight of 0 gets nothing.

    Args:
        weights: `(n,)`, finite, not negative, not all 0; need not be normalised.
        total: How many to hand out, >= 0.
        ids: Names that break ties, ascending; by default the position does.

    Returns:
        int64 `(n,)` counts, each within 1 of its quota, summing to `total`.

    Raises:
        ValueError: Malformed weights, a negative total, or ids of another length.

    Source:
        Hamilton's method; Skill-It's released code gives the whole remainder to the last group instead.
    """
    values = [float(weight) for weight in weights]
    if any(not np.isfinite(value) or value < 0 for value in values) or not any(values):
        raise ValueError(f"apportion: weights must be finite, >= 0 and not all 0, got {values[:8]}")
    if total < 0 or (ids is not None and len(ids) != len(values)):
        raise ValueError(f"apportion: total {total} for {len(values)} weights and {len(ids or values)} ids")
    ratios = [value.as_integer_ratio() for value in values]
    scale = max(denominator for _, denominator in ratios)  # powers of two: the largest is the common denominator
    units = [numerator * (scale // denominator) for numerator, denominator in ratios]
    whole = sum(units)
    counts, remainders = [], []
    for unit in units:
        count, remainder = divmod(unit * int(total), whole)
        counts.append(count)
        remainders.append(remainder)
    order = sorted(range(len(values)), key=lambda i: (-remainders[i], ids[i] if ids is not None else "", i))
    for index in order[: int(total) - sum(counts)]:
        counts[index] += 1
    return np.array(counts, dtype=np.int64)


def water_fill(weights: FloatArray, caps: FloatArray) -> FloatArray:
    """Hold every weight under its cap; what is cut off flows to the others in proportion to their weights.

    The result is min(cap, level * weight) with the one level at which it sums to 1; a weight of 0 stays 0.

    Args:
        weights: Shares `(n,)` on the simplex.
        caps: `(n,)`, >= 0, may be infinite: the largest share that each can carry.

    Returns:
        Shares `(n,)`. Where nothing is over its cap, the weights themselves. Where the caps of the positive weights sum
        to less than 1, those caps (and the sum is below 1: the caller decides what an exhausted pool means).

    Raises:
        ValueError: Weights off the simplex, a negative or NaN cap, or shapes that differ.

    Source:
        Water-filling of repetition caps as in Olmix (p_j <= repeats * N_j / R).
    """
    weights = check_simplex(weights, where="water_fill")
    caps = np.asarray(caps, dtype=np.float64)
    if caps.shape != weights.shape or not (caps >= 0).all():
        raise ValueError(f"water_fill: caps must be {weights.shape} numbers >= 0, got shape {caps.shape}")
    positive = np.flatnonzero(weights > 0)
    w, c = weights[positive], caps[positive]
    if (w <= c).all():
        return weights.copy()
    filled = np.zeros_like(weights)
    if c.sum() < 1.0:
        filled[positive] = c
        return filled
    with np.errstate(divide="ignore"):
        meets = np.log(c) - np.log(w)  # log of the level at which each one meets its cap; a plain ratio could overflow
    order = np.argsort(meets, kind="stable")
    w_sorted, c_sorted = w[order], c[order]
    # left[j]: what the first j capped ones leave of 1; open_weight[j]: the weights of the rest, both (n,)
    left = np.maximum(1.0 - np.concatenate([[0.0], np.cumsum(c_sorted)[:-1]]), 0.0)
    open_weight = np.cumsum(w_sorted[::-1])[::-1]
    fits = np.flatnonzero(left * w_sorted <= c_sorted * open_weight)
    shares = c_sorted.copy()
    if fits.size:  # always, but for rounding where the caps sum to just 1
        first = int(fits[0])
        shares[first:] = np.minimum(c_sorted[first:], left[first] * (w_sorted[first:] / open_weight[first]))
    filled[positive[order]] = shares
    return filled
