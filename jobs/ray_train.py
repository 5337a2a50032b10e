"""A run in a Ray Train worker loop: ranks from Ray's context, positions in Ray's checkpoints.

    def loop(settings):                                   # train_loop_per_worker
        worker = RayTrainFeed("runs/demo")
        with worker.restored() as folder:                 # None at the first start
            if folder is not None: model.load_state_dict(torch.load(folder / "model.pt"))
        for batch in worker.feed:
            train_step(batch)                             # then: if worker.feed.round_ended: worker.feed.report(...)
            if batch.last_of_round: worker.save({"loss": loss}, lambda folder: torch.save(..., folder / "model.pt"))

Ray Train restarts workers after a failure, with another number of them if it must; the feed goes on behind the
checkpoint that it gives, at any number that divides the global batch. Ray's own dataset sharding has no part in it.
"""

import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray.train

from prereq.graph.canonical import canonical_json
from prereq.graph.errors import ManifestError
from prereq.selector.feed import Feed

STATE = "prereq_feed.json"  # in a checkpoint's folder


class RayTrainFeed:
    """The feed of one Ray Train worker; every worker of the group makes one.

    Args:
        run: The run's folder, which every node sees; a relative path is taken from where the driver started.
        feed_arguments: As for `Feed`, without rank and world_size.
    """

    def __init__(self, run: str | os.PathLike[str], **feed_arguments: Any) -> None:
        context = ray.train.get_context()
        self.feed = Feed(run, rank=context.get_world_rank(), world_size=context.get_world_size(), **feed_arguments)
        self._rank = context.get_world_rank()
        self._saved: dict[str, Any] | None = None  # state of the newest checkpoint

    @contextmanager
    def restored(self) -> Iterator[Path | None]:
        """Move the feed to the checkpoint that Ray Train goes on from, and give its folder while the loop reads it.

        Raises:
            ManifestError: The checkpoint has no feed's state, or that of another run.
        """
        checkpoint = ray.train.get_checkpoint()
        if checkpoint is None:
            yield None
            return
        with checkpoint.as_directory() as name:
            folder = Path(name)
            self._saved = _read_state(folder)
            self.feed.load_state_dict(self._saved)
            yield folder

    def save(self, metrics: Mapping[str, Any], write: Callable[[Path], None]) -> None:
        """Report metrics and a checkpoint to Ray Train; every worker calls it at the same step.

        The sampler is told of the checkpoint before this one: that one is in Ray's books for certain, while a driver
        that dies now may go on from it, and must still find its shards.

        Args:
            metrics: As for `ray.train.report`.
            write: Puts the loop's own files into a folder; called on rank 0 alone.
        """
        if self._rank != 0:
            ray.train.report(dict(metrics))
            return
        state = self.feed.state_dict()
        with tempfile.TemporaryDirectory(prefix="prereq-") as name:
            write(Path(name))
            (Path(name) / STATE).write_bytes(canonical_json(state))
            ray.train.report(dict(metrics), checkpoint=ray.train.Checkpoint.from_directory(name))
        if self._saved is not None:
            self.feed.checkpointed(self._saved)
        self._saved = state


def _read_state(folder: Path) -> dict[str, Any]:
    try:
        state: dict[str, Any] = json.loads((folder / STATE).read_bytes())
    except (OSError, ValueError) as error:
        raise ManifestError(
            f"{folder / STATE}: cannot be read ({error}); this checkpoint was not saved by RayTrainFeed.save: "
            "choose another name or storage_path for the Ray Train run"
        ) from error
    return state
