"""Velocitune against the numbers of its formula."""

import numpy as np
import pytest

from prereq.graph.errors import ConfigError
from prereq.selector.mixers import Arms, Observation, make_mixer, mixer_config
from prereq.selector.mixers.velocitune import left_to_learn

ABC = ["a", "b", "c"]
ARMS = Arms.of_skills(ABC)
TARGETS = {"target_losses": {"a": 1.5, "b": 2.0, "c": 2.0}}


def report(number, losses):
    return Observation(round=number, losses=dict(zip(ABC, losses, strict=True)))


def after(parameters, *reports, first=None):
    mixer = make_mixer("velocitune", parameters, ARMS, None)
    state = mixer.init()
    for number, losses in enumerate(reports, start=0 if first is None else -1):
        state = mixer.update(state, report(None if number < 0 else number, losses))
    return mixer.mixture(state)


def test_the_known_step_from_uniform():
    left = left_to_learn(np.array([2.0, 2.5, 3.0]), np.full(3, 3.0), np.array([1.5, 2.0, 2.0]))
    np.testing.assert_allclose(left, [1 / 3, 1 / 2, 1.0], rtol=1e-14)
    weights = after(TARGETS, [3.0] * 3, [2.0, 2.5, 3.0], first=True)
    np.testing.assert_allclose(weights, [0.24218, 0.28611, 0.47171], atol=5e-6)


def test_the_untrained_models_report_moves_nothing_and_a_first_report_is_neutral():
    assert after(TARGETS, [9.0, 3.0, 3.0], first=True).tolist() == [1 / 3] * 3
    assert after(TARGETS, [9.0, 3.0, 3.0]).tolist() == [1 / 3] * 3


def test_a_target_at_or_above_the_first_loss_is_guarded():
    left = left_to_learn(np.array([1.0, 3.0, 2.0]), np.full(3, 2.0), np.array([2.5, 2.5, 2.0]))
    assert left.tolist() == [0.0, 1.0, 0.0]


def test_what_is_left_is_clipped_to_the_unit_interval():
    assert left_to_learn(np.array([4.0, 0.5]), np.full(2, 3.0), np.ones(2)).tolist() == [1.0, 0.0]


def test_a_missing_loss_or_target_is_not_measured():
    left = left_to_learn(np.array([np.nan, 2.0, 2.0]), np.array([3.0, np.nan, 3.0]), np.array([1.0, 1.0, np.nan]))
    assert np.isnan(left).all()
    weights = after({"target_losses": {"a": 1.0, "b": 1.0}}, [3.0] * 3, [1.0, 3.0, 1.0])
    assert weights[2] == pytest.approx(1 / 3, rel=1e-14)


def test_a_loss_first_seen_later_starts_its_own_way():
    late = after(TARGETS, [3.0, 3.0, None], [3.0, 3.0, 8.0])
    assert late.tolist() == pytest.approx([1 / 3] * 3, rel=1e-14)


def test_targets_are_required():
    with pytest.raises(ConfigError, match=r"mixer\.parameters\.target_losses: velocitune needs"):
        mixer_config("velocitune", {})
    with pytest.raises(ConfigError, match="unknown id 'd'"):
        make_mixer("velocitune", {"target_losses": {"d": 1.0}}, ARMS, None)
