"""The uniform mixer: the same share for every arm, or for every skill (stratified sampling, Skill-It's main rival)."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from prereq.graph.errors import ConfigError
from prereq.graph.influence import Influence
from prereq.selector.mixers.fixed import FixedMixer
from prereq.selector.mixers.parameters import PATH, check_choice
from prereq.selector.mixers.protocol import Arms


@dataclass(frozen=True, slots=True, kw_only=True)
class UniformConfig:
    """Parameters of the uniform mixer."""

    # what gets equal shares: every arm with tokens, or every skill with tokens (`_none` gets nothing)
    over: Literal["arms", "skills"] = "arms"

    def __post_init__(self) -> None:
        """Check the parameters; raises ConfigError."""
        check_choice("over", self.over, ("arms", "skills"))


def make_uniform(config: UniformConfig, arms: Arms, influence: Influence | None = None) -> FixedMixer:
    """Equal shares over the arms that hold tokens, or over the skills that do, handed to the arms through T.

    Raises:
        ConfigError: `over: skills` for a pool in which no skill has a token.
    """
    if config.over == "arms":
        wanted = np.where(arms.tokens > 0, 1.0, 0.0)
    else:
        per_column = np.where(arms.skill_tokens > 0, 1.0, 0.0)
        per_column[-1] = 0.0
        if not per_column.any():
            raise ConfigError(
                f"{PATH}.over is 'skills', but no skill has a token in the pool; check the graph's patterns"
            )
        wanted = arms.spread_skills(per_column)
    return FixedMixer("uniform", wanted / wanted.sum())
