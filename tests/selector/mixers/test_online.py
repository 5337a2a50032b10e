"""What all mixers that move with reports promise: replay, purity, order, gaps, relabelling."""

import copy
import json

import numpy as np
import pytest

from prereq.graph.errors import ConfigError, FeedbackError
from prereq.graph.influence import Influence
from prereq.selector.mixers import MIXERS, Arms, Observation, SkillShares, make_mixer

SKILLS = ("loops", "classes", "async")
ROWS = {
    "c0": {"loops": 1.0},
    "c1": {"loops": 0.25, "classes": 0.5, "_none": 0.25},
    "c2": {"async": 0.5, "classes": 0.5},
    "c3": {"_none": 1.0},
}
TOKENS = {"c0": 50, "c1": 30, "c2": 20, "c3": 10}
MATRIX = np.array([[1.0, 0.5, 0.2], [0.1, 1.0, 0.5], [-0.1, 0.0, 1.0]])
INFLUENCE = Influence(train=SKILLS, eval=SKILLS, matrix=MATRIX)
PARAMETERS = {
    "phases": {"phases": [{"start": 0}, {"start": 3, "skills": {"loops": 1.0}}]},
    "quad": {"clusters": 2},
    "velocitune": {"target_losses": {"loops": 1.0, "classes": 0.5, "async": 1.2}},
}
ONLINE = [name for name in sorted(MIXERS) if name not in ("proportional", "static", "temperature", "uniform")]


def arms(rename=None):
    """The pool, its arms renamed; ids stay ascending."""
    names = sorted(ROWS, key=lambda arm: (rename or {}).get(arm, arm))
    return Arms(
        ids=tuple((rename or {}).get(arm, arm) for arm in names),
        tokens=np.array([TOKENS[arm] for arm in names]),
        rows=np.array([TOKENS[arm] for arm in names]),
        skills=SKILLS,
        shares=SkillShares.from_rows([ROWS[arm] for arm in names], SKILLS),
    )


def make(name, pool=None, **extra):
    return make_mixer(name, PARAMETERS.get(name, {}) | extra, pool or arms(), INFLUENCE)


def report(mixer, number, rename=None, pool=None, value=lambda number, index: 0.1 + (7 * index + 3 * number) % 5):
    """A report of everything, by arm where a signal may be by arm, different in every round."""
    names = (rename or {}).get
    by_arm = {names(arm, arm): float(value(number, index)) for index, arm in enumerate(sorted(ROWS))}
    by_skill = {skill: float(value(number, index)) for index, skill in enumerate(SKILLS)}
    drawn = {names(arm, arm): 100.0 + 10 * index for index, arm in enumerate(sorted(ROWS))}
    return Observation(
        round=None if number < 0 else number,
        losses={skill: 3.0 / (number + 2 + index) + 1.0 for index, skill in enumerate(SKILLS)},
        arm_losses={arm: 2.0 + amount for arm, amount in by_arm.items()},
        signals={signal: by_skill if signal == "missing" else by_arm for signal in mixer.required_signals},
        drawn_tokens=np.array([drawn[arm] for arm in (pool or arms()).ids]),
        tokens_seen=1000 * (number + 1),
    )


def through_json(state):
    return json.loads(json.dumps(state, default=lambda value: value.tolist(), allow_nan=False))


@pytest.mark.parametrize("name", ONLINE)
def test_replaying_reports_gives_the_same_bits_even_through_json(name):
    mixer, again = make(name), make(name)
    state, replayed = mixer.init(), through_json(again.init())
    for number in range(-1, 7):
        state = mixer.update(state, report(mixer, number))
        replayed = through_json(again.update(replayed, report(again, number)))
        weights = mixer.mixture(state)
        assert weights.tobytes() == again.mixture(replayed).tobytes()
        assert weights.sum() == pytest.approx(1.0, abs=1e-12)
        assert (weights >= 0).all()
        assert through_json(state) == replayed
    assert mixer.diagnostics(state)["logit_range"] >= 0.0


@pytest.mark.parametrize("name", ONLINE)
def test_an_update_leaves_the_state_it_was_given(name):
    mixer = make(name)
    state = mixer.update(mixer.init(), report(mixer, 0))
    before = through_json(copy.deepcopy(state))
    mixer.update(state, report(mixer, 1))
    mixer.mixture(state)[:] = 0.0
    assert through_json(state) == before
    assert mixer.mixture(state).sum() == pytest.approx(1.0)


@pytest.mark.parametrize("name", ONLINE)
def test_reports_apply_once_and_in_order_and_states_belong_to_their_configuration(name):
    mixer = make(name)
    state = mixer.update(mixer.init(), report(mixer, 3))
    for number in (3, 2, -1):
        with pytest.raises(FeedbackError, match="apply once, in order"):
            mixer.update(state, report(mixer, number))
    other = make(name, arms({"c0": "d0"}))
    with pytest.raises(ConfigError, match="this configuration"):
        other.mixture(state)


