"""The corpus as it came."""

from prereq.selector.mixers import Arms, make_mixer


def test_the_mixture_is_the_token_share_of_each_arm():
    mixer = make_mixer("proportional", {}, Arms.of_skills(["a", "b", "c"], [6, 0, 2]), None)
    assert mixer.mixture(mixer.init()).tolist() == [0.75, 0.0, 0.25]
    assert not mixer.uses_feedback
