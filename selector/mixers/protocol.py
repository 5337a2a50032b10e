"""What every mixer sees and offers: `Arms` (what can be drawn), `Observation` (what came back), `Mixer`."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real
from typing import Any, Protocol

import numpy as np

from prereq.graph.errors import FeedbackError, ManifestError
from prereq.graph.skill import nearest
from prereq.selector.mixers.shares import NO_SKILL, SkillShares
from prereq.selector.mixers.simplex import FloatArray, IntArray

State = dict[str, Any]
"""A mixer's state: str, int, float, None, lists, dicts and numpy arrays (never NaN); arrays may come back as lists."""

MAX_LOSS_NATS = 1e100
"""A loss above it is as good as infinite, and its products with an influence could overflow."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Arms:
    """What a mixture is over: the arms of a pool, in ascending order of id.

    Attributes:
        ids: n arm ids, ascending, unique.
        tokens: int64 `(n,)`, tokens in the pool per arm.
        rows: int64 `(n,)`, documents in the pool per arm.
        skills: k skill ids, without `_none`.
        shares: T `(n, k + 1)`, columns `skills` then `_none`.
        scores: Mean of each score of the pool's documents over the tokens of each arm, name -> float64 `(n,)`.
    """

    ids: tuple[str, ...]
    tokens: IntArray
    rows: IntArray
    skills: tuple[str, ...]
    shares: SkillShares
    scores: Mapping[str, FloatArray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check that the parts fit together.

        Raises:
            ManifestError: Ids out of order, shapes that differ, negative counts, no tokens at all.
        """
        n = len(self.ids)
        if any(a >= b for a, b in zip(self.ids, self.ids[1:], strict=False)):
            raise ManifestError(f"arm ids must be ascending and unique, got {list(self.ids)[:8]}")
        for name in ("tokens", "rows"):
            array = np.array(getattr(self, name), dtype=np.int64)
            if array.shape != (n,) or (array < 0).any():
                raise ManifestError(f"arms.{name}: expected {n} counts >= 0, got {array.tolist()[:8]}")
            array.setflags(write=False)
            object.__setattr__(self, name, array)
        if self.shares.n_arms != n or self.shares.columns != (*self.skills, NO_SKILL):
            raise ManifestError(f"arms.shares: {self.shares.shape} does not fit {n} arms and {len(self.skills)} skills")
        for name, values in self.scores.items():
            if values.shape != (n,) or not np.isfinite(values).all():
                raise ManifestError(f"arms.scores.{name}: expected {n} finite numbers, got {values.tolist()[:8]}")
        if n == 0 or self.tokens.sum() == 0:
            raise ManifestError(
                "the pool has no tokens in any arm; nothing can be drawn, check the corpus and its filters"
            )

    @classmethod
    def of_skills(cls, skills: Sequence[str], tokens: Sequence[int] | None = None) -> "Arms":
        """Arms that are the skills themselves (T = I), ordered by id; by default with equal tokens."""
        counts = dict(zip(skills, tokens if tokens is not None else [1] * len(skills), strict=True))
        ids = tuple(sorted(counts))
        amounts = np.array([counts[skill] for skill in ids], dtype=np.int64)
        return cls(ids=ids, tokens=amounts, rows=amounts, skills=ids, shares=SkillShares.identity(ids))

    @property
    def proportions(self) -> FloatArray:
        """Share of the pool's tokens per arm, `(n,)`, on the simplex."""
        return self.tokens / self.tokens.sum()

    @property
    def skill_tokens(self) -> FloatArray:
        """Tokens of the pool per column of T `(k + 1,)`, `_none` last."""
        return self.shares.transpose_dot(self.tokens.astype(np.float64))

    def skill_weights(self, mixture: FloatArray) -> dict[str, float]:
        """Share of the tokens per skill that a mixture `(n,)` draws, `_none` included; sums to 1."""
        return dict(zip(self.shares.columns, self.shares.transpose_dot(mixture).tolist(), strict=True))

    def spread_skills(self, per_column: FloatArray) -> FloatArray:
        """Hand each skill's weight `(k + 1,)` to the arms in proportion to that skill's tokens in them, `(n,)`.

        A skill without tokens loses its weight, so the result sums to the weights of the skills that have some.
        """
        amounts = self.skill_tokens
        # per token of the skill, (k + 1,)
        rate = np.divide(per_column, amounts, out=np.zeros_like(amounts), where=amounts > 0)
        return self.tokens * self.shares.dot(rate)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Observation:
    """One report of a trainer, applied once and in order.

    Attributes:
        round: The round that was trained on last; None for the untrained model.
        losses: Nats per token by evaluation skill; None or NaN where it was not measured.
        eval_tokens: Tokens behind each loss.
        arm_losses: Nats per token by arm, from training batches, where the trainer reports them.
        signals: Further numbers by name and id, as a mixer's `required_signals` asks for.
        drawn_tokens: float64 `(n,)`, tokens drawn per arm since the previous observation.
        tokens_seen: Tokens that the model has trained on.
    """

    round: int | None
    losses: Mapping[str, float | None]
    eval_tokens: Mapping[str, int] = field(default_factory=dict)
    arm_losses: Mapping[str, float] | None = None
    signals: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    drawn_tokens: FloatArray = field(default_factory=lambda: np.zeros(0))
    tokens_seen: int = 0


