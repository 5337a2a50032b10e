"""DoGE: draw more of the arms whose gradient points where the gradients of all the targets point."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from prereq.graph.influence import Influence
from prereq.selector.mixers.alignment import base_weights
from prereq.selector.mixers.arm_signals import ArmReader
from prereq.selector.mixers.exponentiated import Tilt, log_weights
from prereq.selector.mixers.online import OnlineMixer, TiltRule
from prereq.selector.mixers.parameters import check_choice, check_flag, check_number
from prereq.selector.mixers.protocol import Arms, Observation
from prereq.selector.mixers.simplex import FloatArray

ALIGNMENT = "alignment"
GRADIENT_NORM = "gradient_norm"
LARGEST_SCORE = 5.0
"""Scores are clipped to [0, 5 * step_size], as in the released code."""
SMALL_NORM = 1e-6
"""Added to the mean gradient norm, as in the released code, so that a model at rest divides by something."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DogeConfig:
    """Parameters of DoGE; mu and the floor are those of its released code."""

    # the trainer's learning rate: it scales the scores
    step_size: float = 5e-4
    # mu > 0, in units of score: the smaller, the further one report moves the mixture
    mu: float = 0.01
    # c in [0, 1), share of the base mixed into every mixture
    floor: float = 0.0
    # true: the mean of all mixtures so far, which the paper hands to a second run; false: the newest, live
    average: bool = False
    # the mixture that the run starts from: tokens (the pool's token shares) or uniform (over the arms, as in the paper)
    base: Literal["tokens", "uniform"] = "tokens"

    def __post_init__(self) -> None:
        """Check the parameters; raises ConfigError."""
        object.__setattr__(self, "step_size", check_number("step_size", self.step_size, low=0.0))
        object.__setattr__(self, "mu", check_number("mu", self.mu, low=1e-12))
        object.__setattr__(self, "floor", check_number("floor", self.floor, low=0.0, high=1.0, open_high=True))
        check_flag("average", self.average)
        check_choice("base", self.base, ("tokens", "uniform"))


def doge_scores(alignment: FloatArray, norms: FloatArray, step_size: float, base: FloatArray) -> FloatArray:
    """step_size * W / (mean gradient norm + 1e-6), clipped to [0, 5 * step_size], `(n,)`.

    Args:
        alignment: W `(n,)`, inner product of an arm's gradient with the sum of the targets' gradients; NaN where not
            measured.
        norms: `(n,)`, length of an arm's gradient, >= 0; NaN where not measured.
        step_size: The trainer's learning rate.
        base: `(n,)`, >= 0, how much each arm counts in the mean norm; equal in the paper.

    Returns:
        `(n,)`; NaN where the alignment is, everywhere where no norm was measured.
    """
    measured = ~np.isnan(norms) & (base > 0)
    if not measured.any():
        return np.full_like(alignment, np.nan)
    mean_norm = float((np.abs(norms[measured]) * base[measured]).sum() / base[measured].sum())
    scores: FloatArray = np.clip(alignment / (mean_norm + SMALL_NORM), 0.0, LARGEST_SCORE) * step_size
    return scores


def make_doge(config: DogeConfig, arms: Arms, influence: Influence | None = None) -> OnlineMixer:
    """p in proportion to (previous p) * exp(score / mu).

    The trainer reports two signals by arm or skill: `alignment`, the inner product of the group's gradient with the sum
    of the gradients of the targets (all groups, or one held out), taken before any clipping, which would change it; and
    `gradient_norm`, the length of the group's gradient.

    Source:
        Fan et al. 2023, "DoGE", arXiv:2310.15393; code Olivia-fsm/DoGE (88400e9). Departures: one step per report; an
        arm that was not measured keeps its share; the mean norm is over the base, so that cutting an arm in two changes
        nothing (over arms where the base is uniform).
    """
    reader = ArmReader(arms, influence)
    base = base_weights(arms, config.base)

    def read(observation: Observation) -> FloatArray:
        alignment = reader.signal(observation, ALIGNMENT)
        return doge_scores(alignment, reader.signal(observation, GRADIENT_NORM), config.step_size, base)

    tilt = Tilt(
        log_prior=log_weights(base),
        learning_rate=1.0 / config.mu,
        floor=config.floor,
        average=config.average,
    )
    return OnlineMixer("doge", config, arms, influence, TiltRule(tilt, read, (ALIGNMENT, GRADIENT_NORM)))
