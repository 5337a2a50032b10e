"""Whole documents into rows of `seq_len` tokens: cut what is longer, fit what is shorter, deal the rows to batches.

Everything here is integers about lengths; no text and no files. A document over a row's length is cut into consecutive
pieces of one row each, and a rest; rests and shorter documents are put together by best-fit decreasing: the longest
piece first, each into the row with the least room that still holds it.
"""

import heapq
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from prereq.graph.errors import PrereqError
from prereq.selector.rounds.order import IntArray, key_of, permutation, splitmix64

P = TypeVar("P")


@dataclass(frozen=True, slots=True)
class Pieces:
    """Consecutive parts of documents, in the order of the documents; int64 `(pieces,)` each."""

    document: IntArray  # which document, by position
    start: IntArray  # token of its document at which a piece begins
    length: IntArray  # tokens, 1 to seq_len


@dataclass(frozen=True, slots=True)
class Packing:
    """Where every piece of a round lies. All int64 `(pieces,)`, in the order of rows, then of the place in the row."""

    document: IntArray
    start: IntArray
    length: IntArray
    row: IntArray
    column: IntArray  # first token of the piece in its row


def cut_documents(lengths: IntArray, seq_len: int) -> Pieces:
    """Cut documents into consecutive pieces of at most a row.

    Args:
        lengths: int64 `(n,)` tokens of each document, 1 or more.
        seq_len: Tokens of a row.
    """
    counts = -(-lengths // seq_len)
    document = np.repeat(np.arange(len(lengths), dtype=np.int64), counts)
    first = np.repeat(np.cumsum(counts) - counts, counts)  # of each piece's document, its first piece
    start = (np.arange(len(document), dtype=np.int64) - first) * seq_len
    return Pieces(document, start, np.minimum(lengths[document] - start, seq_len))


def best_fit(lengths: IntArray, seq_len: int) -> IntArray:
    """Best-fit decreasing: the row of each piece, int64 `(n,)`, rows numbered from 0 in the order they are opened.

    Pieces of equal length go in order; of rows with equal room the one that reached it first is taken. Pieces of one
    length are placed together, so the cost grows with the number of different lengths.

    Args:
        lengths: int64 `(n,)`, each 1 to seq_len.
        seq_len: Tokens of a row.
    """
    order = np.argsort(-lengths, kind="stable")
    rows = np.empty(len(lengths), dtype=np.int64)
    values, firsts = np.unique(-lengths[order], return_index=True)
    borders = [*firsts.tolist(), len(order)]
    room: dict[int, list[int]] = {}  # tokens left -> rows with that much room, first come first
    there = 0  # bit r is set where room[r] has a row
    opened = 0
    for index, value in enumerate(values.tolist()):
        length, at, end = -value, borders[index], borders[index + 1]
        while at < end:
            fitting = there >> length
            if fitting:
                left = length + (fitting & -fitting).bit_length() - 1
                waiting = room[left]
            else:
                left = seq_len
                need = -(-(end - at) // (seq_len // length))
                waiting = list(range(opened, opened + need))
                opened += need
            per_row = left // length
            used = min(len(waiting), -(-(end - at) // per_row))
            taken, rest = waiting[:used], waiting[used:]
            placed = min(used * per_row, end - at)
            rows[order[at : at + placed]] = np.repeat(taken, per_row)[:placed]
            at += placed
            if fitting:
                room[left] = rest
                there = there if rest else there & ~(1 << left)
            in_last = placed - (used - 1) * per_row
            for some, count in ((taken[:-1], per_row), (taken[-1:], in_last)):
                now = left - count * length
                if some and now:
                    room.setdefault(now, []).extend(some)
                    there |= 1 << now
    return rows


def rows_needed(lengths: IntArray, seq_len: int) -> int:
    """Rows that documents of these lengths (tokens, `(n,)`) take, cut and packed."""
    rests = lengths % seq_len
    rests = rests[rests > 0]
    packed = int(best_fit(rests, seq_len).max()) + 1 if len(rests) else 0
    return int((lengths // seq_len).sum()) + packed


def most_that_fit(draw: Callable[[int], P | None], need: Callable[[P], int], rows: int, guess: int) -> P | None:
    """The largest draw that fits into so many rows: n documents fit, n + 1 do not.

    The search is by interpolation, then by halves, and depends on its arguments only.

    Args:
        draw: Number of documents -> the draw; None where there are not so many left.
        need: Draw -> rows it takes.
        rows: Rows of a round.
        guess: Documents to begin with, 1 or more.

    Returns:
        The draw; None where not even all that is left fills the rows.

    Raises:
        PrereqError: One document alone is longer than all rows.
    """
    fits: tuple[int, P, int] | None = None  # documents, draw, rows needed
    above: int | None = None  # a number of documents that does not fit, or is not there
    short = False  # `above` is not there
    count = max(1, guess)
    for step in range(64):
        drawn = draw(count)
        needed = None if drawn is None else need(drawn)
        if drawn is not None and needed is not None and needed <= rows:
            fits = count, drawn, needed
        else:
            above, short = count, drawn is None
        low = 0 if fits is None else fits[0]
        if above is not None and above - low <= 1:
            break
        if needed is not None and needed != rows and step < 6:
            count = count * rows // needed
        elif above is None:
            count = low + max(1, step * step)
        else:
            count = (low + above) // 2
        count = max(count, low + 1) if above is None else min(max(count, low + 1), above - 1)
    if fits is None:
        if short:
            return None
        raise PrereqError(
            f"a document of the pool does not fit into a round of {rows} rows; raise samples.seq_len, global_batch or "
            "batches_per_round, or split long documents when the pool is built (ingest)"
        )
    return None if short and fits[2] < rows else fits[1]


def pack(
    lengths: IntArray, seq_len: int, rows: int, owner: IntArray, global_batch: int, key: tuple[int, int]
) -> Packing:
    """Lay documents that fit into exactly `rows` rows, in the order of the round.

    Args:
        lengths: int64 `(n,)` tokens of each document; `rows_needed(lengths, seq_len) <= rows`.
        seq_len: Tokens of a row.
        rows: Rows of the round, a multiple of global_batch.
        owner: int64 `(n,)` each document's arm, by position.
        global_batch: Rows of a batch.
        key: The run's seed and the round, for the order inside rows and batches.

    Returns:
        Every token of every document once, in rows that are all used.
    """
    pieces = cut_documents(lengths, seq_len)
    length, row = pieces.length, np.empty(len(pieces.length), dtype=np.int64)
    whole = length == seq_len
    row[whole] = np.arange(int(whole.sum()))
    row[~whole] = best_fit(length[~whole], seq_len) + int(whole.sum())
    pieces, row = _fill_empty_rows(pieces, row, rows)
    place = deal_rows(row, pieces.length, owner[pieces.document], rows, global_batch, key)
    row = place[row]
    inside = splitmix64(key_of(key[0], "piece", key[1]), len(row))
    order = np.lexsort((np.arange(len(row)), inside, row))
    row, length = row[order], pieces.length[order]
    ends = np.cumsum(length)
    before = np.concatenate([[0], ends])[np.searchsorted(row, np.arange(rows))]  # tokens in the rows before each
    return Packing(pieces.document[order], pieces.start[order], length, row, ends - length - before[row])


def _fill_empty_rows(pieces: Pieces, row: IntArray, rows: int) -> tuple[Pieces, IntArray]:
    """Give every row something: a row of the fullest that holds several pieces loses one, a single long one is cut."""
    used = int(row.max()) + 1
    if used == rows:
        return pieces, row
    document, start, length = pieces.document.tolist(), pieces.start.tolist(), pieces.length.tolist()
    place = row.tolist()
    held: list[list[int]] = [[] for _ in range(used)]
    for piece, at in enumerate(place):
        held[at].append(piece)
    heap = [(-sum(length[p] for p in members), at) for at, members in enumerate(held)]
    heapq.heapify(heap)
    while len(held) < rows:
        tokens, at = heapq.heappop(heap)
        if tokens >= -1:
            raise PrereqError(f"{sum(length)} tokens cannot fill {rows} rows; the pool's documents are too short")
        moved = held[at].pop() if len(held[at]) > 1 else len(length)
        if moved == len(length):  # the later half of the only piece becomes a piece of its own
            only = held[at][0]
            half = length[only] // 2
            document.append(document[only])
            start.append(start[only] + length[only] - half)
            length.append(half)
            length[only] -= half
            place.append(0)
        place[moved] = len(held)
        held.append([moved])
        heapq.heappush(heap, (tokens + length[moved], at))
        heapq.heappush(heap, (-length[moved], len(held) - 1))
    columns = (np.array(values, dtype=np.int64) for values in (document, start, length))
    return Pieces(*columns), np.array(place, dtype=np.int64)


def deal_rows(
    row: IntArray, length: IntArray, arm: IntArray, rows: int, global_batch: int, key: tuple[int, int]
) -> IntArray:
    """The place in the round of each row, int64 `(rows,)`: every batch carries every arm's share as evenly as it can.

    Rows are dealt in order, the fullest of single pieces first; each goes to the batch, among those with room, where
    the sum over its arms of (tokens in the row) x (the arm's tokens in the batch) / (the arm's tokens in the round) is
    least, which is the greedy descent of the chi-square distance to equal shares. Rows of a batch are then permuted by
    the key of `[seed, "batch", round, batch]`.

    Args:
        row: int64 `(pieces,)` the row of each piece.
        length: int64 `(pieces,)` its tokens.
        arm: int64 `(pieces,)` its arm.
        rows: Rows of the round.
        global_batch: Rows of a batch.
        key: The run's seed and the round.
    """
    batches = rows // global_batch
    names, arm = np.unique(arm, return_inverse=True)
    share = 1.0 / np.bincount(arm, weights=length, minlength=len(names))
    cells, at = np.unique(row * len(names) + arm, return_inverse=True)  # (row, arm) pairs, by row
    tokens = np.bincount(at, weights=length)
    cell_arm, cell_row = cells % len(names), cells // len(names)
    borders = np.searchsorted(cell_row, np.arange(rows + 1)).tolist()
    held = np.zeros((len(names), batches))  # tokens of each arm in each batch
    scaled, arms, amounts = tokens * share[cell_arm], cell_arm.tolist(), tokens.tolist()
    weights = scaled.tolist()
    room = np.full(batches, global_batch, dtype=np.int64)
    full = np.zeros(batches)  # infinite for a full batch
    dealt: list[list[int]] = [[] for _ in range(batches)]
    for number in range(rows):
        cost = full.copy()
        for cell in range(borders[number], borders[number + 1]):
            cost += held[arms[cell]] * weights[cell]  # one arm after another: the same sums on every machine
        batch = int(cost.argmin())
        dealt[batch].append(number)
        for cell in range(borders[number], borders[number + 1]):
            held[arms[cell], batch] += amounts[cell]
        room[batch] -= 1
        if not room[batch]:
            full[batch] = np.inf
    place = np.empty(rows, dtype=np.int64)
    for batch, members in enumerate(dealt):
        inside = np.array(members, dtype=np.int64)[permutation(global_batch, key[0], "batch", key[1], batch)]
        place[inside] = batch * global_batch + np.arange(global_batch)
    return place
