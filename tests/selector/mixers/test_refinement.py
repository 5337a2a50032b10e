"""Iterative refinement against the numbers of its formula."""

import numpy as np
import pytest

from prereq.selector.mixers import Arms, Observation, make_mixer

ABC = ["a", "b", "c"]


def after(parameters, *scores, tokens=(1, 1, 1)):
    mixer = make_mixer("refinement", parameters, Arms.of_skills(ABC, tokens), None)
    state = mixer.init()
    for number, row in enumerate(scores):
        signals = {"score": dict(zip(ABC, row, strict=True))}
        state = mixer.update(state, Observation(round=number, losses={}, signals=signals))
    return mixer.mixture(state)


def test_the_known_step_from_uniform_and_the_product_over_rounds():
    np.testing.assert_allclose(after({}, [0.2, 0.4, 0.4]), [0.2, 0.4, 0.4], rtol=1e-13)
    twice = np.array([0.2 * 0.5, 0.4 * 0.1, 0.4 * 0.4])
    np.testing.assert_allclose(after({}, [0.2, 0.4, 0.4], [0.5, 0.1, 0.4]), twice / twice.sum(), rtol=1e-13)


def test_equal_scores_keep_the_mixture_and_their_scale_does_not_matter():
    np.testing.assert_allclose(after({}, [0.7] * 3, [0.1] * 3), [1 / 3] * 3, rtol=1e-14)
    np.testing.assert_allclose(after({}, [2.0, 4.0, 4.0]), [0.2, 0.4, 0.4], rtol=1e-13)


def test_a_negative_score_keeps_the_smallest_weight_and_not_a_negative_one():
    weights = after({"smallest_score": 0.01}, [-5.0, 0.5, 0.49])
    np.testing.assert_allclose(weights, np.array([0.01, 0.5, 0.49]), rtol=1e-12)


def test_the_exponential_form_takes_scores_of_any_sign():
    weights = after({"form": "exp"}, [-1.0, 0.0, 1.0])
    np.testing.assert_allclose(weights, np.exp([-1, 0, 1]) / np.exp([-1, 0, 1]).sum(), rtol=1e-13)


def test_an_arm_that_was_not_scored_keeps_its_share():
    assert after({}, [0.9, None, 0.1])[1] == pytest.approx(1 / 3, rel=1e-14)
    np.testing.assert_allclose(after({"base": "tokens"}, tokens=[6, 3, 1]), [0.6, 0.3, 0.1], rtol=1e-14)