class Mixer(Protocol):
    """An algorithm that turns losses into the next mixture.

    An instance holds (configuration, arms, influence) and never changes; everything that moves is in the state.
    `update` is pure, so the same observations in the same order give the same bits.
    """

    @property
    def name(self) -> str:
        """Its name in MIXERS."""

    @property
    def uses_feedback(self) -> bool:
        """False when `update` never moves the mixture, so that no round has to wait for a report."""

    @property
    def required_signals(self) -> tuple[str, ...]:
        """Names that a report must carry in `signals`."""

    def init(self) -> State:
        """The state before any observation."""

    def update(self, state: State, observation: Observation) -> State:
        """The state after an observation; `state` is unchanged."""

    def mixture(self, state: State) -> FloatArray:
        """Shares of tokens `(n,)` on the simplex, in the order of `Arms.ids`."""

    def diagnostics(self, state: State) -> dict[str, float]:
        """Numbers for the log: at least `logit_range` (nats), see `exponentiated.sharpness_warning`."""


def round_number(observation: Observation) -> int:
    """The observation's place in time: -1 for the untrained model, else its round.

    Raises:
        FeedbackError: The round is not a whole number >= 0.
    """
    if observation.round is None:
        return -1
    if isinstance(observation.round, bool) or not isinstance(observation.round, int) or observation.round < 0:
        raise FeedbackError(f"feedback for round {observation.round!r}: expected a whole number >= 0 or None (initial)")
    return observation.round


def next_round(state: State, observation: Observation) -> int:
    """The observation's place in time, after checking that it is newer than `state["last_round"]`.

    Raises:
        FeedbackError: It is not: reports apply once, in order.
    """
    number, last = round_number(observation), state["last_round"]
    if last is not None and number <= last:
        raise FeedbackError(f"feedback of round {number} after that of round {last}; reports apply once, in order")
    return number


def aligned_losses(observation: Observation, ids: Sequence[str], known: Collection[str]) -> FloatArray:
    """Losses in the order of `ids`, by id, after checking the whole report.

    Args:
        observation: The report.
        ids: The m skills that are asked for.
        known: Every skill id that a report may name.

    Returns:
        float64 `(m,)`; NaN where a loss is None, NaN or absent.

    Raises:
        FeedbackError: An unknown skill, a loss that is no number, negative or infinite, or a loss over no tokens.
    """
    where = "the initial feedback" if observation.round is None else f"feedback of round {observation.round}"
    for skill, loss in observation.losses.items():
        if skill not in known:
            hint = nearest(skill, known)
            raise FeedbackError(f"{where}: unknown skill {skill!r}{hint}; report losses by the ids of the skill graph")
        if loss is None:
            continue
        if isinstance(loss, bool) or not isinstance(loss, Real) or loss < 0 or loss > MAX_LOSS_NATS:
            raise FeedbackError(f"{where}: loss of {skill!r} is {loss!r}; expected nats per token >= 0, or null")
        tokens = observation.eval_tokens.get(skill, 1)
        if not math.isnan(loss) and tokens <= 0:
            raise FeedbackError(f"{where}: loss of {skill!r} is {loss!r} over {tokens} tokens; report null instead")
    values = (observation.losses.get(skill) for skill in ids)
    return np.array([math.nan if value is None else float(value) for value in values], dtype=np.float64)