@pytest.mark.parametrize("name", [name for name in ONLINE if name not in ("phases", "skill_it")])
def test_a_report_that_measured_nothing_moves_nothing(name):
    mixer = make(name, **({"lookahead": 0, "rounds": 1} if "curriculum" in name or "order" in name else {}))
    state = mixer.update(mixer.init(), report(mixer, 0))
    nothing = {skill: None for skill in SKILLS}
    empty = {signal: {} for signal in mixer.required_signals}
    silent = Observation(round=1, losses=nothing, signals=empty, drawn_tokens=np.ones(4), tokens_seen=2000)
    gaps = {signal: dict.fromkeys(ROWS, float("nan")) for signal in empty if signal != "missing"}
    noisy = Observation(round=1, losses=nothing, signals=empty | gaps, drawn_tokens=np.ones(4), tokens_seen=2000)
    if name == "missing_skills":  # an empty profile is a measurement: no skill is missing
        assert mixer.mixture(mixer.update(state, silent)).tobytes() == mixer.mixture(mixer.init()).tobytes()
        return
    for observation in (silent, noisy):
        assert mixer.mixture(mixer.update(state, observation)).tobytes() == mixer.mixture(state).tobytes()


@pytest.mark.parametrize("name", [name for name in ONLINE if make(name).required_signals])
def test_a_missing_signal_is_refused_after_training_began_and_not_before(name):
    mixer = make(name)
    start = mixer.mixture(mixer.init()).tobytes()
    state = mixer.update(mixer.init(), Observation(round=None, losses={"loops": 3.0}))
    assert mixer.mixture(state).tobytes() == start
    with pytest.raises(FeedbackError, match=f"{mixer.required_signals[0]}' is absent"):
        mixer.update(state, Observation(round=0, losses={"loops": 3.0}))


@pytest.mark.parametrize("name", ONLINE)
def test_renaming_arms_moves_the_mixture_with_their_names(name):
    rename = {"c0": "z", "c1": "y", "c2": "x", "c3": "w"}
    pool = arms(rename)
    mixer, renamed = make(name), make(name, pool)
    state, other = mixer.init(), renamed.init()
    for number in range(-1, 6):
        # distinct values: ties go to the smaller id, which renaming changes
        value = lambda number, index: 1.0 + 0.37 * index + 0.11 * ((number + 1) * (index + 2) % 7)  # noqa: E731
        state = mixer.update(state, report(mixer, number, value=value))
        other = renamed.update(other, report(renamed, number, rename, pool, value=value))
        if name == "quad" and number < 2:
            continue  # arms that were never pulled are tied
        weights = dict(zip(arms().ids, mixer.mixture(state), strict=True))
        moved = dict(zip(pool.ids, renamed.mixture(other), strict=True))
        np.testing.assert_allclose([moved[rename[arm]] for arm in weights], list(weights.values()), rtol=1e-9)


BY_TOKENS = [name for name in ONLINE if name not in ("aioli", "odm", "quad", "refinement")]


@pytest.mark.parametrize("name", BY_TOKENS)
def test_cutting_an_arm_in_two_of_the_same_make_up_changes_no_others_weight(name):
    cut_rows = {"b9": ROWS["c1"]} | ROWS
    tokens = TOKENS | {"b9": 12, "c1": 18}
    cut = Arms(
        ids=tuple(sorted(cut_rows)),
        tokens=np.array([tokens[arm] for arm in sorted(cut_rows)]),
        rows=np.ones(5),
        skills=SKILLS,
        shares=SkillShares.from_rows([cut_rows[arm] for arm in sorted(cut_rows)], SKILLS),
    )
    whole, parts = make(name), make(name, cut)
    state, other = whole.init(), parts.init()
    for number in range(-1, 6):
        by_skill = {skill: 0.3 + (3 * index + 2 * number) % 5 for index, skill in enumerate(SKILLS)}
        common = {
            "round": None if number < 0 else number,
            "losses": {skill: 3.0 / (number + 2 + index) + 1.0 for index, skill in enumerate(SKILLS)},
            "signals": dict.fromkeys(whole.required_signals, by_skill),
            "tokens_seen": 1000 * (number + 1),
        }
        drawn = 1000.0 * whole.mixture(state)
        state = whole.update(state, Observation(drawn_tokens=drawn, **common))
        halves = np.concatenate([[0.4 * drawn[1]], drawn])
        halves[2] = 0.6 * drawn[1]
        other = parts.update(other, Observation(drawn_tokens=halves, **common))
        weights = parts.mixture(other)
        joined = np.array([weights[1], weights[0] + weights[2], weights[3], weights[4]])
        np.testing.assert_allclose(joined, whole.mixture(state), rtol=1e-9, atol=1e-15)


READS_LOSSES = ["ado", "anti_curriculum", "curriculum", "group_dro", "odm", "skill_it", "velocitune"]


@pytest.mark.parametrize("name", READS_LOSSES)
def test_a_malformed_loss_never_reaches_the_state(name):
    mixer = make(name)
    state = mixer.init()
    for losses, message in (({"loops": float("inf")}, "loss of 'loops'"), ({"loop": 1.0}, "did you mean 'loops'")):
        with pytest.raises(FeedbackError, match=message):
            mixer.update(state, Observation(round=0, losses=losses, drawn_tokens=np.ones(4), tokens_seen=9))
