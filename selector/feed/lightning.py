"""A run in Lightning: a `LightningDataModule` for its batches and a `Callback` for its reports.

    data = FeedDataModule("runs/demo", collate=collate, micro_batch=4, num_workers=1)
    Trainer(max_epochs=1, accumulate_grad_batches=..., callbacks=[FeedCallback(measure)]).fit(module, datamodule=data)

One optimizer step is one global batch: `micro_batch` × `accumulate_grad_batches` × ranks is the run's `global_batch`.
The position is in Lightning's checkpoint and restores at another number of ranks.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer

from prereq.graph.errors import ConfigError
from prereq.selector.feed.torch_data import FeedDataset
from prereq.selector.feed.torch_loader import Collate, FeedLoader


class FeedDataModule(LightningDataModule):
    """The batches of a run for the rank that Lightning says this process has.

    `collate`: a micro-batch of `micro_batch` rows (None: a rank's whole share) -> what `training_step` takes.
    `more` is as for `Feed`, but rank and world_size, which come from the trainer.
    """

    def __init__(
        self, run: Any, collate: Collate, micro_batch: int | None = None, num_workers: int = 0, **more: Any
    ) -> None:
        super().__init__()
        self._arguments = {"run": run, **more}
        self._collate, self._micro_batch, self._workers = collate, micro_batch, num_workers
        self.dataset: FeedDataset | None = None  # from `setup` on

    def setup(self, stage: str) -> None:
        trainer = self.trainer
        if trainer is None or self.dataset is not None:
            return
        self.dataset = FeedDataset(**self._arguments, rank=trainer.global_rank, world_size=trainer.world_size)
        whole = self.dataset.feed.global_batch
        rows, pieces = self._micro_batch or whole // trainer.world_size, trainer.accumulate_grad_batches
        if rows * pieces * trainer.world_size != whole:
            raise ConfigError(
                f"lightning: {rows} rows × {pieces} accumulated batches × {trainer.world_size} ranks are not the run's "
                f"global_batch of {whole}; change micro_batch or accumulate_grad_batches"
            )

    def train_dataloader(self) -> FeedLoader:
        """Lightning puts no sampler of its own before an iterable dataset."""
        return FeedLoader(_dataset(self), self._collate, self._micro_batch, "Lightning", num_workers=self._workers)

    def state_dict(self) -> dict[str, Any]:
        return {"feed": _dataset(self).feed.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        _dataset(self).feed.load_state_dict(state_dict["feed"])


class FeedCallback(Callback):
    """Moves the feed with the optimizer, and reports what `measure` gives where a round ends.

    `measure`: module -> arguments of `Feed.report`, for example `evaluate_holdout(module, split).report()`; every rank
    calls it, before the first batch and after each reported round.
    """

    def __init__(self, measure: Callable[[LightningModule], Mapping[str, Any]]) -> None:
        self._measure = measure
        self._saving: dict[str, Any] | None = None  # the state in a checkpoint that is being written

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Report what is due before Lightning fetches the first batch, right after this."""
        _dataset(trainer.datamodule).feed.begin(partial(self._measure, pl_module))

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count a checkpoint from inside an accumulation back to where its feed stands, before the global batch."""
        done = trainer.fit_loop.epoch_loop.batch_progress.current
        done.increment_by(-(done.processed % trainer.accumulate_grad_batches))

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *batch: Any) -> None:
        self.on_fit_end(trainer, pl_module)
        if (batch[-1] + 1) % trainer.accumulate_grad_batches == 0:
            _dataset(trainer.datamodule).feed.advance(partial(self._measure, pl_module))

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self._saving = _dataset(trainer.datamodule).feed.state_dict()

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:  # a checkpoint is on disk by now
        if self._saving is not None:
            _dataset(trainer.datamodule).feed.checkpointed(self._saving)
        self._saving = None


def _dataset(module: LightningDataModule | None) -> FeedDataset:
    if not isinstance(module, FeedDataModule) or module.dataset is None:
        raise ConfigError("lightning: no run to read; give the trainer a FeedDataModule: fit(module, datamodule=...)")
    return module.dataset
