"""Curricula over arms: easy first, hard first, or prerequisites first."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from prereq.graph.influence import Influence
from prereq.graph.order import layers, strong_components
from prereq.selector.mixers.alignment import base_weights
from prereq.selector.mixers.arm_signals import LOSS_SOURCES, ArmReader, LossSource
from prereq.selector.mixers.online import OnlineMixer
from prereq.selector.mixers.parameters import check_choice, check_number, check_whole
from prereq.selector.mixers.phases import next_round
from prereq.selector.mixers.protocol import Arms, Observation, State
from prereq.selector.mixers.simplex import FloatArray

Order = Literal["easy", "hard", "stage"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CurriculumConfig:
    """Parameters of a curriculum; the pacing is linear, as in Skill-It's baselines."""

    # M, rounds until everything is open (cumulative) or has had its turn (sequential)
    rounds: int = 10
    # cumulative: what was opened stays; sequential: every round has its own slice, in order
    exposure: Literal["cumulative", "sequential"] = "cumulative"
    # with sequential exposure, share of a round in [0, 1) drawn from what had its turn, against forgetting (paper: 0.4)
    mix_back: float = 0.4
    # nats by which arms' losses must differ to rank them: an untrained model's losses are all the same
    least_difference: float = 0.01
    # where the losses that rank arms come from: the control split by skill, or `arm_losses` of the training data
    losses: LossSource = "skills"
    # how much of the pool an arm is: tokens (its token share) or uniform (every arm the same)
    base: Literal["tokens", "uniform"] = "tokens"
    # rounds that are drawn before their feedback, the run's own `lookahead`: with it, the pace is in rounds drawn
    lookahead: int = 1

    def __post_init__(self) -> None:
        """Check the parameters; raises ConfigError."""
        check_whole("rounds", self.rounds, low=1)
        check_choice("exposure", self.exposure, ("cumulative", "sequential"))
        object.__setattr__(self, "mix_back", check_number("mix_back", self.mix_back, low=0.0, high=1.0, open_high=True))
        object.__setattr__(self, "least_difference", check_number("least_difference", self.least_difference, low=0.0))
        check_choice("losses", self.losses, LOSS_SOURCES)
        check_choice("base", self.base, ("tokens", "uniform"))
        check_whole("lookahead", self.lookahead, low=0)


def skill_stages(influence: Influence) -> dict[str, int]:
    """The stage of each skill: the longest way of positive influence that leads to it; cycles count as one step.

    An edge goes from a training skill to another evaluation skill that it helps. Ids are those on either side.
    """
    nodes = sorted({*influence.train, *influence.eval})
    targets: dict[str, set[str]] = {node: set() for node in nodes}
    for row, column in np.argwhere(influence.matrix > 0):
        if influence.train[row] != influence.eval[column]:
            targets[influence.train[row]].add(influence.eval[column])
    group = {node: members[0] for members in strong_components(targets) for node in members}
    merged: dict[str, set[str]] = {name: set() for name in set(group.values())}
    for node in nodes:
        merged[group[node]].update(group[target] for target in targets[node] if group[target] != group[node])
    depth = {name: stage for stage, layer in enumerate(layers(merged)) for name in layer}
    return {node: depth[group[node]] for node in nodes}


def exposed(ranks: FloatArray, base: FloatArray, low: float, high: float) -> FloatArray:
    """How much of each arm's share of the base lies in a slice of the order by rank, `(n,)`.

    Arms are laid end to end by rank, each as long as its share; arms of equal rank share their stretch, so that they
    open together. Cutting an arm in two changes nothing.

    Args:
        ranks: `(n,)`, low first.
        base: Shares `(n,)` on the simplex.
        low, high: The slice, 0 <= low < high <= 1.
    """
    levels, member = np.unique(ranks, return_inverse=True)
    amounts = np.bincount(member, weights=base, minlength=len(levels))
    ends = np.cumsum(amounts)
    starts = ends - amounts
    inside = np.clip(np.minimum(ends, high) - np.maximum(starts, low), 0.0, None)
    # rounding may leave the last stretch short of 1
    share = np.divide(inside, amounts, out=np.zeros_like(inside), where=amounts > 0)
    return share[member] * base


