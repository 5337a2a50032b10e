"""A run in the Hugging Face `Trainer`: its batches, its reports, and its position in the checkpoint.

    dataset = FeedDataset("runs/demo", rank=args.process_index, world_size=args.world_size)
    trainer = FeedTrainer(model=model, args=args, train_dataset=dataset, data_collator=collate,
                          callbacks=[FeedCallback(dataset, measure)])
    trainer.train(resume_from_checkpoint=...)

One optimizer step is one global batch: per-device batch size × accumulation steps × processes must be the run's
`global_batch`. The position is in the checkpoint's `trainer_state.json` and restores at another number of processes.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import ExportableState

from prereq.graph.errors import ConfigError
from prereq.selector.feed.batch import Batch
from prereq.selector.feed.torch_data import FeedDataset
from prereq.selector.feed.torch_loader import FeedLoader


class FeedTrainer(Trainer):
    """A `Trainer` whose `train_dataset` is a `FeedDataset`; `data_collator` gets a list of `rows`."""

    def get_train_dataloader(self) -> FeedLoader:
        return feed_loader(self)


class FeedCallback(TrainerCallback, ExportableState):
    """Moves the feed with the optimizer, evaluates and reports where a round ends, saves and restores the position.

    Args:
        dataset: The trainer's.
        measure: Model -> arguments of `Feed.report`, for example `evaluate_holdout(model, split).report()`; called on
            every rank before the first step and after each reported round.
    """

    def __init__(self, dataset: FeedDataset, measure: Callable[[torch.nn.Module], Mapping[str, Any]]) -> None:
        self._feed, self._measure = dataset.feed, measure

    def state(self) -> dict[str, Any]:
        return {"args": {}, "attributes": {"feed": self._feed.state_dict()}}

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **more: Any
    ) -> None:
        """Stand where the checkpoint stood; report the untrained model, or what the checkpoint left unreported."""
        if state.global_step:
            saved = state.stateful_callbacks.get(type(self).__name__)
            if not isinstance(saved, dict) or "feed" not in saved.get("attributes", {}):
                raise ConfigError(
                    f"hf: the checkpoint at step {state.global_step} holds no position of a feed; it was made without "
                    "FeedCallback: start from the beginning, or load a feed state into the dataset and a model only"
                )
            self._feed.load_state_dict(saved["attributes"]["feed"])
        self._feed.begin(partial(self._measure, more["model"]))

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **more: Any) -> None:
        self._feed.advance(partial(self._measure, more["model"]))

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **more: Any) -> None:
        self._feed.checkpointed()


def feed_loader(trainer: Trainer) -> FeedLoader:
    """What `get_train_dataloader` of a trainer class of your own returns.

    The Trainer's own sharding and skipping are off: the loader is not given to accelerate, which would deal its batches
    out among the ranks a second time, and a resumed trainer draws nothing to throw away.
    """
    args, dataset = trainer.args, trainer.train_dataset
    if not isinstance(dataset, FeedDataset):
        raise ConfigError(f"hf: train_dataset is a {type(dataset).__name__}, expected a FeedDataset")
    whole = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
    if whole != dataset.feed.global_batch:
        raise ConfigError(
            f"hf: {args.train_batch_size} rows × {args.gradient_accumulation_steps} accumulation steps × "
            f"{args.world_size} processes are {whole}, the run's global_batch is {dataset.feed.global_batch}; "
            "change per_device_train_batch_size or gradient_accumulation_steps"
        )
    args.ignore_data_skip = True
    collate, workers = partial(_collate, trainer.data_collator), args.dataloader_num_workers
    return FeedLoader(dataset, collate, args.train_batch_size, "Hugging Face Trainer", num_workers=workers)


def rows(batch: Batch) -> list[dict[str, Any]]:
    """A batch as the list of rows that a data collator takes: dictionaries with the names of `Batch.columns`."""
    columns = batch.columns()
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _collate(collator: Callable[[list[dict[str, Any]]], Any], batch: Batch) -> Any:
    return collator(rows(batch))
