"""A feed tells the sampler which round it asks for, and people how fast it goes."""

import logging

from prereq.graph.errors import PrereqError
from prereq.selector.feed.waiting import Waiter
from prereq.selector.rounds.manifest import RoundManifest
from prereq.selector.rounds.progress import Clock
from prereq.selector.storage import Folder

_log = logging.getLogger(__name__)


class ReaderPlace:
    """Writes `progress/reader-<name>.json` once a round, for rank 0.

    A sampler with `ahead` counts from it. Where the run's folder cannot be written, the feed says so once and reads on.

    Args:
        run: The run.
        name: Of the reader.
    """

    def __init__(self, run: Folder, name: str) -> None:
        self._clock: Clock | None = Clock(run, name)
        self._rows = 0  # handed out of the current round by this process, over all ranks

    def handed(self, rows: int) -> None:
        """Count the rows of a global batch."""
        self._rows += rows

    def ask(self, current: RoundManifest | None, waiter: Waiter) -> None:
        """Before the round behind `current` (None: the first) is looked for."""
        if self._clock is None:
            return
        if current is not None:
            self._clock.add(current.tokens * self._rows // current.samples)
        self._rows = 0
        try:
            self._clock.write(0 if current is None else current.round + 1, waiter.waited_s, waiter.waits)
        except PrereqError as error:
            _log.warning("%s; this reader's progress is not written, so a sampler with `ahead` cannot see it", error)
            self._clock = None
