"""Mixers by name, and what a configuration file can get wrong."""

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from prereq.graph.errors import ConfigError
from prereq.graph.influence import Influence
from prereq.selector.mixers import MIXERS, Arms, Observation, make_mixer, mixer_config

ARMS = Arms.of_skills(["a", "b"], [3, 1])
INFLUENCE = Influence(train=("a", "b"), eval=("a", "b"), matrix=np.eye(2))
PARAMETERS = {
    "phases": {"phases": [{"start": 0}, {"start": 2, "arms": {"a": 1.0}}]},
    "quad": {"clusters": 1},
    "static": {"arms": {"a": 1.0}},
    "velocitune": {"target_losses": {"a": 1.0, "b": 0.4}},
}


def reports(mixer, count=6):
    """Reports that carry everything a mixer may ask for."""
    for number in range(count):
        yield Observation(
            round=number,
            losses={"a": 3.0 / (number + 1) + 1.0, "b": 0.5},
            signals={name: {"a": 1.0, "b": 2.0} for name in mixer.required_signals},
            drawn_tokens=np.array([70.0, 30.0]),
            tokens_seen=100 * (number + 1),
        )


@pytest.mark.parametrize("name", sorted(MIXERS))
def test_every_mixer_starts_on_the_simplex_and_says_what_it_needs(name):
    mixer = make_mixer(name, PARAMETERS.get(name, {}), ARMS, INFLUENCE)
    state = mixer.init()
    mixture = mixer.mixture(state)
    assert mixer.name == name
    assert mixture.shape == (2,)
    assert mixture.sum() == pytest.approx(1.0, abs=1e-12)
    assert all(isinstance(signal, str) for signal in mixer.required_signals)
    assert mixer.diagnostics(state)["logit_range"] >= 0.0
    moved = False
    for report in reports(mixer):
        state = mixer.update(state, report)
        moved = moved or mixer.mixture(state).tolist() != mixture.tolist()
    assert moved == mixer.uses_feedback


def test_every_mixer_and_its_signals_are_in_the_documentation():
    page = (Path(__file__).parents[3] / "docs" / "mixers.md").read_text(encoding="utf-8")
    rows = {line.split("|")[1].strip(): line for line in page.splitlines() if line.startswith("| `")}
    for name in MIXERS:
        assert f"`{name}`" in rows
        mixer = make_mixer(name, PARAMETERS.get(name, {}), ARMS, INFLUENCE)
        for signal in {signal.split(".")[0] for signal in mixer.required_signals}:
            assert signal in rows[f"`{name}`"]
            assert any(key.startswith(f"`{signal}") for key in rows)


def test_a_mixture_that_a_caller_changes_does_not_change_the_mixer():
    mixer = make_mixer("proportional", {}, ARMS, None)
    mixer.mixture(mixer.init())[:] = 0.0
    assert mixer.mixture(mixer.init()).tolist() == [0.75, 0.25]


def test_a_misspelt_mixer_or_parameter_is_refused_with_the_nearest_name():
    with pytest.raises(ConfigError, match=r"mixer\.name is 'skillit'.*did you mean 'skill_it'"):
        mixer_config("skillit", {})
    with pytest.raises(ConfigError, match=r"mixer\.parameters\.learning_rat: .*did you mean 'learning_rate'"):
        mixer_config("skill_it", {"learning_rat": 1.0})
    with pytest.raises(ConfigError, match=r"mixer\.parameters\.eta: .*proportional has no such parameter, it has none"):
        mixer_config("proportional", {"eta": 1.0})


def test_a_missing_influence_is_an_error_only_where_it_is_needed():
    with pytest.raises(ConfigError, match="needs an influence matrix"):
        make_mixer("skill_it", {}, ARMS, None)
    assert make_mixer("uniform", {}, ARMS, None).mixture({}).tolist() == [0.5, 0.5]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("learning_rate", -0.1),
        ("learning_rate", float("nan")),
        ("learning_rate", "0.1"),
        ("learning_rate", True),
        ("window", 0),
        ("window", 2.0),
        ("reduction", "max"),
        ("loss_timing", "code"),
        ("mode", "offline"),
        ("accumulate", 1),
        ("floor", 1.0),
        ("floor", -0.1),
        ("negatives", "drop"),
        ("base", "rows"),
        ("targets", []),
        ("targets", "a"),
        ("targets", ["a", "a"]),
        ("targets", [1]),
        ("mask", "yes"),
    ],
)
def test_a_bad_value_names_its_dotted_path_and_itself(key, value):
    with pytest.raises(ConfigError, match=rf"mixer\.parameters\.{key} is .*; expected"):
        mixer_config("skill_it", {key: value})


def test_skill_it_defaults_are_the_papers_for_text_on_token_shares():
    config = mixer_config("skill_it", {})
    assert (config.learning_rate, config.window, config.reduction, config.floor) == (0.2, 3, "sum", 0.0)
    assert (config.base, config.loss_timing, config.negatives, config.mode) == (
        "tokens",
        "end_of_round",
        "keep",
        "online",
    )


def test_a_message_states_the_interval_of_a_bounded_number():
    with pytest.raises(ConfigError, match=r"expected a number in \[0, 1\)$"):
        mixer_config("skill_it", {"floor": 1})
    with pytest.raises(ConfigError, match=r"expected a number >= 0$"):
        mixer_config("skill_it", {"learning_rate": -1})


def test_the_smallest_legal_values_are_taken():
    config = mixer_config("skill_it", {"window": 1, "learning_rate": 0, "floor": 0})
    assert (config.window, config.learning_rate, config.floor) == (1, 0.0, 0.0)


@pytest.mark.parametrize("name", ["skill_it", "skill_bandit"])
@pytest.mark.parametrize("decay", [1.0, 1, -0.1, float("nan"), "0.5", True])
def test_a_decay_outside_its_interval_is_refused(name, decay):
    with pytest.raises(ConfigError, match=r"mixer\.parameters\.ema_decay is .*; expected a number in \[0, 1\)"):
        mixer_config(name, {"reduction": "ema", "ema_decay": decay})


@pytest.mark.parametrize("name", ["skill_it", "skill_bandit"])
def test_a_decay_goes_with_its_reduction_and_with_no_other(name):
    with pytest.raises(ConfigError, match=r"ema needs ema_decay, the weight in \[0, 1\)"):
        mixer_config(name, {"reduction": "ema"})
    with pytest.raises(ConfigError, match="ema_decay goes with reduction: ema; reduction is sum"):
        mixer_config(name, {"ema_decay": 0.5})
    assert mixer_config(name, {"reduction": "ema", "ema_decay": 0}).ema_decay == 0.0


def test_accumulating_a_mean_is_refused():
    with pytest.raises(ConfigError, match="has no ema; use reduction: sum"):
        mixer_config("skill_it", {"accumulate": True, "reduction": "ema", "ema_decay": 0.5})
    with pytest.raises(ConfigError, match="use reduction: sum"):
        mixer_config("skill_it", {"accumulate": True, "reduction": "mean"})


def test_parameters_of_every_mixer_have_defaults_where_the_user_need_not_choose():
    for name, kind in MIXERS.items():
        assert mixer_config(name, PARAMETERS.get(name, {})) == kind.config(**PARAMETERS.get(name, {}))
        assert all(entry.kw_only for entry in fields(kind.config))
