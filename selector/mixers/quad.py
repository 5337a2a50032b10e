"""Quad's bandit over clusters: draw the clusters of highest measured influence, and those that were hardly tried."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from prereq.graph.influence import Influence
from prereq.selector.mixers.alignment import base_weights
from prereq.selector.mixers.arm_signals import ArmReader
from prereq.selector.mixers.online import OnlineMixer
from prereq.selector.mixers.parameters import check_choice, check_flag, check_number, check_whole
from prereq.selector.mixers.protocol import Arms, Observation, State
from prereq.selector.mixers.simplex import FloatArray, logit_range

INFLUENCE = "influence"


@dataclass(frozen=True, slots=True, kw_only=True)
class QuadConfig:
    """Parameters of Quad's upper-confidence-bound selection; the paper's own values could not be verified."""

    # alpha >= 0: weight of the bonus for clusters that were rarely drawn, in units of (rescaled) influence
    bonus: float = 1.0
    # clusters that a round draws from
    clusters: int = 10
    # divide mean influences by the largest in size, so that the bonus means the same as the model changes
    rescale: bool = True
    # c in [0, 1), share of the base over all arms mixed into every mixture
    floor: float = 0.0
    # how the chosen clusters share a round: tokens (in proportion to their tokens) or uniform (equally)
    base: Literal["tokens", "uniform"] = "uniform"

    def __post_init__(self) -> None:
        """Check the parameters; raises ConfigError."""
        object.__setattr__(self, "bonus", check_number("bonus", self.bonus, low=0.0))
        object.__setattr__(self, "floor", check_number("floor", self.floor, low=0.0, high=1.0, open_high=True))
        check_whole("clusters", self.clusters, low=1)
        check_flag("rescale", self.rescale)
        check_choice("base", self.base, ("tokens", "uniform"))


def confidence_scores(mean: FloatArray, pulls: FloatArray, bonus: float) -> FloatArray:
    """CS `(n,)` = mean + bonus * sqrt(2 ln(sum of pulls) / pulls); +inf for an arm that was never pulled.

    Args:
        mean: `(n,)`, mean influence per arm; any number where it was never pulled.
        pulls: `(n,)`, >= 0.
        bonus: alpha >= 0.
    """
    total = float(pulls.sum())
    logs = 2.0 * np.log(total) if total > 1 else 0.0
    width = np.sqrt(np.divide(logs, pulls, out=np.zeros_like(pulls), where=pulls > 0))
    scores: FloatArray = np.where(pulls > 0, mean + bonus * width, np.inf)
    return scores


class QuadRule:
    """The mixture is the base over the `clusters` best arms by upper confidence bound; ties go to the smaller id.

    A report counts as one pull of every arm that was drawn and whose influence was measured. The trainer reports the
    signal `influence` by arm or skill: the mean influence of the arm's drawn documents on the loss of the target set,
    larger is more useful, over all of them and not only those that some threshold kept (which would bias it).

    State keys: `mean` float64 `(n,)`, `pulls` float64 `(n,)`.

    Source:
        Zhang et al. 2024, "Harnessing Diversity for Important Data Selection" (Quad), arXiv:2409.16986, section 3.3.
        Departures: rescaling; documents are not filtered by a threshold, the mixture only chooses arms.
    """

    required_signals: tuple[str, ...] = (INFLUENCE,)

    def __init__(self, config: QuadConfig, arms: Arms, influence: Influence | None) -> None:
        """Fix the base."""
        self._config = config
        self._reader = ArmReader(arms, influence)
        self._base = base_weights(arms, config.base)
        self._base = self._base / self._base.sum()

    def start(self) -> State:
        """No pull yet."""
        return {"mean": np.zeros(len(self._base)), "pulls": np.zeros(len(self._base))}

    def learn(self, state: State, observation: Observation) -> State:
        """One pull of each drawn and measured arm; the untrained model has drawn nothing."""
        value = self._reader.signal(observation, INFLUENCE)
        drawn = np.asarray(observation.drawn_tokens, dtype=np.float64)
        if drawn.size == 0:
            return dict(state)
        pulled = (drawn > 0) & ~np.isnan(value)
        mean, pulls = self._statistics(state)
        pulls = pulls + pulled
        mean = mean + np.where(pulled, (np.where(pulled, value, 0.0) - mean) / np.maximum(pulls, 1.0), 0.0)
        return dict(state) | {"mean": mean, "pulls": pulls}

    def weights(self, state: State) -> FloatArray:
        """The base over the chosen arms, and the floor."""
        scores = np.where(self._base > 0, self._scores(state), -np.inf)
        order = np.argsort(-scores, kind="stable")[: self._config.clusters]
        chosen = np.zeros_like(self._base)
        chosen[order] = self._base[order]
        return (1.0 - self._config.floor) * (chosen / chosen.sum()) + self._config.floor * self._base

    def spread(self, state: State) -> float:
        """Range of the finite confidence scores, in units of (rescaled) influence: they are no logits."""
        return logit_range(self._scores(state)[self._base > 0])

    def _scores(self, state: State) -> FloatArray:
        mean, pulls = self._statistics(state)
        largest = float(np.abs(mean).max())
        if self._config.rescale and largest > 0:
            mean = mean / largest
        return confidence_scores(mean, pulls, self._config.bonus)

    def _statistics(self, state: State) -> tuple[FloatArray, FloatArray]:
        return np.asarray(state["mean"], dtype=np.float64), np.asarray(state["pulls"], dtype=np.float64)


def make_quad(config: QuadConfig, arms: Arms, influence: Influence | None = None) -> OnlineMixer:
    """Make the mixer; see `QuadRule`."""
    return OnlineMixer("quad", config, arms, influence, QuadRule(config, arms, influence))
