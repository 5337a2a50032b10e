"""Rounds drawn from a pool in memory: what the sampler would draw from the same mixtures, without a run's folder.

For short runs that nothing else reads. A run proper writes its rounds, so that it can be stopped, checked and replayed.
"""

import copy

import numpy as np

from prereq.graph.errors import PrereqError
from prereq.selector.mixers.protocol import Arms
from prereq.selector.mixers.simplex import FloatArray
from prereq.selector.rounds.config import SamplerConfig
from prereq.selector.rounds.drawing import draw_round
from prereq.selector.rounds.order import IntArray
from prereq.selector.rounds.plan import Cursor, Draw, plan_round
from prereq.selector.rounds.pool import Pool
from prereq.selector.rounds.shards import PoolStock


class PoolRounds:
    """Rounds of texts, one after another; `fork` goes on from here a second time.

    Args:
        pool: The pool.
        arms: `pool.arms()`.
        seed: Of the order of every arm.
        documents: In a round.
        batch: Documents over which every arm is spread evenly; divides `documents`.
        max_epochs: Times a document may be drawn.

    Attributes:
        drawn: What the newest round drew from each arm, by arm id; empty before the first.
    """

    def __init__(self, pool: Pool, arms: Arms, seed: int, *, documents: int, batch: int, max_epochs: int) -> None:
        self._pool, self._arms = pool, arms
        self._stock = PoolStock(pool, seed)
        self._config = SamplerConfig(
            seed=seed, rounds=1, batches_per_round=documents // batch, global_batch=batch, max_epochs=max_epochs
        )
        self._carry = np.zeros(len(arms.ids))
        self._cursors = (Cursor(),) * len(arms.ids)
        self._number = 0
        self.drawn: dict[str, list[Draw]] = {}

    def fork(self) -> "PoolRounds":
        """Rounds that begin where these are now; neither moves the other."""
        return copy.copy(self)

    def draw(self, mixture: FloatArray) -> tuple[list[str], IntArray]:
        """The next round.

        Args:
            mixture: `(n,)`, shares of tokens on the simplex.

        Returns:
            Texts in the order of training, and the tokens drawn from each arm `(n,)`.

        Raises:
            PrereqError: The arms with weight hold too few documents.
        """
        config, samples = self._config, self._config.samples_per_round
        plan = plan_round(
            mixture, self._carry, self._cursors, self._stock, self._arms.tokens, config.max_epochs, samples
        )
        if plan is None:
            raise PrereqError(
                f"{self._pool.folder.name}: the arms of the mixture cannot give {samples} more documents within "
                f"{config.max_epochs} epochs; ask for fewer, or raise max_epochs"
            )
        drawn = draw_round(self._pool, self._stock, plan, config, self._number)
        self._carry, self._cursors, self._number = plan.carry, plan.cursors, self._number + 1
        self.drawn = {arm: list(draws) for arm, draws in zip(self._arms.ids, plan.draws, strict=True) if draws}
        return drawn.table["text"].to_pylist(), plan.realised
