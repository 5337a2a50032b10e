"""Probes: a few steps on one arm's documents, and what they do to every skill. What Aioli learns its effects from."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from prereq.jobs.train.config import TrainConfig
from prereq.jobs.train.windows import IGNORE, Windows


def mixed_windows(arms: Mapping[str, Windows], arm: str, own_share: float, config: TrainConfig) -> Windows:
    """Windows of a probe: `own_share` of them of one arm, the rest spread evenly over all arms, in a fixed order.

    Args:
        arms: Windows of every arm.
        arm: The one that is probed.
        own_share: In (0, 1], Aioli's `one_hot_share`.
        config: probe_steps and windows_per_step: the product is the number of windows.
    """
    wanted = config.probe_steps * config.windows_per_step
    others = wanted - round(own_share * wanted)
    names = list(arms)
    # window i of the rest is of arm i * k // others: even, whatever the two numbers
    spread = [names[index * len(names) // others] for index in range(others)]
    owners = [arm] * (wanted - others) + spread
    used: dict[str, int] = {}
    inputs, targets = [], []
    for owner in owners:
        place = used.get(owner, 0) % len(arms[owner].inputs)
        used[owner] = used.get(owner, 0) + 1
        inputs.append(arms[owner].inputs[place])
        targets.append(arms[owner].targets[place])
    # every step gets its share of each kind
    order = np.arange(wanted).reshape(config.windows_per_step, config.probe_steps).T.reshape(-1)
    return Windows(np.stack(inputs)[order], np.stack(targets)[order])


def steps(model: nn.Module, optimizer: torch.optim.Optimizer, windows: Windows, config: TrainConfig) -> None:
    """Train on windows once, `windows_per_step` at a time."""
    device = next(model.parameters()).device
    for start in range(0, len(windows.inputs), config.windows_per_step):
        part = slice(start, start + config.windows_per_step)
        inputs, targets = (torch.from_numpy(side[part]).to(device) for side in windows)
        loss = F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten(), ignore_index=IGNORE)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
        optimizer.step()
