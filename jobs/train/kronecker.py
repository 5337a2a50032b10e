"""Influence by K-FAC: how much a step along one gradient lowers the loss of another text, curvature accounted for.

For a linear layer the Hessian of the loss is about B (x) C, with C = E[x x'] of its inputs and B = E[d d'] of the
gradients at its outputs, so that H^-1 vec(G) = vec(B^-1 G C^-1). All linear layers of attention and feed-forward count;
embeddings, norms and the head do not.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from prereq.jobs.train.config import TrainConfig
from prereq.jobs.train.evaluate import EvaluationSet
from prereq.jobs.train.gradients import evenly, group_gradient
from prereq.jobs.train.windows import IGNORE, Windows


@dataclass(frozen=True, slots=True, kw_only=True)
class KroneckerFactors:
    """Curvature of one layer, damped: B `(out, out)` and C `(in, in)`, float64."""

    outputs: Tensor
    inputs: Tensor

    def solve(self, gradient: Tensor) -> Tensor:
        """B^-1 G C^-1 `(out, in)` of a gradient G `(out, in)`."""
        left = torch.linalg.solve(self.outputs, gradient.double())
        return torch.linalg.solve(self.inputs, left.T).T


def damped(outputs: Tensor, inputs: Tensor, damping: float) -> KroneckerFactors:
    """B + sqrt(l) I and C + sqrt(l) I, with l = damping * (mean of B's diagonal) * (mean of C's diagonal).

    The product is then B (x) C + l I and two mixed terms; that l is relative makes it mean the same for every layer and
    at every stage of training.

    Source:
        Martens & Grosse 2015, "Optimizing neural networks with Kronecker-factored approximate curvature",
        arXiv:1503.05671, section 6.3, with sqrt(l) on each factor scaled by its own mean diagonal.
    """
    sides = []
    for side in (outputs.double(), inputs.double()):
        level = float(side.diagonal().mean())
        level = level if level > 0 else 1.0  # a layer that the loss does not reach: its gradient is 0 too
        sides.append(side + damping**0.5 * level * torch.eye(len(side), dtype=torch.float64, device=side.device))
    return KroneckerFactors(outputs=sides[0], inputs=sides[1])


def kronecker_factors(
    model: nn.Module, windows: Windows, most: int, damping: float, skip: tuple[str, ...] = ("head",)
) -> dict[str, KroneckerFactors]:
    """Factors of every linear layer but those skipped, by the name of its weight, from some windows of text.

    Args:
        model: int64 tokens `(n, t)` -> logits `(n, t, vocabulary)`.
        windows: Texts that the curvature is taken at.
        most: Windows to use.
        damping: As in `damped`.
        skip: Names of modules that do not count.
    """
    layers = {name: m for name, m in model.named_modules() if isinstance(m, nn.Linear) and name not in skip}
    sums: dict[str, list[Tensor]] = {}
    positions = 0
    device = next(model.parameters()).device
    with _watched(layers, sums):
        for index in evenly(len(windows.inputs), most):
            inputs, targets = (torch.from_numpy(side[index : index + 1]).to(device) for side in windows)
            loss = F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten(), ignore_index=IGNORE, reduction="sum")
            torch.autograd.grad(loss, list(model.parameters()))
            positions += int((targets != IGNORE).sum())
    return {
        f"{name}.weight": damped(outputs / positions, inputs / positions, damping)
        for name, (outputs, inputs) in sums.items()
    }


@contextmanager
def _watched(layers: Mapping[str, nn.Linear], sums: dict[str, list[Tensor]]) -> Iterator[None]:
    """Inside, every backward pass adds d d' and x x' of each layer to `sums[name]`."""

    def watch(name: str, layer: nn.Linear) -> Any:
        sums[name] = [
            torch.zeros(size, size, dtype=torch.float64, device=layer.weight.device)
            for size in (layer.out_features, layer.in_features)
        ]

        def forward(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
            entered = args[0].detach().flatten(0, -2).double()

            def backward(gradient: Tensor) -> None:
                left = gradient.detach().flatten(0, -2).double()
                used = left.abs().sum(dim=1) > 0  # padding has no loss behind it
                sums[name][0] += left.T @ left
                sums[name][1] += entered[used].T @ entered[used]

            if output.requires_grad:
                output.register_hook(backward)

        return layer.register_forward_hook(forward)

    handles = [watch(name, layer) for name, layer in layers.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def along(model: nn.Module, windows: Windows, step: Mapping[str, Tensor], at_a_time: int) -> NDArray[np.float64]:
    """Inner product of a step with the gradient of each window's summed loss, `(windows,)`, without forming gradients.

    The gradient of a linear layer's weight is the sum of d x' over positions, so that its inner product with V is the
    sum of d . (V x): a pass over many windows at once gives every window's own.

    Args:
        model: int64 tokens `(n, t)` -> logits `(n, t, vocabulary)`.
        windows: At least one.
        step: By the name of the weight of a linear layer; other weights do not count.
        at_a_time: Windows in one pass.
    """
    layers = {name: module for name, module in model.named_modules() if f"{name}.weight" in step}
    lengths = (windows.targets != IGNORE).sum(axis=1)
    device = next(model.parameters()).device
    found = []
    for start in range(0, len(lengths), at_a_time):
        longest = max(1, int(lengths[start : start + at_a_time].max()))  # padding is behind the text
        sides = (torch.from_numpy(side[start : start + at_a_time, :longest]).to(device) for side in windows)
        inputs, targets = sides
        sums = torch.zeros(len(inputs), dtype=torch.float64, device=device)
        with _projected(layers, step, sums):
            loss = F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten(), ignore_index=IGNORE, reduction="sum")
            torch.autograd.grad(loss, list(model.parameters()))
        found.append(sums.cpu().numpy())
    return np.concatenate(found)


@contextmanager
def _projected(layers: Mapping[str, nn.Module], step: Mapping[str, Tensor], sums: Tensor) -> Iterator[None]:
    """Inside, every backward pass adds d . (V x) over positions and layers to `sums` `(n,)`."""

    def watch(direction: Tensor, layer: nn.Module) -> Any:
        def forward(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
            moved = args[0].detach().double() @ direction.double().T  # (n, t, out)

            def backward(gradient: Tensor) -> None:
                sums.add_((gradient.detach().double() * moved).flatten(1).sum(dim=1))

            output.register_hook(backward)

        return layer.register_forward_hook(forward)

    handles = [watch(step[f"{name}.weight"], layer) for name, layer in layers.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def preconditioned(gradient: Mapping[str, Tensor], factors: Mapping[str, KroneckerFactors]) -> dict[str, Tensor]:
    """H^-1 g by layer. Its inner product with a text's gradient is the influence of that text: larger is more useful.

    Source:
        Zhang et al. 2024, Quad, arXiv:2409.16986, section 3.2: I = - grad L(D_r)' (H + l I)^-1 grad L(z), of which a
        step against grad L(z) takes the sign away.
    """
    return {name: factor.solve(gradient[name]) for name, factor in factors.items()}


def target_gradient(model: nn.Module, control: EvaluationSet, skills: Sequence[str], most: int) -> dict[str, Tensor]:
    """The sum over some skills of the gradient of each one's loss on the control split; empty without a token of any.

    Args:
        model: int64 tokens `(n, t)` -> logits `(n, t, vocabulary)`.
        control: The split.
        skills: That count.
        most: Windows of a skill to use.
    """
    total: dict[str, Tensor] = {}
    for skill in skills:
        windows = control.of_skill(skill)
        if len(windows.inputs):
            mean = group_gradient(model, windows, most).mean
            total = {name: total[name] + value if total else value for name, value in mean.items()}
    return total


def wanted_step(
    model: nn.Module, control: EvaluationSet, target: Mapping[str, Tensor], config: TrainConfig
) -> dict[str, Tensor]:
    """H^-1 g of a target's gradient g, by the weight's name; the curvature H is that of the control split."""
    factors = kronecker_factors(model, control.windows, 4 * config.signal_windows, config.influence_damping)
    return preconditioned(target, factors)