class CurriculumRule:
    """The mixture is the base, cut to the slice of the order whose turn it is.

    With `easy` and `hard`, arms are ranked by their loss in the first report in which losses differ (before it, the
    mixture is the base): that of the untrained model for a pretrained one, that of the first round for a model from
    scratch. An arm that was not measured counts as of average loss. With `stage`, an arm's rank is the mean stage
    of its tokens, untagged ones counting as average.

    State keys: `ranks` float64 `(n,)` and `ranked`.

    Source:
        Bengio et al. 2009, "Curriculum Learning", and the skill-curriculum baselines of Chen et al. 2023,
        arXiv:2307.14430, section 4 (pacing g(i) = i H / M over examples; ours is over shares of tokens). The paper
        mixes back a share of 0.4, its released scripts 0. After `rounds` rounds the mixture is the base.
    """

    required_signals: tuple[str, ...] = ()

    def __init__(self, config: CurriculumConfig, arms: Arms, influence: Influence | None, order: Order) -> None:
        """Fix the base, and the order where no loss decides it."""
        self._config = config
        self._order = order
        self._reader = ArmReader(arms, influence)
        base = base_weights(arms, config.base)
        self._base = base / base.sum()
        self._stage: FloatArray | None = None
        if order == "stage":
            assert influence is not None  # the registry refuses its absence
            stages = skill_stages(influence)
            columns = np.array([float(stages.get(skill, np.nan)) for skill in arms.shares.columns])
            self._stage = _filled(self._reader.through_shares(columns), self._base)

    def start(self) -> State:
        """No rank but the graph's."""
        if self._stage is not None:
            return {"ranks": self._stage.copy(), "ranked": True}
        return {"ranks": np.zeros(len(self._base)), "ranked": False}

    def learn(self, state: State, observation: Observation) -> State:
        """Rank by the first losses; later reports only tell the time."""
        if state["ranked"]:
            return dict(state)
        losses = self._reader.losses(observation, self._config.losses)
        known = losses[~np.isnan(losses)]
        if known.size == 0 or known.max() - known.min() <= self._config.least_difference:
            return dict(state)
        ranks = _filled(losses, self._base)
        return dict(state) | {"ranks": -ranks if self._order == "hard" else ranks, "ranked": True}

    def weights(self, state: State) -> FloatArray:
        """The slice whose turn it is."""
        number, last = next_round(state, self._config.lookahead), self._config.rounds
        if not state["ranked"] or number >= last:
            return self._base.copy()
        ranks = np.asarray(state["ranks"], dtype=np.float64)
        high = (number + 1) / last
        if self._config.exposure == "cumulative":
            opened = exposed(ranks, self._base, 0.0, high)
            return opened / opened.sum()
        turn = exposed(ranks, self._base, number / last, high)
        if number == 0:
            return turn / turn.sum()
        before = exposed(ranks, self._base, 0.0, number / last)
        back = self._config.mix_back
        return (1.0 - back) * turn / turn.sum() + back * before / before.sum()

    def spread(self, state: State) -> float:
        """No logits."""
        return 0.0


def _filled(values: FloatArray, base: FloatArray) -> FloatArray:
    """NaN replaced by the average over the base of what is known; 0 where nothing is."""
    known = ~np.isnan(values)
    weight = base[known].sum()
    average = float((values[known] * base[known]).sum() / weight) if weight > 0 else 0.0
    return np.where(known, values, average)


def make_curriculum(config: CurriculumConfig, arms: Arms, influence: Influence | None = None) -> OnlineMixer:
    """Low loss first; see `CurriculumRule`."""
    return OnlineMixer("curriculum", config, arms, influence, CurriculumRule(config, arms, influence, "easy"))


def make_anti_curriculum(config: CurriculumConfig, arms: Arms, influence: Influence | None = None) -> OnlineMixer:
    """High loss first; see `CurriculumRule`."""
    return OnlineMixer("anti_curriculum", config, arms, influence, CurriculumRule(config, arms, influence, "hard"))


def make_prerequisite_order(config: CurriculumConfig, arms: Arms, influence: Influence) -> OnlineMixer:
    """Prerequisites first; see `CurriculumRule`."""
    return OnlineMixer("prerequisite_order", config, arms, influence, CurriculumRule(config, arms, influence, "stage"))
