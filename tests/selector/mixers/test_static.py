"""Weights by arm and by skill."""

import numpy as np
import pytest

from prereq.graph.errors import ConfigError
from prereq.selector.mixers import NO_SKILL, Arms, SkillShares, make_mixer

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
