"""STAT-Sel: draw by the skills that the model's wrong answers lacked."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from prereq.graph.influence import Influence
from prereq.selector.mixers.arm_signals import ArmReader
from prereq.selector.mixers.online import OnlineMixer
from prereq.selector.mixers.parameters import check_number
from prereq.selector.mixers.protocol import Arms, Observation, State
from prereq.selector.mixers.simplex import FloatArray, logit_range

MISSING = "missing"


@dataclass(frozen=True, slots=True, kw_only=True)
class MissingSkillsConfig:
    """Parameters of the missing-skill profile."""

    # weight in [0, 1] of the profile so far when a new one comes: 0 forgets it (the paper has one profile), 1 adds up
    memory: float = 0.0
    # c in [0, 1), share of the uniform mixture over skills mixed into every mixture
    floor: float = 0.0

    def __post_init__(self) -> None:
        """Check the parameters; raises ConfigError."""
        object.__setattr__(self, "memory", check_number("memory", self.memory, low=0.0, high=1.0))
        object.__setattr__(self, "floor", check_number("floor", self.floor, low=0.0, high=1.0, open_high=True))


def is_difficult(rewards: Sequence[float], *, last: float = 0.85, each: float = 0.7) -> bool:
    """Whether a question counts as difficult by the rewards of the answer's steps.

    Easy means: the last step's reward and the mean are above `last`, and every earlier step's reward above `each`.

    Args:
        rewards: Process rewards in [0, 1], one per step, at least one.
        last: tau_1.
        each: tau_2.

    Source:
        He et al. 2025, "Skill-Targeted Adaptive Training", arXiv:2510.10023; thresholds of the paper.
    """
    if not rewards:
        raise ValueError("is_difficult: an answer has at least one step")
    mean = sum(rewards) / len(rewards)
    return not (rewards[-1] > last and mean > last and all(reward > each for reward in rewards[:-1]))


def missing_profile(questions: Iterable[Iterable[str]]) -> dict[str, float]:
    """How many questions name each missing skill: what a trainer reports as the signal `missing`.

    Args:
        questions: For each difficult question, the ids of the skills that its answer lacked; a repeat counts once.

    Returns:
        {skill: questions}, ascending by id.
    """
    counts: dict[str, float] = {}
    for skills in questions:
        for skill in set(skills):
            counts[skill] = counts.get(skill, 0.0) + 1.0
    return dict(sorted(counts.items()))


class MissingSkillsRule:
    """Skill weights in proportion to the questions that name them, handed to the arms through T.

    The trainer reports the signal `missing` by skill, see `missing_profile`; an empty profile, or one that only names
    skills without a token in the pool, gives the uniform mixture over skills (over arms, in a pool without skills).
    Questions that choose what is drawn must not be those that judge the model: the paper's come from a test split.

    State key: `profile` float64 `(k + 1,)` by column of T.

    Source:
        He et al. 2025, "Skill-Targeted Adaptive Training" (STAT-Sel), arXiv:2510.10023. The paper draws three or five
        documents for each pair of question and skill; shares of tokens replace those counts.
    """

    required_signals: tuple[str, ...] = (MISSING,)

    def __init__(self, config: MissingSkillsConfig, arms: Arms, influence: Influence | None) -> None:
        """Fix what an empty profile gives."""
        self._config = config
        self._arms = arms
        self._reader = ArmReader(arms, influence)
        self._stocked = arms.skill_tokens > 0
        even = self._stocked.astype(np.float64)
        even[-1] = 0.0
        fallback = arms.spread_skills(even) if even.any() else (arms.tokens > 0).astype(np.float64)
        self._fallback = fallback / fallback.sum()

    def start(self) -> State:
        """An empty profile."""
        return {"profile": np.zeros(len(self._arms.shares.columns))}

    def learn(self, state: State, observation: Observation) -> State:
        """Take in a profile; a report that names no skill, where it is not the first, clears it unless remembered.

        The untrained model's report may leave the signal out; then nothing changes.
        """
        if observation.round is None and MISSING not in observation.signals:
            return dict(state)
        counts = self._reader.by_skill(observation, MISSING)
        counts = np.maximum(np.where(np.isnan(counts), 0.0, counts), 0.0)
        past = np.asarray(state["profile"], dtype=np.float64)
        return dict(state) | {"profile": self._config.memory * past + counts}

    def weights(self, state: State) -> FloatArray:
        """The profile's mixture, and the floor."""
        profile = np.where(self._stocked, np.asarray(state["profile"], dtype=np.float64), 0.0)
        profile[-1] = 0.0
        if not profile.any():
            return self._fallback.copy()
        wanted = self._arms.spread_skills(profile / profile.sum())
        return (1.0 - self._config.floor) * (wanted / wanted.sum()) + self._config.floor * self._fallback

    def spread(self, state: State) -> float:
        """Range (nats) of log(p / fallback) over the arms that are drawn."""
        weights = self.weights(state)
        drawn = (weights > 0) & (self._fallback > 0)
        return logit_range(np.log(weights[drawn]) - np.log(self._fallback[drawn])) if drawn.any() else 0.0


def make_missing_skills(config: MissingSkillsConfig, arms: Arms, influence: Influence | None = None) -> OnlineMixer:
    """Make the mixer; see `MissingSkillsRule`."""
    return OnlineMixer("missing_skills", config, arms, influence, MissingSkillsRule(config, arms, influence))
