"""Skill-It over clusters: draw more of what helps the skills whose loss is high, seen through the influence matrix."""

from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np

from prereq.graph.errors import ConfigError
from prereq.graph.influence import Influence
from prereq.selector.mixers.alignment import aligned_influence, base_weights, masked_base, state_key, target_columns
from prereq.selector.mixers.exponentiated import log_weights, step, step_range
from prereq.selector.mixers.history import LossHistory, Reduction, check_reduction
from prereq.selector.mixers.parameters import (
    PATH,
    check_choice,
    check_flag,
    check_ids,
    check_number,
    check_whole,
)
from prereq.selector.mixers.protocol import Arms, Observation, State, aligned_losses, next_round
from prereq.selector.mixers.simplex import FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class SkillItConfig:
    """Parameters of Skill-It; the defaults are the paper's for natural text, on token shares instead of uniform."""

    # eta, per (influence x nats x rounds in the window): only meaningful together with the influence's scale
    learning_rate: float = 0.2
    # w, rounds whose losses count; older ones are forgotten (not with reduction: ema, which forgets by its decay)
    window: int = 3
    # how losses become one vector: sum over the window (the paper; grows with it), mean over it, or ema over all
    reduction: Reduction = "sum"
    # with reduction: ema, weight in [0, 1) of a skill's loss over that of its next newer one; 0: the newest loss alone
    ema_decay: float | None = None
    # which losses a mixture may use: up to the end of the last round, or one round older (the paper's Algorithm 1)
    loss_timing: Literal["paper", "end_of_round"] = "end_of_round"
    # online moves with every report; static keeps the initial mixture, which the influence alone decides
    mode: Literal["online", "static"] = "online"
    # eq. 4 of the paper: carry the initial mixture and every loss, instead of a window
    accumulate: bool = False
    # c in [0, 1), share of the base distribution mixed into every mixture
    floor: float = 0.0
    # negative influences: keep (training there hurts, so a high loss lowers the weight) or clip to 0
    negatives: Literal["keep", "clip"] = "keep"
    # the mixture that the signal tilts: tokens (the pool's token shares) or uniform (over the arms, as in the paper)
    base: Literal["tokens", "uniform"] = "tokens"
    # evaluation skills to train for (fine-tuning); all of the influence's columns when absent
    targets: tuple[str, ...] | None = None
    # draw only tokens of targets and of skills with a path of positive influence to one; the rest is exactly 0
    mask: bool = False

    def __post_init__(self) -> None:
        """Check the parameters; raises ConfigError."""
        object.__setattr__(self, "learning_rate", check_number("learning_rate", self.learning_rate, low=0.0))
        object.__setattr__(self, "floor", check_number("floor", self.floor, low=0.0, high=1.0, open_high=True))
        check_whole("window", self.window, low=1)
        object.__setattr__(self, "ema_decay", check_reduction(self.reduction, self.ema_decay))
        check_choice("loss_timing", self.loss_timing, ("paper", "end_of_round"))
        check_choice("mode", self.mode, ("online", "static"))
        check_choice("negatives", self.negatives, ("keep", "clip"))
        check_choice("base", self.base, ("tokens", "uniform"))
        check_flag("accumulate", self.accumulate)
        check_flag("mask", self.mask)
        if self.targets is not None:
            object.__setattr__(self, "targets", check_ids("targets", self.targets))
        if self.accumulate and self.reduction != "sum":
            raise ConfigError(f"{PATH}.accumulate adds up every loss and has no {self.reduction}; use reduction: sum")


class SkillIt:
    """Mixture over arms: p in proportion to base * exp(eta * T (A l)), with l the reduced losses of the last rounds.

    The signal of an arm is the average, over its tokens, of what training on their skills does for the losses; T A is
    never formed. Before any loss is known l is a vector of ones, the paper's initial mixture. With the base on token
    shares, cutting an arm into two of the same make-up changes no skill's weight; with T = I and a uniform base this is
    Skill-It itself.

    The state holds losses by column of A and nothing of the size of the arms: `key` (of the configuration),
    `last_round` (-1 initial, None before any report) and the keys of `LossHistory`.

    Source:
        Chen et al. 2023, "Skill-it!", arXiv:2307.14430, Algorithm 1 and eq. 4. Departures: the base and the clusters; a
        mask that gives exactly 0 (their exp(0) does not); ids instead of positions; one row of losses per round, where
        their code takes one per evaluation; no change to the diagonal in static mode.
    """

    name = "skill_it"
    required_signals: tuple[str, ...] = ()

    def __init__(self, config: SkillItConfig, arms: Arms, influence: Influence) -> None:
        """Align A with T by id and fix the base.

        Raises:
            ConfigError: The influence has a training skill that the pool does not know, a target is not among its
                columns, or the mask leaves nothing to draw.
        """
        self.config = config
        self.uses_feedback = config.mode == "online"
        self._columns = target_columns(influence, config.targets)
        self._known = frozenset(influence.eval) | frozenset(arms.shares.columns)
        aligned = aligned_influence(influence, arms, self._columns)
        self._influence = np.maximum(aligned, 0.0) if config.negatives == "clip" else aligned
        base = base_weights(arms, config.base)
        self._log_base = log_weights(masked_base(arms, base, influence, self._columns) if config.mask else base)
        self._shares = arms.shares
        self._history = LossHistory(
            skills=len(self._columns),
            window=config.window,
            reduction=config.reduction,
            decay=config.ema_decay or 0.0,
            delay=1 if config.loss_timing == "paper" else 0,
            accumulate=config.accumulate,
        )
        self._key = state_key(self.name, asdict(config), arms, influence)

    def init(self) -> State:
        """No report yet."""
        return {"key": self._key, "last_round": None} | self._history.empty()

    def update(self, state: State, observation: Observation) -> State:
        """Take in one report; `state` is unchanged. A report without any loss that counts moves nothing.

        Raises:
            FeedbackError: A malformed report, or one that is not newer than the last.
            ConfigError: The state of another configuration.
        """
        self._check_key(state)
        if not self.uses_feedback:
            return dict(state)  # when a report arrives must not show in the manifests of a run that does not wait
        number = next_round(state, observation)
        row = aligned_losses(observation, self._columns, self._known)
        return self._history.add(state, row) | {"last_round": number}

    def mixture(self, state: State) -> FloatArray:
        """Shares of tokens `(n,)` on the simplex, in the order of `Arms.ids`."""
        return step(self._log_base, self._signal(state), self.config.learning_rate, floor=self.config.floor)

    def diagnostics(self, state: State) -> dict[str, float]:
        """`logit_range` (nats, of eta * signal) and `effective_arms` (the exponential of the mixture's entropy)."""
        weights = self.mixture(state)
        entropy = -float((weights * np.log(np.where(weights > 0, weights, 1.0))).sum())
        spread = step_range(self._log_base, self._signal(state), self.config.learning_rate)
        return {"logit_range": spread, "effective_arms": float(np.exp(entropy))}

    def _signal(self, state: State) -> FloatArray:
        self._check_key(state)
        per_skill = (self._influence * self._history.reduced(state)).sum(axis=1)  # A l, without BLAS and its threads
        return self._shares.dot(per_skill)

    def _check_key(self, state: State) -> None:
        if state.get("key") != self._key:
            raise ConfigError(
                f"mixer state has the key {state.get('key')!r}, this configuration {self._key!r}: it was written with "
                "other parameters, arms or influence ids; replay the feedback from `init`"
            )
