"""ODM: adversarial bandits (EXP3) over the arms, with the loss of what was drawn as the reward."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from prereq.graph.influence import Influence
from prereq.selector.mixers.alignment import base_weights
from prereq.selector.mixers.arm_signals import LOSS_SOURCES, ArmReader, LossSource
from prereq.selector.mixers.exponentiated import log_weights, step, step_range
from prereq.selector.mixers.online import OnlineMixer
from prereq.selector.mixers.parameters import check_choice, check_number, check_whole
from prereq.selector.mixers.protocol import Arms, Observation, State
from prereq.selector.mixers.simplex import FloatArray, softmax


@dataclass(frozen=True, slots=True, kw_only=True)
class OdmConfig:
    """Parameters of ODM; the defaults are those of its released code."""

    # nats that count as a reward of 1
    reward_scale: float = 10.0
    # reports during which the mixture stays the base, while the exploration rate already falls
    warm_up: int = 0
    # where the losses come from: the control split by skill, or `arm_losses` of the training data (the paper's)
    losses: LossSource = "skills"
    # the mixture that rewards move and exploration returns to: uniform (over the arms, the paper's) or tokens
    base: Literal["tokens", "uniform"] = "uniform"

    def __post_init__(self) -> None:
        """Check the parameters; raises ConfigError."""
        object.__setattr__(self, "reward_scale", check_number("reward_scale", self.reward_scale, low=1e-12))
        check_whole("warm_up", self.warm_up, low=0)
        check_choice("losses", self.losses, LOSS_SOURCES)
        check_choice("base", self.base, ("tokens", "uniform"))


def exploration(k: int, t: int) -> float:
    """epsilon_t = min(1/k, sqrt(ln k / (k t))), the least share of an arm after t reports; 1/k before any."""
    if t == 0:
        return 1.0 / k
    return min(1.0 / k, float(np.sqrt(np.log(k) / (k * t))))


class OdmRule:
    """p = (1 - k e_t) * softmax(e_{t-1} * R) + k e_t * base, with R the importance-weighted rewards added up.

    One report stands for many pulls: an arm's reward is weighed by (its share of the tokens drawn) / (its share of the
    mixture), which for a single pull is EXP3's 1 / p and for a round drawn as asked is 1. Where an arm was not drawn or
    not measured nothing is added.

    State keys: `rewards` float64 `(n,)`, `reports`.

    Source:
        Albalak et al. 2023, "Efficient Online Data Mixing", arXiv:2312.02406; code alon-albalak/online-data-mixing
        (edbfdad), whose exponent also takes the exploration rate of one report before. Departures: the max shift; t
        counts reports, not training iterations, so that the mixture moves from the first report on.
    """

    required_signals: tuple[str, ...] = ()

    def __init__(self, config: OdmConfig, arms: Arms, influence: Influence | None) -> None:
        """Fix the base."""
        self._config = config
        self._reader = ArmReader(arms, influence)
        self._log_base = log_weights(base_weights(arms, config.base))
        self._arms = int(np.isfinite(self._log_base).sum())

    def start(self) -> State:
        """No reward yet."""
        return {"rewards": np.zeros(len(self._log_base)), "reports": 0}

    def learn(self, state: State, observation: Observation) -> State:
        """Add the report's rewards; a report without a drawn and measured arm moves nothing, not even time."""
        losses = self._reader.losses(observation, self._config.losses)
        drawn = np.asarray(observation.drawn_tokens, dtype=np.float64)
        if drawn.size == 0 or drawn.sum() == 0:
            return dict(state)
        weights = self.weights(state)
        paid = (drawn > 0) & ~np.isnan(losses) & (weights > 0)
        if not paid.any():
            return dict(state)
        ratio = np.divide(drawn / drawn.sum(), weights, out=np.zeros_like(drawn), where=paid)
        gain = np.where(paid, losses, 0.0) / self._config.reward_scale * ratio
        rewards = np.asarray(state["rewards"], dtype=np.float64) + gain
        return dict(state) | {"rewards": rewards, "reports": int(state["reports"]) + 1}

    def weights(self, state: State) -> FloatArray:
        """The mixture after the reports so far."""
        t = int(state["reports"])
        floor = min(self._arms * exploration(self._arms, t), 1.0)
        if t == 0 or t <= self._config.warm_up or floor >= 1.0:
            return softmax(self._log_base)
        rate = exploration(self._arms, t - 1)
        return step(self._log_base, np.asarray(state["rewards"], dtype=np.float64), rate, floor=floor)

    def spread(self, state: State) -> float:
        """Range of e_{t-1} * R."""
        t = int(state["reports"])
        rewards = np.asarray(state["rewards"], dtype=np.float64)
        return step_range(self._log_base, rewards, exploration(self._arms, max(t - 1, 0)))


def make_odm(config: OdmConfig, arms: Arms, influence: Influence | None = None) -> OnlineMixer:
    """Make the mixer; see `OdmRule`."""
    return OnlineMixer("odm", config, arms, influence, OdmRule(config, arms, influence))
