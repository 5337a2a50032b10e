"""Which documents a round takes: from weights over arms to ranges of each arm's order. Integers and floats, no files.

Weights are shares of tokens, documents are whole, and a round has a fixed number of samples. Think of tokens flowing to
every arm at the rate of its weight; a document is due when the flow reaches its middle. A round takes the documents
that are due first. What an arm got too much or too little is carried to the next round, so its cumulative tokens follow
its cumulative share to within about half a document, and nothing starves by rounding (Webster's method of
apportionment, with documents for seats).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from prereq.selector.mixers.simplex import FloatArray, water_fill
from prereq.selector.rounds.order import IntArray

_CAP_STEPS = 12  # rounds of adjusting caps to the tokens that a plan really takes
_FEW = 32  # arms that are gone through one by one


@dataclass(frozen=True, slots=True)
class Cursor:
    """The next document of an arm: position in its order of an epoch."""

    epoch: int = 0
    position: int = 0


@dataclass(frozen=True, slots=True)
class Draw:
    """A range of an arm's order in one epoch, as in the manifest."""

    epoch: int
    start: int
    stop: int


class Stock(Protocol):
    """What can still be drawn."""

    def all_rows(self) -> IntArray:
        """Documents of every arm in one epoch, `(n,)`."""

    def epoch_tokens(self, arm: int, epoch: int) -> IntArray:
        """Tokens of an arm's documents in the order of an epoch, `(rows,)`."""

    def tokens_at(self, arms: IntArray, epochs: IntArray, positions: IntArray) -> IntArray:
        """Tokens of one document of each of these arms, at its position in the order of its epoch; all `(k,)`."""


class LastLooks:
    """The tokens last looked up of every arm, so that a plan over many arms asks only for those that moved."""

    def __init__(self, arms: int) -> None:
        self._epochs, self._positions, self._tokens = np.full((3, arms), -1, dtype=np.int64)

    def tokens_at(
        self,
        arms: IntArray,
        epochs: IntArray,
        positions: IntArray,
        epoch_tokens: Callable[[int, int], IntArray],
    ) -> IntArray:
        """As `Stock.tokens_at`, with `epoch_tokens` of a stock for what is not known."""
        known = (self._epochs[arms] == epochs) & (self._positions[arms] == positions)
        new = np.flatnonzero(~known)
        if len(new):
            asked = (arms[new], epochs[new], positions[new])
            places = zip(*(part.tolist() for part in asked), strict=True)
            self._epochs[asked[0]], self._positions[asked[0]] = asked[1], asked[2]
            self._tokens[asked[0]] = [epoch_tokens(arm, epoch)[position] for arm, epoch, position in places]
        return self._tokens[arms]


@dataclass(frozen=True, slots=True)
class Plan:
    """What a round takes.

    Attributes:
        weights: `(n,)` shares after caps; what the round states.
        draws: Per arm, its ranges in order; empty for arms that got nothing.
        realised: int64 `(n,)` tokens per arm.
        documents: int64 `(n,)` documents per arm.
        carry: `(n,)` tokens owed to each arm after the round; 0 for an arm that is spent.
        cursors: Where each arm goes on.
    """

    weights: FloatArray
    draws: tuple[tuple[Draw, ...], ...]
    realised: IntArray
    documents: IntArray
    carry: FloatArray
    cursors: tuple[Cursor, ...]


