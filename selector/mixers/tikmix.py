"""TiKMiX-D: the static mixture of high and even influence on all tasks, none of which gets less than from a prior."""

from dataclasses import dataclass

import numpy as np

from prereq.graph.errors import ConfigError
from prereq.selector.mixers.parameters import check_number
from prereq.selector.mixers.simplex import FloatArray, check_simplex

_SMALLEST = 1e-8
_INSIDE = 1e-9
"""Weights stay this far above 0 while the search goes on, so that the entropy has a slope."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TikmixConfig:
    """What counts beside the influence itself; the paper's defaults."""

    # alpha >= 0: weight of the standard deviation of influence over tasks
    evenness: float = 1.0
    # beta >= 0: weight of the summed influence
    gain: float = 1.0
    # gamma >= 0: weight of the mixture's entropy (nats)
    entropy: float = 1.0

    def __post_init__(self) -> None:
        """Check the parameters; raises ConfigError."""
        for name in ("evenness", "gain", "entropy"):
            object.__setattr__(self, name, check_number(name, getattr(self, name), low=0.0))


def expected_influence(influence: FloatArray, mixture: FloatArray) -> FloatArray:
    """S w `(n,)` of a mixture `(m,)`, each task in units of the largest influence that any domain has on it.

    Args:
        influence: S `(n, m)`: row, task; column, domain; larger is better. `Influence.matrix.T` of a learned one.
        mixture: w `(m,)`.
    """
    normalised: FloatArray = (influence @ mixture) / (influence.max(axis=1) + _SMALLEST)
    return normalised


def tikmix_mixture(influence: FloatArray, prior: FloatArray, config: TikmixConfig | None = None) -> FloatArray:
    """Minimise alpha std(P) - beta sum(P) - gamma H(w) over the simplex, P = `expected_influence`, with S w >= S prior.

    The problem is convex: P is linear in w. The prior itself is always allowed.

    Args:
        influence: S `(n, m)`, finite; each row has an entry above 0.
        prior: `(m,)` on the simplex.
        config: Weights of the three terms.

    Returns:
        `(m,)` on the simplex; S w falls short of S prior by 1e-6 of a task's largest influence at most.

    Raises:
        ConfigError: Shapes that do not fit, or a task that no domain helps.

    Source:
        "TiKMiX: Take Data Influence into Dynamic Mixture", 2025, arXiv:2508.17677: TiKMiX-D, solved by SLSQP as there.
        Influence is to be measured again as the model learns, and the mixture solved again: each call is one such
        moment.
    """
    from scipy.optimize import minimize  # part of the extra `jobs`; a trainer's environment has no use for it

    matrix, own = np.asarray(influence, dtype=np.float64), config or TikmixConfig()
    try:
        start = check_simplex(np.asarray(prior, dtype=np.float64), size=matrix.shape[1], where="prior")
    except (ValueError, IndexError) as error:
        raise ConfigError(f"tikmix: {error}") from error
    if matrix.ndim != 2 or not np.isfinite(matrix).all() or not (matrix.max(axis=1, initial=-np.inf) > 0).all():
        raise ConfigError("tikmix: expected finite influence (tasks, domains) with an entry above 0 in every row")
    scale = matrix.max(axis=1) + _SMALLEST
    rows = matrix / scale[:, None]  # P = rows @ w

    def objective(w: FloatArray) -> tuple[float, FloatArray]:
        values, inside = rows @ w, np.maximum(w, _INSIDE)
        gaps = values - values.mean()
        spread = float(np.sqrt((gaps**2).mean() + 1e-18))
        value = own.evenness * spread - own.gain * values.sum() + own.entropy * float((inside * np.log(inside)).sum())
        slope = own.evenness * rows.T @ gaps / (len(gaps) * spread) - own.gain * rows.sum(axis=0)
        return value, slope + own.entropy * (np.log(inside) + 1.0)

    found = minimize(
        objective,
        start,
        jac=True,
        method="SLSQP",
        bounds=[(0.0, 1.0)] * len(start),
        constraints=[
            {"type": "eq", "fun": lambda w: w.sum() - 1.0, "jac": lambda w: np.ones_like(w)},
            {"type": "ineq", "fun": lambda w: rows @ (w - start), "jac": lambda w: rows},
        ],
        options={"maxiter": 1000, "ftol": 1e-12},
    )
    weights = np.maximum(np.asarray(found.x, dtype=np.float64), 0.0)
    weights = weights / weights.sum()
    # a search that ended outside, or at something worse than where it began, has found nothing
    good = (rows @ (weights - start)).min() >= -1e-6 and objective(weights)[0] <= objective(start)[0]
    return weights if good else start
