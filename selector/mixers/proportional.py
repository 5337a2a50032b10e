"""The proportional mixer: every arm by its share of the pool's tokens, which is the corpus as it came."""

from dataclasses import dataclass

from prereq.graph.influence import Influence
from prereq.selector.mixers.fixed import FixedMixer
from prereq.selector.mixers.protocol import Arms


@dataclass(frozen=True, slots=True, kw_only=True)
class ProportionalConfig:
    """The proportional mixer has no parameters."""


def make_proportional(config: ProportionalConfig, arms: Arms, influence: Influence | None = None) -> FixedMixer:
    """Token shares: what drawing documents at random from the pool would give."""
    return FixedMixer("proportional", arms.proportions)
