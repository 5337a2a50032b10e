"""Plans: shares of tokens, integer conservation, no starvation, caps and exhaustion."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prereq.selector.rounds.plan import Cursor, LastLooks, plan_round


class Shelves:
    """Arms given as lists of token counts; an epoch's order is the list rotated by the epoch."""

    def __init__(self, arms: list[list[int]]) -> None:
        self.arms = [np.array(a, dtype=np.int64) for a in arms]

    def all_rows(self) -> np.ndarray:
        return np.array([len(arm) for arm in self.arms])

    def tokens_at(self, arms: np.ndarray, epochs: np.ndarray, positions: np.ndarray) -> np.ndarray:
        places = zip(arms.tolist(), epochs.tolist(), positions.tolist(), strict=True)
        return np.array([self.epoch_tokens(a, e)[p] for a, e, p in places], dtype=np.int64)

    def epoch_tokens(self, arm: int, epoch: int) -> np.ndarray:
        return np.roll(self.arms[arm], epoch)


def plan_many(stock: Shelves, weights: list[list[float]], samples: int, max_epochs: int = 4):
    n = len(stock.arms)
    carry, cursors = np.zeros(n), [Cursor()] * n
    totals = np.array([a.sum() for a in stock.arms])
    for w in weights:
        plan = plan_round(np.array(w), carry, cursors, stock, totals, max_epochs, samples)
        if plan is None:
            return
        yield plan
        carry, cursors = plan.carry, plan.cursors


def test_cumulative_tokens_follow_cumulative_shares_to_about_half_a_document():
    rng = np.random.default_rng(3)
    stock = Shelves([rng.integers(10, 500, 4000).tolist() for _ in range(6)])
    weights = rng.dirichlet(np.ones(6), 20)
    stated, realised = np.zeros(6), np.zeros(6)
    for plan in plan_many(stock, weights.tolist(), 256):
        total = plan.realised.sum()
        stated += plan.weights * total
        realised += plan.realised
        assert plan.documents.sum() == 256
        assert np.abs(stated - realised).max() <= 2 * 500, "bounded by documents, not growing with rounds"


def test_a_tiny_weight_is_served_in_time():
    stock = Shelves([[100] * 5000, [100] * 50])
    w = 1 / 640  # a tenth of a document per round of 64
    got = [int(p.documents[1]) for p in plan_many(stock, [[1 - w, w]] * 40, 64)]
    assert sum(got) == 4
    assert max(got) == 1


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.integers(1, 300), min_size=2, max_size=30),
    st.integers(0, 2**31),
    st.sampled_from([8, 64, 256]),
    st.floats(-5, 0),
)
def test_no_component_starves_however_small_its_share_of_a_batch(lengths, seed, samples, smallest):
    """Shares far below one document of a batch, where flooring share * batch would give nothing for ever."""
    rng = np.random.default_rng(seed)
    stock = Shelves([rng.integers(1, length + 1, 3000).tolist() for length in lengths])
    weights = 10.0 ** rng.uniform(smallest, 0, len(lengths))
    weights /= weights.sum()
    stated, realised = np.zeros(len(lengths)), np.zeros(len(lengths))
    for plan in plan_many(stock, [weights.tolist()] * 12, samples):
        stated += plan.weights * plan.realised.sum()
        realised += plan.realised
        # half a document of its own, and its share of what the round's end adds up to over all arms
        halves = np.array(lengths) / 2.0
        assert (np.abs(stated - realised) <= halves + weights * halves.sum() + 1e-6).all()


def test_forty_components_of_a_thousandth_each_are_all_served_in_their_turn():
    """A batch of 16: int(weight * batch) is 0 for each of them."""
    stock = Shelves([[100] * 20_000, *([[100] * 50] * 40)])
    weights = [0.96, *([0.001] * 40)]
    served = np.zeros(41, dtype=np.int64)
    for number, plan in enumerate(plan_many(stock, [weights] * 125, 16), 1):
        served += plan.documents
        if number >= 35:  # 560 documents: half a document of each was due some rounds ago
            assert (served[1:] >= 1).all()
    assert served[1:].tolist() == [2] * 40
    assert served.sum() == 2000


def test_an_arm_without_weight_gets_nothing_even_when_tokens_are_owed():
    stock = Shelves([[10] * 100, [10] * 100])
    first, second = plan_many(stock, [[0.75, 0.25], [1.0, 0.0]], 7)
    assert first.carry[1] != 0
    assert second.documents.tolist() == [7, 0]


