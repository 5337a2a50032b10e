"""What a report says of each arm: signals and losses by arm, or by skill and through T. By id, never by position."""

import math
from collections.abc import Mapping
from numbers import Real
from typing import Literal

import numpy as np

from prereq.graph.errors import ConfigError, FeedbackError
from prereq.graph.influence import Influence
from prereq.graph.skill import nearest
from prereq.selector.mixers.parameters import PATH, check_number
from prereq.selector.mixers.protocol import Arms, Observation, aligned_losses
from prereq.selector.mixers.simplex import FloatArray

LossSource = Literal["skills", "arms"]
LOSS_SOURCES = ("skills", "arms")

MAX_SIGNAL = 1e100
"""A signal beyond it is as good as infinite, and its square could overflow."""


class ArmReader:
    """Reads one number per arm out of reports; made once per mixer.

    A number by skill becomes one by arm as the mean over the arm's tokens. Tokens of a skill that was not measured, and
    untagged ones, count as average measured tokens of the pool, so an arm moves as far as it is known; an arm without
    any measured token is NaN, "not measured". Cutting an arm in two of the same make-up changes neither part's number.
    """

    def __init__(self, arms: Arms, influence: Influence | None = None) -> None:
        """Index the ids; `influence` only adds evaluation skills that a report may name."""
        self.arms = arms
        self._known = frozenset(arms.shares.columns) | (frozenset(influence.eval) if influence else frozenset())
        self._arm_index = {arm: index for index, arm in enumerate(arms.ids)}
        self._column_index = {skill: index for index, skill in enumerate(arms.shares.columns)}

    def through_shares(self, per_column: FloatArray) -> FloatArray:
        """Numbers by column of T `(k + 1,)`, NaN where not measured, as numbers by arm `(n,)`."""
        known = ~np.isnan(per_column)
        values = np.where(known, per_column, 0.0)
        shares = self.arms.shares
        covered = shares.dot(known.astype(np.float64))  # (n,), share of each arm's tokens that was measured
        amounts = self.arms.skill_tokens * known
        if not (covered > 0).any() or amounts.sum() == 0:
            return np.full(len(self.arms.ids), np.nan)
        average = float((values * (amounts / amounts.sum())).sum())
        # deviations from the average, so that a constant stays that constant whatever the shares
        deviation = shares.dot(np.where(known, values - average, 0.0))
        return np.where(covered > 0, average + deviation, np.nan)

    def signal(self, observation: Observation, name: str) -> FloatArray:
        """A signal by arm `(n,)`, NaN where not measured; its ids are all arms or all skills.

        Raises:
            FeedbackError: The signal is absent (the report of the untrained model may leave it out), an id is unknown,
                or a value is no finite number (None and NaN mean "not measured").
        """
        values = observation.signals.get(name)
        if values is None:
            if observation.round is None:
                return np.full(len(self.arms.ids), np.nan)
            raise FeedbackError(
                f"{_where(observation)}: the signal {name!r} is absent; report signals={{{name!r}: {{id: number}}}}"
            )
        where = f"{_where(observation)}: signals.{name}"
        if all(key in self._arm_index for key in values):
            return _placed(values, self._arm_index, where)
        return self.through_shares(self.by_skill(observation, name))

    def by_skill(self, observation: Observation, name: str) -> FloatArray:
        """A signal by column of T `(k + 1,)`, NaN where not measured; all its ids are skills.

        Raises:
            FeedbackError: As `signal`.
        """
        values = observation.signals.get(name)
        if values is None:
            if observation.round is None:
                return np.full(len(self._column_index), np.nan)
            raise FeedbackError(
                f"{_where(observation)}: the signal {name!r} is absent; report signals={{{name!r}: {{skill: number}}}}"
            )
        for key in values:
            if key not in self._column_index:
                both = "; give a signal either by arm or by skill, not mixed" if key in self._arm_index else ""
                hint = both or nearest(key, (*self._column_index, *self._arm_index))
                raise FeedbackError(f"{_where(observation)}: signals.{name}: unknown skill {key!r}{hint}")
        return _placed(values, self._column_index, f"{_where(observation)}: signals.{name}")

    def losses(self, observation: Observation, source: LossSource) -> FloatArray:
        """Losses by arm `(n,)`, nats per token, NaN where not measured.

        Args:
            observation: The report.
            source: `skills`: the losses on the control split, through T; `arms`: the training losses in `arm_losses`,
                which the report of the untrained model may leave out.

        Raises:
            FeedbackError: A malformed report, or `arm_losses` asked for and absent.
        """
        by_skill = self.losses_by_skill(observation)
        if source == "skills":
            return self.through_shares(by_skill)
        if observation.arm_losses is None:
            if observation.round is None:
                return np.full(len(self.arms.ids), np.nan)
            raise FeedbackError(
                f"{_where(observation)}: arm_losses are absent; report them, or set {PATH}.losses to skills"
            )
        where = f"{_where(observation)}: arm_losses"
        losses = _placed(observation.arm_losses, self._arm_index, where)
        if (losses < 0).any():
            arm = self.arms.ids[int(np.flatnonzero(losses < 0)[0])]
            raise FeedbackError(f"{where}: loss of {arm!r} is {observation.arm_losses[arm]!r}; expected nats >= 0")
        return losses

    def losses_by_skill(self, observation: Observation) -> FloatArray:
        """Losses by column of T `(k + 1,)`, nats per token, NaN where not measured; `_none` may be reported too.

        Raises:
            FeedbackError: A malformed report.
        """
        return aligned_losses(observation, self.arms.shares.columns, self._known)

    def named(self, name: str, values: Mapping[str, float]) -> FloatArray:
        """A parameter {arm or skill id: nats} by arm `(n,)`, NaN where it says nothing.

        Raises:
            ConfigError: An id that is neither among the arms nor among the skills.
        """
        if all(key in self._arm_index for key in values):
            return _placed(values, self._arm_index, f"{PATH}.{name}")
        for key in values:
            if key not in self._column_index:
                hint = nearest(key, (*self._column_index, *self._arm_index))
                raise ConfigError(f"{PATH}.{name}: unknown id {key!r}{hint}; all must be arms or all skills")
        return self.through_shares(_placed(values, self._column_index, f"{PATH}.{name}"))


def check_losses(name: str, value: object) -> dict[str, float]:
    """Return {id: nats >= 0}, not empty, in ascending order of id."""
    if not isinstance(value, Mapping) or not value or not all(isinstance(key, str) for key in value):
        raise ConfigError(f"{PATH}.{name} is {value!r}; expected a mapping of ids to nats per token")
    return {key: check_number(f"{name}.{key}", value[key], low=0.0, high=MAX_SIGNAL) for key in sorted(value)}


def _placed(values: Mapping[str, float | None], index: Mapping[str, int], where: str) -> FloatArray:
    placed = np.full(len(index), np.nan)
    for key, value in values.items():
        if value is None:
            continue
        if key not in index:
            raise FeedbackError(f"{where}: unknown arm {key!r}{nearest(key, index)}; report by the ids of the pool")
        if isinstance(value, bool) or not isinstance(value, Real) or abs(value) > MAX_SIGNAL:
            raise FeedbackError(f"{where}: {key!r} is {value!r}; expected a finite number, or null")
        if not math.isnan(value):
            placed[index[key]] = float(value)
    return placed


def _where(observation: Observation) -> str:
    return "the initial feedback" if observation.round is None else f"feedback of round {observation.round}"
