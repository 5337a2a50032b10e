"""Weights by arm and by skill."""

from dataclasses import replace

import numpy as np
import pytest

from prereq.graph.errors import ConfigError
from prereq.selector.mixers import NO_SKILL, Arms, SkillShares, make_mixer
from prereq.selector.mixers.registry import identifying_parameters

ROWS = [{"loops": 0.5, NO_SKILL: 0.5}, {"loops": 0.5, "classes": 0.5}, {NO_SKILL: 1.0}]
ARMS = Arms(
    ids=("c0", "c1", "c2"),
    tokens=np.array([60, 20, 20]),
    rows=np.array([6, 2, 2]),
    skills=("loops", "classes", "async"),
    shares=SkillShares.from_rows(ROWS, ["loops", "classes", "async"]),
)


def mixture(parameters):
    mixer = make_mixer("static", parameters, ARMS, None)
    return mixer.mixture(mixer.init())


def test_relative_weights_by_arm_are_normalised_and_absent_arms_get_nothing():
    assert mixture({"arms": {"c2": 3, "c0": 1}}).tolist() == [0.25, 0.0, 0.75]


def test_weights_by_skill_go_to_the_arms_in_proportion_to_the_skills_tokens():
    # loops has 30 tokens in c0 and 10 in c1, classes 10 in c1
    np.testing.assert_allclose(mixture({"skills": {"loops": 0.5, "classes": 0.5}}), [0.375, 0.625, 0.0], rtol=1e-14)


def test_untagged_tokens_can_be_asked_for_by_name():
    # _none has 30 tokens in c0 and 20 in c2
    np.testing.assert_allclose(mixture({"skills": {NO_SKILL: 2.0}}), [0.6, 0.0, 0.4], rtol=1e-14)


def test_with_one_skill_per_arm_weights_by_skill_are_weights_by_arm():
    arms = Arms.of_skills(["a", "b"], [9, 1])
    mixer = make_mixer("static", {"skills": {"a": 0.3, "b": 0.7}}, arms, None)
    np.testing.assert_allclose(mixer.mixture(mixer.init()), [0.3, 0.7], rtol=1e-14)


def test_weights_as_large_as_floats_go_are_normalised_all_the_same():
    assert mixture({"arms": {"c0": 1e308, "c2": 1e308}}).tolist() == [0.5, 0.0, 0.5]


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({}, "either `arms` or `skills`"),
        ({"arms": {"c0": 1}, "skills": {"loops": 1}}, "either `arms` or `skills`"),
        ({"arms": {}}, r"mixer\.parameters\.arms is \{\}; expected a mapping"),
        ({"arms": ["c0"]}, "expected a mapping"),
        ({"arms": {"c0": -1.0}}, r"mixer\.parameters\.arms\.c0 is -1\.0; expected a number >= 0"),
        ({"arms": {"c0": "1"}}, r"arms\.c0 is '1'"),
        ({"arms": {"c0": 0.0}}, "all weights are 0"),
        ({"arms": {"c9": 1.0}}, "unknown arm id 'c9'"),
        ({"skills": {"loop": 1.0}}, "unknown skill id 'loop'; did you mean 'loops'"),
        ({"skills": {"async": 1.0, "loops": 1.0}}, r"\['async'\] have no tokens in the pool"),
    ],
)
def test_weights_that_cannot_be_honoured_are_refused(parameters, message):
    with pytest.raises(ConfigError, match=message):
        mixture(parameters)


def scored(values, tokens=(60, 20, 20)):
    return replace(ARMS, tokens=np.array(tokens), scores={"good": np.array(values)})


def by_score(arms, **parameters):
    mixer = make_mixer("static", {"score": "good", **parameters}, arms, None)
    return mixer.mixture(mixer.init())


def test_by_score_an_arm_is_drawn_by_its_tokens_times_the_exponential_of_its_standing():
    # mean .6 * 0 + .4 * 1 = .4, deviation sqrt(.24)
    standing = (np.array([0.0, 1.0, 1.0]) - 0.4) / np.sqrt(0.24)
    for temperature in (1.0, 2.0):
        weights = np.array([0.6, 0.2, 0.2]) * np.exp(standing / temperature)
        found = by_score(scored([0.0, 1.0, 1.0]), temperature=temperature)
        np.testing.assert_allclose(found, weights / weights.sum(), rtol=1e-13)
    np.testing.assert_allclose(by_score(scored([-7.0, 3.0, 3.0])), by_score(scored([0.0, 1.0, 1.0])), rtol=1e-13)


def test_equal_scores_and_a_high_temperature_leave_the_pools_mixture():
    np.testing.assert_allclose(by_score(scored([0.1 + 0.2, 0.3, 0.3])), [0.6, 0.2, 0.2], rtol=1e-13)
    np.testing.assert_allclose(by_score(scored([0.0, 1.0, 5.0]), temperature=1e9), [0.6, 0.2, 0.2], rtol=1e-8)


def test_cutting_an_arm_in_two_of_one_score_changes_no_weight_beside():
    cut = by_score(scored([0.0, 2.0, 2.0]))
    whole = by_score(scored([0.0, 2.0, 2.0], tokens=(60, 40, 0)))
    np.testing.assert_allclose([cut[0], cut[1] + cut[2]], [whole[0], whole[1]], rtol=1e-13)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"score": "god"}, r"score is 'god'; scores of this pool: good; did you mean 'good'"),
        ({"score": "good", "temperature": 0.0}, "temperature is 0.0; expected a number >= 1e-06"),
        ({"score": "good", "arms": {"c0": 1.0}}, "either `arms` or `skills`"),
    ],
)
def test_scores_that_cannot_be_drawn_by_are_refused(parameters, message):
    with pytest.raises(ConfigError, match=message):
        make_mixer("static", parameters, scored([0.0, 1.0, 2.0]), None)


def test_a_run_of_before_scores_is_still_the_same_run():
    assert identifying_parameters("static", {"arms": {"c0": 1.0}}) == {"arms": {"c0": 1.0}, "skills": None}
    assert identifying_parameters("static", {"score": "good"}) == {"arms": None, "skills": None, "score": "good"}
