"""`OnlineMixer`: what every mixer that moves with reports has in common, around the rule that makes it what it is."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Protocol

import numpy as np

from prereq.graph.canonical import digest
from prereq.graph.errors import ConfigError
from prereq.graph.influence import Influence
from prereq.selector.mixers.exponentiated import Tilt
from prereq.selector.mixers.protocol import Arms, Observation, State, next_round
from prereq.selector.mixers.simplex import FloatArray


class Rule(Protocol):
    """The part of a mixer that its paper is about; holds configuration and never changes."""

    @property
    def required_signals(self) -> tuple[str, ...]:
        """Names that a report must carry in `signals`."""

    def start(self) -> State:
        """Its state before any report; no key `key`, `last_round` or `tokens_seen`."""

    def learn(self, state: State, observation: Observation) -> State:
        """Its state after a report; `state` is unchanged. What was not measured moves nothing."""

    def weights(self, state: State) -> FloatArray:
        """The mixture `(n,)` on the simplex."""

    def spread(self, state: State) -> float:
        """Range (nats) of the logits over the arms that may be drawn, 0 where the rule has none."""


class OnlineMixer:
    """A mixer of one rule: reports in order and once, states bound to their configuration, diagnostics.

    State keys beside the rule's: `key` (of configuration, arms and influence ids), `last_round` (-1 for the untrained
    model, None before any report), `tokens_seen` (of the last report).
    """

    uses_feedback = True

    def __init__(self, name: str, config: Any, arms: Arms, influence: Influence | None, rule: Rule) -> None:
        """Bind a rule to what it was made from."""
        self.name = name
        self.rule = rule
        ids: dict[str, Any] = {"arms": list(arms.ids)}
        if influence is not None:
            ids |= {"train": sorted(influence.train), "eval": sorted(influence.eval)}
        self._key = digest({"name": name, "parameters": _plain(asdict(config))} | ids)[:12]

    @property
    def required_signals(self) -> tuple[str, ...]:
        """What the rule asks of the trainer."""
        return self.rule.required_signals

    def init(self) -> State:
        """No report yet."""
        return {"key": self._key, "last_round": None, "tokens_seen": 0} | self.rule.start()

    def update(self, state: State, observation: Observation) -> State:
        """Take in one report; `state` is unchanged.

        Raises:
            FeedbackError: A malformed report, or one that is not newer than the last.
            ConfigError: The state of another configuration.
        """
        self._check_key(state)
        number = next_round(state, observation)
        learnt = self.rule.learn(state, observation)
        return learnt | {"last_round": number, "tokens_seen": int(observation.tokens_seen)}

    def mixture(self, state: State) -> FloatArray:
        """Shares of tokens `(n,)` on the simplex, in the order of `Arms.ids`."""
        self._check_key(state)
        return self.rule.weights(state)

    def diagnostics(self, state: State) -> dict[str, float]:
        """`logit_range` (nats) and `effective_arms` (the exponential of the mixture's entropy)."""
        weights = self.mixture(state)
        entropy = -float((weights * np.log(np.where(weights > 0, weights, 1.0))).sum())
        return {"logit_range": self.rule.spread(state), "effective_arms": float(np.exp(entropy))}

    def _check_key(self, state: State) -> None:
        if state.get("key") != self._key:
            raise ConfigError(
                f"mixer state has the key {state.get('key')!r}, this configuration {self._key!r}: it was written with "
                "other parameters, arms or influence ids; replay the feedback from `init`"
            )


class TiltRule:
    """A rule that only brings a signal; the exponentiated-gradient core does the rest.

    Subclass-free: a mixer hands in the function that reads its signal out of a report.
    """

    def __init__(self, tilt: Tilt, read: "SignalReader", required_signals: Sequence[str] = ()) -> None:
        """Bind the core to a signal."""
        self.tilt = tilt
        self.required_signals = tuple(required_signals)
        self._read = read

    def start(self) -> State:
        """The prior."""
        return self.tilt.start()

    def learn(self, state: State, observation: Observation) -> State:
        """One step of the core along the report's signal."""
        return self.tilt.move(state, self._read(observation))

    def weights(self, state: State) -> FloatArray:
        """The core's mixture."""
        return self.tilt.weights(state)

    def spread(self, state: State) -> float:
        """The core's range."""
        return self.tilt.spread(state)


class SignalReader(Protocol):
    """Reads the signal of every arm out of a report."""

    def __call__(self, observation: Observation) -> FloatArray:
        """`(n,)`, NaN where not measured."""


def _plain(value: Any) -> Any:
    """Mappings sorted by the canonical form, tuples as lists."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
