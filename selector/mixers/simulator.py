"""A model that learns by the published dynamics, so that mixers can be compared in a second without training."""

from dataclasses import dataclass

import numpy as np

from prereq.graph.influence import Influence
from prereq.selector.mixers.protocol import Arms, Mixer, Observation
from prereq.selector.mixers.simplex import FloatArray, water_fill


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
    # how often an arm's tokens may be drawn; what a mixture asks for beyond that flows to the others. None: no limit
    max_epochs: float | None = None
    # r >= 0, epochs over which repeating loses its worth: e epochs past the first it is exp(-e / r); 0: no loss
    saturation: float = 0.0
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
        True losses and mixtures, the same bits for the same arguments; fewer rounds where the data run out before.
    """
    config = config or SimulatorConfig()
    column = {skill: index for index, skill in enumerate(arms.shares.columns)}
    rows = [column[skill] for skill in influence.train]
    losses = np.full(len(influence.eval), float(config.initial_loss))
    state = mixer.init()
    if config.initial_evaluation:
        state = mixer.update(state, _observe(losses, influence, config, None, np.zeros(len(arms.ids))))
    history, mixtures = [losses], []
    drawn = np.zeros(len(arms.ids))  # tokens so far
    reports: list[Observation] = []
    for number in range(rounds):
        if mixer.uses_feedback and number > config.lookahead:
            state = mixer.update(state, reports[number - 1 - config.lookahead])
        mixture = affordable(mixer.mixture(state), drawn, arms, config)
        if mixture is None:
            break
        mixtures.append(mixture)
        taught = mixture * worth(drawn, mixture * config.tokens_per_round, arms, config)
        drawn = drawn + mixture * config.tokens_per_round
        losses = learn(losses, influence.matrix, arms.shares.transpose_dot(taught)[rows], floor=config.loss_floor)
        history.append(losses)
        reports.append(_observe(losses, influence, config, number, mixture * config.tokens_per_round))
    return Trajectory(losses=np.array(history), mixtures=np.array(mixtures).reshape(-1, len(arms.ids)))


def affordable(mixture: FloatArray, drawn: FloatArray, arms: Arms, config: SimulatorConfig) -> FloatArray | None:
    """The mixture `(n,)` with no arm above what it has left, as the sampler caps it; None for a round that is not full.

    Args:
        mixture: What the mixer asks for `(n,)`.
        drawn: Tokens drawn of each arm so far `(n,)`.
        arms: How many tokens each has.
        config: max_epochs, tokens_per_round.
    """
    if config.max_epochs is None:
        return mixture
    left = np.maximum(config.max_epochs * arms.tokens - drawn, 0.0)
    if left[mixture > 0].sum() < config.tokens_per_round:
        return None
    filled = water_fill(mixture, left / config.tokens_per_round)
    return filled / filled.sum()


def worth(drawn: FloatArray, tokens: FloatArray, arms: Arms, config: SimulatorConfig) -> FloatArray:
    """Mean worth of the next tokens of each arm `(n,)`: 1 in the first epoch, falling off from there.

    Args:
        drawn: Tokens drawn of each arm so far `(n,)`.
        tokens: Tokens that are drawn next `(n,)`.
        arms: How many tokens each has.
        config: saturation r.

    Returns:
        The mean over the next tokens of exp(-e / r), e the epochs beyond the first at each, from 0 on.

    Source:
        The exponential decay of a repeated token's value is that of Muennighoff et al. 2023, "Scaling Data-Constrained
        Language Models", arXiv:2305.16264, eq. 5; theirs is of the loss of a run, ours of every token.
    """
    if config.saturation == 0.0:
        return np.ones_like(drawn)
    size = np.maximum(arms.tokens, 1)
    start, stop = drawn / size, (drawn + tokens) / size  # in epochs
    rate = config.saturation
    fresh = np.clip(1.0 - start, 0.0, stop - start)
    first, last = np.maximum(start - 1.0, 0.0), np.maximum(stop - 1.0, 0.0)
    repeated = rate * (np.exp(-first / rate) - np.exp(-last / rate))
    span = stop - start
    return np.where(span > 0, np.divide(fresh + repeated, span, out=np.ones_like(span), where=span > 0), 1.0)


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
