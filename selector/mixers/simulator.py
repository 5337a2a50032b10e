"""A model that learns by the published dynamics, so that mixers can be compared in a second without training."""

from dataclasses import dataclass

import numpy as np

from prereq.graph.influence import Influence
from prereq.selector.mixers.protocol import Arms, Mixer, Observation
from prereq.selector.mixers.simplex import FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatorConfig:
    """How the simulated model learns and is observed."""

    # loss of every skill before training, nats per token
    initial_loss: float = 3.0
    # loss that no training goes below, nats per token
    loss_floor: float = 0.0
    # standard deviation of the measured loss around the true one, nats per token
    noise: float = 0.0
    # standard deviation of the measured loss as a share of the true one; told to the mixer as tokens behind the loss
    relative_noise: float = 0.0
    # rounds that are drawn before the feedback of a round is applied; 0: the next round already uses it
    lookahead: int = 0
    # tokens per round
    tokens_per_round: int = 1_000_000
    # whether the mixer sees the untrained model before round 0
    initial_evaluation: bool = True
    # of the noise
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trajectory:
    """What happened: true losses in nats, row 0 untrained `(rounds + 1, m)`; mixtures over arms `(rounds, n)`."""

    losses: FloatArray
    mixtures: FloatArray

    @property
    def final_loss(self) -> float:
        """Mean true loss over the skills after the last round (nats)."""
        return float(self.losses[-1].mean())


def learn(losses: FloatArray, influence: FloatArray, shares: FloatArray, *, floor: float = 0.0) -> FloatArray:
    """One round of the dynamics: the part of each loss above the floor shrinks by (A' x)_j.

    Args:
        losses: `(m,)`, nats per token.
        influence: A `(k, m)`, the true one.
        shares: x `(k,)`, share of the round's tokens per training skill.
        floor: Irreducible loss, nats.

    Returns:
        `(m,)`: floor + (L - floor) * max(1 - A' x, 0).

    Source:
        Chen et al. 2023, arXiv:2307.14430, section 3.2, L_t = L_{t-1} (1 - A' p); the floor is ours.
    """
    drop = (influence * shares[:, None]).sum(axis=0)
    return floor + (losses - floor) * np.maximum(1.0 - drop, 0.0)


def simulate(
    mixer: Mixer, arms: Arms, influence: Influence, rounds: int, config: SimulatorConfig | None = None
) -> Trajectory:
    """Run a mixer against a model that learns by `influence`, which may differ from the one that the mixer believes in.

    Args:
        mixer: The mixer; its own influence may be wrong.
        arms: The arms that it was made with; a skill of theirs without a row in `influence` teaches nothing.
        influence: The truth: training skills `(k)` by evaluated skills `(m)`, matched to the arms by id.
        rounds: How many rounds to draw.
        config: Losses, noise, staleness.

    Returns:
        True losses and mixtures, the same bits for the same arguments.
    """
    config = config or SimulatorConfig()
    column = {skill: index for index, skill in enumerate(arms.shares.columns)}
    rows = [column[skill] for skill in influence.train]
    losses = np.full(len(influence.eval), float(config.initial_loss))
    state = mixer.init()
    if config.initial_evaluation:
        state = mixer.update(state, _observe(losses, influence, config, None, np.zeros(len(arms.ids))))
    history, mixtures = [losses], []
    reports: list[Observation] = []
    for number in range(rounds):
        if mixer.uses_feedback and number > config.lookahead:
            state = mixer.update(state, reports[number - 1 - config.lookahead])
        mixture = mixer.mixture(state)
        mixtures.append(mixture)
        losses = learn(losses, influence.matrix, arms.shares.transpose_dot(mixture)[rows], floor=config.loss_floor)
        history.append(losses)
        reports.append(_observe(losses, influence, config, number, mixture * config.tokens_per_round))
    return Trajectory(losses=np.array(history), mixtures=np.array(mixtures))


def _observe(
    losses: FloatArray, influence: Influence, config: SimulatorConfig, number: int | None, drawn: FloatArray
) -> Observation:
    done = 0 if number is None else number + 1
    rng = np.random.default_rng([config.seed, done])
    spread = config.noise + config.relative_noise * losses
    measured = np.maximum(losses + spread * rng.standard_normal(losses.size), 0.0)
    # a loss varies by about its own size from token to token, so that n tokens measure it to 1 / sqrt(n) of itself
    tokens = max(1, round(config.relative_noise**-2)) if config.relative_noise > 0 else None
    return Observation(
        round=number,
        losses=dict(zip(influence.eval, measured.tolist(), strict=True)),
        eval_tokens={} if tokens is None else dict.fromkeys(influence.eval, tokens),
        drawn_tokens=drawn,
        tokens_seen=done * config.tokens_per_round,
    )
