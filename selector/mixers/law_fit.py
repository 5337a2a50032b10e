"""Data mixing laws: predict the losses of a mixture from proxy runs on other mixtures.

L_i(p) = c_i + exp(t_i . p) for each evaluated group i, p a mixture of k parts. The published form has a factor,
c + a exp(t . p), but mixtures sum to 1: adding b to every t is the same as multiplying a by e^b, so a is 1 here.
"""

from dataclasses import dataclass

import numpy as np

from prereq.graph.errors import ConfigError
from prereq.selector.mixers.simplex import FloatArray, check_simplex

_GRID = 64
_GOLDEN_STEPS = 80
_GOLDEN = (np.sqrt(5.0) - 1.0) / 2.0
_POLISH_STEPS = 200
_GAP = 1e-6
"""How close, as a share of the smallest loss, the floor c may come to it: at it log(L - c) is infinite."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MixingLaws:
    """One law per evaluated group.

    Attributes:
        floor: c `(m,)`, nats, >= 0.
        slopes: t `(m, k)`, row = evaluated group, column = part of the mixture; a negative entry helps the group.
    """

    floor: FloatArray
    slopes: FloatArray

    def predict(self, mixtures: FloatArray) -> FloatArray:
        """Losses `(r, m)`, nats, of mixtures `(r, k)` on the simplex."""
        return self.floor + np.exp(np.asarray(mixtures, dtype=np.float64) @ self.slopes.T)

    def mean_loss(self, mixture: FloatArray, weights: FloatArray | None = None) -> float:
        """Weighted mean over the groups of the loss of one mixture `(k,)`; by default every group counts the same."""
        losses = self.predict(mixture[None, :])[0]
        return float(losses.mean() if weights is None else losses @ (weights / weights.sum()))


def fit_mixing_laws(mixtures: FloatArray, losses: FloatArray) -> MixingLaws:
    """Fit every group's law to proxy runs by least squares.

    For a given floor c, log(L - c) is linear in the mixture; c is found on a grid, then by golden section, and all
    parameters are polished together on the losses themselves (Levenberg-Marquardt). No random start.

    Args:
        mixtures: `(r, k)`, row = proxy run, on the simplex.
        losses: `(r, m)`, nats per token, > 0, of each run on each evaluated group.

    Returns:
        Laws; with fewer than k + 1 different mixtures the slopes are the shortest that fit.

    Raises:
        ConfigError: Shapes that do not fit, a mixture off the simplex, a loss that is not finite and positive.

    Source:
        Ye et al. 2024, "Data Mixing Laws", arXiv:2403.16952; code yegcjs/mixinglaws, which runs L-BFGS with a Huber
        loss from many starts.
    """
    runs = np.asarray(mixtures, dtype=np.float64)
    targets = np.asarray(losses, dtype=np.float64)
    if runs.ndim != 2 or targets.ndim != 2 or len(runs) != len(targets) or runs.size == 0 or targets.size == 0:
        raise ConfigError(
            f"mixing laws: mixtures {runs.shape} and losses {targets.shape}; expected (runs, parts) and (runs, groups)"
        )
    for index, row in enumerate(runs):
        try:
            check_simplex(row, where=f"mixture {index}")
        except ValueError as error:
            raise ConfigError(f"mixing laws: {error}") from error
    if not np.isfinite(targets).all() or (targets <= 0).any():
        run, group = np.argwhere(~(np.isfinite(targets) & (targets > 0)))[0]
        raise ConfigError(f"mixing laws: loss of run {run} on group {group} is {targets[run, group]}, expected > 0")
    fits = [_fit_one(runs, targets[:, group]) for group in range(targets.shape[1])]
    return MixingLaws(floor=np.array([fit[0] for fit in fits]), slopes=np.array([fit[1:] for fit in fits]))


def _fit_one(runs: FloatArray, losses: FloatArray) -> FloatArray:
    """(c, t) `(1 + k,)` of one group."""
    highest = float(losses.min()) * (1.0 - _GAP)

    def at(floor: float) -> tuple[float, FloatArray]:
        gap = losses - floor
        # an error of log(L - c) is an error of L times the gap: weigh by it
        slopes: FloatArray = np.linalg.lstsq(runs * gap[:, None], np.log(gap) * gap, rcond=None)[0].astype(np.float64)
        return float(((np.exp(runs @ slopes) - gap) ** 2).sum()), slopes

    # gaps to the smallest loss, evenly spaced in the logarithm: the fit changes fast where c comes close to it
    grid = losses.min() - np.geomspace(losses.min() - highest, losses.min(), _GRID)[::-1]
    grid = np.clip(grid, 0.0, highest)
    best = int(np.argmin([at(float(floor))[0] for floor in grid]))
    low, high = float(grid[max(best - 1, 0)]), float(grid[min(best + 1, _GRID - 1)])
    for _ in range(_GOLDEN_STEPS):
        left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
        low, high = (low, right) if at(left)[0] <= at(right)[0] else (left, high)
    floor = min(((low + high) / 2.0, float(grid[best])), key=lambda value: at(value)[0])
    return _polish(runs, losses, np.concatenate([[floor], at(floor)[1]]))


def _polish(runs: FloatArray, losses: FloatArray, start: FloatArray) -> FloatArray:
    """Levenberg-Marquardt on the squared errors of the losses, with c >= 0; never worse than the start."""

    def residual(point: FloatArray) -> FloatArray:
        with np.errstate(over="ignore"):
            return point[0] + np.exp(runs @ point[1:]) - losses

    point, damping = start, 1e-3
    error = float((residual(point) ** 2).sum())
    for _ in range(_POLISH_STEPS):
        slope = np.exp(runs @ point[1:])
        jacobian = np.column_stack([np.ones(len(runs)), slope[:, None] * runs])
        normal = jacobian.T @ jacobian
        scale = np.maximum(np.diag(normal), 1e-12)
        move = np.linalg.solve(normal + damping * np.diag(scale), jacobian.T @ residual(point))
        trial = point - move
        trial[0] = max(trial[0], 0.0)
        trial_error = float((residual(trial) ** 2).sum())
        if trial_error < error:
            point, error, damping = trial, trial_error, max(damping / 10.0, 1e-15)
        else:
            damping *= 10.0
            if damping > 1e12:
                break
    return point
