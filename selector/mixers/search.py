"""RegMix and CLIMB: the best mixture under a regression of losses on mixtures, found among many simulated ones."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from prereq.graph.errors import ConfigError
from prereq.selector.mixers.proposals import propose_mixtures
from prereq.selector.mixers.regression import CLIMB_TREES, Predictor, RegressionConfig, fit_regression
from prereq.selector.mixers.simplex import FloatArray, IntArray

Objective = Callable[[FloatArray], FloatArray]
"""Mixtures `(r, k)` -> losses `(r, m)` of proxy runs on them."""

_KEPT = 4
"""Candidates that CLIMB draws each of its next runs from, as a multiple of them."""


def regmix(
    predict: Predictor,
    prior: FloatArray,
    *,
    seed: int = 0,
    simulated: int = 100_000,
    averaged: int = 128,
    caps: FloatArray | None = None,
    weights: FloatArray | None = None,
) -> FloatArray:
    """The average of the `averaged` best of many simulated mixtures, by predicted mean loss.

    Args:
        predict: From `fit_regression`.
        prior: `(k,)` on the simplex.
        seed: Of the simulated mixtures.
        simulated: How many.
        averaged: How many of the best.
        caps: `(k,)`, largest share of each part.
        weights: `(m,)`, how much each evaluated group counts; equal when absent.

    Returns:
        `(k,)` on the simplex.

    Source:
        Liu et al. 2024, "RegMix", arXiv:2407.01492, section 3.
    """
    candidates = _candidates(prior, simulated, seed, caps)
    best = _best(predict, candidates, min(averaged, simulated), weights)
    mean: FloatArray = candidates[best].mean(axis=0)
    return mean / mean.sum()


def next_runs(
    mixtures: FloatArray,
    losses: FloatArray,
    prior: FloatArray,
    count: int,
    *,
    seed: int = 0,
    simulated: int = 20_000,
    caps: FloatArray | None = None,
    config: RegressionConfig = CLIMB_TREES,
) -> FloatArray:
    """The mixtures of CLIMB's next round: `count` at random out of the best 4 * count that the runs so far predict.

    Args:
        mixtures: `(r, k)`, of all proxy runs so far.
        losses: `(r, m)`.
        prior: `(k,)` on the simplex.
        count: Runs of the next round.
        seed: Of candidates and choice; the number of runs so far enters, so every round has others.
        simulated: Candidates.
        caps: `(k,)`, largest share of each part.
        config: The predictor.

    Returns:
        `(count, k)` on the simplex.

    Source:
        Diao et al. 2025, "CLIMB", arXiv:2504.13161, section 3.2.
    """
    predict = fit_regression(mixtures, losses, config)
    mixed = int(np.random.default_rng([seed, len(mixtures)]).integers(2**31))
    # around the prior, and around what was best so far: the search narrows where it looks
    centre = np.asarray(mixtures)[int(np.argmin(np.asarray(losses).mean(axis=1)))]
    near = 0.5 * centre + 0.5 * prior
    candidates = np.vstack(
        [_candidates(prior, simulated // 2, mixed, caps), _candidates(near, simulated // 2, mixed + 1, caps)]
    )
    best = _best(predict, candidates, min(_KEPT * count, len(candidates)), None)
    chosen = np.random.default_rng([seed, len(mixtures), 1]).choice(best, min(count, len(best)), replace=False)
    found: FloatArray = candidates[np.sort(chosen)]
    return found


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Search:
    """What an iterative search tried and found.

    Attributes:
        mixtures, losses: Of all runs, in order, `(r, k)` and `(r, m)`.
        best: `(k,)`, by the last predictor.
        history: Smallest mean loss so far after each round.
    """

    mixtures: FloatArray
    losses: FloatArray
    best: FloatArray
    history: tuple[float, ...]


def climb(
    objective: Objective,
    prior: FloatArray,
    *,
    rounds: Sequence[int] = (64, 32, 16),
    seed: int = 0,
    caps: FloatArray | None = None,
    config: RegressionConfig = CLIMB_TREES,
) -> Search:
    """CLIMB's whole search, where proxy runs can be had by a call.

    Args:
        objective: Runs the proxies.
        prior: `(k,)` on the simplex.
        rounds: Proxy runs in each round; the first is drawn around the prior.
        seed: It follows from it alone.
        caps: `(k,)`, largest share of each part.
        config: The predictor.

    Raises:
        ConfigError: No rounds, or caps that leave no mixture.
    """
    if not rounds or min(rounds) < 1:
        raise ConfigError(f"climb: rounds are {list(rounds)}; expected the number of proxy runs of each, 1 or more")
    mixtures = propose_mixtures(prior, rounds[0], seed, caps=caps)
    losses, history = np.asarray(objective(mixtures)), []
    for count in rounds[1:]:
        history.append(float(losses.mean(axis=1).min()))
        new = next_runs(mixtures, losses, prior, count, seed=seed, caps=caps, config=config)
        mixtures, losses = np.vstack([mixtures, new]), np.vstack([losses, objective(new)])
    history.append(float(losses.mean(axis=1).min()))
    best = climb_best(mixtures, losses, prior, seed=seed, caps=caps, config=config)
    return Search(mixtures=mixtures, losses=losses, best=best, history=tuple(history))


def climb_best(
    mixtures: FloatArray,
    losses: FloatArray,
    prior: FloatArray,
    *,
    seed: int = 0,
    caps: FloatArray | None = None,
    config: RegressionConfig = CLIMB_TREES,
) -> FloatArray:
    """The mixture of lowest predicted mean loss among many around the prior and around the best run; `(k,)`."""
    predict = fit_regression(mixtures, losses, config)
    centre = np.asarray(mixtures)[int(np.argmin(np.asarray(losses).mean(axis=1)))]
    near = 0.5 * centre + 0.5 * prior
    tried = np.asarray(mixtures, dtype=np.float64)
    tried = tried if caps is None else tried[(tried <= caps).all(axis=1)]
    candidates = np.vstack([tried, _candidates(prior, 10_000, seed, caps), _candidates(near, 10_000, seed + 1, caps)])
    # trees are flat in between: of equal predictions, the mean
    predicted = predict(candidates).mean(axis=1)
    flat: FloatArray = candidates[predicted <= predicted.min() + 1e-9].mean(axis=0)
    return flat / flat.sum()


def _candidates(prior: FloatArray, count: int, seed: int, caps: FloatArray | None) -> FloatArray:
    """Mixtures around a prior `(<= count, k)`: Dirichlet of its own shares, what is above a cap thrown away."""
    rng = np.random.default_rng([seed, len(prior)])
    positive = prior > 0
    drawn = np.zeros((count, len(prior)))
    strengths = np.logspace(0.0, 1.5, 8)[np.arange(count) % 8]
    gammas = rng.standard_gamma(strengths[:, None] * len(prior) * prior[positive])
    drawn[:, positive] = gammas / np.maximum(gammas.sum(axis=1, keepdims=True), 1e-300)
    drawn = drawn[np.abs(drawn.sum(axis=1) - 1.0) < 1e-9]
    if caps is not None:
        drawn = drawn[(drawn <= caps).all(axis=1)]
    if not len(drawn):
        raise ConfigError("search: no simulated mixture is within the caps; ask for fewer tokens or allow more repeats")
    return drawn


def _best(predict: Predictor, candidates: FloatArray, count: int, weights: FloatArray | None) -> IntArray:
    predicted = predict(candidates)
    mean = predicted.mean(axis=1) if weights is None else predicted @ (weights / weights.sum())
    return np.argsort(mean, kind="stable")[:count].astype(np.int64)
