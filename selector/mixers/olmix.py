"""Olmix: the best static mixture under fitted laws, held near the corpus and within the data that there is."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from prereq.graph.errors import ConfigError
from prereq.selector.mixers.law_fit import MixingLaws
from prereq.selector.mixers.parameters import check_number
from prereq.selector.mixers.simplex import FloatArray, check_simplex, water_fill

Objective = Callable[[FloatArray], tuple[float, FloatArray, float]]

_STEPS = 20_000
_TOLERANCE = 1e-11
"""Largest change of a weight in a step at which the search ends; the objective is then off by about its square."""
_SLACK = 1e-13
"""Relative rounding of the objective: a step that differs by less is as good."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OlmixConfig:
    """How far a static mixture may go from the corpus."""

    # lambda >= 0, nats of mean loss that one nat of divergence from the prior costs
    penalty: float = 0.05
    # kappa > 0, how often the tokens of a part may be repeated
    repeats: float = 4.0

    def __post_init__(self) -> None:
        """Check the parameters; raises ConfigError."""
        object.__setattr__(self, "penalty", check_number("penalty", self.penalty, low=0.0))
        object.__setattr__(self, "repeats", check_number("repeats", self.repeats, low=1e-9))


def repetition_caps(available: FloatArray, requested: float, repeats: float) -> FloatArray:
    """Largest share of each part `(k,)`: repeats * available tokens / requested tokens of the whole run."""
    return repeats * np.asarray(available, dtype=np.float64) / requested


def best_mixture(
    laws: MixingLaws,
    prior: FloatArray,
    caps: FloatArray | None = None,
    *,
    penalty: float = 0.05,
    weights: FloatArray | None = None,
) -> FloatArray:
    """Minimise the mean predicted loss + penalty * KL(p || prior) over the simplex under caps.

    The problem is convex. Each step is exponentiated gradient with the penalty inside the step, and the projection of a
    mixture onto caps (in the same divergence) is water-filling; the step length follows the curvature and is halved
    until the loss is below its quadratic model, so every step goes down.

    Args:
        laws: Of m groups over k parts.
        prior: p0 `(k,)`, on the simplex, positive wherever the solution may be.
        caps: `(k,)`, largest shares; None for none.
        penalty: lambda, nats per nat.
        weights: Of the groups in the mean `(m,)`; by default equal.

    Returns:
        The mixture `(k,)`.

    Raises:
        ConfigError: Shapes that do not fit, or caps under which no mixture reaches 1.

    Source:
        Olmix (allenai/olmix): the objective, the penalty and the caps; it solves with a cone solver.
    """
    parts = laws.slopes.shape[1]
    try:
        base = check_simplex(prior, size=parts, where="prior")
    except ValueError as error:
        raise ConfigError(f"olmix: {error}") from error
    limits = np.full(parts, np.inf) if caps is None else np.asarray(caps, dtype=np.float64)
    if limits.shape != (parts,) or limits[base > 0].sum() < 1.0:
        raise ConfigError(
            f"olmix: the caps {limits.tolist()[:8]} leave no mixture of {parts} parts; ask for fewer tokens or allow "
            "more repeats"
        )
    return _descend(_objective(laws, weights), base, limits, penalty)


def _objective(laws: MixingLaws, weights: FloatArray | None) -> Objective:
    """The mean loss above the laws' floors, its gradient `(k,)`, and a bound on its curvature in the 1-norm."""
    share = np.full(len(laws.floor), 1.0 / len(laws.floor)) if weights is None else weights / weights.sum()
    # a mixture sums to 1, so what all slopes of a group have in common is a factor of its term
    middle = (laws.slopes.max(axis=1) + laws.slopes.min(axis=1)) / 2.0
    slopes = laws.slopes - middle[:, None]

    def objective(p: FloatArray) -> tuple[float, FloatArray, float]:
        terms = share * np.exp(slopes @ p + middle)
        # no entry of the Hessian is larger than the largest on its diagonal
        return float(terms.sum()), slopes.T @ terms, float((terms @ slopes**2).max())

    return objective


def _descend(loss: Objective, base: FloatArray, limits: FloatArray, penalty: float) -> FloatArray:
    """Proximal mirror descent in the KL divergence from a feasible start."""
    support = base > 0
    log_base = np.log(base[support])
    p = water_fill(base, limits)
    for _ in range(_STEPS):
        value, gradient, curvature = loss(p)
        # half of what the curvature here allows; rounding may hide a step that is too long, so never more
        length = 0.5 / max(curvature, 1e-9)
        log_p = np.log(p[support])
        while True:
            # argmin of gradient . q + penalty * KL(q || base) + KL(q || p) / length
            logits = (log_p + length * (penalty * log_base - gradient[support])) / (1.0 + length * penalty)
            raw = np.exp(logits - logits.max())
            step = np.zeros_like(p)
            step[support] = raw / raw.sum()
            step = np.maximum(water_fill(step, limits), np.where(support, 1e-300, 0.0))
            apart = float((step[support] * (np.log(step[support]) - log_p)).sum())
            if loss(step)[0] <= value + float(gradient @ (step - p)) + apart / length + _SLACK * (1.0 + value):
                break
            length /= 2.0
        change = float(np.abs(step - p).max())
        p = step
        if change <= _TOLERANCE:
            break
    return p / p.sum()


def expand_parts(ratio: FloatArray, solution: FloatArray) -> FloatArray:
    """Undo a collapse: the first entry of `solution` stands for parts in the frozen `ratio`, the others are new parts.

    Args:
        ratio: `(a,)`, on the simplex, the mixture inside the collapsed part.
        solution: `(1 + b,)`, on the simplex.

    Returns:
        `(a + b,)`, on the simplex.
    """
    inside = check_simplex(ratio, where="ratio")
    outside = check_simplex(solution, where="solution")
    return np.concatenate([outside[0] * inside, outside[1:]])
