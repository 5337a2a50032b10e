"""SkillBandit: Skill-It where it is told to be, recovery from a wrong graph, purity and replay, what it refuses."""

import json
from typing import Any

import numpy as np
import pytest

from prereq.graph.errors import ConfigError, FeedbackError
from prereq.graph.influence import Influence
from prereq.selector.mixers import NO_SKILL, Arms, Observation, SkillShares, make_mixer, mixer_config
from prereq.selector.mixers.simulator import SimulatorConfig, simulate
from prereq.selector.mixers.skill_bandit import relative_losses
from prereq.selector.mixers.worlds import ROUNDS, make_world

IDS = ("a", "b", "c")
TRUTH = Influence(IDS, IDS, 0.2 * np.array([[1.0, 0.6, 0.4], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]))
WRONG = Influence(IDS, IDS, np.array([[1.0, 0.0, 0.0], [0.5, 1.0, 0.0], [0.5, 0.5, 1.0]]))
ARMS = Arms.of_skills(IDS)
PRIOR_ONLY = {"observation_weight": 0, "bonus": 0}


def clusters() -> Arms:
    rows = [{"a": 0.5, "b": 0.25, NO_SKILL: 0.25}, {"c": 1.0}, {NO_SKILL: 1.0}, {"a": 0.1, "c": 0.9}]
    counts = np.array([10, 20, 30, 40])
    ids = ("w", "x", "y", "z")
    return Arms(ids=ids, tokens=counts, rows=counts, skills=IDS, shares=SkillShares.from_rows(rows, IDS))


def reports(arms: Arms, count: int = 9, seed: int = 0) -> list[Observation]:
    """Falling losses with gaps, numbers of tokens that vary, and tokens drawn at random."""
    rng = np.random.default_rng(seed)
    found = []
    for number in range(count):
        values = 3.0 * 0.9**number * rng.uniform(0.8, 1.2, 3)
        losses = {skill: None if rng.random() < 0.2 else float(x) for skill, x in zip(IDS, values, strict=True)}
        tokens = {skill: int(rng.integers(100, 5000)) for skill in IDS}
        drawn = rng.integers(0, 1000, len(arms.ids)).astype(float)
        found.append(
            Observation(round=number - 1 if number else None, losses=losses, eval_tokens=tokens, drawn_tokens=drawn)
        )
    return found


def frozen(state: dict[str, Any]) -> str:
    return json.dumps(state, sort_keys=True, default=lambda array: array.tolist(), allow_nan=False)


# --- it is Skill-It


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"base": "uniform", "learning_rate": 1.5},
        {"reduction": "mean", "window": 2, "floor": 0.2},
        {"reduction": "ema", "ema_decay": 0.6, "loss_timing": "paper"},
        {"loss_timing": "paper", "targets": ["b", "c"]},
        {"mask": True, "targets": ["c"], "negatives": "clip"},
    ],
)
@pytest.mark.parametrize("arms", [ARMS, clusters()], ids=["skills", "clusters"])
def test_without_observations_and_bonus_it_is_skill_it_bit_for_bit(parameters, arms):
    rng = np.random.default_rng(3)
    influence = Influence(IDS, IDS, rng.uniform(-0.3, 1.0, (3, 3)))
    ours = make_mixer("skill_bandit", PRIOR_ONLY | parameters, arms, influence)
    theirs = make_mixer("skill_it", parameters, arms, influence)
    state, other = ours.init(), theirs.init()
    assert ours.mixture(state).tolist() == theirs.mixture(other).tolist()
    for report in reports(arms):
        state, other = ours.update(state, report), theirs.update(other, report)
        assert ours.mixture(state).tolist() == theirs.mixture(other).tolist()
        assert ours.diagnostics(state)["logit_range"] == theirs.diagnostics(other)["logit_range"]


