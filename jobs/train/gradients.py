"""Gradients of groups of texts: how long, how steady, and which way compared with others. Nothing here trains."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from prereq.jobs.train.windows import IGNORE, Windows


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupGradient:
    """The gradient of the mean loss over some windows of a group, before any clipping.

    Attributes:
        mean: By name of the parameter, as wide as it.
        variance: Mean squared distance of one window's gradient from the mean.
    """

    mean: Mapping[str, Tensor]
    variance: float

    @property
    def norm(self) -> float:
        """Its length."""
        return dot(self.mean, self.mean) ** 0.5


def dot(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> float:
    """Inner product over the parameters that both have, summed in float64."""
    return sum(float((one[name].double() * other[name].double()).sum()) for name in one if name in other)


def group_gradient(model: nn.Module, windows: Windows, most: int) -> GroupGradient:
    """The gradient over at most `most` windows, spread evenly; each window counts the same.

    Args:
        model: int64 tokens `(n, t)` -> logits `(n, t, vocabulary)`.
        windows: At least one, each with a target.
        most: Windows to use; time and precision grow with it, memory does not.
    """
    names, weights = zip(*model.named_parameters(), strict=True)
    chosen = evenly(len(windows.inputs), most)
    device = next(model.parameters()).device
    total = {name: torch.zeros_like(weight) for name, weight in zip(names, weights, strict=True)}
    squares = 0.0
    for index in chosen:
        inputs, targets = (torch.from_numpy(side[index : index + 1]).to(device) for side in windows)
        loss = F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten(), ignore_index=IGNORE)
        for name, gradient in zip(names, torch.autograd.grad(loss, weights), strict=True):
            total[name] += gradient
            squares += float(gradient.double().square().sum())
    mean = {name: value / len(chosen) for name, value in total.items()}
    return GroupGradient(mean=mean, variance=max(squares / len(chosen) - dot(mean, mean), 0.0))


def evenly(count: int, most: int) -> Sequence[int]:
    """At most `most` different indices of 0..count-1, evenly spaced."""
    used = min(count, most)
    return [index * count // used for index in range(used)]
