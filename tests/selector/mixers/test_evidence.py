"""The posterior over the influence, against a dense reference written a second way."""

from itertools import pairwise

import numpy as np
import pytest
from scipy.linalg import block_diag

from prereq.selector.mixers.evidence import Beliefs, Rows, deviation_times, mean_times, posterior

K = 4  # three skills and `_none`
M = 3
DECLARED = np.array([[1.0, 0.5, 0.0], [0.0, 0.8, 0.4], [0.3, 0.0, 1.2], [0.0, 0.0, 0.0]])


def beliefs(**changes) -> Beliefs:
    values = {
        "variance": np.array([0.3, 0.3, 0.3, 0.0]),
        "own_row": np.arange(M),
        "own": DECLARED[np.arange(M), np.arange(M)],
        "known": np.array([1.0, 1.0, 1.0, 0.0]),
        "row_sd": 0.0,
        "level_sd": 0.3,
        "trust_sd": 1.0,
        "noise": 1.0,
        "forgetting": 1.0,
        "smoothing": 0.9,
    }
    return Beliefs(**(values | changes))


def run(truth: np.ndarray, rounds: int, *, seed: int = 0, noise: float = 0.0, gaps=None, tokens: float = 1e6) -> Rows:
    """Losses of a model that learns by `truth`, mixtures drawn at random."""
    rng = np.random.default_rng(seed)
    shares = rng.dirichlet(np.ones(K), rounds)
    left = np.cumprod(np.vstack([np.ones(M), 1.0 - shares @ truth]), axis=0)
    losses = 3.0 * left * (1.0 + noise * rng.standard_normal(left.shape))
    measured = np.ones_like(losses) if gaps is None else gaps
    return Rows(losses=losses * measured, tokens=tokens * measured, shares=shares, declared=shares @ DECLARED)


def mean_matrix(rows: Rows, prior: Beliefs) -> np.ndarray:
    fitted = posterior(rows, prior, 1.0)
    assert fitted is not None
    columns = [mean_times(fitted, DECLARED @ unit, unit, prior) for unit in np.eye(M)]
    return np.array(columns).T


