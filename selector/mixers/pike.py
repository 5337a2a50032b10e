"""PiKE: draw more of the arms whose gradient is long and, for its length, steady."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from prereq.graph.errors import FeedbackError
from prereq.graph.influence import Influence
from prereq.selector.mixers.alignment import base_weights
from prereq.selector.mixers.arm_signals import LOSS_SOURCES, ArmReader, LossSource
from prereq.selector.mixers.exponentiated import Tilt, log_weights
from prereq.selector.mixers.online import OnlineMixer, TiltRule
from prereq.selector.mixers.parameters import check_choice, check_number, check_whole
from prereq.selector.mixers.protocol import Arms, Observation
from prereq.selector.mixers.simplex import FloatArray, softmax

GRADIENT_NORM = "gradient_norm"
GRADIENT_VARIANCE = "gradient_variance"


@dataclass(frozen=True, slots=True, kw_only=True)
class PikeConfig:
    """Parameters of PiKE; zeta1 and zeta2 follow the model's gradients and must be set for each model."""

    # zeta1 >= 0, per squared gradient norm; gradients grow with the model, so this is no constant of nature
    norm_rate: float = 0.1
    # zeta2 >= 0, per gradient variance
    variance_rate: float = 0.05
    # b, samples behind one gradient step
    batch: int = 256
    # tau >= 0, per nat: how much the balanced variant favours high losses (the paper uses 1 to 3); 0: plain PiKE
    balance: float = 0.0
    # for the balanced variant, where the losses come from: the control split by skill, or `arm_losses`
    losses: LossSource = "skills"
    # c in [0, 1), share of the base mixed into every mixture
    floor: float = 0.0
    # the mixture that the run starts from: tokens (the pool's token shares) or uniform (over the arms, as in the paper)
    base: Literal["tokens", "uniform"] = "tokens"

    def __post_init__(self) -> None:
        """Check the parameters; raises ConfigError."""
        object.__setattr__(self, "norm_rate", check_number("norm_rate", self.norm_rate, low=0.0))
        object.__setattr__(self, "variance_rate", check_number("variance_rate", self.variance_rate, low=0.0))
        object.__setattr__(self, "balance", check_number("balance", self.balance, low=0.0))
        object.__setattr__(self, "floor", check_number("floor", self.floor, low=0.0, high=1.0, open_high=True))
        check_whole("batch", self.batch, low=1)
        check_choice("losses", self.losses, LOSS_SOURCES)
        check_choice("base", self.base, ("tokens", "uniform"))


def balance_factor(losses: FloatArray, tau: float) -> FloatArray:
    """y `(n,)` = tau * exp(tau * L) / sum exp(tau * L) over the measured arms; NaN where not measured."""
    known = ~np.isnan(losses)
    factor = np.full_like(losses, np.nan)
    if known.any():
        factor[known] = tau * softmax(tau * losses[known])
    return factor


def make_pike(config: PikeConfig, arms: Arms, influence: Influence | None = None) -> OnlineMixer:
    """p in proportion to (previous p) * exp(zeta1 * norm^2 - zeta2 / (2 b) * variance).

    The trainer reports two signals by arm or skill: `gradient_norm`, the length of the group's mean gradient, and
    `gradient_variance`, the mean squared distance of one sample's gradient from it. With `balance` both terms are those
    of the tilted objective, whose gradient is y_k times the group's: they are multiplied by y_k squared. (y_k is over
    arms as they are cut; plain PiKE does not depend on the cut.)

    Source:
        Li et al. 2025, "PiKE", arXiv:2502.06244, Algorithm 1. The rates have no published defaults that carry over:
        ours are those of the worked example. An arm that was not measured keeps its share.
    """
    reader = ArmReader(arms, influence)

    def read(observation: Observation) -> FloatArray:
        norm = reader.signal(observation, GRADIENT_NORM)
        variance = reader.signal(observation, GRADIENT_VARIANCE)
        if (norm < 0).any() or (variance < 0).any():
            raise FeedbackError(
                f"feedback of round {observation.round}: {GRADIENT_NORM} and {GRADIENT_VARIANCE} must be >= 0"
            )
        gain = config.norm_rate * norm**2 - config.variance_rate / (2.0 * config.batch) * variance
        if config.balance > 0.0:
            gain = gain * balance_factor(reader.losses(observation, config.losses), config.balance) ** 2
        return gain

    tilt = Tilt(log_prior=log_weights(base_weights(arms, config.base)), learning_rate=1.0, floor=config.floor)
    return OnlineMixer("pike", config, arms, influence, TiltRule(tilt, read, (GRADIENT_NORM, GRADIENT_VARIANCE)))
