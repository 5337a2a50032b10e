"""Mixtures that a calendar moves: given weights from a given round or token count on, with jumps or straight ramps."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np

from prereq.graph.errors import ConfigError
from prereq.graph.influence import Influence
from prereq.graph.skill import nearest
from prereq.selector.mixers.online import OnlineMixer
from prereq.selector.mixers.parameters import PATH, check_choice, check_number, check_whole
from prereq.selector.mixers.protocol import Arms, Observation, State
from prereq.selector.mixers.simplex import FloatArray
from prereq.selector.mixers.static import StaticConfig, make_static

KEYS = ("start", "arms", "skills")


@dataclass(frozen=True, slots=True, kw_only=True)
class PhasesConfig:
    """Parameters of the phase schedule."""

    # {start, arms | skills}: from `start` on these relative weights by arm or skill id; neither: the token shares
    phases: tuple[Mapping[str, Any], ...] = ()
    # what `start` counts: rounds, or tokens that the model has seen by the last report
    unit: Literal["rounds", "tokens"] = "rounds"
    # step: a phase holds until the next; linear: the mixture moves in a straight line from each start to the next
    transition: Literal["step", "linear"] = "step"
    # rounds that are drawn before their feedback, the run's own `lookahead`: with it, phases start in their round
    lookahead: int = 1

    def __post_init__(self) -> None:
        """Check the parameters; raises ConfigError."""
        check_choice("unit", self.unit, ("rounds", "tokens"))
        check_choice("transition", self.transition, ("step", "linear"))
        check_whole("lookahead", self.lookahead, low=0)
        if not isinstance(self.phases, list | tuple) or not self.phases:
            raise ConfigError(f"{PATH}.phases is {self.phases!r}; expected a list of {{start, arms | skills}}")
        phases = tuple(_checked(index, phase) for index, phase in enumerate(self.phases))
        starts = [phase["start"] for phase in phases]
        if starts[0] != 0 or any(a >= b for a, b in pairwise(starts)):
            raise ConfigError(f"{PATH}.phases start at {starts}; expected 0 first, then each later than the one before")
        object.__setattr__(self, "phases", phases)


def _checked(index: int, phase: Any) -> dict[str, Any]:
    where = f"phases.{index}"
    if not isinstance(phase, Mapping):
        raise ConfigError(f"{PATH}.{where} is {phase!r}; expected {{start, arms | skills}}")
    for key in phase:
        if key not in KEYS:
            raise ConfigError(f"{PATH}.{where}.{key}: unknown key; known: {', '.join(KEYS)}{nearest(str(key), KEYS)}")
    checked: dict[str, Any] = {"start": check_number(f"{where}.start", phase.get("start"), low=0.0)}
    weights = {key: phase[key] for key in ("arms", "skills") if phase.get(key) is not None}
    if weights:
        checked |= {key: dict(value) for key, value in weights.items() if isinstance(value, Mapping)}
        StaticConfig(**weights)
    return checked


def next_round(state: State, lookahead: int) -> int:
    """The round that a mixture of this state is drawn for.

    The mixture of round t applies the report of round t - 1 - lookahead, so the rounds 0 to lookahead, which apply none
    but the untrained model's, cannot be told apart and count as 0.
    """
    last = state["last_round"]
    return 0 if last is None or last < 0 else int(last) + 1 + lookahead


class PhasesRule:
    """The mixture of the phase that the next round falls in; reports only tell the time.

    Rounds 0 to `lookahead` are one point in time: a second phase that starts among them starts right after them.
    """

    required_signals: tuple[str, ...] = ()

    def __init__(self, config: PhasesConfig, arms: Arms) -> None:
        """Turn every phase's weights into a mixture.

        Raises:
            ConfigError: An id that the pool does not know, or a weight for something without a token.
        """
        self._config = config
        self._starts = [float(phase["start"]) for phase in config.phases]
        self._mixtures = [_mixture(phase, arms) for phase in config.phases]

    def start(self) -> State:
        """Nothing beside the time that every mixer keeps."""
        return {}

    def learn(self, state: State, observation: Observation) -> State:
        """Losses change nothing."""
        return dict(state)

    def weights(self, state: State) -> FloatArray:
        """The mixture of the phase, or between two phases."""
        tokens = self._config.unit == "tokens"
        now = float(state["tokens_seen"] if tokens else next_round(state, self._config.lookahead))
        index = max(i for i, start in enumerate(self._starts) if start <= now)
        if self._config.transition == "step" or index + 1 == len(self._starts):
            return self._mixtures[index].copy()
        part = (now - self._starts[index]) / (self._starts[index + 1] - self._starts[index])
        mixed = (1.0 - part) * self._mixtures[index] + part * self._mixtures[index + 1]
        return mixed / math.fsum(mixed.tolist())

    def spread(self, state: State) -> float:
        """No logits."""
        return 0.0


def _mixture(phase: Mapping[str, Any], arms: Arms) -> FloatArray:
    weights = {key: phase[key] for key in ("arms", "skills") if key in phase}
    if not weights:
        return np.array(arms.proportions)
    return make_static(StaticConfig(**weights), arms).mixture({})


def make_phases(config: PhasesConfig, arms: Arms, influence: Influence | None = None) -> OnlineMixer:
    """Make the mixer; see `PhasesRule`."""
    return OnlineMixer("phases", config, arms, influence, PhasesRule(config, arms))
