"""SkillBandit: Skill-It with the graph as a prior: the losses of the run correct it, and uncertain arms get tried."""

from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np

from prereq.graph.errors import ConfigError, FeedbackError
from prereq.graph.influence import Influence
from prereq.selector.mixers.alignment import aligned_influence, base_weights, masked_base, state_key, target_columns
from prereq.selector.mixers.evidence import Beliefs, Posterior, Rows, deviation_times, mean_times, posterior
from prereq.selector.mixers.exponentiated import log_weights, step, step_range
from prereq.selector.mixers.history import LossHistory, Reduction, check_reduction
from prereq.selector.mixers.parameters import check_choice, check_flag, check_ids, check_number, check_whole
from prereq.selector.mixers.protocol import Arms, Observation, State, aligned_losses, next_round
from prereq.selector.mixers.simplex import FloatArray

_ROWS_AT_ONCE = 256  # of A, so that a product needs no second matrix of its size
_TOKENS = 2500  # behind a loss whose report does not say how many
_DROPS_TO_HALF = 10  # drops after which the losses are half way (in the logarithm) in the unit of the first ones


@dataclass(frozen=True, slots=True, kw_only=True)
class SkillBanditConfig:
    """Parameters of SkillBandit. With observation_weight 0 and bonus 0 it is Skill-It, bit for bit."""

    # eta, per (influence x nats x rounds in the window), as in skill_it
    learning_rate: float = 0.2
    # w, rounds whose losses count in the signal
    window: int = 3
    # how losses become one vector, as in skill_it: sum or mean over the window, or ema
    reduction: Reduction = "sum"
    # with reduction: ema, weight in [0, 1) of a skill's loss over that of its next newer one; 0: the newest loss alone
    ema_decay: float | None = None
    # which losses a mixture may use, as in skill_it
    loss_timing: Literal["paper", "end_of_round"] = "end_of_round"
    # c in [0, 1), share of the base distribution mixed into every mixture
    floor: float = 0.0
    # negative influences of the declared matrix: keep or clip to 0; what the run shows may be negative either way
    negatives: Literal["keep", "clip"] = "keep"
    # the mixture that the signal tilts: tokens (the pool's token shares) or uniform (over the arms)
    base: Literal["tokens", "uniform"] = "tokens"
    # evaluation skills to train for; all of the influence's columns when absent
    targets: tuple[str, ...] | None = None
    # draw only tokens of targets and of skills with a declared path to one; the rest is exactly 0 and stays untried
    mask: bool = False
    # once drops are seen, count the newest losses, in the unit of the first ones the more drops there are
    relative: bool = True
    # how often each observed drop counts: 0 trusts the declared influence alone
    observation_weight: float = 1.0
    # standard deviations of influence added to the signal of an arm for what is uncertain about it
    bonus: float = 0.05
    # rounds whose drops are remembered; also the rank of what is learned about the influence
    memory: int = 32
    # weight of a drop per round of age, in (0, 1]: the model changes, and so does its influence
    forgetting: float = 0.98
    # standard deviation of an influence around the declared one, in means of a skill's declared influence on itself
    prior_sd: float = 0.3
    # standard deviation of what a skill does for all skills alike beyond what is declared, same unit; 0: nothing
    row_sd: float = 0.15
    # standard deviation of an effect of every skill on every other that no edge declares, in the same unit
    level_sd: float = 0.3
    # standard deviation of the factor on all declared edges (1: the graph is right, 0: it says nothing)
    trust_sd: float = 1.0
    # relative standard deviation of a loss over one token: 1 makes it 2 % over 2,500 tokens
    noise: float = 1.0
    # weight of a neighbouring round, per round of distance, when the speed of learning is fitted, in [0, 1)
    smoothing: float = 0.97

    def __post_init__(self) -> None:
        """Check the parameters; raises ConfigError."""
        for name in ("learning_rate", "observation_weight", "bonus", "row_sd"):
            object.__setattr__(self, name, check_number(name, getattr(self, name), low=0.0))
        for name in ("floor", "smoothing"):
            value = check_number(name, getattr(self, name), low=0.0, high=1.0, open_high=True)
            object.__setattr__(self, name, value)
        for name in ("prior_sd", "level_sd", "trust_sd", "noise"):
            object.__setattr__(self, name, check_number(name, getattr(self, name), low=1e-6, high=1e6))
        object.__setattr__(self, "forgetting", check_number("forgetting", self.forgetting, low=0.1, high=1.0))
        check_whole("window", self.window, low=1)
        check_whole("memory", self.memory, low=1)
        object.__setattr__(self, "ema_decay", check_reduction(self.reduction, self.ema_decay))
        check_choice("loss_timing", self.loss_timing, ("paper", "end_of_round"))
        check_choice("negatives", self.negatives, ("keep", "clip"))
        check_choice("base", self.base, ("tokens", "uniform"))
        check_flag("mask", self.mask)
        check_flag("relative", self.relative)
        if self.targets is not None:
            object.__setattr__(self, "targets", check_ids("targets", self.targets))


