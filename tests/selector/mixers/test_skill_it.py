"""Skill-It: the paper's known answers, degenerate graphs, symmetries, clusters, missing losses, replay."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prereq.graph.errors import ConfigError, FeedbackError
from prereq.graph.influence import Influence, read_matrix_csv
from prereq.selector.mixers import NO_SKILL, Arms, Observation, SkillShares, make_mixer
from prereq.selector.mixers.registry import identifying_parameters

PLAIN = {"base": "uniform"}  # the paper's base
KAT = {"atol": 5e-6, "rtol": 0}  # known answers are given to five decimals
FADING = {"reduction": "ema", "ema_decay": 0.7}
LEGO_LOSSES = [0.7, 0.6, 0.5, 0.4, 0.3]


def square(matrix: Any) -> Influence:
    array = np.array(matrix, dtype=np.float64)
    return Influence(names("s", len(array)), names("s" if len(array) == array.shape[1] else "e", array.shape[1]), array)


def names(prefix: str, count: int) -> tuple[str, ...]:
    return tuple(f"{prefix}{i:03d}" for i in range(count))


def skill_it(influence: Influence, *, arms: Arms | None = None, **parameters: Any):
    return make_mixer("skill_it", PLAIN | parameters, arms or Arms.of_skills(influence.train), influence)


def report(number: int | None, influence: Influence, losses: Any) -> Observation:
    return Observation(round=number, losses=dict(zip(influence.eval, losses, strict=True)))


def after(mixer, influence: Influence, *rows: Any) -> np.ndarray:
    state = mixer.init()
    for number, losses in enumerate(rows):
        state = mixer.update(state, report(number, influence, losses))
    return mixer.mixture(state)


def published(data_dir, name: str) -> Influence:
    return read_matrix_csv(data_dir / "skillit_graphs" / name, off_diagonal_one=0.5)


# --- known answers


def test_the_identity_is_the_softmax_of_the_summed_losses_and_equals_exponential_weights():
    influence, rows = square(np.eye(2)), ([1.0, 0.5], [0.8, 0.4])
    windowed = after(skill_it(influence, learning_rate=0.5), influence, *rows)
    np.testing.assert_allclose(windowed, [0.61064, 0.38936], **KAT)
    hedge = np.array([0.5, 0.5])
    for losses in rows:
        hedge = hedge * np.exp(0.5 * np.array(losses))
        hedge /= hedge.sum()
    np.testing.assert_allclose(windowed, hedge, rtol=1e-14)
    carried = after(skill_it(influence, learning_rate=0.5, accumulate=True), influence, *rows)
    np.testing.assert_allclose(carried, hedge, rtol=1e-14)


@pytest.mark.data
def test_lego_known_answers(data_dir):
    lego = published(data_dir, "lego_5.csv")
    mixer = skill_it(lego, learning_rate=0.5)
    assert lego.matrix.sum(axis=1).tolist() == [1, 2.5, 1, 1, 1]
    np.testing.assert_allclose(mixer.mixture(mixer.init()), [0.16348, 0.34608, 0.16348, 0.16348, 0.16348], **KAT)
    once = after(mixer, lego, LEGO_LOSSES)
    np.testing.assert_allclose(once, [0.19987, 0.28362, 0.18085, 0.17203, 0.16364], **KAT)


@pytest.mark.data
def test_lego_constant_losses_over_a_window_by_sum_and_by_mean(data_dir):
    lego = published(data_dir, "lego_5.csv")
    constant = [[level] * 5 for level in (0.7, 0.6, 0.5)]
    summed = after(skill_it(lego, learning_rate=0.5), lego, *constant)
    mean = after(skill_it(lego, learning_rate=0.5, reduction="mean"), lego, *constant)
    np.testing.assert_allclose(summed[:2], [0.12727, 0.49093], **KAT)
    np.testing.assert_allclose(mean[:2], [0.17959, 0.28165], **KAT)


def test_fading_losses_give_the_softmax_of_their_weighted_mean():
    influence, rows = square([[1, 0], [0.5, 1]]), ([4.0, 1.0], [1.0, 1.0], [2.0, 3.0])
    mixer = skill_it(influence, learning_rate=0.5, reduction="ema", ema_decay=0.5)
    # by hand: (4 / 4 + 1 / 2 + 2) / (7 / 4) = 2 and (1 / 4 + 1 / 2 + 3) / (7 / 4) = 15 / 7
    weights = np.exp(0.5 * np.array([2.0, 0.5 * 2.0 + 15 / 7]))
    np.testing.assert_allclose(after(mixer, influence, *rows), weights / weights.sum(), rtol=1e-14)


def test_a_decay_of_zero_is_a_window_of_one_where_nothing_is_missing():
    influence = square([[1, 0.5, 0.0], [0, 1, -0.3], [0.1, 0, 1]])
    rows = np.random.default_rng(2).uniform(0, 5, (6, 3)).tolist()
    fading = after(skill_it(influence, reduction="ema", ema_decay=0), influence, *rows)
    np.testing.assert_allclose(fading, after(skill_it(influence, window=1), influence, *rows), rtol=1e-14)


def test_states_from_before_there_was_a_decay_stay_valid():
    """Keys as they were written before `ema_decay` came."""
    influence = Influence(("a", "b", "c"), ("a", "b", "c"), np.eye(3))
    arms = Arms.of_skills(influence.train)
    known = {
        "skill_it": ["c33064cbafd1", "8d3fae20efd7"],
        "skill_bandit": ["5bc3c66869aa", "96733857c8f4"],
    }
    for name, keys in known.items():
        for parameters, key in zip([{}, {"reduction": "mean", "targets": ["b"]}], keys, strict=True):
            assert make_mixer(name, parameters, arms, influence).init()["key"] == key
            assert "ema_decay" not in identifying_parameters(name, parameters)
        fading = {"reduction": "ema", "ema_decay": 0.5}
        other = make_mixer(name, fading | {"ema_decay": 0.25}, arms, influence).init()
        with pytest.raises(ConfigError, match="mixer state has the key"):
            make_mixer(name, fading, arms, influence).mixture(other)
        assert identifying_parameters(name, fading)["ema_decay"] == 0.5


def test_lego_fine_tuning_known_answers():
    lego = square([[1, 0, 0], [0.5, 1, 0.5], [0, 0, 1]])
    mixer = skill_it(lego, learning_rate=0.5, targets=["s002"])
    np.testing.assert_allclose(mixer.mixture(mixer.init()), [0.25428, 0.3265, 0.41923], **KAT)
    np.testing.assert_allclose(after(mixer, lego, [9.0, 9.0, 0.7]), [0.27698, 0.32996, 0.39306], **KAT)


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "learning_rate", "target", "expected"),
    [
        ("spanish_qg.csv", 0.8, 3, [0.2054, 0.2905, 0.21447, 0.28962]),
        ("stance_detection.csv", 0.2, 0, [0.53043, 0.46957]),
        ("stance_detection.csv", 0.5, 0, [0.57559, 0.42441]),
        ("addition_3.csv", 0.1, None, [0.32773, 0.34454, 0.32773]),
    ],
)
def test_published_matrices_give_their_initial_mixtures(data_dir, name, learning_rate, target, expected):
    full = published(data_dir, name)
    # the known answers were computed from entries rounded to four decimals
    influence = Influence(full.train, full.eval, full.matrix.round(4))
    targets = None if target is None else [influence.eval[target]]
    mixer = skill_it(influence, learning_rate=learning_rate, targets=targets)
    np.testing.assert_allclose(mixer.mixture(mixer.init()), expected, **KAT)


@pytest.mark.data
@pytest.mark.parametrize(("name", "shape"), [("ni_pretrain_23.csv", (23, 23)), ("ni_ood_59x12.csv", (59, 12))])
@pytest.mark.parametrize("negatives", ["keep", "clip"])
def test_published_matrices_with_negative_entries_follow_the_formula(data_dir, name, shape, negatives):
    influence = published(data_dir, name)
    assert influence.matrix.shape == shape
    assert influence.matrix.min() < -1.7
    losses = np.linspace(1.0, 3.0, shape[1])
    got = after(skill_it(influence, negatives=negatives), influence, losses)
    used = influence.matrix if negatives == "keep" else np.maximum(influence.matrix, 0.0)
    weights = np.exp(0.2 * used @ losses)
    np.testing.assert_allclose(got, weights / weights.sum(), rtol=1e-12)


# --- degenerate graphs and symmetries


@pytest.mark.parametrize("matrix", [np.ones((3, 3)), np.zeros((3, 3)), np.tile([0.3, -0.2, 0.9], (3, 1))])
def test_equal_rows_give_exactly_uniform_for_any_losses(matrix):
    influence = square(matrix)
    assert after(skill_it(influence), influence, [5.0, 0.1, 2.0]).tolist() == [1 / 3] * 3


def test_a_learning_rate_of_zero_or_losses_of_zero_give_exactly_uniform():
    influence = square([[1, 0, 0], [0.5, 1, 0.5], [0, 0, 1]])
    assert after(skill_it(influence, learning_rate=0), influence, [5.0, 0.1, 2.0]).tolist() == [1 / 3] * 3
    assert after(skill_it(influence), influence, [0.0, 0.0, 0.0]).tolist() == [1 / 3] * 3


def test_a_zero_row_still_has_weight_unless_it_is_masked():
    influence = square([[1, 0.5], [0, 0]])
    weights = after(skill_it(influence, learning_rate=1.0), influence, [1.0, 1.0])
    np.testing.assert_allclose(weights[1], 1 / (1 + np.exp(1.5)), rtol=1e-14)


matrices = st.integers(2, 5).flatmap(
    lambda k: st.tuples(
        st.lists(st.lists(st.floats(-2, 2), min_size=k, max_size=k), min_size=k, max_size=k),
        st.lists(st.floats(0, 5), min_size=k, max_size=k),
        st.permutations(range(k)),
    )
)


@settings(max_examples=60, deadline=None)
@given(matrices)
def test_rows_move_the_mixture_with_them_and_columns_with_their_losses_leave_it(case):
    matrix, losses, order = np.array(case[0]), np.array(case[1]), list(case[2])
    plain = after(skill_it(square(matrix)), square(matrix), losses)
    rows = after(skill_it(square(matrix[order])), square(matrix[order]), losses)
    np.testing.assert_allclose(rows, plain[order], rtol=1e-12, atol=1e-300)
    columns = after(skill_it(square(matrix[:, order])), square(matrix[:, order]), losses[order])
    np.testing.assert_allclose(columns, plain, rtol=1e-12, atol=1e-300)  # the sums run in another order


@settings(max_examples=60, deadline=None)
@given(matrices, st.floats(0.1, 10))
def test_scaling_influence_against_losses_and_shifting_rows_change_nothing(case, factor):
    matrix, losses = np.array(case[0]), np.array(case[1])
    plain = after(skill_it(square(matrix)), square(matrix), losses)
    scaled = after(skill_it(square(matrix * factor)), square(matrix * factor), losses / factor)
    np.testing.assert_allclose(scaled, plain, rtol=1e-9)
    shifted = after(skill_it(square(matrix + losses[None, :])), square(matrix + losses[None, :]), losses)
    np.testing.assert_allclose(shifted, plain, rtol=1e-9)


def test_scaling_the_influence_does_change_the_initial_mixture():
    starts = [skill_it(square(np.array([[1, 0.5], [0, 1]]) * c)) for c in (1.0, 2.0)]
    assert np.ptp([mixer.mixture(mixer.init())[0] for mixer in starts]) > 0.01


def test_a_constant_on_all_losses_moves_the_mixture_only_where_row_sums_differ():
    even, uneven = square([[1, 0.5], [0.5, 1]]), square([[1, 0.5], [0, 1]])
    for influence, same in ((even, True), (uneven, False)):
        low = after(skill_it(influence), influence, [1.0, 2.0])
        high = after(skill_it(influence), influence, [4.0, 5.0])
        assert np.allclose(low, high, rtol=1e-12) == same


def test_neither_the_order_of_the_matrix_nor_that_of_the_report_shows_in_the_bits():
    ids = ("s10", "s2", "s1")
    matrix = np.array([[1, 0.5, 0.1], [0.3, 1, 0.25], [0.7, 0, 1.0]])
    arms = Arms.of_skills(ids)
    weights = after(skill_it(Influence(ids, ids, matrix), arms=arms), Influence(ids, ids, matrix), [0.1, 0.2, 0.3])
    moved = Influence(ids[::-1], (ids[1], ids[2], ids[0]), matrix[::-1][:, [1, 2, 0]])
    assert after(skill_it(moved, arms=arms), moved, [0.2, 0.3, 0.1]).tolist() == weights.tolist()
    by_hand = dict(zip(ids, matrix @ [0.1, 0.2, 0.3], strict=True))
    assert sorted(arms.ids, key=by_hand.__getitem__) == [arms.ids[i] for i in np.argsort(weights)]


# --- clusters


def clustered(rows: list[dict[str, float]], tokens: list[int], skills: tuple[str, ...]) -> Arms:
    counts = np.array(tokens)
    shares = SkillShares.from_rows(rows, skills)
    return Arms(ids=names("c", len(rows)), tokens=counts, rows=counts, skills=skills, shares=shares)


def test_the_signal_of_a_cluster_is_t_times_a_times_the_losses_over_a_base_of_token_shares():
    influence = square([[1, 0.5, 0], [0, 1, 0.5], [0, 0, 1]])
    rows = [{"s000": 0.5, "s001": 0.25, NO_SKILL: 0.25}, {"s002": 1.0}, {NO_SKILL: 1.0}, {"s000": 0.1, "s002": 0.9}]
    arms = clustered(rows, [10, 20, 30, 40], influence.train)
    losses = np.array([3.0, 1.0, 2.0])
    got = after(make_mixer("skill_it", {"learning_rate": 0.7}, arms, influence), influence, losses)
    dense = arms.shares.to_dense()[:, :3]
    weights = np.array([0.1, 0.2, 0.3, 0.4]) * np.exp(0.7 * dense @ influence.matrix @ losses)
    np.testing.assert_allclose(got, weights / weights.sum(), rtol=1e-13)


@settings(max_examples=60, deadline=None)
@given(
    tokens=st.lists(st.integers(1, 1000), min_size=2, max_size=5),
    cut=st.floats(0.0, 1.0),
    parameters=st.sampled_from([{}, {"floor": 0.2}, {"accumulate": True}, {"mask": True, "targets": ["s002"]}]),
    seed=st.integers(0, 99),
)
def test_cutting_a_cluster_in_two_changes_no_skills_weight(tokens, cut, parameters, seed):
    rng = np.random.default_rng(seed)
    influence = square(rng.uniform(-0.2, 1.0, (3, 3)))
    rows = [dict(zip((*influence.train, NO_SKILL), rng.dirichlet(np.ones(4)), strict=True)) for _ in tokens]
    part = int(tokens[0] * cut)
    whole = clustered(rows, tokens, influence.train)
    halves = clustered([rows[0], *rows], [part, tokens[0] - part, *tokens[1:]], influence.train)
    weights = [
        arms.skill_weights(after(make_mixer("skill_it", parameters, arms, influence), influence, [3.0, 1.0, 2.0]))
        for arms in (whole, halves)
    ]
    assert weights[0].keys() == weights[1].keys()
    for skill, weight in weights[0].items():
        assert weights[1][skill] == pytest.approx(weight, abs=1e-12)


def test_with_t_the_identity_and_equal_tokens_the_token_base_is_skill_it_itself():
    influence = square([[1, 0.5, 0], [0, 1, 0.5], [0, 0, 1]])
    tokens = after(skill_it(influence, base="tokens"), influence, [3.0, 1.0, 2.0])
    assert tokens.tolist() == after(skill_it(influence), influence, [3.0, 1.0, 2.0]).tolist()


def test_an_arm_without_tokens_is_never_drawn():
    influence = square(np.eye(2))
    arms = Arms.of_skills(influence.train, [0, 5])
    for base in ("tokens", "uniform"):
        assert after(skill_it(influence, arms=arms, base=base, floor=0.1), influence, [9.0, 0.0]).tolist() == [0.0, 1.0]


def test_a_skill_without_a_row_has_no_influence_and_a_row_without_a_skill_is_an_error():
    arms = Arms.of_skills(["s000", "s001", "zzz"])
    influence = square([[1.0, 0.0], [0.0, 1.0]])
    weights = after(skill_it(influence, arms=arms, learning_rate=1.0), influence, [1.0, 1.0])
    np.testing.assert_allclose(weights, np.array([np.e, np.e, 1.0]) / (2 * np.e + 1), rtol=1e-14)
    with pytest.raises(ConfigError, match=r"influence: unknown training skill 's001'.*one graph"):
        skill_it(influence, arms=Arms.of_skills(["s000"]))


# --- targets and mask

CHAIN = Influence(("a", "b", "c", "d"), ("a", "b", "c", "d"), np.eye(4) + np.diag([0.5, 0.5, 0.0], 1))


def test_masked_skills_get_exactly_zero_and_the_rest_tends_to_uniform_as_losses_vanish():
    mixer = skill_it(CHAIN, targets=["c"], mask=True, floor=0.3)
    assert after(mixer, CHAIN, [1.0, 1.0, 2.0, 7.0])[3] == 0.0
    assert after(mixer, CHAIN, [1.0, 1.0, 0.0, 7.0]).tolist() == pytest.approx([1 / 3, 1 / 3, 1 / 3, 0.0])


# --- time


@pytest.mark.parametrize("accumulate", [False, True])
def test_paper_timing_is_one_report_behind_end_of_round(accumulate):
    influence, rows = square([[1, 0.5], [0, 1]]), [[4.0, 2.0], [0.5, 1.5], [0.25, 1.0], [0.2, 0.8]]
    paper = skill_it(influence, loss_timing="paper", window=2, accumulate=accumulate)
    prompt = skill_it(influence, loss_timing="end_of_round", window=2, accumulate=accumulate)
    assert after(paper, influence, rows[0]).tolist() == paper.mixture(paper.init()).tolist()
    for count in range(1, len(rows)):
        late = after(paper, influence, *rows[: count + 1]).tolist()
        assert late == after(prompt, influence, *rows[:count]).tolist()
        assert late != after(prompt, influence, *rows[: count + 1]).tolist()


def test_the_initial_evaluation_moves_round_zero_at_once_or_in_paper_timing_the_round_after():
    influence = square([[1, 0.5], [0, 1]])
    for timing in ("end_of_round", "paper"):
        mixer = skill_it(influence, loss_timing=timing)
        state = mixer.update(mixer.init(), report(None, influence, [1.0, 6.0]))
        moved = mixer.mixture(state).tolist() != mixer.mixture(mixer.init()).tolist()
        assert moved == (timing == "end_of_round")
    state = mixer.update(state, report(0, influence, [0.0, 0.0]))
    other = skill_it(influence)
    expected = other.mixture(other.update(other.init(), report(None, influence, [1.0, 6.0])))
    assert mixer.mixture(state).tolist() == expected.tolist()


def test_static_mode_keeps_the_initial_mixture_and_its_state_and_waits_for_nobody():
    influence = square([[1, 0.5], [0, 1]])
    mixer = skill_it(influence, mode="static")
    state = mixer.update(mixer.init(), report(0, influence, [1.0, 6.0]))
    assert not mixer.uses_feedback
    assert state["last_round"] is None
    assert mixer.mixture(state).tolist() == mixer.mixture(mixer.init()).tolist()
    online = skill_it(influence)
    assert mixer.mixture(mixer.init()).tolist() == online.mixture(online.init()).tolist()


def test_reports_out_of_order_or_twice_are_refused():
    influence = square(np.eye(2))
    mixer = skill_it(influence)
    state = mixer.update(mixer.init(), report(3, influence, [1.0, 1.0]))
    for number in (3, 2, None):
        with pytest.raises(FeedbackError, match=r"after that of round 3; reports apply once, in order"):
            mixer.update(state, report(number, influence, [1.0, 1.0]))


# --- missing and malformed losses


@pytest.mark.parametrize("parameters", [{}, {"loss_timing": "paper"}, {"accumulate": True}])
def test_a_report_without_any_loss_keeps_the_last_mixture(parameters):
    influence = square([[1, 0.5], [0, 1]])
    mixer = skill_it(influence, **parameters)
    rows = [[4.0, 2.0], [0.5, 1.5]]
    before = after(mixer, influence, *rows)
    assert after(mixer, influence, *rows, [None, float("nan")]).tolist() == before.tolist()
    state = mixer.update(mixer.init(), Observation(round=0, losses={}))
    assert mixer.mixture(state).tolist() == mixer.mixture(mixer.init()).tolist()


def test_losses_of_skills_that_are_no_targets_do_not_count_as_a_report():
    influence = square(np.eye(2))
    mixer = skill_it(influence, targets=["s001"])
    state = mixer.update(mixer.init(), Observation(round=0, losses={"s000": 5.0}))
    assert mixer.mixture(state).tolist() == mixer.mixture(mixer.init()).tolist()


@pytest.mark.parametrize("losses", [{"s000": -1.0}, {"s000": float("inf")}, {"s00": 1.0}, {"s000": "1"}])
def test_a_bad_report_raises_and_leaves_the_state_alone(losses):
    mixer = skill_it(square(np.eye(2)))
    state = mixer.init()
    with pytest.raises(FeedbackError, match="feedback of round 0"):
        mixer.update(state, Observation(round=0, losses=losses))
    assert state["last_round"] is None
    assert len(state["losses"]) == 0


def test_enormous_losses_give_a_one_hot_mixture_without_overflow():
    influence = square(np.eye(3))
    assert after(skill_it(influence, learning_rate=100.0), influence, [1e99, 1.0, 0.0]).tolist() == [1.0, 0.0, 0.0]


# --- purity, replay, diagnostics


def frozen(state: dict[str, Any]) -> str:
    return json.dumps(state, sort_keys=True, default=lambda array: array.tolist(), allow_nan=False)


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"loss_timing": "paper"},
        {"accumulate": True},
        {"reduction": "mean"},
        FADING,
        FADING | {"loss_timing": "paper"},
    ],
)
def test_updates_are_pure_and_a_replay_from_json_gives_the_same_bits(parameters):
    influence = square([[1, 0.5, 0.0], [0, 1, -0.3], [0.1, 0, 1]])
    rng = np.random.default_rng(5)
    rows = [[None if rng.random() < 0.2 else float(x) for x in rng.uniform(0, 6, 3)] for _ in range(9)]
    mixer, again = skill_it(influence, **parameters), skill_it(influence, **parameters)
    state, copied = mixer.init(), json.loads(frozen(mixer.init()))
    for number, losses in enumerate(rows):
        before = frozen(state)
        following = mixer.update(state, report(number, influence, losses))
        assert frozen(state) == before
        state = following
        copied = json.loads(frozen(again.update(copied, report(number, influence, losses))))
        assert frozen(state) == frozen(copied)
        assert mixer.mixture(state).tolist() == again.mixture(copied).tolist()


def test_the_state_of_another_configuration_is_refused():
    influence = square(np.eye(2))
    state = skill_it(influence, window=3).init()
    with pytest.raises(ConfigError, match="mixer state has the key"):
        skill_it(influence, window=2).mixture(state)


def test_diagnostics_give_the_range_of_the_logits_and_how_many_arms_are_in_use():
    influence = square(np.eye(2))
    mixer = skill_it(influence, learning_rate=0.5)
    state = mixer.update(mixer.init(), report(0, influence, [13.0, 1.0]))
    assert mixer.diagnostics(state)["logit_range"] == pytest.approx(6.0)
    assert mixer.diagnostics(state)["effective_arms"] == pytest.approx(1.0, abs=0.02)
    assert mixer.diagnostics(mixer.init()) == {"logit_range": 0.0, "effective_arms": pytest.approx(2.0)}
    masked = skill_it(CHAIN, targets=["c"], mask=True, learning_rate=0)
    assert masked.diagnostics(masked.init())["effective_arms"] == pytest.approx(3.0)
