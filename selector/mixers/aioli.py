"""Aioli: learn during the run how much each arm helps each skill, from short probes, and draw by the total help."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from prereq.graph.errors import ConfigError
from prereq.graph.influence import Influence
from prereq.selector.mixers.alignment import base_weights
from prereq.selector.mixers.arm_signals import ArmReader
from prereq.selector.mixers.exponentiated import Tilt, log_weights
from prereq.selector.mixers.online import OnlineMixer, TiltRule
from prereq.selector.mixers.parameters import PATH, check_choice, check_ids, check_known, check_number
from prereq.selector.mixers.protocol import Arms, Observation
from prereq.selector.mixers.simplex import FloatArray

PROBE_DROP = "probe_drop"


@dataclass(frozen=True, slots=True, kw_only=True)
class AioliConfig:
    """Parameters of Aioli; the defaults are those of its seven-source run on SlimPajama."""

    # eta, on effects that are normalised to a total of 1
    learning_rate: float = 1.0
    # weight in [0, 1) of the past effects; null: effects of this report only, added to the previous mixture
    memory: float | None = 0.1
    # share in (0, 1] of a probe that is its own arm; the rest of it is spread evenly over all arms
    one_hot_share: float = 0.75
    # skills whose drops count; all of the pool's when absent. Each is a signal `probe_drop.<skill>`
    targets: tuple[str, ...] | None = None
    # c in [0, 1), share of the base mixed into every mixture
    floor: float = 0.0
    # the mixture that effects tilt: uniform (over the arms, the paper's) or tokens (the pool's token shares)
    base: Literal["tokens", "uniform"] = "uniform"

    def __post_init__(self) -> None:
        """Check the parameters; raises ConfigError."""
        object.__setattr__(self, "learning_rate", check_number("learning_rate", self.learning_rate, low=0.0))
        object.__setattr__(self, "floor", check_number("floor", self.floor, low=0.0, high=1.0, open_high=True))
        check_number("one_hot_share", self.one_hot_share, low=1e-6, high=1.0)
        if self.memory is not None:
            checked = check_number("memory", self.memory, low=0.0, high=1.0, open_high=True)
            object.__setattr__(self, "memory", checked)
        if self.targets is not None:
            object.__setattr__(self, "targets", check_ids("targets", self.targets))
        check_choice("base", self.base, ("tokens", "uniform"))


def unmix_probes(drops: FloatArray, one_hot_share: float) -> FloatArray:
    """Effects A `(k, m)` of pure arms from the drops of mixed probes: the solution of P A = drops.

    Row i of P is the mixture of probe i, (1 - e) on arm i and e/k on every arm, with e = 1 - one_hot_share. Its inverse
    is known: P keeps the mean over the rows, so A = (drops - e * mean over rows) / (1 - e).

    Args:
        drops: `(k, m)`, loss before minus loss after the probe of arm i, on skill j; nats per probe.
        one_hot_share: 1 - e, in (0, 1].
    """
    spread = 1.0 - one_hot_share
    effects: FloatArray = (drops - spread * drops.mean(axis=0)) / one_hot_share
    return effects


def normalised_effects(effects: FloatArray) -> FloatArray:
    """Effects shifted to be not negative (only if one is) and divided by their sum; all equal where all are the same.

    Args:
        effects: A `(k, m)`, finite.

    Returns:
        `(k, m)`, >= 0, sums to 1.
    """
    shifted = effects - min(float(effects.min()), 0.0)
    total = float(shifted.sum())
    if total == 0.0:  # all equal and not positive, 0/0 in the released code: no arm is better than another
        return np.full_like(effects, 1.0 / effects.size)
    return shifted / total


def make_aioli(config: AioliConfig, arms: Arms, influence: Influence | None = None) -> OnlineMixer:
    """p in proportion to base * exp(eta * sum_j A_ij), with A averaged over reports; train rows, evaluated columns.

    In every round the trainer spends some steps (the paper: a few intervals per arm) on probes: from the current model
    it trains on probe i, `one_hot_share` of arm i and the rest spread evenly over all k arms, and measures every
    target skill before and after. It reports for each skill the signal `probe_drop.<skill>`: {arm: drop in nats},
    the mean over its probes of that arm. A skill whose column is not complete does not count in that report, nor does a
    report without a complete column.

    Raises:
        ConfigError: A target that is no skill of the pool, or a pool without skills.

    Source:
        Chen et al. 2024, "Aioli", arXiv:2411.05735, Algorithm 1; code HazyResearch/aioli (a236112), from which the
        normalisation and the restart of every mixture where effects are averaged. Its matrices are transposed.
    """
    if config.targets is not None:
        check_known(f"{PATH}.targets", config.targets, arms.skills, "skill")
    targets = tuple(sorted(arms.skills if config.targets is None else config.targets))
    if not targets:
        raise ConfigError(f"{PATH}.targets: aioli probes the losses of skills, but the pool has none")
    names = tuple(f"{PROBE_DROP}.{skill}" for skill in targets)
    reader = ArmReader(arms, influence)
    base = base_weights(arms, config.base)
    tilt = Tilt(
        log_prior=log_weights(base),
        learning_rate=config.learning_rate,
        floor=config.floor,
        carry=config.memory is None,
        memory=config.memory,
    )

    def read(observation: Observation) -> FloatArray:
        return _total_effects(reader, observation, names, base > 0, config.one_hot_share)

    return OnlineMixer("aioli", config, arms, influence, TiltRule(tilt, read, names))


def _total_effects(
    reader: ArmReader, observation: Observation, names: Sequence[str], probed: np.ndarray, one_hot_share: float
) -> FloatArray:
    """Help of each arm `(n,)` added up over the complete columns; NaN everywhere where there is none."""
    totals = np.full(len(reader.arms.ids), np.nan)
    # (k, m): probed arms by named skills
    drops = np.array([reader.signal(observation, name)[probed] for name in names]).T
    complete = ~np.isnan(drops).any(axis=0)
    if complete.any():
        effects = normalised_effects(unmix_probes(drops[:, complete], one_hot_share))
        totals[probed] = effects.sum(axis=1)
    return totals