def test_before_the_first_drop_without_bonus_it_is_skill_it():
    ours, theirs = make_mixer("skill_bandit", {"bonus": 0}, ARMS, WRONG), make_mixer("skill_it", {}, ARMS, WRONG)
    first, *later = reports(ARMS)
    state, other = ours.update(ours.init(), first), theirs.update(theirs.init(), first)
    assert ours.mixture(state).tolist() == theirs.mixture(other).tolist()
    for report in later:
        state, other = ours.update(state, report), theirs.update(other, report)
    assert ours.mixture(state).tolist() != theirs.mixture(other).tolist()


def test_many_rows_are_multiplied_with_the_same_bits_as_in_skill_it():
    ids = tuple(f"s{index:04d}" for index in range(700))
    influence = Influence(ids, ids, np.random.default_rng(0).standard_normal((700, 700)))
    arms = Arms.of_skills(ids)
    ours = make_mixer("skill_bandit", PRIOR_ONLY, arms, influence)
    theirs = make_mixer("skill_it", {}, arms, influence)
    assert ours.mixture(ours.init()).tolist() == theirs.mixture(theirs.init()).tolist()


# --- it learns


def test_with_a_wrong_graph_it_gets_close_to_skill_it_with_the_right_one_and_skill_it_does_not():
    def run(name: str, declared: Influence) -> float:
        mixer = make_mixer(name, {"learning_rate": 1.0}, ARMS, declared)
        return simulate(mixer, ARMS, TRUTH, 30, SimulatorConfig(relative_noise=0.02)).final_loss

    right = run("skill_it", Influence(IDS, IDS, TRUTH.matrix / 0.2))
    assert run("skill_bandit", WRONG) < 1.1 * right
    assert run("skill_it", WRONG) > 1.2 * right


def test_in_a_large_world_a_reversed_graph_is_given_up_and_uniform_is_beaten():
    world = make_world(1001)
    mixer = make_mixer("skill_bandit", {"learning_rate": 2.0}, world.arms, world.declared("reversed"))
    config = SimulatorConfig(relative_noise=0.02, seed=1)
    found = simulate(mixer, world.arms, world.truth, ROUNDS, config).final_loss
    even = simulate(make_mixer("uniform", {}, world.arms, None), world.arms, world.truth, ROUNDS, config).final_loss
    misled = make_mixer("skill_it", {"learning_rate": 2.0}, world.arms, world.declared("reversed"))
    assert found < even < simulate(misled, world.arms, world.truth, ROUNDS, config).final_loss


def test_a_skill_whose_loss_is_gone_and_that_helps_no_other_is_left_though_the_graph_praises_it():
    """In this world a round of one skill takes its whole loss; a reversed graph sends the first round to a leaf."""
    world = make_world(1004)
    assert world.speed > 1.0
    parameters = {"learning_rate": 16.0, "relative": False}
    mixer = make_mixer("skill_bandit", parameters, world.arms, world.declared("reversed"))
    config = SimulatorConfig(relative_noise=0.02, seed=1004)
    losses = simulate(mixer, world.arms, world.truth, ROUNDS, config).losses
    even = simulate(make_mixer("uniform", {}, world.arms, None), world.arms, world.truth, ROUNDS, config)
    assert losses[1].min() == 0.0
    assert losses[-1].mean() < even.final_loss


def test_losses_move_into_the_unit_of_the_first_ones_as_drops_come_in():
    """Half way, in the logarithm, after ten drops; the newest losses' proportions stay."""
    newest, first = np.array([0.5, 0.25, np.nan]), np.array([4.0, 8.0, 3.0])  # sums .75 and 12: a factor of 16
    np.testing.assert_allclose(relative_losses(newest, first, 10), [2.0, 1.0, 0.0])
    np.testing.assert_allclose(relative_losses(newest, first, 30), np.array([0.5, 0.25, 0.0]) * 8.0)
    np.testing.assert_allclose(relative_losses(newest, first, 0), [0.5, 0.25, 0.0])
    assert relative_losses(np.zeros(3), first, 10).tolist() == [0.0, 0.0, 0.0]


