"""Documents of each arm for the signals that a mixer asks for: read from the pool, chosen by what a round drew.

Nothing is kept of the batches, so a trainer that was killed and started again measures on the same documents.
"""

from collections.abc import Mapping

import numpy as np

from prereq.graph.errors import ManifestError
from prereq.selector.rounds.manifest import RoundManifest, read_manifest
from prereq.selector.rounds.plan import Draw
from prereq.selector.rounds.pool import Pool
from prereq.selector.rounds.run import RunInfo
from prereq.selector.rounds.shards import PoolStock
from prereq.selector.storage import Folder


class ArmTexts:
    """Texts by arm id.

    Args:
        run: The run's folder.
        info: What `run.json` says.
        tokens: Of each arm's documents, at least, where it has them.
    """

    def __init__(self, run: Folder, info: RunInfo, tokens: int) -> None:
        self._run, self._tokens = run, tokens
        self._pool = Pool(info.pool_path)
        self._stock = PoolStock(self._pool, info.seed)
        self._index = {layout.id: index for index, layout in enumerate(self._pool.layouts)}

    @property
    def arms(self) -> tuple[str, ...]:
        """Arms that hold documents, in the pool's order."""
        return tuple(layout.id for layout in self._pool.layouts if layout.rows)

    def drawn(self, number: int) -> dict[str, list[str]]:
        """The first documents that a round drew from each arm; arms that it did not draw from are left out.

        Raises:
            ManifestError: The round is not committed.
        """
        draws = self._manifest(number).draws
        return self.first_of({arm: [Draw(**draw) for draw in each] for arm, each in draws.items()})

    def first_of(self, draws: Mapping[str, list[Draw]]) -> dict[str, list[str]]:
        """The first documents of what was drawn from each arm."""
        return {arm: self._texts(arm, each) for arm, each in sorted(draws.items())}

    def first(self) -> dict[str, list[str]]:
        """The first documents of every arm in the run's order, drawn or not."""
        return {arm: self._texts(arm, [Draw(0, 0, self._pool.layouts[self._index[arm]].rows)]) for arm in self.arms}

    def last(self) -> dict[str, list[str]]:
        """The last documents of every arm in the run's order of the first epoch: drawn, if ever, at its end."""
        found = {}
        for arm in self.arms:
            tokens = self._stock.epoch_tokens(self._index[arm], 0)
            within = int(np.searchsorted(np.cumsum(tokens[::-1]), self._tokens)) + 1
            found[arm] = self._texts(arm, [Draw(0, max(len(tokens) - within, 0), len(tokens))])
        return found

    def _texts(self, arm: str, draws: list[Draw]) -> list[str]:
        index, found, tokens = self._index[arm], [], 0
        for draw in draws:
            counts = self._stock.epoch_tokens(index, draw.epoch)[draw.start : draw.stop]
            within = int(np.searchsorted(np.cumsum(counts), self._tokens - tokens)) + 1
            part = Draw(draw.epoch, draw.start, min(draw.stop, draw.start + within))
            found += self._pool.read_rows(index, self._stock.stored_rows(index, part))["text"].to_pylist()
            tokens += int(counts[:within].sum())
            if tokens >= self._tokens:
                break
        return found

    def _manifest(self, number: int) -> RoundManifest:
        manifest = read_manifest(self._run, number)
        if manifest is None:
            raise ManifestError(f"{self._run.name}: the manifest of round {number} is missing; restore it")
        return manifest
