"""DoGE against the numbers of its formula."""

import numpy as np

from prereq.selector.mixers import Arms, Observation, make_mixer, mixer_config
from prereq.selector.mixers.doge import doge_scores

ABC = ["a", "b", "c"]
ARMS = Arms.of_skills(ABC)


def after(parameters, alignment, norms):
    mixer = make_mixer("doge", parameters, ARMS, None)
    signals = {
        "alignment": dict(zip(ABC, alignment, strict=True)),
        "gradient_norm": dict(zip(ABC, norms, strict=True)),
    }
    return mixer.mixture(mixer.update(mixer.init(), Observation(round=0, losses={}, signals=signals)))


def test_the_known_step_from_uniform():
    # scores [0.01, 0, 0.005]: alignments over a mean norm of 1
    weights = after({"step_size": 0.01}, [1.0, 0.0, 0.5], [1.0, 1.0, 1.0])
    np.testing.assert_allclose(weights, [0.50648, 0.18632, 0.30720], atol=5e-6)


def test_orthogonal_gradients_score_by_their_squared_length():
    gradients = np.diag([3.0, 2.0, 1.0])
    alignment = gradients @ gradients.sum(axis=0)
    np.testing.assert_allclose(alignment, [9.0, 4.0, 1.0])
    scores = doge_scores(alignment, np.array([3.0, 2.0, 1.0]), 0.1, np.ones(3))
    np.testing.assert_allclose(scores, [0.45, 0.2, 0.05], rtol=1e-6)


def test_scores_are_clipped_at_nothing_and_at_five_step_sizes():
    scores = doge_scores(np.array([-3.0, 100.0, 2.0]), np.ones(3), 0.01, np.ones(3))
    np.testing.assert_allclose(scores, [0.0, 0.05, 0.02], rtol=2e-6)


def test_only_measured_norms_count_and_without_any_nothing_moves():
    scores = doge_scores(np.array([1.0, np.nan]), np.array([np.nan, 2.0]), 1.0, np.ones(2))
    np.testing.assert_allclose(scores, [0.5, np.nan], rtol=1e-6)
    assert after({}, [1.0, 2.0, 3.0], [None] * 3).tolist() == [1 / 3] * 3
    assert np.isfinite(doge_scores(np.array([1.0]), np.array([0.0]), 1.0, np.ones(1))).all()


def test_the_mean_norm_is_over_the_base():
    scores = doge_scores(np.array([1.0, 1.0]), np.array([4.0, 1.0]), 1.0, np.array([1.0, 2.0]))
    np.testing.assert_allclose(scores, 0.5, rtol=1e-6)


def test_an_arm_without_an_alignment_keeps_its_share():
    weights = after({"step_size": 0.01}, [1.0, None, 0.0], [1.0] * 3)
    np.testing.assert_allclose(weights[1], 1 / 3, rtol=1e-14)
    assert weights[0] > weights[2]


def test_defaults_and_signals():
    config = mixer_config("doge", {})
    assert (config.mu, config.floor) == (0.01, 0.0)
    assert make_mixer("doge", {}, ARMS, None).required_signals == ("alignment", "gradient_norm")