def plan_round(
    requested: FloatArray,
    carry: FloatArray,
    cursors: Sequence[Cursor],
    stock: Stock,
    arm_tokens: IntArray,
    max_epochs: int,
    samples: int,
) -> Plan | None:
    """Choose the documents of one round.

    Args:
        requested: `(n,)` shares of tokens on the simplex; an arm of weight 0 gets nothing.
        carry: `(n,)` tokens owed to each arm by earlier rounds.
        cursors: Where each arm's order goes on.
        stock: The arms' documents.
        arm_tokens: int64 `(n,)` tokens of each arm in one epoch.
        max_epochs: Times a document may be drawn.
        samples: Documents to take.

    Returns:
        The plan; None when the arms with weight cannot fill the round any more (the pool is exhausted).
    """
    rows = stock.all_rows()
    epochs = np.array([cursor.epoch for cursor in cursors], dtype=np.int64)
    positions = np.array([cursor.position for cursor in cursors], dtype=np.int64)
    left = np.maximum(max_epochs - epochs, 0) * rows - np.where(epochs < max_epochs, positions, 0)  # documents
    live = (requested > 0) & (left > 0)
    if int(left[live].sum()) < samples:
        return None
    mean = arm_tokens / np.maximum(1, rows)
    round_tokens = samples / np.sum(requested[live] / requested[live].sum() / np.maximum(mean[live], 1.0))
    shelf = _Shelf(stock, rows, epochs, positions, max_epochs)
    weights, taken, realised = (
        requested,
        np.zeros(len(requested), dtype=np.int64),
        np.zeros(len(requested), dtype=np.int64),
    )
    # whole epochs to come: less than what is left of an arm in the middle of one, and known without a look at it
    left_tokens, exact = np.maximum(max_epochs - epochs - (positions > 0), 0) * arm_tokens, bool((positions == 0).all())
    for _ in range(_CAP_STEPS):
        if not exact and (requested > np.where(live, left_tokens / round_tokens, 0.0)).any():
            left_tokens, exact = _left_tokens(left_tokens, cursors, stock, max_epochs), True
        weights = _capped(requested, live, left_tokens, round_tokens)
        taken, realised = _take(weights, np.where(live, carry, 0.0), shelf, samples, round_tokens)
        if not (live & (taken == left)).any() or int(realised.sum()) == round_tokens:
            break
        round_tokens = float(realised.sum())
    draws, following = _ranges(cursors, rows, taken)
    owed = next_carry(carry, weights, realised, taken == left)
    return Plan(weights, draws, realised, taken, owed, following)


def _left_tokens(whole: IntArray, cursors: Sequence[Cursor], stock: Stock, max_epochs: int) -> IntArray:
    """Tokens that each arm can still give `(n,)`: those of the epochs to come, and the rest of one that has begun."""
    left = whole.copy()
    for arm, cursor in enumerate(cursors):
        if cursor.position > 0 and cursor.epoch < max_epochs:
            left[arm] += int(stock.epoch_tokens(arm, cursor.epoch)[cursor.position :].sum())
    return left


def _capped(requested: FloatArray, live: np.ndarray, left_tokens: np.ndarray, round_tokens: float) -> FloatArray:
    """Requested shares with no arm above what it has left; the rest flows to the others. Sums to 1."""
    caps = np.where(live, left_tokens / round_tokens, 0.0)
    shares = water_fill(requested, caps)
    # caps of all live arms below 1: the round takes nearly all that is left, in proportion to it
    return shares / shares.sum()


@dataclass(frozen=True, slots=True)
class _Shelf:
    """The arms as a plan finds them: their documents, and where each arm's order goes on, `(n,)` each."""

    stock: Stock
    rows: IntArray
    epochs: IntArray
    positions: IntArray
    max_epochs: int

    def first_due(self, arms: IntArray, weights: FloatArray, carry: FloatArray) -> FloatArray:
        """Flow at which the middle of each arm's next document is reached; infinite for a spent arm."""
        due = np.full(len(arms), np.inf)
        open_arms = np.flatnonzero(self.epochs[arms] < self.max_epochs)
        chosen = arms[open_arms]
        tokens = self.stock.tokens_at(chosen, self.epochs[chosen], self.positions[chosen])
        due[open_arms] = (tokens - tokens / 2.0 - carry[open_arms]) / weights[open_arms]
        return due


def _take(
    weights: FloatArray, carry: FloatArray, shelf: _Shelf, samples: int, round_tokens: float
) -> tuple[IntArray, IntArray]:
    """Documents and tokens per arm: the `samples` whose middles are due first; ties by arm, then by order."""
    wanted = np.flatnonzero(weights > 0)
    earliest = shelf.first_due(wanted, weights[wanted], carry[wanted])
    flow = max(round_tokens, 1.0) * 1.25
    while True:
        arms = wanted[earliest <= flow]  # most of many arms get nothing in a round, and are not looked at again
        owner, times, tokens = _due(shelf, arms, weights[arms], carry[arms], flow, samples)
        if len(times) >= samples:
            break
        if not np.isfinite(flow):
            raise AssertionError("the caller has checked that enough documents are left")
        flow = flow * 2 if flow < 1e18 else np.inf
    first = np.argsort(times, kind="stable")[:samples]  # stable: ties by arm, then by order inside it
    taken, realised = np.zeros((2, len(weights)), dtype=np.int64)
    taken[arms] = np.bincount(owner[first], minlength=len(arms))
    np.add.at(realised, arms[owner[first]], tokens[first])
    return taken, realised


