"""ADO: the preference by learning speed, the mean of mixtures, the least shares."""

import numpy as np
import pytest

from prereq.selector.mixers import Arms, Observation, make_mixer, mixer_config
from prereq.selector.mixers.ado import raised

ABC = ["a", "b", "c"]


def play(parameters, law, rounds=8, tokens=(1, 1, 1)):
    """Mixtures after each of `rounds` reports of the losses `law(n)`; each round is drawn as asked."""
    arms = Arms.of_skills(ABC, tokens)
    mixer = make_mixer("ado", parameters, arms, None)
    state, mixtures = mixer.init(), []
    for number in range(rounds):
        seen = 1000 * (number + 1)
        losses = dict(zip(ABC, law(seen / 1000.0), strict=True))
        drawn = mixer.mixture(state) * 1000
        state = mixer.update(state, Observation(round=number, losses=losses, drawn_tokens=drawn, tokens_seen=seen))
        mixtures.append(mixer.mixture(state))
    return mixtures


def test_identical_arms_keep_the_prior():
    for tokens in ((1, 1, 1), (5, 3, 2)):
        last = play({}, lambda n: [1 + 2 * n**-0.4] * 3, tokens=tokens)[-1]
        np.testing.assert_allclose(last, np.array(tokens) / sum(tokens), rtol=1e-9)


def test_nothing_moves_before_the_warm_up():
    mixtures = play({"warm_up": 5}, lambda n: [3 * n**-0.5, 2.0, 2.0])
    assert [weights.tolist() == [1 / 3] * 3 for weights in mixtures] == [True] * 4 + [False] * 4


def test_the_arm_whose_loss_still_falls_is_drawn_more():
    weights = play({}, lambda n: [1 + 2 * n**-0.3, 1 + 2 * n**-1.5, 1 + 0.2 * n**-0.3])[-1]
    assert weights[0] > weights[1]
    assert weights[0] > weights[2]


def test_the_first_move_is_nine_tenths_prior_and_one_tenth_preference():
    weights = play({"warm_up": 3}, lambda n: [1 + 2 * n**-0.5, 1 + 1 * n**-0.5, 2 + 1 * n**-0.5], rounds=3)[-1]
    # speeds are 2 : 1 : 1, the credit of each arm that of the prior
    np.testing.assert_allclose(weights, 0.9 / 3 + 0.1 * np.array([0.5, 0.25, 0.25]), rtol=1e-4)


def test_flat_losses_move_nothing():
    assert play({}, lambda n: [2.0, 2.0, 2.0])[-1].tolist() == pytest.approx([1 / 3] * 3, rel=1e-14)


def test_an_arm_that_was_never_measured_keeps_its_share_of_the_preference():
    weights = play({"min_share": 0.0}, lambda n: [1 + 2 * n**-0.3, 1 + 1 * n**-0.3, None])[-1]
    assert weights[2] == pytest.approx(1 / 3, rel=1e-9)


def test_shares_under_the_least_are_raised_and_the_others_give_in_proportion():
    weights = raised(np.array([0.001, 0.399, 0.6]), np.full(3, 0.01))
    np.testing.assert_allclose(weights, [0.01, 0.99 * 0.399 / 0.999, 0.99 * 0.6 / 0.999], rtol=1e-13)
    # raising the first pushes the second under its least as well
    weights = raised(np.array([0.0, 0.201, 0.799]), np.array([0.2, 0.2, 0.2]))
    np.testing.assert_allclose(weights, [0.2, 0.2, 0.6], rtol=1e-13)
    same = np.array([0.5, 0.5])
    assert raised(same, np.full(2, 0.01)).tolist() == same.tolist()
    assert raised(np.array([1.0, 0.0]), np.array([0.5, 0.5])).tolist() == [0.5, 0.5]


def test_the_least_share_holds_over_a_long_run():
    weights = play({"inertia": 0.0}, lambda n: [1 + 9 * n**-0.1, 1 + 1e-6 * n**-0.1, 1 + 1e-6 * n**-0.1], rounds=20)[-1]
    assert weights.min() >= 0.01 * (1 - 1e-12)
    assert weights[0] > 0.9


def test_training_losses_by_arm_give_the_same_as_those_by_skill_where_arms_are_skills():
    arms = Arms.of_skills(ABC)
    mixtures = []
    for source in ("skills", "arms"):
        mixer = make_mixer("ado", {"losses": source}, arms, None)
        state = mixer.init()
        for number in range(6):
            losses = {"a": 1 + 3 / (number + 1), "b": 2.0 + 1 / (number + 1), "c": 1.5}
            report = Observation(round=number, losses=losses, arm_losses=losses, tokens_seen=10 * (number + 1))
            state = mixer.update(state, report)
        mixtures.append(mixer.mixture(state))
    np.testing.assert_allclose(mixtures[0], mixtures[1], rtol=1e-9)
    assert mixtures[0][0] > 1 / 3


def test_the_state_does_not_grow_past_the_history():
    arms = Arms.of_skills(ABC)
    mixer = make_mixer("ado", {"history": 5}, arms, None)
    state = mixer.init()
    for number in range(9):
        report = Observation(round=number, losses={"a": 3.0 / (number + 1)}, tokens_seen=10 * (number + 1))
        state = mixer.update(state, report)
    assert (len(state["tokens"]), state["losses"].shape) == (5, (5, 4))


def test_defaults_are_those_of_the_released_code():
    config = mixer_config("ado", {})
    assert (config.inertia, config.credit_exponent, config.credit_memory, config.min_share) == (0.9, 0.5, 0.9, 0.01)