def test_the_bonus_goes_to_what_was_not_drawn():
    """Two skills of equal declared effect, one of them tried often: the other gets more."""
    ids = ("a", "b")
    arms, influence = Arms.of_skills(ids), Influence(ids, ids, np.eye(2))
    shares = []
    for bonus in (0.0, 0.5):
        mixer = make_mixer("skill_bandit", {"bonus": bonus, "learning_rate": 1.0}, arms, influence)
        state = mixer.init()
        for number in range(6):
            loss = 0.9**number
            losses = {"a": loss, "b": loss}
            drawn = np.array([1000.0, 1.0])
            state = mixer.update(state, Observation(round=number, losses=losses, drawn_tokens=drawn))
        shares.append(mixer.mixture(state)[1])
    assert shares[1] > shares[0]


def test_once_drops_are_seen_the_newest_losses_count_ever_more_in_units_of_the_first():
    """With evidence of no weight the influence stays as declared, and the mixture can be computed by hand."""
    a0 = np.array([[1.0, 0.4, 0.0], [0.0, 1.0, 0.2], [0.0, 0.0, 1.0]])
    parameters = {"observation_weight": 1e-12, "bonus": 0, "learning_rate": 0.3, "window": 2, "base": "uniform"}
    losses = [(4.0, 2.0, 2.0), (2.0, 1.0, 1.5), (1.0, 0.5, 0.5), (0.5, 0.25, None)]
    # one report without a drop, as in Skill-It, then the newest losses over two reports; a third skill that is not
    # measured keeps the .5 that it had a report before
    newest = np.array([(4.0, 2.0, 2.0), (4.0, 2.0, 3.0), (2.0, 1.0, 1.0), (1.0, 0.5, 1.0)])
    # they began at 8 and are at 4.5, 2 and 1.25 after one, two and three drops
    factors = [1.0, (8 / 4.5) ** (1 / 11), (8 / 2) ** (2 / 12), (8 / 1.25) ** (3 / 13)]
    expected = newest * np.array(factors)[:, None]
    mixer = make_mixer("skill_bandit", parameters, ARMS, Influence(IDS, IDS, a0))
    state = mixer.init()
    for number, (row, counted) in enumerate(zip(losses, expected, strict=True)):
        report = Observation(round=number, losses=dict(zip(IDS, row, strict=True)), drawn_tokens=np.ones(3))
        state = mixer.update(state, report)
        logits = 0.3 * a0 @ counted
        np.testing.assert_allclose(mixer.mixture(state), np.exp(logits) / np.exp(logits).sum(), rtol=1e-6)


def test_diagnostics_tell_how_far_the_graph_is_trusted():
    world = make_world(1001)
    trust = {}
    for kind in ("right", "reversed"):
        mixer = make_mixer("skill_bandit", {}, world.arms, world.declared(kind))
        state = mixer.init()
        assert mixer.diagnostics(state)["trust"] == 1.0
        rng, losses = np.random.default_rng(0), np.full(len(world.arms.ids), 3.0)
        for number in range(6):
            drawn = rng.dirichlet(np.ones(len(losses))) * 1e6
            losses = losses * (1 - (drawn / 1e6) @ world.truth.matrix)
            report = dict(zip(world.arms.ids, losses.tolist(), strict=True))
            state = mixer.update(state, Observation(round=number, losses=report, drawn_tokens=drawn))
        trust[kind] = mixer.diagnostics(state)["trust"]
    assert trust["right"] > 0.7
    assert trust["reversed"] < 0.3


# --- the state


@pytest.mark.parametrize("parameters", [{}, {"memory": 3}, {"loss_timing": "paper"}])
@pytest.mark.parametrize("arms", [ARMS, clusters()], ids=["skills", "clusters"])
def test_updates_are_pure_and_a_replay_from_json_gives_the_same_bits(parameters, arms):
    mixer, again = (make_mixer("skill_bandit", parameters, arms, WRONG) for _ in range(2))
    state, copied = mixer.init(), json.loads(frozen(mixer.init()))
    for report in reports(arms):
        before = frozen(state)
        following = mixer.update(state, report)
        assert frozen(state) == before
        state = following
        copied = json.loads(frozen(again.update(copied, report)))
        assert frozen(state) == frozen(copied)
        assert mixer.mixture(state).tolist() == again.mixture(copied).tolist()