def test_weight_that_an_arm_cannot_carry_flows_to_the_others():
    stock = Shelves([[10] * 5, [10] * 1000, [10] * 1000])
    plan = next(plan_many(stock, [[0.5, 0.25, 0.25]], 100, max_epochs=2))
    assert plan.documents.tolist() == [10, 45, 45]
    np.testing.assert_allclose(plan.weights, [0.1, 0.45, 0.45])
    assert plan.draws[0][0].stop == 5
    assert plan.draws[0][1].epoch == 1
    assert plan.cursors[0] == Cursor(2, 0)
    assert plan.carry[0] == 0, "a spent arm is owed nothing"


def test_exhausted_when_the_arms_with_weight_cannot_fill_a_round():
    stock = Shelves([[10] * 30, [10] * 1000])
    plans = list(plan_many(stock, [[1.0, 0.0]] * 10, 25, max_epochs=1))
    assert len(plans) == 1, "5 documents are left, a round needs 25"
    assert list(plan_many(Shelves([[10] * 3]), [[1.0]], 4, max_epochs=1)) == []


def test_permuting_arms_permutes_the_plan():
    rng = np.random.default_rng(0)
    arms = [rng.integers(1, 90, 300).tolist() for _ in range(4)]
    w = [0.4, 0.3, 0.2, 0.1]
    straight = next(plan_many(Shelves(arms), [w], 64))
    turned = next(plan_many(Shelves(arms[::-1]), [w[::-1]], 64))
    assert straight.documents.tolist() == turned.documents.tolist()[::-1]


@settings(max_examples=60, deadline=None)
@given(
    arms=st.lists(st.lists(st.integers(1, 400), min_size=1, max_size=30), min_size=1, max_size=6),
    seed=st.integers(0, 1000),
    samples=st.integers(1, 40),
)
def test_draws_are_consecutive_conserve_documents_and_end_in_exhaustion(arms, seed, samples):
    stock = Shelves(arms)
    rng = np.random.default_rng(seed)
    weights = [rng.dirichlet(np.ones(len(arms))).tolist() for _ in range(200)]
    expected = [(0, 0)] * len(arms)
    drawn = 0
    for plan in plan_many(stock, weights, samples, max_epochs=2):
        assert plan.documents.sum() == samples
        assert plan.weights.sum() == pytest.approx(1)
        drawn += samples
        for arm, draws in enumerate(plan.draws):
            for draw in draws:
                assert (draw.epoch, draw.start) == expected[arm], "a range starts where the last one ended"
                assert draw.stop > draw.start
                expected[arm] = (draw.epoch + 1, 0) if draw.stop == len(arms[arm]) else (draw.epoch, draw.stop)
            tokens = sum(int(stock.epoch_tokens(arm, d.epoch)[d.start : d.stop].sum()) for d in draws)
            assert tokens == plan.realised[arm]
    assert 2 * sum(map(len, arms)) - drawn < samples, "nothing but less than a round is left"


def test_many_arms_are_gone_through_as_one_by_one():
    # 40 copies of one arm fill a round from equal weights: each gives the same, and as one arm alone would
    stock = Shelves([[30, 10, 20]] * 40)
    plan = next(plan_many(stock, [[1 / 40] * 40], 40 * 7))
    alone = next(plan_many(Shelves([[30, 10, 20]]), [[1.0]], 7))
    assert set(plan.draws) == set(alone.draws)
    assert set(plan.realised.tolist()) == {int(alone.realised[0])}


def test_last_looks_ask_once_for_what_did_not_move():
    asked: list[tuple[int, int]] = []

    def epoch_tokens(arm: int, epoch: int) -> np.ndarray:
        asked.append((arm, epoch))
        return np.array([10, 20, 30]) + arm + 100 * epoch

    looks = LastLooks(3)
    arms, epochs = np.array([0, 2]), np.array([0, 1])
    assert looks.tokens_at(arms, epochs, np.array([0, 2]), epoch_tokens).tolist() == [10, 132]
    assert looks.tokens_at(arms, epochs, np.array([1, 2]), epoch_tokens).tolist() == [20, 132]
    assert asked == [(0, 0), (2, 1), (0, 0)]
