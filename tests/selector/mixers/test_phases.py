"""Mixtures by the calendar."""

import numpy as np
import pytest

from prereq.graph.errors import ConfigError
from prereq.selector.mixers import Arms, Observation, make_mixer, mixer_config

ARMS = Arms.of_skills(["a", "b"], [3, 1])
TWO = [{"start": 0, "arms": {"a": 1}}, {"start": 4, "skills": {"b": 1}}]


def mixtures(parameters, rounds, lookahead, initial=True):
    """What a sampler of this lookahead asks for round by round."""
    mixer = make_mixer("phases", parameters | {"lookahead": lookahead}, ARMS, None)
    state, drawn = mixer.init(), []
    if initial:
        state = mixer.update(state, Observation(round=None, losses={"a": 1.0}))
    for number in range(rounds):
        trained = number - 1 - lookahead
        if trained >= 0:
            state = mixer.update(state, Observation(round=trained, losses={"a": 1.0}, tokens_seen=100 * (trained + 1)))
        drawn.append(mixer.mixture(state).tolist())
    return drawn


@pytest.mark.parametrize("lookahead", [0, 1, 3])
@pytest.mark.parametrize("initial", [True, False])
def test_phases_start_in_their_round_at_any_lookahead(lookahead, initial):
    assert mixtures({"phases": TWO}, 7, lookahead, initial) == [[1.0, 0.0]] * 4 + [[0.0, 1.0]] * 3


def test_ramps_are_straight_between_starts():
    drawn = np.array(mixtures({"phases": TWO, "transition": "linear"}, 6, 0))
    np.testing.assert_allclose(drawn[:, 1], [0, 0.25, 0.5, 0.75, 1, 1], rtol=1e-14)


def test_phases_may_start_at_token_counts():
    phases = [{"start": 0}, {"start": 250, "arms": {"b": 1}}]
    drawn = mixtures({"phases": phases, "unit": "tokens"}, 5, 0)
    assert drawn == [[0.75, 0.25]] * 3 + [[0.0, 1.0]] * 2


@pytest.mark.parametrize(
    ("phases", "message"),
    [
        ([], r"phases is \[\]; expected a list"),
        ("a", "expected a list"),
        ([3], r"phases\.0 is 3; expected"),
        ([{}], r"phases\.0\.start is None; expected a number"),
        ([{"start": 1}], r"start at \[1\.0\]; expected 0 first"),
        ([{"start": 0}, {"start": 2}, {"start": 2}], "each later than the one before"),
        ([{"start": 0, "arm": {"a": 1}}], r"phases\.0\.arm: unknown key; .*did you mean 'arms'"),
        ([{"start": 0, "arms": {"a": 1}, "skills": {"a": 1}}], "either `arms` or `skills`"),
        ([{"start": 0, "arms": {"a": -1}}], "expected a number >= 0"),
        ([{"start": 0, "arms": ["a"]}], "expected a mapping"),
    ],
)
def test_a_malformed_schedule_is_refused_before_a_pool_is_read(phases, message):
    with pytest.raises(ConfigError, match=message):
        mixer_config("phases", {"phases": phases})


def test_a_phase_for_an_unknown_arm_is_refused():
    with pytest.raises(ConfigError, match="unknown arm id 'z'"):
        make_mixer("phases", {"phases": [{"start": 0, "arms": {"z": 1}}]}, ARMS, None)
