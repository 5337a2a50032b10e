"""The published dynamics, and what mixers make of them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prereq.graph.influence import Influence
from prereq.selector.mixers import Arms, Observation, make_mixer
from prereq.selector.mixers.fixed import FixedMixer
from prereq.selector.mixers.simulator import SimulatorConfig, learn, simulate, worth

IDS = ("a", "b", "c")
CHAIN = Influence(IDS, IDS, 0.3 * (np.eye(3) + np.diag([0.5, 0.5], 1)))
ARMS = Arms.of_skills(IDS)


@settings(max_examples=100, deadline=None)
@given(
    matrix=st.lists(st.lists(st.floats(0, 1), min_size=3, max_size=3), min_size=3, max_size=3),
    losses=st.lists(st.floats(0, 9), min_size=3, max_size=3),
    weights=st.lists(st.floats(0.01, 1), min_size=3, max_size=3),
)
def test_losses_never_rise_and_never_fall_below_zero(matrix, losses, weights):
    shares = np.array(weights) / sum(weights)
    before = np.array(losses)
    after = learn(before, np.array(matrix), shares)
    assert (after <= before).all()
    assert (after >= 0).all()


def test_no_influence_teaches_nothing_and_a_floor_holds():
    losses = np.array([3.0, 2.0, 1.0])
    assert learn(losses, np.zeros((3, 3)), np.full(3, 1 / 3)).tolist() == losses.tolist()
    assert learn(losses, 9 * np.ones((3, 3)), np.full(3, 1 / 3), floor=0.5).tolist() == [0.5, 0.5, 0.5]


def test_a_step_is_the_formula():
    matrix, shares = np.array([[0.5, 0.2], [0.0, 0.4]]), np.array([0.25, 0.75])
    after = learn(np.array([2.0, 1.0]), matrix, shares)
    np.testing.assert_allclose(after, [2.0 * (1 - 0.125), 1.0 * (1 - 0.35)], rtol=1e-15)
    floored = learn(np.array([2.0, 1.0]), matrix, shares, floor=0.5)
    np.testing.assert_allclose(floored, [0.5 + 1.5 * (1 - 0.125), 0.5 + 0.5 * (1 - 0.35)], rtol=1e-15)


class Watcher(FixedMixer):
    """A mixer that keeps what it is told."""

    uses_feedback = True

    def __init__(self, weights):
        super().__init__("watcher", weights)
        self.seen: list[Observation] = []

    def update(self, state, observation):
        self.seen.append(observation)
        return dict(state)


def test_a_mixer_is_told_the_round_the_losses_by_id_and_the_tokens_that_were_drawn():
    watcher = Watcher(np.array([0.5, 0.25, 0.25]))
    run = simulate(watcher, ARMS, CHAIN, 3, SimulatorConfig(tokens_per_round=1000))
    assert [seen.round for seen in watcher.seen] == [None, 0, 1]
    assert [seen.tokens_seen for seen in watcher.seen] == [0, 1000, 2000]
    assert [seen.drawn_tokens.tolist() for seen in watcher.seen] == [[0, 0, 0], [500, 250, 250], [500, 250, 250]]
    for seen, losses in zip(watcher.seen, run.losses, strict=False):
        assert seen.losses == dict(zip(IDS, losses.tolist(), strict=True))


def test_uniform_follows_the_closed_form_over_rounds():
    run = simulate(make_mixer("uniform", {}, ARMS, None), ARMS, CHAIN, 5, SimulatorConfig(initial_loss=2.0))
    factor = 1.0 - CHAIN.matrix.sum(axis=0) / 3
    np.testing.assert_allclose(run.losses, 2.0 * factor ** np.arange(6)[:, None], rtol=1e-13)
    assert run.mixtures.shape == (5, 3)
    assert run.final_loss == pytest.approx(float((2.0 * factor**5).mean()))


def test_skill_it_learns_faster_than_uniform_when_its_graph_is_the_truth():
    skewed = Influence(IDS, IDS, np.array([[0.3, 0.2, 0.2], [0.0, 0.1, 0.0], [0.0, 0.0, 0.1]]))
    uniform = simulate(make_mixer("uniform", {}, ARMS, None), ARMS, skewed, 10)
    tilted = simulate(make_mixer("skill_it", {"learning_rate": 1.0}, ARMS, skewed), ARMS, skewed, 10)
    assert tilted.final_loss < 0.9 * uniform.final_loss


def test_the_same_arguments_give_the_same_bits_and_another_seed_other_noise():
    mixer = make_mixer("skill_it", {}, ARMS, CHAIN)
    runs = [simulate(mixer, ARMS, CHAIN, 6, SimulatorConfig(noise=0.1, seed=seed)) for seed in (1, 1, 2)]
    assert runs[0].mixtures.tolist() == runs[1].mixtures.tolist()
    assert runs[0].mixtures.tolist() != runs[2].mixtures.tolist()


def test_with_lookahead_the_first_rounds_use_no_round_feedback():
    mixer = make_mixer("skill_it", {}, ARMS, CHAIN)
    late = simulate(mixer, ARMS, CHAIN, 5, SimulatorConfig(lookahead=2, initial_evaluation=False)).mixtures
    assert late[0].tolist() == late[1].tolist() == late[2].tolist() == mixer.mixture(mixer.init()).tolist()
    assert late[3].tolist() != late[2].tolist()


def test_a_pool_skill_that_the_truth_does_not_know_teaches_nothing():
    arms = Arms.of_skills(["a", "b", "c", "idle"])
    everything_idle = make_mixer("static", {"arms": {"idle": 1.0}}, arms, None)
    run = simulate(everything_idle, arms, CHAIN, 3)
    assert run.losses[-1].tolist() == run.losses[0].tolist()


def test_relative_noise_scales_with_the_loss_and_is_told_as_tokens_behind_it():
    ids = tuple(f"s{index:04d}" for index in range(2000))
    arms, idle = Arms.of_skills(ids), Influence(ids, ids, np.zeros((2000, 2000)))
    for loss in (4.0, 0.5):
        watcher = Watcher(np.full(2000, 1 / 2000))
        simulate(watcher, arms, idle, 1, SimulatorConfig(initial_loss=loss, relative_noise=0.02))
        seen = watcher.seen[0]
        assert set(seen.eval_tokens.values()) == {2500}
        assert np.std(list(seen.losses.values())) / loss == pytest.approx(0.02, rel=0.1)


def test_an_arm_that_is_spent_leaves_its_share_to_the_others_and_the_data_end_the_run():
    arms = Arms.of_skills(["a", "b"], [1_000_000, 3_000_000])
    mixer = make_mixer("uniform", {}, arms, None)
    truth = Influence(("a", "b"), ("a", "b"), 0.1 * np.eye(2))
    config = SimulatorConfig(tokens_per_round=1_000_000, max_epochs=1.0)
    found = simulate(mixer, arms, truth, 10, config)
    np.testing.assert_allclose(found.mixtures, [[0.5, 0.5], [0.5, 0.5], [0.0, 1.0], [0.0, 1.0]])
    free = simulate(mixer, arms, truth, 10, SimulatorConfig(tokens_per_round=1_000_000))
    assert len(free.mixtures) == 10
    np.testing.assert_array_equal(free.losses[:3], found.losses[:3])


def test_repeated_tokens_teach_less_and_less():
    arms = Arms.of_skills(["a", "b"], [100, 400])
    config = SimulatorConfig(saturation=2.0)
    # the mean of exp(-e / 2) over epochs e past the first, against a sum over many small steps
    drawn, tokens = np.array([50.0, 900.0]), np.array([200.0, 100.0])
    steps = (np.arange(100_000) + 0.5) / 100_000
    epochs = (drawn[:, None] + tokens[:, None] * steps) / arms.tokens[:, None]
    expected = np.exp(-np.maximum(epochs - 1.0, 0.0) / 2.0).mean(axis=1)
    np.testing.assert_allclose(worth(drawn, tokens, arms, config), expected, rtol=1e-6)
    assert worth(np.zeros(2), np.array([100.0, 0.0]), arms, config).tolist() == [1.0, 1.0]
    truth = Influence(("a", "b"), ("a", "b"), 0.1 * np.eye(2))
    mixer = make_mixer("uniform", {}, arms, None)
    losses = [simulate(mixer, arms, truth, 20, SimulatorConfig(tokens_per_round=200, saturation=r)) for r in (0, 5, 1)]
    finals = [each.losses[-1] for each in losses]
    assert finals[0][0] < finals[1][0] < finals[2][0]
    assert finals[2][1] < finals[2][0], "the larger arm is repeated less"