class SkillBandit:
    """Mixture over arms: p in proportion to base * exp(eta * T (E[A] l + bonus * sd(A l))).

    E[A] and sd are those of `evidence.posterior`, given the drops in loss that the rounds in memory brought and the
    tokens per skill that were drawn in them; before any drop was seen E[A] is the declared influence. l is the reduced
    loss of Skill-It until a drop was seen, then that of `relative_losses`.

    The state is of the size of the skills, never of the arms nor of A: `key`, `last_round`, the keys of `LossHistory`,
    `first` `(m,)` (the first loss of each skill, 0 before it), and of the last rounds `seen` and `weights`
    `(h + 1, m)` (losses and tokens behind them, 0 where not measured), `shares` `(h, k + 1)` and `declared` `(h, m)`,
    as in `evidence.Rows`.

    Source:
        Ours; the signal is that of Chen et al. 2023, "Skill-it!", arXiv:2307.14430, the bonus that of Auer 2002, "Using
        confidence bounds for exploitation-exploration trade-offs" (LinUCB), in the logits instead of an arg max.
    """

    name = "skill_bandit"
    uses_feedback = True
    required_signals: tuple[str, ...] = ()

    def __init__(self, config: SkillBanditConfig, arms: Arms, influence: Influence) -> None:
        """Align A with T by id, fix the base and the prior.

        Raises:
            ConfigError: As SkillIt.
        """
        self.config = config
        self._arms = arms
        self._columns = target_columns(influence, config.targets)
        self._known = frozenset(influence.eval) | frozenset(arms.shares.columns)
        aligned = aligned_influence(influence, arms, self._columns)
        self._influence = np.maximum(aligned, 0.0, out=aligned) if config.negatives == "clip" else aligned
        base = base_weights(arms, config.base)
        self._log_base = log_weights(masked_base(arms, base, influence, self._columns) if config.mask else base)
        self._history = LossHistory(
            skills=len(self._columns),
            window=config.window,
            reduction=config.reduction,
            decay=config.ema_decay or 0.0,
            delay=1 if config.loss_timing == "paper" else 0,
        )
        self._beliefs = _beliefs(config, arms, self._columns, self._influence)
        self._key = state_key(self.name, asdict(config), arms, influence)

    def init(self) -> State:
        """No report yet."""
        m, k = self._influence.shape[1], self._influence.shape[0]
        rows = {"seen": np.zeros((0, m)), "weights": np.zeros((0, m)), "shares": np.zeros((0, k))}
        start: State = {"key": self._key, "last_round": None, "declared": np.zeros((0, m)), "first": np.zeros(m)}
        return start | rows | self._history.empty()

    def update(self, state: State, observation: Observation) -> State:
        """Take in one report; `state` is unchanged. Losses move the signal, drops between reports the influence.

        Raises:
            FeedbackError: A malformed report, or one that is not newer than the last.
            ConfigError: The state of another configuration.
        """
        self._check_key(state)
        number = next_round(state, observation)
        row = aligned_losses(observation, self._columns, self._known)
        tokens = [observation.eval_tokens.get(skill, _TOKENS) for skill in self._columns]
        weights = np.where(np.isnan(row), 0.0, np.array(tokens, dtype=np.float64))
        new = self._history.add(state, row) | {"last_round": number}
        start = np.asarray(state["first"], dtype=np.float64)
        new["first"] = np.where((start > 0.0) | np.isnan(row), start, row)
        rows = self._rows(state)
        first = max(len(rows.losses) - self.config.memory, 0)  # the report before the oldest remembered round
        new["seen"] = np.vstack([rows.losses, np.where(np.isnan(row), 0.0, row)])[first:]
        new["weights"] = np.vstack([rows.tokens, weights])[first:]
        if len(rows.losses):
            shares = self._drawn_shares(observation)
            declared = np.einsum("k,km->m", shares, self._influence)
            new["shares"] = np.vstack([rows.shares, shares])[first:]
            new["declared"] = np.vstack([rows.declared, declared])[first:]
        return new

    def mixture(self, state: State) -> FloatArray:
        """Shares of tokens `(n,)` on the simplex, in the order of `Arms.ids`."""
        signal, _ = self._signal(state)
        return step(self._log_base, signal, self.config.learning_rate, floor=self.config.floor)

    def diagnostics(self, state: State) -> dict[str, float]:
        """`logit_range` (nats), `effective_arms`, and of the graph: `trust` (1 before any evidence) and `level`."""
        signal, fitted = self._signal(state)
        weights = step(self._log_base, signal, self.config.learning_rate, floor=self.config.floor)
        entropy = -float((weights * np.log(np.where(weights > 0, weights, 1.0))).sum())
        return {
            "logit_range": step_range(self._log_base, signal, self.config.learning_rate),
            "effective_arms": float(np.exp(entropy)),
            "trust": 1.0 if fitted is None else fitted.trust,
            "level": 0.0 if fitted is None else fitted.level,
        }

    def _signal(self, state: State) -> tuple[FloatArray, Posterior | None]:
        self._check_key(state)
        losses = self._history.reduced(state)
        fitted = posterior(self._rows(state), self._beliefs, self.config.observation_weight)
        if fitted is not None and self.config.relative:
            newest, reports = self._history.newest(state)
            counted = reports if self.config.reduction == "sum" else 1
            start = np.asarray(state["first"], dtype=np.float64)
            losses = counted * relative_losses(newest, start, len(fitted.scale))
        per_skill = _times(self._influence, losses)
        if fitted is not None:
            per_skill = mean_times(fitted, per_skill, losses, self._beliefs)
        if self.config.bonus > 0.0:
            per_skill = per_skill + self.config.bonus * deviation_times(fitted, losses, self._beliefs)
        return self._arms.shares.dot(per_skill), fitted

    def _drawn_shares(self, observation: Observation) -> FloatArray:
        """Shares per column of T `(k + 1,)` of what was drawn since the last report; zeros when nothing was."""
        drawn = np.asarray(observation.drawn_tokens, dtype=np.float64)
        if drawn.shape != (len(self._arms.ids),) or not np.isfinite(drawn).all() or (drawn < 0).any():
            raise FeedbackError(
                f"feedback of round {observation.round}: drawn_tokens has shape {drawn.shape}; the mixer skill_bandit "
                f"needs the tokens >= 0 of all {len(self._arms.ids)} arms since the last report"
            )
        return self._arms.shares.transpose_dot(drawn) / max(float(drawn.sum()), 1.0)

    def _rows(self, state: State) -> Rows:
        # a state that went through JSON holds lists, and an empty list has no second dimension
        k, m = self._influence.shape
        shapes = {"seen": m, "weights": m, "shares": k, "declared": m}
        arrays = {name: np.asarray(state[name], dtype=np.float64).reshape(-1, size) for name, size in shapes.items()}
        return Rows(
            losses=arrays["seen"], tokens=arrays["weights"], shares=arrays["shares"], declared=arrays["declared"]
        )

    def _check_key(self, state: State) -> None:
        if state.get("key") != self._key:
            raise ConfigError(
                f"mixer state has the key {state.get('key')!r}, this configuration {self._key!r}: it was written with "
                "other parameters, arms or influence ids; replay the feedback from `init`"
            )