def test_the_state_stops_growing_and_what_is_older_than_the_memory_does_not_count():
    mixer = make_mixer("skill_bandit", {"memory": 4, "window": 2}, ARMS, WRONG)
    ends = []
    for seed in (0, 1):
        state = mixer.init()
        for report in reports(ARMS, 3, seed) + [
            Observation(round=r.round + 3 if r.round is not None else 2, losses=r.losses, drawn_tokens=r.drawn_tokens)
            for r in reports(ARMS, 9, 7)
        ]:
            state = mixer.update(state, report)
        assert len(state["shares"]) == 4
        assert len(state["seen"]) == 5
        ends.append(frozen({key: value for key, value in state.items() if key != "first"}))  # the losses' unit stays
    assert ends[0] == ends[1]


def test_the_state_does_not_grow_with_the_arms():
    many = Arms.of_skills([f"s{index:03d}" for index in range(3)], [5, 5, 5])
    few = make_mixer("skill_bandit", {}, many, Influence(many.ids, many.ids, np.eye(3)))
    wide = make_mixer("skill_bandit", {}, clusters(), WRONG)
    assert few.init()["shares"].shape == wide.init()["shares"].shape


# --- what it refuses


def test_reports_out_of_order_another_state_or_missing_draws_are_refused():
    mixer = make_mixer("skill_bandit", {}, ARMS, WRONG)
    state = mixer.update(mixer.init(), Observation(round=3, losses={"a": 1.0}))
    with pytest.raises(FeedbackError, match="after that of round 3; reports apply once, in order"):
        mixer.update(state, Observation(round=3, losses={"a": 1.0}, drawn_tokens=np.ones(3)))
    for drawn in (np.zeros(0), np.ones(2), np.array([1.0, -1.0, 1.0]), np.array([1.0, np.nan, 1.0])):
        with pytest.raises(FeedbackError, match="needs the tokens >= 0 of all 3 arms"):
            mixer.update(state, Observation(round=4, losses={"a": 1.0}, drawn_tokens=drawn))
    with pytest.raises(ConfigError, match="mixer state has the key"):
        make_mixer("skill_bandit", {"memory": 7}, ARMS, WRONG).mixture(state)


@pytest.mark.parametrize(
    ("key", "value"),
    [("bonus", -1.0), ("memory", 0), ("forgetting", 0.0), ("prior_sd", 0.0), ("smoothing", 1.0), ("noise", "1")],
)
def test_a_bad_value_names_its_dotted_path(key, value):
    with pytest.raises(ConfigError, match=rf"mixer\.parameters\.{key} is .*; expected"):
        mixer_config("skill_bandit", {key: value})


def test_a_round_without_tokens_and_losses_that_do_not_fall_keep_the_declared_graph():
    mixer, plain = make_mixer("skill_bandit", {"bonus": 0}, ARMS, WRONG), make_mixer("skill_it", {}, ARMS, WRONG)
    state, other = mixer.init(), plain.init()
    for number, loss in enumerate((1.0, 1.5, 2.0)):
        drawn = np.zeros(3) if number == 1 else np.ones(3)
        report = Observation(round=number, losses=dict.fromkeys(IDS, loss), drawn_tokens=drawn)
        state, other = mixer.update(state, report), plain.update(other, report)
    assert mixer.mixture(state).tolist() == plain.mixture(other).tolist()


def test_rectangular_influence_without_shared_ids_keeps_its_declared_scale():
    influence = Influence(IDS, ("x", "y"), np.array([[0.5, 0.0], [0.1, 0.4], [0.0, 0.3]]))
    mixer = make_mixer("skill_bandit", {}, ARMS, influence)
    state = mixer.init()
    for number in range(4):
        losses = {"x": 0.9**number, "y": 0.8**number}
        drawn = np.array([5.0, 3.0, 2.0])
        state = mixer.update(state, Observation(round=number, losses=losses, drawn_tokens=drawn))
    assert mixer.diagnostics(state)["trust"] == 1.0
    assert mixer.diagnostics(state)["level"] == 0.0
    assert mixer.mixture(state).sum() == pytest.approx(1.0)
