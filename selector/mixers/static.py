"""The static mixer: weights that the user gives, by arm or by skill, or by a score of the documents."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from prereq.graph.errors import ConfigError
from prereq.graph.influence import Influence
from prereq.graph.skill import nearest
from prereq.selector.mixers.exponentiated import log_weights, step
from prereq.selector.mixers.fixed import FixedMixer
from prereq.selector.mixers.parameters import PATH, check_known, check_number, check_weights
from prereq.selector.mixers.protocol import Arms
from prereq.selector.mixers.simplex import FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class StaticConfig:
    """Parameters of the static mixer: exactly one of `arms`, `skills` and `score`."""

    # relative weights of tokens by arm id; arms that are not named get nothing
    arms: Mapping[str, float] | None = None
    # relative weights of tokens by skill id or `_none`; skills that are not named get nothing
    skills: Mapping[str, float] | None = None
    # name of a score of the pool (`scoring`): the token share of an arm times exp(score / temperature)
    score: str | None = None
    # of `score`, > 0, in standard deviations of the arms over the pool's tokens; larger: nearer the pool's own mixture
    temperature: float = 1.0

    def __post_init__(self) -> None:
        """Check the parameters; raises ConfigError."""
        if sum(getattr(self, name) is not None for name in ("arms", "skills", "score")) != 1:
            raise ConfigError(
                f"{PATH}: the static mixer needs either `arms` or `skills`, mappings of ids to weights, or `score`"
            )
        for name in ("arms", "skills"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, check_weights(name, getattr(self, name)))
        object.__setattr__(self, "temperature", check_number("temperature", self.temperature, low=1e-6))


def make_static(config: StaticConfig, arms: Arms, influence: Influence | None = None) -> FixedMixer:
    """The given weights, normalised; weights by skill become weights by arm through T.

    A skill's weight goes to the arms in proportion to that skill's tokens in them. Arms hold several skills, so the
    shares of the skills in what is drawn are pulled toward the wish, not equal to it, unless each arm holds one skill.

    Raises:
        ConfigError: An id or a score that the pool does not know, or a weight for something that has no token in it.
    """
    if config.score is not None:
        return FixedMixer("static", score_weights(config.score, config.temperature, arms))
    named = config.arms if config.arms is not None else config.skills
    assert named is not None  # StaticConfig holds exactly one of the three
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


def score_weights(score: str, temperature: float, arms: Arms) -> FloatArray:
    """p in proportion to token share * exp(z / temperature) `(n,)`, z the arms' mean scores, mean 0 and deviation 1.

    Mean and deviation are over the pool's tokens, so that cutting an arm in two of equal make-up changes no weight
    beside. Where all arms score the same the mixture is the pool's own.

    Raises:
        ConfigError: The pool has no such score.

    Source:
        Wettig et al. 2024, "QuRating", arXiv:2402.09739, section 3: documents are drawn by exp(score / temperature)
        with scores normalised in this way. Departure: by arm, not by document.
    """
    if score not in arms.scores:
        known = ", ".join(arms.scores) or "none; set scoring and build the pool"
        raise ConfigError(f"{PATH}.score is {score!r}; scores of this pool: {known}{nearest(score, arms.scores)}")
    share, values = arms.proportions, np.asarray(arms.scores[score], dtype=np.float64)
    gap = values - float(share @ values)
    spread = float(np.sqrt(share @ gap**2))
    # rounding of equal scores is no spread
    z = gap / spread if spread > 1e-9 * float(np.abs(values).max()) else np.zeros_like(gap)
    return step(log_weights(share), z, 1.0 / temperature)
