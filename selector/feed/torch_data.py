"""A run as a torch `IterableDataset`, for `DataLoader` and torchdata's `StatefulDataLoader`.

    dataset = FeedDataset("runs/demo", rank=rank, world_size=world_size)
    loader = DataLoader(dataset, batch_size=None, num_workers=2)
    for batch in dataset.follow(loader):
        train_step(batch)                  # then: if dataset.feed.round_ended: dataset.feed.report(...)
    state = dataset.feed.state_dict()      # of the batch just handed out, whatever the workers have fetched since

An item is a rank's share of one global batch. Loader worker w of n yields the steps s with (s - first) mod n = w, and
a loader takes its workers in turn, so the order is the run's; no sampler or shard of a framework has a part in it.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

from torch.utils.data import IterableDataset, get_worker_info

from prereq.graph.errors import ConfigError
from prereq.selector.feed.batch import Batch
from prereq.selector.feed.stepping import SteppingFeed, loader_worker

T = TypeVar("T")


class FeedDataset(IterableDataset[Batch]):
    """The batches of one rank, from the position of `feed` on.

    Args:
        run: The run's folder.
        feed_arguments: As for `Feed`: rank, world_size, columns, ...; with spawned workers they must pickle.

    `feed` is the loop's own position: save its `state_dict()`, load it before iterating, report through it.
    """

    def __init__(self, run: Any, **feed_arguments: Any) -> None:
        super().__init__()
        self._arguments = {"run": run, **feed_arguments}
        self.feed = SteppingFeed(**{**self._arguments, "stop": None})
        self._used = False  # in a loader worker, by an earlier iteration

    def __iter__(self) -> Iterator[Batch]:
        if get_worker_info() is not None:
            if self._used:
                return _refuse_persistent_workers()
            self._used = True
        return _Steps(self._arguments, self.feed)

    def __getstate__(self) -> dict[str, Any]:
        return {"arguments": self._arguments, "state": self.feed.state_dict()}

    def __setstate__(self, value: Mapping[str, Any]) -> None:
        FeedDataset.__init__(self, **value["arguments"])
        self.feed.load_state_dict(value["state"])

    def follow(self, loader: Iterable[T]) -> Iterator[T]:
        """The items of a loader over this dataset, with `feed` moved behind each as it is handed out."""
        self.feed.refuse_missing_report()
        for item in self.feed.timed(loader):
            if isinstance(item, Batch) and item.step != self.feed.next_step:
                at = f"the loader gave step {item.step}, the feed is before step {self.feed.next_step}"
                raise ConfigError(f"feed: {at}; load the states of one checkpoint into both, and one loader per feed")
            self.feed.skip()
            yield item
            self.feed.refuse_missing_report()  # loader workers leave that to the loop, and would wait for ever


def _refuse_persistent_workers() -> Iterator[Batch]:
    raise ConfigError("feed: persistent workers would begin where they began before; leave persistent_workers off")
    yield  # at the first batch: a loader tells of no error before


class _Steps(Iterator[Batch]):
    """What one loader worker yields; its state is that of its own last batch (`StatefulDataLoader` keeps it)."""

    def __init__(self, arguments: Mapping[str, Any], start: SteppingFeed) -> None:
        worker = get_worker_info()
        self._index, self._count = (0, 1) if worker is None else (int(worker.id), int(worker.num_workers))
        if worker is not None:
            start.refuse_fetching_ahead("a DataLoader with workers")
            arguments = loader_worker(arguments)
        self._feed = SteppingFeed(**arguments)
        self._feed.load_state_dict(start.state_dict())
        self._first = self._feed.next_step

    def __next__(self) -> Batch:
        self._feed.leave_reports_to_others()
        while (self._feed.next_step - self._first) % self._count != self._index:
            if self._feed.skip() is None:
                raise StopIteration
        return next(self._feed)

    def state_dict(self) -> dict[str, Any]:
        return {"feed": self._feed.state_dict(), "first": self._first, "workers": self._count}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if state["workers"] != self._count:
            raise ConfigError(f"feed: a loader of {state['workers']} workers was saved, this one has {self._count}")
        self._feed.load_state_dict(state["feed"])
        self._first = state["first"]
