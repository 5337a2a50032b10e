"""Token shares to a power."""

import numpy as np
import pytest

from prereq.graph.errors import ConfigError
from prereq.selector.mixers import NO_SKILL, Arms, SkillShares, make_mixer

ARMS = Arms.of_skills(["a", "b", "c"], [64, 8, 0])


def mixture(parameters, arms=ARMS):
    mixer = make_mixer("temperature", parameters, arms, None)
    return mixer.mixture(mixer.init())


def test_shares_are_raised_to_one_over_the_temperature():
    np.testing.assert_allclose(mixture({"temperature": 3}), [4 / 6, 2 / 6, 0.0], rtol=1e-14)


def test_one_is_proportional_and_a_huge_temperature_is_uniform_over_what_has_tokens():
    np.testing.assert_allclose(mixture({"temperature": 1}), [8 / 9, 1 / 9, 0.0], rtol=1e-14)
    np.testing.assert_allclose(mixture({"temperature": 1e12}), [0.5, 0.5, 0.0], rtol=1e-9)


def test_over_skills_it_is_the_skills_tokens_that_count():
    rows = [{"a": 1.0}, {"a": 0.5, "b": 0.5}, {NO_SKILL: 1.0}]
    arms = Arms(
        ids=("c0", "c1", "c2"),
        tokens=np.array([56, 16, 50]),
        rows=np.ones(3),
        skills=("a", "b"),
        shares=SkillShares.from_rows(rows, ["a", "b"]),
    )
    # a has 64 tokens, b 8: weights 2/3 and 1/3; a's go to c0 and c1 as 56 : 8
    expected = [2 / 3 * 56 / 64, 2 / 3 * 8 / 64 + 1 / 3, 0.0]
    np.testing.assert_allclose(mixture({"temperature": 3, "over": "skills"}, arms), expected, rtol=1e-14)


def test_a_temperature_below_one_or_a_pool_without_skills_is_refused():
    with pytest.raises(ConfigError, match=r"mixer\.parameters\.temperature is 0\.5; expected a number >= 1"):
        mixture({"temperature": 0.5})
    untagged = Arms(
        ids=("c",),
        tokens=np.array([5]),
        rows=np.ones(1),
        skills=(),
        shares=SkillShares.from_rows([{NO_SKILL: 1.0}], []),
    )
    with pytest.raises(ConfigError, match="no skill has a token"):
        mixture({"over": "skills"}, untagged)
