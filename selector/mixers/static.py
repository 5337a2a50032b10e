"""The static mixer: weights that the user gives, by arm or by skill."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from prereq.graph.errors import ConfigError
from prereq.graph.influence import Influence
from prereq.selector.mixers.fixed import FixedMixer
from prereq.selector.mixers.parameters import PATH, check_known, check_weights
from prereq.selector.mixers.protocol import Arms


@dataclass(frozen=True, slots=True, kw_only=True)
class StaticConfig:
    """Parameters of the static mixer: exactly one of the two."""

    # relative weights of tokens by arm id; arms that are not named get nothing
    arms: Mapping[str, float] | None = None
    # relative weights of tokens by skill id or `_none`; skills that are not named get nothing
    skills: Mapping[str, float] | None = None

    def __post_init__(self) -> None:
        """Check the parameters; raises ConfigError."""
        if (self.arms is None) == (self.skills is None):
            raise ConfigError(f"{PATH}: the static mixer needs either `arms` or `skills`, a mapping of ids to weights")
        for name in ("arms", "skills"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, check_weights(name, getattr(self, name)))


def make_static(config: StaticConfig, arms: Arms, influence: Influence | None = None) -> FixedMixer:
    """The given weights, normalised; weights by skill become weights by arm through T.

    A skill's weight goes to the arms in proportion to that skill's tokens in them. Arms hold several skills, so the
    shares of the skills in what is drawn are pulled toward the wish, not equal to it, unless each arm holds one skill.

    Raises:
        ConfigError: An id that the pool does not know, or a weight for something that has no token in it.
    """
    named = config.arms if config.arms is not None else config.skills
    assert named is not None  # StaticConfig holds exactly one of the two
    kind = "arms" if config.arms is not None else "skills"
    ids = arms.ids if kind == "arms" else arms.shares.columns
    amounts = arms.tokens if kind == "arms" else arms.skill_tokens
    check_known(f"{PATH}.{kind}", named, ids, f"{kind[:-1]} id")
    weights = np.array([named.get(key, 0.0) for key in ids], dtype=np.float64)
    empty = [key for key, weight, amount in zip(ids, weights, amounts, strict=True) if weight > 0 and amount == 0]
    if empty:
        raise ConfigError(
            f"{PATH}.{kind}: {empty[:5]} have no tokens in the pool; take their weights out or tag documents"
        )
    weights = weights / weights.max()  # the sum of huge weights could overflow
    wanted = weights if kind == "arms" else arms.spread_skills(weights)
    return FixedMixer("static", wanted / wanted.sum())
