"""ADO: fit a scaling law to each arm's losses during the run and draw by how fast each loss is still falling."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from prereq.graph.influence import Influence
from prereq.selector.mixers.alignment import base_weights
from prereq.selector.mixers.arm_signals import LOSS_SOURCES, ArmReader, LossSource
from prereq.selector.mixers.exponentiated import log_weights, step, with_neutral
from prereq.selector.mixers.online import OnlineMixer
from prereq.selector.mixers.parameters import check_choice, check_number, check_whole
from prereq.selector.mixers.protocol import Arms, Observation, State
from prereq.selector.mixers.scaling_law import ScalingLaws, fit_scaling_laws
from prereq.selector.mixers.simplex import FloatArray, logit_range, softmax

SLOWEST = 50.0
"""Nats below the fastest arm at which a learning speed is held: e^-50 is a weight of 0 all the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdoConfig:
    """Parameters of ADO; shares and exponents are those of its released code."""

    # reports before the mixture moves, at least 3: a law has three unknowns
    warm_up: int = 4
    # reports that a law is fitted to; older ones are forgotten
    history: int = 64
    # weight in [0, 1) of the mean of all mixtures so far in the next one
    inertia: float = 0.9
    # s >= 0, exponent of an arm's credit, the smoothed share of it in what was drawn over its share of the base
    credit_exponent: float = 0.5
    # weight in [0, 1) of the past in that smoothed share
    credit_memory: float = 0.9
    # least share of an arm with a uniform base; with another base it is this times k times the arm's share of the base
    min_share: float = 0.01
    # where the losses come from: the control split by skill, or `arm_losses` of the training data (the paper's)
    losses: LossSource = "skills"
    # mu, the prior mixture: tokens (the pool's token shares) or uniform (over the arms)
    base: Literal["tokens", "uniform"] = "tokens"

    def __post_init__(self) -> None:
        """Check the parameters; raises ConfigError."""
        check_whole("warm_up", self.warm_up, low=3)
        check_whole("history", self.history, low=3)
        for name in ("inertia", "credit_memory"):
            object.__setattr__(self, name, check_number(name, getattr(self, name), low=0.0, high=1.0, open_high=True))
        object.__setattr__(self, "credit_exponent", check_number("credit_exponent", self.credit_exponent, low=0.0))
        object.__setattr__(self, "min_share", check_number("min_share", self.min_share, low=0.0, high=1.0))
        check_choice("losses", self.losses, LOSS_SOURCES)
        check_choice("base", self.base, ("tokens", "uniform"))


def raised(weights: FloatArray, least: FloatArray) -> FloatArray:
    """Weights `(n,)` on the simplex with every one at its least or above; the others give in proportion.

    max(least, level * weight) with the one level at which it sums to 1. (ADO's released code clips and then hands out a
    deficit that is always 0.)
    """
    low = np.zeros(len(weights), dtype=np.bool_)
    for _ in range(len(weights)):
        rest = weights[~low].sum()
        level = (1.0 - least[low].sum()) / rest if rest > 0 else 0.0
        under = ~low & (level * weights < least)
        if not under.any():
            break
        low |= under
    result = np.where(low, least, level * weights)
    return result / result.sum()


