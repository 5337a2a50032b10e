"""Iterative refinement (Diversify & Conquer): draw more of the arms whose last documents were worth the most."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from prereq.graph.influence import Influence
from prereq.selector.mixers.alignment import base_weights
from prereq.selector.mixers.arm_signals import ArmReader
from prereq.selector.mixers.exponentiated import Tilt, log_weights
from prereq.selector.mixers.online import OnlineMixer, TiltRule
from prereq.selector.mixers.parameters import check_choice, check_number
from prereq.selector.mixers.protocol import Arms, Observation
from prereq.selector.mixers.simplex import FloatArray

SCORE = "score"


@dataclass(frozen=True, slots=True, kw_only=True)
class RefinementConfig:
    """Parameters of iterative refinement."""

    # how a score moves a weight: product (w * score, the paper's) or exp (w * exp(score), where it may be negative)
    form: Literal["product", "exp"] = "product"
    # with form: product, the smallest score that counts; below it (rewards may be negative) an arm would die for good
    smallest_score: float = 1e-3
    # exponent of the score (product) or factor on it (exp); the paper's is 1
    learning_rate: float = 1.0
    # c in [0, 1), share of the base mixed into every mixture
    floor: float = 0.0
    # the mixture that the run starts from: uniform (over the arms, the paper's w = 1/k) or tokens (token shares)
    base: Literal["tokens", "uniform"] = "uniform"

    def __post_init__(self) -> None:
        """Check the parameters; raises ConfigError."""
        check_choice("form", self.form, ("product", "exp"))
        object.__setattr__(self, "smallest_score", check_number("smallest_score", self.smallest_score, low=1e-12))
        object.__setattr__(self, "learning_rate", check_number("learning_rate", self.learning_rate, low=0.0))
        object.__setattr__(self, "floor", check_number("floor", self.floor, low=0.0, high=1.0, open_high=True))
        check_choice("base", self.base, ("tokens", "uniform"))


def make_refinement(config: RefinementConfig, arms: Arms, influence: Influence | None = None) -> OnlineMixer:
    """p in proportion to (previous p) * max(score, smallest), or to (previous p) * exp(score).

    The trainer reports the signal `score` by arm or skill: the mean over the last round's documents of how much better
    the wanted answer is than the model's (a reward gap). A round should be a third of the budget: the paper uses three.

    Source:
        Yu et al. 2024, "Diversify and Conquer", arXiv:2409.11378, kMQ with iterative refinement. The paper's product of
        shares is not normalised and may be negative: we renormalise and clip. Its released code (for-ai/
        iterative-data-selection, 6ac5772) takes normalised exp(score) without the previous weights.
    """
    reader = ArmReader(arms, influence)

    def read(observation: Observation) -> FloatArray:
        score = reader.signal(observation, SCORE)
        if config.form == "exp":
            return score
        logs: FloatArray = np.log(np.maximum(score, config.smallest_score))  # NaN stays NaN
        return logs

    log_prior = log_weights(base_weights(arms, config.base))
    tilt = Tilt(log_prior=log_prior, learning_rate=config.learning_rate, floor=config.floor)
    return OnlineMixer("refinement", config, arms, influence, TiltRule(tilt, read, (SCORE,)))
