"""The missing-skill profile."""

import numpy as np
import pytest

from prereq.graph.errors import FeedbackError
from prereq.selector.mixers import NO_SKILL, Arms, Observation, SkillShares, make_mixer
from prereq.selector.mixers.missing_skills import is_difficult, missing_profile

ABC = ["a", "b", "c"]
ARMS = Arms.of_skills(ABC, [5, 3, 2])


def after(parameters, *profiles, arms=ARMS):
    mixer = make_mixer("missing_skills", parameters, arms, None)
    state = mixer.init()
    for number, profile in enumerate(profiles):
        state = mixer.update(state, Observation(round=number, losses={}, signals={"missing": profile}))
    return mixer.mixture(state)


@pytest.mark.parametrize(
    ("rewards", "difficult"),
    [([0.9, 0.9, 0.8], True), ([0.9, 0.65, 0.95], True), ([0.9, 0.75, 0.95], False), ([0.86], False), ([0.85], True)],
)
def test_the_known_answers_are_difficult_or_easy(rewards, difficult):
    assert is_difficult(rewards) is difficult


def test_an_answer_without_steps_is_refused():
    with pytest.raises(ValueError, match="at least one step"):
        is_difficult([])


def test_a_profile_counts_questions_whatever_their_order():
    questions = [["b", "a"], ["a", "a"], []]
    assert missing_profile(questions) == {"a": 2.0, "b": 1.0}
    assert list(missing_profile(reversed(questions)).items()) == [("a", 2.0), ("b", 1.0)]


def test_weights_follow_the_profile_and_sum_to_one():
    weights = after({}, {"a": 2.0, "b": 1.0})
    np.testing.assert_allclose(weights, [2 / 3, 1 / 3, 0.0], rtol=1e-14)


def test_an_empty_profile_falls_back_to_uniform_over_skills():
    assert after({}).tolist() == pytest.approx([1 / 3] * 3)
    assert after({}, {}).tolist() == pytest.approx([1 / 3] * 3)
    assert after({}, {"a": 5.0}, {}).tolist() == pytest.approx([1 / 3] * 3)


def test_only_skills_with_tokens_can_be_drawn():
    arms = Arms.of_skills(ABC, [5, 5, 0])
    assert after({}, {"c": 9.0, "a": 1.0}, arms=arms).tolist() == [1.0, 0.0, 0.0]
    assert after({}, {"c": 9.0}, arms=arms).tolist() == [0.5, 0.5, 0.0]


def test_memory_adds_profiles_up_and_a_floor_reaches_every_skill():
    np.testing.assert_allclose(after({"memory": 1.0}, {"a": 2.0}, {"b": 1.0}), [2 / 3, 1 / 3, 0.0], rtol=1e-14)
    np.testing.assert_allclose(after({"memory": 0.0}, {"a": 2.0}, {"b": 1.0}), [0.0, 1.0, 0.0], rtol=1e-14)
    np.testing.assert_allclose(after({"floor": 0.3}, {"a": 2.0}), [0.8, 0.1, 0.1], rtol=1e-14)


def test_a_pool_without_skills_is_drawn_evenly_over_its_arms():
    shares = SkillShares.from_rows([{NO_SKILL: 1.0}] * 2, [])
    arms = Arms(ids=("x", "y"), tokens=np.array([9, 1]), rows=np.ones(2), skills=(), shares=shares)
    assert after({}, {}, arms=arms).tolist() == [0.5, 0.5]


def test_the_profile_is_by_skill_only():
    with pytest.raises(FeedbackError, match="unknown skill 'x'"):
        after({}, {"x": 1.0})
