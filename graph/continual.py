"""Training in stages: what was kept and what was passed on, by the definitions of GEM and by those of CurLL.

`R (T, T)`: entry (t, i) is the score of stage i's skills at the end of stage t; higher is better, so losses go in with
their sign turned. The two sets of definitions share names and differ, hence `*_gem` and `*_curll`.
"""

import numpy as np
from numpy.typing import NDArray

from prereq.graph.errors import GraphError

FloatArray = NDArray[np.float64]


def transfer_gem(scores: FloatArray, untrained: FloatArray | None = None) -> dict[str, float | None]:
    """How learning in stages went, as means over stages.

    Args:
        scores: R `(T, T)`.
        untrained: Scores before any training `(T,)`, for the forward transfer.

    Returns:
        `accuracy_gem`: mean of R[T, i]. `backward_gem`: of R[T, i] - R[i, i], what later stages did for its skills.
        `forward_gem`: of R[i - 1, i] - untrained[i], what earlier ones did. `forgetting_gem`: of the best before the
        last stage minus R[T, i]. All but the first look at T - 1 stages; None where there is one only.

    Raises:
        GraphError: R is not square, or the scores are not finite.

    Source:
        Lopez-Paz and Ranzato 2017, "Gradient Episodic Memory", arXiv:1706.08840; forgetting: Chaudhry et al. 2018,
        arXiv:1801.10112.
    """
    stages = _check(scores, untrained)
    found: dict[str, float | None] = {"accuracy_gem": float(scores[-1].mean())}
    found |= dict.fromkeys(("backward_gem", "forward_gem", "forgetting_gem"))
    if stages > 1:
        found["backward_gem"] = float((scores[-1] - np.diag(scores))[:-1].mean())
        found["forgetting_gem"] = float((scores[:-1].max(axis=0) - scores[-1])[:-1].mean())
        if untrained is not None:
            found["forward_gem"] = float((np.diag(scores, 1) - untrained[1:]).mean())
    return found


def transfer_curll(
    scores: FloatArray, joint: FloatArray | None = None, independent: FloatArray | None = None
) -> dict[str, float | None]:
    """The same by CurLL's definitions, which compare with other runs.

    Args:
        scores: R `(T, T)`.
        joint: Final scores `(T,)` of a run on all stages at once, for the backward transfer.
        independent: Of a run on each stage alone `(T,)`, for the forward transfer.

    Returns:
        `forgetting_curll`: mean of the best at any stage, the last included, minus R[T, i]. `backward_curll`: of
        R[T, i] - joint[i]. `forward_curll`: of R[t, i] - independent[i] over all stages i that come after t; None for
        one stage.

    Raises:
        GraphError: As `transfer_gem`.

    Source:
        "CurLL", arXiv:2510.13008, as its published evaluation computes them.
    """
    stages = _check(scores, joint, independent)
    found: dict[str, float | None] = {"forgetting_curll": float((scores.max(axis=0) - scores[-1]).mean())}
    found |= dict.fromkeys(("backward_curll", "forward_curll"))
    if joint is not None:
        found["backward_curll"] = float((scores[-1] - joint).mean())
    if independent is not None and stages > 1:
        found["forward_curll"] = float((scores - independent)[np.triu_indices(stages, 1)].mean())
    return found


def _check(scores: FloatArray, *others: FloatArray | None) -> int:
    """The number of stages."""
    stages = len(scores)
    if scores.shape != (stages, stages) or not stages:
        raise GraphError(f"stages: scores of shape {scores.shape}, expected one row and one column a stage")
    for values in (scores, *others):
        if values is not None and (values.shape[-1:] != (stages,) or not np.isfinite(values).all()):
            raise GraphError(f"stages: expected {stages} finite scores, got {values}")
    return stages
