"""Velocitune: draw more of the arms that have gone the smallest part of their way from the first loss to the target."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from prereq.graph.errors import ConfigError
from prereq.graph.influence import Influence
from prereq.selector.mixers.alignment import base_weights
from prereq.selector.mixers.arm_signals import LOSS_SOURCES, ArmReader, LossSource, check_losses
from prereq.selector.mixers.exponentiated import Tilt, log_weights
from prereq.selector.mixers.online import OnlineMixer
from prereq.selector.mixers.parameters import PATH, check_choice, check_number
from prereq.selector.mixers.protocol import Arms, Observation, State
from prereq.selector.mixers.simplex import FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class VelocituneConfig:
    """Parameters of Velocitune."""

    # loss to reach by arm or skill id, nats per token; the paper extrapolates it by a scaling law from small runs
    target_losses: Mapping[str, float] | None = None
    # eta, per unit of what is left to learn (0 to 1); the paper's is 1
    learning_rate: float = 1.0
    # c in [0, 1), share of the base mixed into every mixture
    floor: float = 0.0
    # where the losses come from: the control split by skill, or `arm_losses` of the training data
    losses: LossSource = "skills"
    # the mixture that the run starts from: tokens (the pool's token shares, as in the paper) or uniform (over the arms)
    base: Literal["tokens", "uniform"] = "tokens"

    def __post_init__(self) -> None:
        """Check the parameters; raises ConfigError."""
        if self.target_losses is None:
            raise ConfigError(f"{PATH}.target_losses: velocitune needs the loss to reach for each arm or skill id")
        object.__setattr__(self, "target_losses", check_losses("target_losses", self.target_losses))
        object.__setattr__(self, "learning_rate", check_number("learning_rate", self.learning_rate, low=0.0))
        object.__setattr__(self, "floor", check_number("floor", self.floor, low=0.0, high=1.0, open_high=True))
        check_choice("losses", self.losses, LOSS_SOURCES)
        check_choice("base", self.base, ("tokens", "uniform"))


def left_to_learn(losses: FloatArray, first: FloatArray, target: FloatArray) -> FloatArray:
    """V `(n,)` = (loss - target) / (first - target), clipped to [0, 1]: 1 where nothing was learned, 0 at the target.

    A first loss at or below the target leaves no way to measure: V is then 0 at or below the target, 1 above it.

    Args:
        losses: Newest loss `(n,)`, nats; NaN where not measured.
        first: Loss of the first measurement `(n,)`, nats; NaN where there was none.
        target: Loss to reach `(n,)`, nats; NaN where none was given.

    Returns:
        `(n,)`, NaN where any of the three is.
    """
    way = first - target
    part = np.divide(losses - target, way, out=np.where(losses > target, 1.0, 0.0), where=way > 0)
    left: FloatArray = np.where(np.isnan(losses + first + target), np.nan, np.clip(part, 0.0, 1.0))
    return left


class VelocityRule:
    """p in proportion to (previous p) * exp(eta * V), with V what is left to learn.

    State keys beside those of `Tilt`: `first` float64 `(n,)` and `seen` bool `(n,)`, the first measured loss per arm.
    A report in which an arm is measured for the first time says V = 1 for it.

    Source:
        Luo et al. 2024, "Velocitune", arXiv:2411.14318; the guard against a target above the first loss is ours.
    """

    required_signals: tuple[str, ...] = ()

    def __init__(self, config: VelocituneConfig, arms: Arms, influence: Influence | None) -> None:
        """Align the targets.

        Raises:
            ConfigError: A target loss for an unknown id.
        """
        assert config.target_losses is not None  # the configuration refuses it
        self._reader = ArmReader(arms, influence)
        self._source: LossSource = config.losses
        self._target = self._reader.named("target_losses", config.target_losses)
        log_prior = log_weights(base_weights(arms, config.base))
        self._tilt = Tilt(log_prior=log_prior, learning_rate=config.learning_rate, floor=config.floor)

    def start(self) -> State:
        """The prior."""
        n = len(self._target)
        return self._tilt.start() | {"first": np.zeros(n), "seen": np.zeros(n, dtype=np.bool_)}

    def learn(self, state: State, observation: Observation) -> State:
        """Remember first losses, then move by what is left; the untrained model's report only sets first losses."""
        losses = self._reader.losses(observation, self._source)
        seen = np.asarray(state["seen"], dtype=np.bool_)
        known = seen | ~np.isnan(losses)
        first = np.where(seen, np.asarray(state["first"], dtype=np.float64), np.where(np.isnan(losses), 0.0, losses))
        new = dict(state) | {"first": first, "seen": known}
        if observation.round is None:
            return new
        return self._tilt.move(new, left_to_learn(losses, np.where(known, first, np.nan), self._target))

    def weights(self, state: State) -> FloatArray:
        """The core's mixture."""
        return self._tilt.weights(state)

    def spread(self, state: State) -> float:
        """The core's range."""
        return self._tilt.spread(state)


def make_velocitune(config: VelocituneConfig, arms: Arms, influence: Influence | None = None) -> OnlineMixer:
    """Make the mixer; see `VelocityRule`."""
    return OnlineMixer("velocitune", config, arms, influence, VelocityRule(config, arms, influence))
