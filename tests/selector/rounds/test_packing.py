"""Packing: nothing lost, nothing repeated, best fit as by hand, as many documents as fit, arms spread over batches."""

from collections import Counter

import numpy as np
import pytest

from prereq.graph.errors import PrereqError
from prereq.selector.rounds.packing import best_fit, cut_documents, deal_rows, most_that_fit, pack, rows_needed


def one_by_one(lengths: list[int], seq_len: int) -> list[list[int]]:
    """Best-fit decreasing without any shortcut: the rows, each as its pieces' lengths."""
    rows: list[list[int]] = []
    for length in sorted(lengths, reverse=True):
        fitting = [row for row in rows if sum(row) + length <= seq_len]
        if not fitting:
            rows.append(fitting_row := [])
            fitting = [fitting_row]
        min(fitting, key=lambda row: seq_len - sum(row)).append(length)
    return rows


@pytest.mark.parametrize("seed", range(40))
def test_best_fit_is_what_placing_one_by_one_gives(seed: int) -> None:
    rng = np.random.default_rng(seed)
    seq_len = int(rng.integers(2, 60))
    lengths = rng.integers(1, seq_len + 1, int(rng.integers(1, 80)))
    rows = best_fit(lengths, seq_len)
    expected = sorted(sum(row) for row in one_by_one(lengths.tolist(), seq_len))
    assert sorted(np.bincount(rows, lengths).tolist()) == expected, "rows with equal room may be exchanged"


def test_cutting_by_hand() -> None:
    pieces = cut_documents(np.array([10, 4, 5, 1]), 4)
    assert pieces.document.tolist() == [0, 0, 0, 1, 2, 2, 3]
    assert pieces.start.tolist() == [0, 4, 8, 0, 0, 4, 0]
    assert pieces.length.tolist() == [4, 4, 2, 4, 4, 1, 1]
    assert rows_needed(np.array([10, 4, 5, 1]), 4) == 5, "four full rows, and 2 + 1 + 1 in the fifth"


@pytest.mark.parametrize(("rows", "mean"), [(8, 20), (16, 90), (12, 400)])
def test_every_token_lies_in_exactly_one_place(rows: int, mean: int) -> None:
    rng = np.random.default_rng(rows)
    pool = np.maximum(1, rng.exponential(mean, 2000)).astype(np.int64)
    fitting = most_that_fit(lambda n: pool[:n], lambda p: rows_needed(p, 64), rows, 3)
    assert fitting is not None
    assert rows_needed(fitting, 64) <= rows < rows_needed(pool[: len(fitting) + 1], 64), "one more would not fit"
    packing = pack(fitting, 64, rows, np.arange(len(fitting)) % 3, 4, (5, 1))
    places = [
        (int(r), c + t) for r, c, n in zip(packing.row, packing.column, packing.length, strict=True) for t in range(n)
    ]
    assert len(set(places)) == len(places) == fitting.sum()
    assert max(c for _, c in places) < 64
    tokens = Counter(
        (int(d), s + t)
        for d, s, n in zip(packing.document, packing.start, packing.length, strict=True)
        for t in range(n)
    )
    assert tokens == Counter((d, t) for d, n in enumerate(fitting.tolist()) for t in range(n))
    assert set(packing.row.tolist()) == set(range(rows)), "no row is empty"
    ends = packing.column + packing.length
    same = packing.row[1:] == packing.row[:-1]
    assert (packing.column[1:] == np.where(same, ends[:-1], 0)).all(), "pieces lie end to end from the left"


def test_rows_that_would_stay_empty_are_given_something() -> None:
    packing = pack(np.array([3, 2, 2]), 8, 6, np.zeros(3, dtype=np.int64), 2, (0, 0))
    assert sorted(packing.row.tolist()) == [0, 1, 2, 3, 4, 5]
    assert packing.length.sum() == 7
    with pytest.raises(PrereqError, match="2 tokens cannot fill 3 rows"):
        pack(np.array([2]), 8, 3, np.zeros(1, dtype=np.int64), 1, (0, 0))


def test_a_pool_that_runs_out_and_a_document_longer_than_a_round() -> None:
    lengths = np.array([5, 5, 5])

    def draw(count: int) -> np.ndarray | None:
        return lengths[:count] if count <= len(lengths) else None

    assert most_that_fit(draw, lambda p: rows_needed(p, 5), 4, 2) is None, "three rows of four"
    full = most_that_fit(draw, lambda p: rows_needed(p, 5), 3, 50)
    assert full is not None
    assert len(full) == 3, "the last round takes what is left where it fills the rows"
    with pytest.raises(PrereqError, match="does not fit into a round of 2 rows"):
        most_that_fit(lambda n: np.full(n, 99), lambda p: rows_needed(p, 5), 2, 1)


def test_batches_carry_the_arms_more_evenly_than_chance() -> None:
    rng = np.random.default_rng(3)
    row = np.repeat(np.arange(128), 3)
    length, arm = rng.integers(1, 40, len(row)), rng.choice(6, len(row), p=[0.4, 0.25, 0.15, 0.1, 0.07, 0.03])

    def unevenness(place: np.ndarray) -> float:
        batch = place[row] // 16
        sums = np.array([np.bincount(arm[batch == b], length[batch == b], 6) for b in range(8)])
        return float((sums / sums.sum(axis=1, keepdims=True)).var(axis=0).sum())

    place = deal_rows(row, length, arm, 128, 16, (1, 2))
    assert sorted(place.tolist()) == list(range(128))
    chance = np.mean([unevenness(rng.permutation(128)) for _ in range(50)])
    assert unevenness(place) < 0.2 * chance
