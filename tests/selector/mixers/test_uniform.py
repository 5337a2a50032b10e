"""Uniform over arms and over skills."""

import numpy as np
import pytest

from prereq.graph.errors import ConfigError
from prereq.selector.mixers import NO_SKILL, Arms, SkillShares, make_mixer


def arms_of(rows, tokens) -> Arms:
    ids = tuple(f"c{i}" for i in range(len(rows)))
    counts = np.array(tokens)
    shares = SkillShares.from_rows(rows, ["a", "b", "unused"])
    return Arms(ids=ids, tokens=counts, rows=counts, skills=("a", "b", "unused"), shares=shares)


def test_every_arm_with_tokens_gets_the_same_and_an_empty_one_nothing():
    mixer = make_mixer("uniform", {}, arms_of([{"a": 1.0}, {"b": 1.0}, {NO_SKILL: 1.0}], [90, 0, 10]), None)
    assert mixer.mixture(mixer.init()).tolist() == [0.5, 0.0, 0.5]


def test_over_skills_every_skill_with_tokens_gets_the_same_and_untagged_arms_nothing():
    arms = arms_of([{"a": 1.0}, {"a": 1.0}, {"b": 1.0}, {NO_SKILL: 1.0}], [10, 30, 7, 1000])
    mixer = make_mixer("uniform", {"over": "skills"}, arms, None)
    np.testing.assert_allclose(mixer.mixture(mixer.init()), [0.125, 0.375, 0.5, 0.0], rtol=1e-14)


def test_over_skills_is_refused_where_nothing_is_tagged():
    with pytest.raises(ConfigError, match=r"mixer\.parameters\.over .*no skill has a token"):
        make_mixer("uniform", {"over": "skills"}, arms_of([{NO_SKILL: 1.0}], [5]), None)
