"""One optimizer step of the reference trainer, for all that trains: a run, a short run on one skill, a benchmark."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from prereq.jobs.train.config import TrainConfig
from prereq.jobs.train.windows import IGNORE, Windows, split_evenly


def update(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    inputs: Tensor,
    targets: Tensor,
    config: TrainConfig,
    updates: int,
) -> float:
    """One step along the gradient of the mean loss, clipped, at the warm-up's rate.

    Args:
        model: int64 tokens `(n, t)` -> logits `(n, t, vocabulary)`.
        optimizer: Of its parameters.
        inputs: int64 `(n, t)`, on the model's device.
        targets: The same shape; IGNORE carries no loss.
        config: learning_rate, warmup_steps, clip_norm.
        updates: Steps taken before.

    Returns:
        The summed loss before the step, in nats.
    """
    rate = config.learning_rate * min(1.0, (updates + 1) / max(1, config.warmup_steps))
    for group in optimizer.param_groups:
        group["lr"] = rate
    loss = F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten(), ignore_index=IGNORE)
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
    optimizer.step()
    return float(loss.item()) * int((targets != IGNORE).sum())


def train_on(
    model: nn.Module, optimizer: torch.optim.Optimizer, windows: Windows, config: TrainConfig, updates: int
) -> int:
    """Train on every window once, in steps of about `windows_per_step`; the number of steps taken so far."""
    device = next(model.parameters()).device
    for start, stop in split_evenly(len(windows.inputs), config.windows_per_step):
        inputs, targets = (torch.from_numpy(side[start:stop]).to(device) for side in windows)
        update(model, optimizer, inputs, targets, config, updates)
        updates += 1
    return updates
