"""Which documents a round takes: from weights over arms to ranges of each arm's order. Integers and floats, no files.

Weights are shares of tokens, documents are whole, and a round has a fixed number of samples. Think of tokens flowing to
every arm at the rate of its weight; a document is due when the flow reaches its middle. A round takes the documents
that are due first. What an arm got too much or too little is carried to the next round, so its cumulative tokens follow
its cumulative share to within about half a document, and nothing starves by rounding (Webster's method of
apportionment, with documents for seats).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from prereq.selector.mixers.simplex import FloatArray, water_fill
from prereq.selector.rounds.order import IntArray

_CAP_STEPS = 12  # rounds of adjusting caps to the tokens that a plan really takes


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

    def rows(self, arm: int) -> int:
        """Documents of an arm in one epoch."""

    def epoch_tokens(self, arm: int, epoch: int) -> IntArray:
        """Tokens of an arm's documents in the order of an epoch, `(rows,)`."""


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
    rows = np.array([stock.rows(a) for a in range(len(cursors))], dtype=np.int64)
    epochs = np.array([cursor.epoch for cursor in cursors], dtype=np.int64)
    positions = np.array([cursor.position for cursor in cursors], dtype=np.int64)
    left = np.maximum(max_epochs - epochs, 0) * rows - np.where(epochs < max_epochs, positions, 0)  # documents
    live = (requested > 0) & (left > 0)
    if int(left[live].sum()) < samples:
        return None
    mean = arm_tokens / np.maximum(1, rows)
    round_tokens = samples / np.sum(requested[live] / requested[live].sum() / np.maximum(mean[live], 1.0))
    weights, taken = requested, np.zeros(len(requested), dtype=np.int64)
    # whole epochs to come: less than what is left of an arm in the middle of one, and known without a look at it
    left_tokens, exact = np.maximum(max_epochs - epochs - (positions > 0), 0) * arm_tokens, bool((positions == 0).all())
    for _ in range(_CAP_STEPS):
        if not exact and (requested > np.where(live, left_tokens / round_tokens, 0.0)).any():
            left_tokens, exact = _left_tokens(left_tokens, cursors, stock, max_epochs), True
        weights = _capped(requested, live, left_tokens, round_tokens)
        taken = _take(weights, np.where(live, carry, 0.0), cursors, stock, max_epochs, samples, round_tokens)
        if not (live & (taken == left)).any():
            break
        total = sum(_tokens_of(stock, a, cursors[a], int(taken[a])) for a in np.flatnonzero(taken).tolist())
        if total == round_tokens:
            break
        round_tokens = float(total)
    return _finish(weights, carry, cursors, stock, taken, left)


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


def _take(
    weights: FloatArray,
    carry: FloatArray,
    cursors: Sequence[Cursor],
    stock: Stock,
    max_epochs: int,
    samples: int,
    round_tokens: float,
) -> IntArray:
    """Documents per arm: the `samples` whose middles are due first; ties by arm, then by order."""
    wanted = np.flatnonzero(weights > 0)
    earliest = _first_due(stock, wanted, cursors, max_epochs, weights[wanted], carry[wanted])
    flow = max(round_tokens, 1.0) * 1.25
    while True:
        arms = wanted[earliest <= flow]  # most of many arms get nothing in a round, and are not looked at again
        due = [
            _due(stock, a, cursors[a], max_epochs, float(weights[a]), float(carry[a]), flow, samples)
            for a in arms.tolist()
        ]
        if sum(len(times) for times in due) >= samples:
            break
        if not np.isfinite(flow):
            raise AssertionError("the caller has checked that enough documents are left")
        flow = flow * 2 if flow < 1e18 else np.inf
    times = np.concatenate(due)
    owner = np.repeat(np.arange(len(arms)), [len(t) for t in due])
    first = np.argsort(times, kind="stable")[:samples]  # stable: ties by arm, then by order inside it
    taken = np.zeros(len(weights), dtype=np.int64)
    taken[arms] = np.bincount(owner[first], minlength=len(arms))
    return taken


def _first_due(
    stock: Stock, arms: IntArray, cursors: Sequence[Cursor], max_epochs: int, weights: FloatArray, carry: FloatArray
) -> FloatArray:
    """Flow at which the middle of each arm's next document is reached, as `_due` has it; infinite for a spent arm."""
    places = [(a, cursors[a]) for a in arms.tolist()]
    spent = np.array([cursor.epoch >= max_epochs for _, cursor in places], dtype=np.bool_)
    tokens = np.array(
        [stock.epoch_tokens(a, c.epoch)[c.position] if c.epoch < max_epochs else 0 for a, c in places], dtype=np.int64
    )
    return np.where(spent, np.inf, (tokens - tokens / 2.0 - carry) / weights)


def _due(
    stock: Stock, arm: int, cursor: Cursor, max_epochs: int, weight: float, carry: float, flow: float, most: int
) -> FloatArray:
    """Flow (tokens of the whole round) at which each next document's middle is reached, ascending, up to `flow`."""
    pieces: list[FloatArray] = []
    before, count, epoch, position = 0, 0, cursor.epoch, cursor.position
    while epoch < max_epochs and count < most:
        tokens = stock.epoch_tokens(arm, epoch)[position : position + most - count]
        ends = np.cumsum(tokens) + before
        times = (ends - tokens / 2.0 - carry) / weight
        within = int(np.searchsorted(times, flow, side="right"))
        pieces.append(times[:within])
        count += within
        if within < len(tokens):
            break
        before, epoch, position = (int(ends[-1]) if len(ends) else before), epoch + 1, 0
    return np.concatenate(pieces) if pieces else np.zeros(0)


def _ranges(stock: Stock, arm: int, cursor: Cursor, count: int) -> tuple[tuple[Draw, ...], Cursor]:
    """The next `count` documents of an arm as ranges, and where it goes on."""
    rows, epoch, position = stock.rows(arm), cursor.epoch, cursor.position
    draws: list[Draw] = []
    while count > 0:
        stop = min(rows, position + count)
        draws.append(Draw(epoch, position, stop))
        count -= stop - position
        epoch, position = (epoch + 1, 0) if stop == rows else (epoch, stop)
    return tuple(draws), Cursor(epoch, position)


def _tokens_of(stock: Stock, arm: int, cursor: Cursor, count: int) -> int:
    draws, _ = _ranges(stock, arm, cursor, count)
    return sum(int(stock.epoch_tokens(arm, d.epoch)[d.start : d.stop].sum()) for d in draws)


def _finish(
    weights: FloatArray, carry: FloatArray, cursors: Sequence[Cursor], stock: Stock, taken: IntArray, left: np.ndarray
) -> Plan:
    draws: list[tuple[Draw, ...]] = [()] * len(cursors)
    following = list(cursors)
    realised = np.zeros(len(cursors), dtype=np.int64)
    for arm in np.flatnonzero(taken).tolist():
        draws[arm], following[arm] = _ranges(stock, arm, cursors[arm], int(taken[arm]))
        realised[arm] = sum(int(stock.epoch_tokens(arm, d.epoch)[d.start : d.stop].sum()) for d in draws[arm])
    owed = next_carry(carry, weights, realised, taken == left)
    return Plan(weights, tuple(draws), realised, taken, owed, tuple(following))


def next_carry(carry: FloatArray, weights: FloatArray, realised: IntArray, spent: np.ndarray) -> FloatArray:
    """Tokens owed to each arm after a round `(n,)`: the same again from the manifests at a restart."""
    return np.where(spent, 0.0, carry + weights * float(realised.sum()) - realised)