class AdoRule:
    """rho in proportion to mu * credit^s * (-dL/dn); p = inertia * (mean of past mixtures) + (1 - inertia) * rho.

    With losses by skill the laws are the skills', and an arm's speed is the mean over its tokens: the derivative of its
    mean loss. So a fit costs as much as there are skills, not arms.

    State keys: `tokens` `(h,)`, `losses` and `measured` `(h, g)`, the last reports by column of T or by arm; `credit`
    `(n,)`, the smoothed share of what was drawn; `total` `(n,)` and `mixtures`, the sum and number of mixtures so far;
    `weights` `(n,)`.

    Source:
        Jiang et al. 2024, "Adaptive Data Optimization", arXiv:2410.11820; code yidingjiang/ado (bc3d8d0). Departures:
        n is the tokens that the model has seen, not steps; the law is refitted at every report, by least squares of
        relative errors instead of L-BFGS from a grid with a Huber loss, with no smoothing filter before it (a loss over
        the control split is no minibatch loss); credit is relative to the base, so that identical arms keep the base.
    """

    required_signals: tuple[str, ...] = ()

    def __init__(self, config: AdoConfig, arms: Arms, influence: Influence | None) -> None:
        """Fix the base and the least shares."""
        self._config = config
        self._reader = ArmReader(arms, influence)
        self._log_base = log_weights(base_weights(arms, config.base))
        self._base = softmax(self._log_base)
        self._groups = len(arms.shares.columns) if config.losses == "skills" else len(arms.ids)
        self._least = min(config.min_share * int((self._base > 0).sum()), 1.0) * self._base

    def start(self) -> State:
        """No report yet."""
        return {
            "tokens": np.zeros(0),
            "losses": np.zeros((0, self._groups)),
            "measured": np.zeros((0, self._groups), dtype=np.bool_),
            "credit": self._base.copy(),
            "total": self._base.copy(),
            "mixtures": 1,
            "weights": self._base.copy(),
        }

    def learn(self, state: State, observation: Observation) -> State:
        """Keep the report, refit, move; a report before any token or without a loss moves nothing."""
        by_skill = self._config.losses == "skills"
        row = self._reader.losses_by_skill(observation) if by_skill else self._reader.losses(observation, "arms")
        known = ~np.isnan(row)
        tokens = np.asarray(state["tokens"], dtype=np.float64).reshape(-1)
        if not known.any() or observation.tokens_seen <= (tokens[-1] if tokens.size else 0):
            return dict(state)
        keep = self._config.history
        tokens = np.append(tokens, float(observation.tokens_seen))[-keep:]
        losses = np.asarray(state["losses"], dtype=np.float64).reshape(-1, self._groups)
        measured = np.asarray(state["measured"], dtype=np.bool_).reshape(-1, self._groups)
        losses = np.vstack([losses, np.where(known, row, 0.0)])[-keep:]
        measured = np.vstack([measured, known])[-keep:]
        credit = self._credit(state, observation)
        new = dict(state) | {"tokens": tokens, "losses": losses, "measured": measured, "credit": credit}
        if len(tokens) < min(self._config.warm_up, keep):
            return new
        return new | self._moved(new, fit_scaling_laws(tokens, losses, measured), float(tokens[-1]))

    def weights(self, state: State) -> FloatArray:
        """The newest mixture."""
        weights = np.asarray(state["weights"], dtype=np.float64)
        return weights / weights.sum()

    def spread(self, state: State) -> float:
        """Range (nats) of log(p / base)."""
        drawn = self._base > 0
        return logit_range(log_weights(self.weights(state)[drawn]) - self._log_base[drawn])

    def _credit(self, state: State, observation: Observation) -> FloatArray:
        credit = np.asarray(state["credit"], dtype=np.float64)
        drawn = np.asarray(observation.drawn_tokens, dtype=np.float64)
        if drawn.size == 0 or drawn.sum() == 0:
            return credit
        return self._config.credit_memory * credit + (1.0 - self._config.credit_memory) * drawn / drawn.sum()

    def _moved(self, state: State, laws: ScalingLaws, tokens: float) -> State:
        """What a fit changes: the mixture and the sum over mixtures."""
        total = np.asarray(state["total"], dtype=np.float64)
        rho = self._preference(state, laws, tokens)
        if rho is None:
            return {}
        inertia = self._config.inertia
        weights = raised(inertia * total / total.sum() + (1.0 - inertia) * rho, self._least)
        return {"weights": weights, "total": total + weights, "mixtures": int(state["mixtures"]) + 1}

    def _preference(self, state: State, laws: ScalingLaws, tokens: float) -> FloatArray | None:
        """rho `(n,)`; an arm without a law keeps its share of the base; None where no loss falls any more."""
        credit = np.asarray(state["credit"], dtype=np.float64)
        relative = np.divide(credit, self._base, out=np.zeros_like(credit), where=self._base > 0)
        falling = np.where(laws.fitted, laws.speed(tokens), np.nan)
        if self._config.losses == "skills":
            falling = self._reader.through_shares(falling)
        # a mean of speeds through shares is not negative, but for rounding
        speed = np.maximum(falling, 0.0) * relative**self._config.credit_exponent
        usable = ~np.isnan(speed) & (self._base > 0)
        if not usable.any() or not (speed[usable] > 0).any():
            return None
        signal = np.full_like(speed, np.nan)
        logs = log_weights(speed[usable])
        signal[usable] = np.maximum(logs, logs.max() - SLOWEST)
        return step(self._log_base, with_neutral(self._log_base, signal, 1.0), 1.0)


def make_ado(config: AdoConfig, arms: Arms, influence: Influence | None = None) -> OnlineMixer:
    """Make the mixer; see `AdoRule`."""
    return OnlineMixer("ado", config, arms, influence, AdoRule(config, arms, influence))
