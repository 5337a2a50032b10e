"""DoReMi and group DRO: draw more of the arms whose loss is furthest above a reference model's, or simply highest."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from prereq.graph.influence import Influence
from prereq.selector.mixers.alignment import base_weights
from prereq.selector.mixers.arm_signals import LOSS_SOURCES, ArmReader, LossSource, check_losses
from prereq.selector.mixers.exponentiated import Tilt, log_weights
from prereq.selector.mixers.online import OnlineMixer, TiltRule
from prereq.selector.mixers.parameters import check_choice, check_flag, check_number
from prereq.selector.mixers.protocol import Arms, Observation
from prereq.selector.mixers.simplex import FloatArray

EXCESS = "excess_loss"


@dataclass(frozen=True, slots=True, kw_only=True)
class DoremiConfig:
    """Parameters of DoReMi; the defaults are those of its released code."""

    # eta, per nat of excess loss; where weights become nearly one-hot the authors advise 0.1
    learning_rate: float = 1.0
    # c in [0, 1), share of the base mixed into every mixture
    floor: float = 1e-4
    # true: the mean of all mixtures so far, which the paper hands to a second run; false: the newest, live
    average: bool = False
    # losses of the reference model by arm or skill id, nats per token; absent: the trainer reports `excess_loss`
    reference_losses: Mapping[str, float] | None = None
    # with reference losses, where this run's come from: the control split by skill, or `arm_losses` of training data
    losses: LossSource = "skills"
    # the mixture that the run starts from: tokens (the pool's token shares) or uniform (over the arms, as in the code)
    base: Literal["tokens", "uniform"] = "tokens"

    def __post_init__(self) -> None:
        """Check the parameters; raises ConfigError."""
        object.__setattr__(self, "learning_rate", check_number("learning_rate", self.learning_rate, low=0.0))
        object.__setattr__(self, "floor", check_number("floor", self.floor, low=0.0, high=1.0, open_high=True))
        check_flag("average", self.average)
        check_choice("losses", self.losses, LOSS_SOURCES)
        check_choice("base", self.base, ("tokens", "uniform"))
        if self.reference_losses is not None:
            checked = check_losses("reference_losses", self.reference_losses)
            object.__setattr__(self, "reference_losses", checked)


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupDroConfig:
    """Parameters of group DRO; the step size is the paper's."""

    # eta, per nat of loss
    learning_rate: float = 0.01
    # c in [0, 1), share of the base mixed into every mixture
    floor: float = 0.0
    # true: the mean of all mixtures so far; false: the newest, live
    average: bool = False
    # where the losses come from: the control split by skill, or `arm_losses` of the training data
    losses: LossSource = "skills"
    # the mixture that the run starts from: tokens (the pool's token shares) or uniform (over the arms, as in the paper)
    base: Literal["tokens", "uniform"] = "tokens"

    def __post_init__(self) -> None:
        """Check the parameters; raises ConfigError."""
        object.__setattr__(self, "learning_rate", check_number("learning_rate", self.learning_rate, low=0.0))
        object.__setattr__(self, "floor", check_number("floor", self.floor, low=0.0, high=1.0, open_high=True))
        check_flag("average", self.average)
        check_choice("losses", self.losses, LOSS_SOURCES)
        check_choice("base", self.base, ("tokens", "uniform"))


def make_doremi(config: DoremiConfig, arms: Arms, influence: Influence | None = None) -> OnlineMixer:
    """p in proportion to (previous p) * exp(eta * excess), then mixed with the base by `floor`.

    The excess of an arm is the mean over its tokens of max(loss - reference loss, 0), which only a trainer that holds a
    reference model can clip token by token: it reports the signal `excess_loss`, by arm or by skill. With
    `reference_losses` the difference of mean losses is clipped instead, which is at most the same number. An arm that
    was not measured keeps its newest excess, as in the released code, or its share where it never was.

    Raises:
        ConfigError: A reference loss for an unknown id.

    Source:
        Xie et al. 2023, "DoReMi", arXiv:2305.10429, Algorithm 1; code sangmichaelxie/doremi (7cde52d). Departures: the
        floor mixes in the base, which is 1/k only for `base: uniform`; one step per report, not per batch; the proxy's
        own loss is not reweighted, because this mixture is what it is trained on.
    """
    reader = ArmReader(arms, influence)
    given = config.reference_losses
    reference = None if given is None else reader.named("reference_losses", given)

    def read(observation: Observation) -> FloatArray:
        if reference is None:
            return reader.signal(observation, EXCESS)
        excess: FloatArray = np.maximum(reader.losses(observation, config.losses) - reference, 0.0)
        return excess

    tilt = Tilt(
        log_prior=log_weights(base_weights(arms, config.base)),
        learning_rate=config.learning_rate,
        floor=config.floor,
        memory=0.0,
        average=config.average,
    )
    rule = TiltRule(tilt, read, () if reference is not None else (EXCESS,))
    return OnlineMixer("doremi", config, arms, influence, rule)


def make_group_dro(config: GroupDroConfig, arms: Arms, influence: Influence | None = None) -> OnlineMixer:
    """p in proportion to (previous p) * exp(eta * loss): DoReMi without a reference and without clipping.

    Source:
        Sagawa et al. 2020, "Distributionally Robust Neural Networks for Group Shifts", arXiv:1911.08731, Algorithm 1.
        The weights decide what is drawn, where the paper weighs the losses of what was drawn.
    """
    reader = ArmReader(arms, influence)

    def read(observation: Observation) -> FloatArray:
        return reader.losses(observation, config.losses)

    tilt = Tilt(
        log_prior=log_weights(base_weights(arms, config.base)),
        learning_rate=config.learning_rate,
        floor=config.floor,
        average=config.average,
    )
    return OnlineMixer("group_dro", config, arms, influence, TiltRule(tilt, read))