def relative_losses(newest: FloatArray, first: FloatArray, drops: int) -> FloatArray:
    """The newest losses, scaled towards what the same skills' first losses summed to.

    Which arms help most does not depend on the unit of the losses, but exp(eta * signal) does: as losses fall it goes
    flat. In the unit of the first losses it keeps the sharpness that the learning rate had at the start. A few drops
    say little about the influence, and a sharp mixture would follow their noise, so the unit moves as drops come in:
    the factor is (sum of first / sum of newest) ** (drops / (drops + 10)).

    Args:
        newest: `(m,)`, nats; NaN where not measured.
        first: `(m,)`, nats; above 0 where a loss above 0 was ever measured.
        drops: Rounds that the influence was learned from.

    Returns:
        `(m,)`; 0 for a skill that was not measured, all 0 when nothing is left to learn.
    """
    measured = ~np.isnan(newest)
    now = np.where(measured, newest, 0.0)
    total, start = float(now.sum()), float(first[measured].sum())
    power = drops / (drops + _DROPS_TO_HALF)
    return now * (start / total) ** power if total > 0.0 and start > 0.0 else now


def _times(influence: FloatArray, losses: FloatArray) -> FloatArray:
    """A l `(k,)`, row by row as in Skill-It, with the same bits."""
    blocks = range(0, len(influence), _ROWS_AT_ONCE)
    return np.concatenate([(influence[start : start + _ROWS_AT_ONCE] * losses).sum(axis=1) for start in blocks])


def _beliefs(config: SkillBanditConfig, arms: Arms, columns: tuple[str, ...], influence: FloatArray) -> Beliefs:
    """The prior in units of the declared matrix: the mean influence of a skill on itself, else of all that is not 0."""
    row = {skill: index for index, skill in enumerate(arms.skills)}
    own_row = np.array([row.get(column, -1) for column in columns], dtype=np.int64)
    own = np.where(own_row >= 0, influence[own_row, np.arange(len(columns))], 0.0)
    sizes = np.abs(own[own != 0.0]) if own.any() else np.abs(influence[influence != 0.0])
    unit = float(sizes.mean()) if sizes.size else 1.0
    known = np.ones(len(influence))
    known[-1] = 0.0  # text without a skill teaches nothing
    return Beliefs(
        variance=(config.prior_sd * unit) ** 2 * known,
        own_row=own_row,
        own=own,
        known=known,
        row_sd=config.row_sd * unit,
        level_sd=config.level_sd * unit,
        trust_sd=config.trust_sd,
        noise=config.noise,
        forgetting=config.forgetting,
        smoothing=config.smoothing,
    )
