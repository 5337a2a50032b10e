"""A feed that can move without reading: the position of a loop whose rows come from somewhere else.

A framework's loop gets its rows from loader workers that run ahead of it. The `SteppingFeed` of the main process reads
no rows; it moves by one global batch for each that the loop was handed, so that its state is the loop's and not a
worker's, and it reports. The adapters stand on it; torch is not needed here.
"""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

from prereq.graph.errors import ConfigError
from prereq.selector.feed.batch import Batch
from prereq.selector.feed.reading import ShardReader
from prereq.selector.feed.rounds import refuse_deadlock
from prereq.selector.feed.stream import Feed
from prereq.selector.feed.window import Rows
from prereq.selector.rounds.manifest import RoundManifest, manifest_name

T = TypeVar("T")
Measure = Callable[[], Mapping[str, Any]]  # -> the arguments of `Feed.report`: losses, eval_tokens, ...


def loader_worker(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a `Feed` in a loader worker.

    It waits for rounds whose reports its loop has yet to make, and ends when the loop's process is gone: while it waits
    for a round it hears nothing from its loader.
    """
    parent, stop = os.getppid(), arguments.get("stop")

    def ends() -> bool:
        return os.getppid() != parent or (stop is not None and stop())

    return {**arguments, "reporter": False, "stop": ends}


class _NoRows(ShardReader):
    """Stands in for the reader while a feed moves."""

    def __init__(self) -> None:
        pass

    def read(self, manifest: RoundManifest, start: int, stop: int) -> Rows:
        return Rows([], [])

    def close(self) -> None:
        pass


class SteppingFeed(Feed):
    """A `Feed` that moves by whole global batches, opening manifests only, and reports on the way."""

    @property
    def next_step(self) -> int:
        """Global step of the next batch."""
        return self._state.next_step

    def skip(self) -> Batch | None:
        """Move behind the next global batch as if it had been handed out; a batch without rows, None at the end."""
        reader, self._reader = self._reader, _NoRows()
        try:
            return next(self, None)
        finally:
            self._reader = reader

    def leave_reports_to_others(self) -> None:
        """Forget that a finished round is to be reported: this feed only reads, its loop's feed reports."""
        self._state = self._state.moved(unreported=None)
        self._ended = self._keep_ended = False

    def timed(self, items: Iterable[T]) -> Iterator[T]:
        """The items of a loader, one per global batch from here on; waits for a round that is not there count as ours.

        A loader's workers wait for rounds, and this feed, which moves behind them, would never see it.
        """
        iterator, step = iter(items), self.next_step
        while True:
            number, batch = divmod(step, self.batches_per_round)
            missing = not batch and not any(map(self._run.exists, (manifest_name(number), "done.json")))
            begin = time.monotonic()
            try:
                item = next(iterator)
            except StopIteration:
                return
            if missing:
                self._waiter.add(time.monotonic() - begin)
            step += 1
            yield item

    def begin(self, measure: Measure) -> None:
        """Before the first batch: report the untrained model, or the round that a checkpoint left unreported.

        Args:
            measure: Evaluates the model as it is now; called on every rank, since evaluation may be distributed.
        """
        if self._state.step is None:
            self.report_initial(**measure())
        elif self.round_ended:
            self.report(**measure())

    def advance(self, measure: Measure) -> None:
        """After each global batch that was trained on: move behind it, and report where a round has ended."""
        self.skip()
        if self.round_ended:
            self.report(**measure())

    def refuse_missing_report(self) -> None:
        """Refuse to ask for a batch of a round that is not written because this reader has not reported.

        Raises:
            FeedbackError: Says which report is missing.
        """
        current = self._manifest
        if not self._reporter or self._rank != 0 or (current is not None and self._state.row < current.samples):
            return
        number = 0 if current is None else current.round + 1
        if not self._run.exists(manifest_name(number)) and not self._run.exists("done.json"):
            refuse_deadlock(self._run, self._info, number)

    def refuse_fetching_ahead(self, who: str) -> None:
        """Refuse a run whose next round waits for the report of the round being read, when `who` fetches ahead.

        Raises:
            ConfigError: The run has lookahead 0 and its mixer waits for reports.
        """
        if self._info.lookahead == 0 and self.uses_feedback:
            raise ConfigError(
                f"{self._run.name}: {who} fetches batches before the loop asks for them, and this run has lookahead 0: "
                "its next round waits for the report of the last, so the two would wait for each other; sample the run "
                "with lookahead 1 or more, or loop over the Feed itself"
            )
