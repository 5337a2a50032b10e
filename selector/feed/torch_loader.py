"""A torch loader for loops that fetch ahead and accumulate gradients: Hugging Face and Lightning stand on it."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

from torch.utils.data import DataLoader

from prereq.selector.feed.batch import Batch
from prereq.selector.feed.torch_data import FeedDataset

Collate = Callable[[Batch], Any]  # a micro-batch -> what the model takes


class FeedLoader(DataLoader[Any]):
    """A loader for loops that fetch ahead and accumulate: items are micro-batches, made by `collate` in the workers.

    Args:
        dataset: Of this rank.
        collate: A micro-batch -> what the model takes.
        micro_batch: Rows in an item, a divisor of a rank's share; None: the whole share.
        who: Names the loop in errors.
        loader_arguments: As for `DataLoader`: num_workers, pin_memory, ...
    """

    def __init__(
        self,
        dataset: FeedDataset,
        collate: Collate,
        micro_batch: int | None,
        who: str,
        **loader_arguments: Any,
    ) -> None:
        dataset.feed.refuse_fetching_ahead(who)
        self._feed = dataset.feed
        make = partial(_pieces, collate, micro_batch)
        super().__init__(dataset, batch_size=None, collate_fn=make, **loader_arguments)

    def __iter__(self) -> Iterator[Any]:
        for pieces in self._feed.timed(super().__iter__()):
            yield from pieces


def _pieces(collate: Collate, micro_batch: int | None, batch: Batch) -> list[Any]:
    return [collate(piece) for piece in replace(batch, micro_batch=micro_batch).micro_batches()]
