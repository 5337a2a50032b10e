"""What a mixer remembers of the losses: a window, a fading mean, or all added up. Plain state, pure functions."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from prereq.graph.errors import ConfigError
from prereq.selector.mixers.parameters import PATH, check_choice, check_number
from prereq.selector.mixers.protocol import State
from prereq.selector.mixers.simplex import BoolArray, FloatArray

Reduction = Literal["sum", "mean", "ema"]


def check_reduction(reduction: str, ema_decay: float | None) -> float | None:
    """The decay of a mixer's parameters `reduction` and `ema_decay`.

    Raises:
        ConfigError: An unknown reduction, a decay outside [0, 1), or one without the other.
    """
    check_choice("reduction", reduction, ("sum", "mean", "ema"))
    if reduction != "ema":
        if ema_decay is not None:
            raise ConfigError(f"{PATH}.ema_decay goes with reduction: ema; reduction is {reduction}")
        return None
    if ema_decay is None:
        raise ConfigError(f"{PATH}.reduction: ema needs ema_decay, the weight in [0, 1) of the past; try 0.5")
    return check_number("ema_decay", ema_decay, low=0.0, high=1.0, open_high=True)


def reduce_window(losses: FloatArray, measured: BoolArray, reduction: Literal["sum", "mean"]) -> FloatArray:
    """Reduce the losses of several rounds to one vector; what was not measured adds nothing.

    Args:
        losses: `(w, m)`, nats per token, oldest first; any number where not measured.
        measured: `(w, m)`, False where a round has no loss for a skill.
        reduction: `sum` over the rounds (the paper's), or `mean` over the rounds in which the skill was measured, so
            that a gap neither weakens nor strengthens it.

    Returns:
        `(m,)`; 0 for a skill that no round measured.
    """
    total = np.where(measured, losses, 0.0).sum(axis=0)
    if reduction == "sum":
        return total
    return total / np.maximum(measured.sum(axis=0), 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class LossHistory:
    """How losses are kept and reduced; the losses themselves are in a state, whose size no number of rounds changes.

    State keys: `losses` float64 `(h, m)`, 0 where not measured, oldest first, and `measured` bool `(h, m)`, with
    h <= window + delay; with `accumulate` also `total` float64 `(m,)`; with the reduction `ema` also `ema` and `weight`
    float64 `(m,)`, the mean so far and the sum of its weights, both 0 before a skill's first loss.
    """

    # m, skills per report
    skills: int
    # w, reports whose losses count
    window: int
    # how they become one vector; ema: all that were ever measured, for which the window does not apply
    reduction: Reduction = "sum"
    # ema: a skill's n-th last loss counts decay^n times as much as its newest, weights normalised to 1, in [0, 1)
    decay: float = 0.0
    # newest reports that do not count yet: 1 for the paper's timing, in which every mixture is one round behind
    delay: int = 0
    # eq. 4 of Skill-It: add every loss to a start of ones and forget nothing; the window does not apply
    accumulate: bool = False

    def empty(self) -> State:
        """Before any report."""
        state: State = {"losses": np.zeros((0, self.skills)), "measured": np.zeros((0, self.skills), dtype=np.bool_)}
        if self.reduction == "ema":
            return state | {"ema": np.zeros(self.skills), "weight": np.zeros(self.skills)}
        return state | {"total": np.zeros(self.skills)} if self.accumulate else state

    def add(self, state: State, row: FloatArray) -> State:
        """The state with one more report `(m,)`, NaN where not measured; `state` is unchanged.

        A report that measured nothing is not kept: the mixture stays what it was.
        """
        found = ~np.isnan(row)
        if not found.any():
            return dict(state)
        losses, measured = self._rows(state)
        losses = np.vstack([losses, np.where(found, row, 0.0)])
        measured = np.vstack([measured, found])
        new = dict(state)
        if self.accumulate:
            usable = max(len(losses) - self.delay, 0)
            new["total"] = np.asarray(state["total"], dtype=np.float64) + losses[:usable].sum(axis=0)
        if self.reduction == "ema" and len(losses) > self.delay:
            newest = len(losses) - self.delay - 1  # of those that count, which is the one that did not before
            new |= self._faded(state, losses[newest], measured[newest])
        first = max(len(losses) - self.delay - (0 if self.accumulate else self.window), 0)
        return new | {"losses": losses[first:], "measured": measured[first:]}

    def reduced(self, state: State) -> FloatArray:
        """One loss per skill `(m,)`: ones, the initial mixture of Skill-It, before any report counts."""
        if self.accumulate:
            return 1.0 + np.asarray(state["total"], dtype=np.float64)
        losses, measured = self._rows(state)
        usable = max(len(losses) - self.delay, 0)
        if usable == 0:
            return np.ones(self.skills)
        if self.reduction == "ema":
            return np.asarray(state["ema"], dtype=np.float64)
        first = max(usable - self.window, 0)
        return reduce_window(losses[first:usable], measured[first:usable], self.reduction)

    def newest(self, state: State) -> tuple[FloatArray, int]:
        """The newest loss of every skill `(m,)` among the reports that count, NaN where none has it; their number."""
        losses, measured = self._rows(state)
        usable = max(len(losses) - self.delay, 0)
        first = max(usable - self.window, 0)
        found = np.full(self.skills, np.nan)
        for row in range(first, usable):
            found = np.where(measured[row], losses[row], found)
        return found, usable - first

    def _faded(self, state: State, losses: FloatArray, measured: BoolArray) -> State:
        """`ema` and `weight` after one more report; a skill that it did not measure keeps both."""
        mean, weight = (np.asarray(state[key], dtype=np.float64) for key in ("ema", "weight"))
        grown = np.where(measured, self.decay * weight + 1.0, weight)
        step = np.where(measured, losses - mean, 0.0) / np.maximum(grown, 1.0)
        return {"ema": mean + step, "weight": grown}

    def _rows(self, state: State) -> tuple[FloatArray, BoolArray]:
        # a state that went through JSON holds lists, and an empty list has no second dimension
        shape = (-1, self.skills)
        losses = np.asarray(state["losses"], dtype=np.float64).reshape(shape)
        return losses, np.asarray(state["measured"], dtype=np.bool_).reshape(shape)
