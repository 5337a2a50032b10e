"""Power laws of losses against tokens, L(n) = irreducible + scale * n^(-exponent), fitted for all arms at once."""

from dataclasses import dataclass

import numpy as np

from prereq.selector.mixers.simplex import BoolArray, FloatArray

EXPONENTS = (0.05, 2.0)
"""Least and largest exponent of a fit; the least is ADO's, and losses of language models fall far slower than n^-2."""

_GRID = 48
_GOLDEN_STEPS = 60
_GOLDEN = (np.sqrt(5.0) - 1.0) / 2.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ScalingLaws:
    """One law per arm, in units of a reference amount: L = irreducible + scale * (n / reference)^(-exponent).

    Attributes:
        irreducible: `(k,)`, nats, >= 0.
        scale: `(k,)`, nats at n = reference, >= 0.
        exponent: `(k,)`.
        reference: Tokens.
        fitted: bool `(k,)`, False for an arm with fewer than three measurements; its numbers mean nothing.
    """

    irreducible: FloatArray
    scale: FloatArray
    exponent: FloatArray
    reference: float
    fitted: BoolArray

    def loss(self, tokens: float) -> FloatArray:
        """L `(k,)` after `tokens` tokens, nats."""
        return self.irreducible + self.scale * (tokens / self.reference) ** -self.exponent

    def speed(self, tokens: float) -> FloatArray:
        """-dL/dn `(k,)` = exponent * (L - irreducible) / n, nats per token, >= 0."""
        return self.exponent * (self.loss(tokens) - self.irreducible) / tokens


def fit_scaling_laws(tokens: FloatArray, losses: FloatArray, measured: BoolArray) -> ScalingLaws:
    """Least squares of the relative error, which is the error of log L where it is small.

    For a given exponent the best irreducible loss and scale are a linear problem of two unknowns that are not negative;
    the exponent is found on a grid, then by golden section between the neighbours of the best. No random start, so the
    same numbers give the same fit.

    Args:
        tokens: `(h,)`, > 0, tokens seen at each measurement.
        losses: `(h, k)`, nats, > 0; any number where not measured.
        measured: `(h, k)`.

    Returns:
        Laws, with the mean of the tokens' logarithm as reference.

    Source:
        The law of Hoffmann et al. 2022, arXiv:2203.15556, one variable. ADO (arXiv:2410.11820) fits the same form.
    """
    reference = float(np.exp(np.log(tokens).mean()))
    log_n = np.log(tokens / reference)[:, None]
    # weights (h, k) of squared errors: 1 / L^2
    usable = measured & (losses > 0)
    safe = np.where(usable, losses, 1.0)
    weights = np.where(usable, 1.0 / safe**2, 0.0)

    def at(exponent: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        return _linear_part(np.exp(-log_n * exponent), safe, weights)

    grid = np.geomspace(*EXPONENTS, _GRID)
    errors = np.array([at(np.full(losses.shape[1], exponent))[2] for exponent in grid])
    best = errors.argmin(axis=0)
    low, high = grid[np.maximum(best - 1, 0)], grid[np.minimum(best + 1, _GRID - 1)]
    for _ in range(_GOLDEN_STEPS):
        left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
        better = at(left)[2] <= at(right)[2]
        low, high = np.where(better, low, left), np.where(better, right, high)
    exponent = (low + high) / 2.0
    irreducible, scale, _ = at(exponent)
    fitted = usable.sum(axis=0) >= 3
    return ScalingLaws(irreducible=irreducible, scale=scale, exponent=exponent, reference=reference, fitted=fitted)


def _linear_part(x: FloatArray, y: FloatArray, w: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Best a, b >= 0 of sum w (y - a - b x)^2 per column, and that sum; all `(k,)` from `(h, k)`."""
    total = np.maximum(w.sum(axis=0), np.finfo(np.float64).tiny)
    mean_x, mean_y = (w * x).sum(axis=0) / total, (w * y).sum(axis=0) / total
    var = (w * (x - mean_x) ** 2).sum(axis=0)
    cov = (w * (x - mean_x) * (y - mean_y)).sum(axis=0)
    b = np.divide(cov, var, out=np.zeros_like(var), where=var > 0)
    a = mean_y - b * mean_x
    # at a bound the other unknown is the best on its own
    squares = (w * x * x).sum(axis=0)
    alone = np.divide((w * x * y).sum(axis=0), squares, out=np.zeros_like(squares), where=squares > 0)
    a, b = np.where(b < 0, mean_y, a), np.maximum(b, 0.0)
    a, b = np.maximum(a, 0.0), np.where(a < 0, alone, b)
    return a, b, (w * (y - a - b * x) ** 2).sum(axis=0)
