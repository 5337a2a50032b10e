"""The temperature mixer: token shares to the power 1/T, between the corpus as it came (1) and uniform (infinity)."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from prereq.graph.errors import ConfigError
from prereq.graph.influence import Influence
from prereq.selector.mixers.exponentiated import log_weights
from prereq.selector.mixers.fixed import FixedMixer
from prereq.selector.mixers.parameters import PATH, check_choice, check_number
from prereq.selector.mixers.protocol import Arms
from prereq.selector.mixers.simplex import softmax


@dataclass(frozen=True, slots=True, kw_only=True)
class TemperatureConfig:
    """Parameters of the temperature mixer."""

    # T >= 1: shares are raised to 1/T
    temperature: float = 5.0
    # whose token shares: the arms', or the skills' (`_none` gets nothing), handed to the arms through T
    over: Literal["arms", "skills"] = "arms"

    def __post_init__(self) -> None:
        """Check the parameters; raises ConfigError."""
        object.__setattr__(self, "temperature", check_number("temperature", self.temperature, low=1.0))
        check_choice("over", self.over, ("arms", "skills"))


def make_temperature(config: TemperatureConfig, arms: Arms, influence: Influence | None = None) -> FixedMixer:
    """p in proportion to share^(1/T) over the arms or skills that hold tokens.

    Raises:
        ConfigError: `over: skills` for a pool in which no skill has a token.

    Source:
        Arivazhagan et al. 2019, "Massively Multilingual Neural Machine Translation in the Wild", arXiv:1907.05019
        (T = 5).
    """
    amounts = arms.tokens.astype(np.float64) if config.over == "arms" else arms.skill_tokens.copy()
    if config.over == "skills":
        amounts[-1] = 0.0
        if not amounts.any():
            raise ConfigError(f"{PATH}.over is 'skills', but no skill has a token in the pool; check the graph")
    weights = softmax(log_weights(amounts) / config.temperature)
    wanted = weights if config.over == "arms" else arms.spread_skills(weights)
    return FixedMixer("temperature", wanted / wanted.sum())