def _due(
    shelf: _Shelf, arms: IntArray, weights: FloatArray, carry: FloatArray, flow: float, most: int
) -> tuple[IntArray, FloatArray, IntArray]:
    """The documents whose middle is reached up to a flow (tokens of the whole round), at most `most` of an arm.

    Many arms are gone through together, one document of each at a time; the last few, which may have many documents
    due, each on its own.

    Returns:
        Index into `arms`, the flow at which it is due, and tokens, of each document: by arm, then in its order.
    """
    nothing = np.zeros(0, dtype=np.int64)
    found: list[tuple[IntArray, FloatArray, IntArray]] = [(nothing, np.zeros(0), nothing)]
    epochs, positions = shelf.epochs[arms], shelf.positions[arms]
    active, before = np.flatnonzero(epochs < shelf.max_epochs), np.zeros(len(arms), dtype=np.int64)
    step = 0
    while len(active) > _FEW and step < most:
        tokens = shelf.stock.tokens_at(arms[active], epochs[active], positions[active])
        before[active] += tokens
        times = (before[active] - tokens / 2.0 - carry[active]) / weights[active]
        within = times <= flow
        active, step = active[within], step + 1
        found.append((active, times[within], tokens[within]))
        positions[active] += 1
        ended = active[positions[active] == shelf.rows[arms[active]]]
        epochs[ended], positions[ended] = epochs[ended] + 1, 0
        active = active[epochs[active] < shelf.max_epochs]
    for index in active.tolist():
        cursor = Cursor(int(epochs[index]), int(positions[index]))
        scale = (float(weights[index]), float(carry[index]))
        times, tokens = _due_of(shelf, int(arms[index]), cursor, int(before[index]), scale, flow, most - step)
        found.append((np.full(len(times), index), times, tokens))
    owner, times, tokens = (np.concatenate(parts) for parts in zip(*found, strict=True))
    order = np.argsort(owner, kind="stable")
    return owner[order], times[order], tokens[order]


def _due_of(
    shelf: _Shelf, arm: int, cursor: Cursor, before: int, scale: tuple[float, float], flow: float, most: int
) -> tuple[FloatArray, IntArray]:
    """When each next document of one arm is due, ascending, up to `flow`, and its tokens; `before` came already."""
    times: list[FloatArray] = []
    tokens: list[IntArray] = []
    weight, carry = scale
    count, epoch, position = 0, cursor.epoch, cursor.position
    while epoch < shelf.max_epochs and count < most:
        ahead = shelf.stock.epoch_tokens(arm, epoch)[position : position + most - count]
        ends = np.cumsum(ahead) + before
        due = (ends - ahead / 2.0 - carry) / weight
        within = int(np.searchsorted(due, flow, side="right"))
        times.append(due[:within])
        tokens.append(ahead[:within])
        count += within
        if within < len(ahead):
            break
        before, epoch, position = (int(ends[-1]) if len(ends) else before), epoch + 1, 0
    if not times:
        return np.zeros(0), np.zeros(0, dtype=np.int64)
    return np.concatenate(times), np.concatenate(tokens)


def _ranges(
    cursors: Sequence[Cursor], rows: IntArray, taken: IntArray
) -> tuple[tuple[tuple[Draw, ...], ...], tuple[Cursor, ...]]:
    """The next `taken` documents of every arm as ranges, and where each arm goes on."""
    draws: list[tuple[Draw, ...]] = [()] * len(cursors)
    following = list(cursors)
    drawn = np.flatnonzero(taken)
    for arm, count, length in zip(drawn.tolist(), taken[drawn].tolist(), rows[drawn].tolist(), strict=True):
        epoch, position = cursors[arm].epoch, cursors[arm].position
        ranges: list[Draw] = []
        while count > 0:
            stop = min(length, position + count)
            ranges.append(Draw(epoch, position, stop))
            count -= stop - position
            epoch, position = (epoch + 1, 0) if stop == length else (epoch, stop)
        draws[arm], following[arm] = tuple(ranges), Cursor(epoch, position)
    return tuple(draws), tuple(following)


def next_carry(carry: FloatArray, weights: FloatArray, realised: IntArray, spent: np.ndarray) -> FloatArray:
    """Tokens owed to each arm after a round `(n,)`: the same again from the manifests at a restart."""
    return np.where(spent, 0.0, carry + weights * float(realised.sum()) - realised)