def dense(rows: Rows, prior: Beliefs, scale: np.ndarray, trust: float, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance per column by the primal formula, given kappa and the two scalars."""
    mean, covariances = np.zeros((K, M)), np.zeros((M, K, K))
    for j in range(M):
        at = np.flatnonzero(rows.tokens[:, j] > 0)
        jumps = np.diff(np.eye(len(at)), axis=0)  # drops are differences of measured losses
        noise = jumps @ np.diag(prior.noise**2 / rows.tokens[at, j]) @ jumps.T
        age = prior.forgetting ** (-0.5 * (len(rows.shares) - at[1:]))
        noise = noise * np.outer(age, age)
        design = np.array([(scale[a:b, None] * rows.shares[a:b]).sum(axis=0) for a, b in pairwise(at)])
        drops = 1.0 - rows.losses[at[1:], j] / rows.losses[at[:-1], j]
        own = np.eye(K)[j] * prior.own[j]
        centre = own + trust * (DECLARED[:, j] - own) + level * (prior.known - np.eye(K)[j])
        free = prior.variance > 0
        design_free = design[:, free]
        precision = np.diag(1 / prior.variance[free]) + design_free.T @ np.linalg.solve(noise, design_free)
        covariances[j][np.ix_(free, free)] = np.linalg.inv(precision)
        moved = covariances[j] @ design.T @ np.linalg.solve(noise, drops - design @ centre)
        mean[:, j] = centre + moved
    return mean, covariances


GAPS = np.ones((9, M))
GAPS[2:4, 1] = 0.0
GAPS[5, 0] = 0.0
GAPS[0, 2] = 0.0


@pytest.mark.parametrize("gaps", [None, GAPS])
@pytest.mark.parametrize("forgetting", [1.0, 0.9])
def test_mean_and_deviation_are_those_of_the_dense_formula(gaps, forgetting):
    prior = beliefs(forgetting=forgetting)
    rows = run(0.2 * DECLARED.T[[0, 1, 2, 2]][:, [0, 1, 2]], 8, noise=0.02, gaps=gaps, tokens=2048.0)
    fitted = posterior(rows, prior, 1.0)
    assert fitted is not None
    mean, covariances = dense(rows, prior, fitted.scale, fitted.trust, fitted.level)
    np.testing.assert_allclose(mean_matrix(rows, prior), mean, rtol=1e-8, atol=1e-10)
    losses = np.array([2.0, 1.0, 0.5])
    variance = (covariances[:, np.arange(K), np.arange(K)] * losses[:, None] ** 2).sum(axis=0)
    np.testing.assert_allclose(deviation_times(fitted, losses, prior), np.sqrt(variance), rtol=1e-8, atol=1e-10)


def test_a_loss_of_zero_is_a_drop_of_one_and_later_ones_of_that_skill_say_nothing():
    prior = beliefs()
    rows = run(0.2 * DECLARED, 8, noise=0.02, tokens=2048.0)
    rows.losses[3:, 0] = 0.0
    until = np.ones_like(rows.tokens)
    until[4:, 0] = 0.0
    stopped = Rows(losses=rows.losses * until, tokens=rows.tokens * until, shares=rows.shares, declared=rows.declared)
    found, fitted = mean_matrix(rows, prior), posterior(rows, prior, 1.0)
    assert fitted is not None
    np.testing.assert_allclose(found, mean_matrix(stopped, prior), rtol=1e-12)
    np.testing.assert_allclose(found, dense(stopped, prior, fitted.scale, fitted.trust, fitted.level)[0], rtol=1e-8)


@pytest.mark.parametrize("gaps", [None, GAPS])
def test_what_a_row_does_for_all_columns_is_learnt_from_all_of_them_together(gaps):
    prior = beliefs(row_sd=0.7)
    rows = run(0.2 * DECLARED.T[[0, 1, 2, 2]][:, [0, 1, 2]], 8, noise=0.02, gaps=gaps, tokens=2048.0)
    fitted = posterior(rows, prior, 1.0)
    assert fitted is not None
    # all columns at once: entry (i, j) has variance V_i + R_i, and covariance R_i with the other entries of its row
    designs, drops, noises, centres = [], [], [], []
    for j in range(M):
        at = np.flatnonzero(rows.tokens[:, j] > 0)
        jumps = np.diff(np.eye(len(at)), axis=0)
        noises.append(jumps @ np.diag(prior.noise**2 / rows.tokens[at, j]) @ jumps.T)
        designs.append(np.array([(fitted.scale[a:b, None] * rows.shares[a:b]).sum(axis=0) for a, b in pairwise(at)]))
        drops.append(1.0 - rows.losses[at[1:], j] / rows.losses[at[:-1], j])
        own = np.eye(K)[j] * prior.own[j]
        centres.append(own + fitted.trust * (DECLARED[:, j] - own) + fitted.level * (prior.known - np.eye(K)[j]))
    design, noise = block_diag(*designs), block_diag(*noises)
    row = 0.7**2 * prior.known
    covariance = np.kron(np.ones((M, M)), np.diag(row)) + np.kron(np.eye(M), np.diag(prior.variance))
    centre = np.concatenate(centres)
    gain = covariance @ design.T @ np.linalg.inv(design @ covariance @ design.T + noise)
    mean = centre + gain @ (np.concatenate(drops) - design @ centre)
    np.testing.assert_allclose(mean_matrix(rows, prior), mean.reshape(M, K).T, rtol=1e-7, atol=1e-9)
    # the variance of r itself: the entry that it shares with every column
    shared = np.kron(np.ones((1, M)), np.diag(row))
    left = np.diag(row) - shared @ design.T @ np.linalg.solve(design @ covariance @ design.T + noise, design @ shared.T)
    np.testing.assert_allclose(fitted.rows_variance, np.diag(left), rtol=1e-7, atol=1e-10)


def test_exact_losses_of_the_declared_graph_leave_it_and_give_the_speed():
    rows = run(0.1 * DECLARED, 12)
    prior = beliefs()
    fitted = posterior(rows, prior, 1.0)
    assert fitted is not None
    np.testing.assert_allclose(fitted.scale, 0.1, rtol=1e-6)
    assert fitted.trust == pytest.approx(1.0, abs=1e-4)
    assert fitted.level == pytest.approx(0.0, abs=1e-4)
    np.testing.assert_allclose(mean_matrix(rows, prior), DECLARED, atol=1e-4)


def test_a_wrong_graph_is_given_up_and_the_true_one_found_up_to_its_scale():
    truth = np.array([[1.0, 0.0, 0.6], [0.7, 0.8, 0.0], [0.0, 0.0, 1.2], [0.0, 0.0, 0.0]])
    rows = run(0.1 * truth, 40, noise=0.001)
    fitted = posterior(rows, beliefs(), 1.0)
    assert fitted is not None
    found = mean_matrix(rows, beliefs()) * fitted.scale.mean()
    np.testing.assert_allclose(found, 0.1 * truth, atol=0.01)


def test_edges_that_explain_nothing_lose_their_weight_as_a_whole():
    skills = 30
    prior_edges = np.triu(np.full((skills, skills), 0.5), 1)
    shares = np.random.default_rng(0).dirichlet(np.ones(skills), 6)
    own = np.ones(skills)
    prior = Beliefs(
        variance=np.full(skills, 1e-4),
        own_row=np.arange(skills),
        own=own,
        known=np.ones(skills),
        row_sd=0.0,
        level_sd=0.3,
        trust_sd=1.0,
        noise=1.0,
        forgetting=1.0,
        smoothing=0.9,
    )
    left = np.cumprod(np.vstack([own, 1.0 - 0.5 * shares]), axis=0)  # each skill helps itself alone
    declared = shares @ (np.eye(skills) + prior_edges)
    fitted = posterior(Rows(losses=left, tokens=1e6 * np.ones_like(left), shares=shares, declared=declared), prior, 1.0)
    assert fitted is not None
    assert fitted.trust < 0.05


def test_a_graph_the_wrong_way_round_is_trusted_below_zero():
    skills = 12
    edges = np.triu(np.full((skills, skills), 0.5), 1)
    shares = np.random.default_rng(0).dirichlet(np.ones(skills), 8)
    every = np.ones(skills)
    prior = Beliefs(
        variance=1e-4 * every,
        own_row=np.arange(skills),
        own=every,
        known=every,
        row_sd=0.0,
        level_sd=0.3,
        trust_sd=1.0,
        noise=1.0,
        forgetting=1.0,
        smoothing=0.9,
    )
    left = np.cumprod(np.vstack([every, 1.0 - 0.2 * shares @ (np.eye(skills) + edges.T)]), axis=0)
    rows = Rows(losses=left, tokens=1e6 + 0 * left, shares=shares, declared=shares @ (np.eye(skills) + edges))
    fitted = posterior(rows, prior, 1.0)
    assert fitted is not None
    # level .5 for what is not declared, less the declared .5: the truth
    assert fitted.trust == pytest.approx(-1.0, abs=0.15)
    assert fitted.level == pytest.approx(0.5, abs=0.1)


def test_nothing_to_learn_from_is_no_posterior():
    rows = run(0.1 * DECLARED, 5)
    assert posterior(rows, beliefs(), 0.0) is None
    rising = Rows(losses=rows.losses[::-1].copy(), tokens=rows.tokens, shares=rows.shares, declared=rows.declared)
    assert posterior(rising, beliefs(), 1.0) is None
    alone = np.zeros_like(rows.tokens)
    alone[2] = 100.0
    assert (
        posterior(Rows(losses=rows.losses, tokens=alone, shares=rows.shares, declared=rows.declared), beliefs(), 1)
        is None
    )


def test_a_skill_that_is_never_measured_keeps_its_prior_and_all_its_uncertainty():
    never = np.ones((9, M))
    never[:, 1] = 0.0
    prior = beliefs(trust_sd=1e-6, level_sd=1e-6)
    rows = run(0.1 * DECLARED, 8, gaps=never)
    fitted = posterior(rows, prior, 1.0)
    assert fitted is not None
    second = np.array([0.0, 1.0, 0.0])
    np.testing.assert_allclose(mean_times(fitted, DECLARED @ second, second, prior), DECLARED[:, 1], atol=1e-9)
    np.testing.assert_allclose(deviation_times(fitted, second, prior), np.sqrt(prior.variance))
    assert (deviation_times(fitted, np.array([1.0, 0, 0]), prior)[:3] < np.sqrt(0.3)).all()


def test_more_weight_on_the_observations_leaves_less_uncertain():
    rows = run(0.1 * DECLARED, 8, noise=0.02, tokens=2500.0)
    ones = np.ones(M)
    spread = [deviation_times(posterior(rows, beliefs(), weight), ones, beliefs()) for weight in (0.1, 1.0, 10.0)]
    assert (spread[0] > spread[1])[:3].all()
    assert (spread[1] > spread[2])[:3].all()
    assert [s[3] for s in spread] == [0.0, 0.0, 0.0], "text without a skill is known to teach nothing"
