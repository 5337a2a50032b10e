"""Checkpoints of the reference trainer: tensors and plain values, replaced as a whole, read without running code."""

import io
import pickle
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch

from prereq.graph.errors import ConfigError, ManifestError
from prereq.jobs.train.config import TrainConfig
from prereq.selector.storage import Folder

FORMAT = "prereq.checkpoint/1"
NAME = "train/checkpoint.pt"
# what may change between two starts: nothing here moves a weight
_FREE = ("checkpoint_every", "report_tokens_per_skill", "wait_timeout_s")


def save_checkpoint(run: Folder, config: TrainConfig, values: Mapping[str, Any]) -> None:
    """Write `train/checkpoint.pt`, whole or not at all."""
    sink = io.BytesIO()
    torch.save({"format": FORMAT, "config": binding(config), **values}, sink)
    run.replace(NAME, sink.getvalue())


def load_checkpoint(run: Folder, config: TrainConfig) -> dict[str, Any] | None:
    """Read the run's checkpoint, or None.

    Raises:
        ManifestError: The file is damaged or of another format.
        ConfigError: It was made under another configuration; names the keys.
    """
    value = _read(run)
    if value is None:
        return None
    # a setting that is younger than the checkpoint had its default
    old, new = binding(TrainConfig()) | value["config"], binding(config)
    changed = [f"train.{key} was {old.get(key)}, is {new[key]}" for key in new if old.get(key) != new[key]]
    if changed:
        raise ConfigError(
            f"{run.path(NAME)}: was made with {'; '.join(changed)}; go back to that, or take a fresh run_dir"
        )
    return value


def _read(run: Folder) -> dict[str, Any] | None:
    where = run.path(NAME)
    try:
        data = run.read(NAME)
    except FileNotFoundError:
        return None
    try:
        value = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        reason = str(error).partition("\n")[0]
        raise ManifestError(
            f"{where}: cannot be read ({reason}); delete it to train again from the first round, whose reports stand"
        ) from error
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise ManifestError(f"{where}: is not a {FORMAT} file; delete it to train again from the first round")
    return value


def read_weights(run: Folder) -> tuple[TrainConfig, dict[str, Any]] | None:
    """The configuration and the weights of a run's trained model, or None where it has no checkpoint.

    Raises:
        ManifestError: The file is damaged or of another format.
    """
    value = _read(run)
    return None if value is None else (TrainConfig(**value["config"]), value["model"])


def binding(config: TrainConfig) -> dict[str, Any]:
    """The settings that a checkpoint is bound to."""
    return {key: value for key, value in asdict(config).items() if key not in _FREE}
