"""A tiny model trained on made texts in rounds, each with the mixture that a mixer of the project asks for.

An arm is a skill. What is drawn never repeats, so a round needs no pool; the answer's loss is all that is trained on.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from prereq.selector.mixers import Arms, Mixer, Observation, apportion

Losses = dict[str, float]
Draw = Callable[[np.ndarray, np.random.Generator], Tensor]
"""(Arm of each sample `(n,)`, generator) -> int64 `(n, t + 1)`, the answer last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """How long and how fast a model is trained."""

    rounds: int
    # steps of a round; the mixture is renewed after each
    steps: int
    # samples of a step
    batch: int
    # steps between evaluations
    evaluate_every: int
    # constant after the warm-up
    learning_rate: float
    # steps until the learning rate is reached
    warmup: int
    weight_decay: float = 0.01
    # largest length of the gradient
    clip: float = 1.0


@dataclass(slots=True)
class Curve:
    """What a run saw: losses by skill (nats) after `steps`, and the mixture of every round over the arms."""

    steps: list[int] = field(default_factory=list)
    losses: list[Losses] = field(default_factory=list)
    mixtures: list[list[float]] = field(default_factory=list)

    def steps_until(self, skill: str, loss: float) -> int | None:
        """Steps until the first evaluation at or below a loss; None when there is none."""
        return next((at for at, found in zip(self.steps, self.losses, strict=True) if found[skill] <= loss), None)


def answer_losses(model: torch.nn.Module, validation: Mapping[str, Tensor]) -> Losses:
    """Mean loss of the answer (nats) by skill; validation: int64 (n, t + 1) each."""
    with torch.no_grad():
        return {
            skill: float(F.cross_entropy(model(texts[:, :-1]), texts[:, -1])) for skill, texts in validation.items()
        }


def train_in_rounds(
    model: torch.nn.Module,
    mixer: Mixer,
    arms: Arms,
    draw: Draw,
    validation: Mapping[str, Tensor],
    schedule: Schedule,
    *,
    reports: Sequence[str],
    seed: int,
    done: Callable[[int, Losses], bool],
) -> Curve:
    """Train until all rounds are over or `done` says so after an evaluation.

    Args:
        model: Trained in place.
        mixer: Sees the untrained model and the losses at the end of every round.
        arms: What the mixture is over.
        draw: Makes the samples of a step.
        validation: By skill, what losses are taken on.
        schedule: Rounds, steps, rates.
        reports: Skills whose losses the mixer sees.
        seed: Of the samples and their order.
        done: (steps so far, losses) -> whether to stop.
    """
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=schedule.learning_rate,
        betas=(0.9, 0.98),
        weight_decay=schedule.weight_decay,
        fused=True,
    )
    curve, step = Curve([0], [answer_losses(model, validation)], []), 0
    answers = {skill: len(validation[skill]) for skill in reports}
    state = _told(mixer, mixer.init(), None, curve.losses[0], answers, np.zeros(len(arms.ids)))
    for number in range(schedule.rounds):
        rng = np.random.default_rng([seed, number])
        mixture = mixer.mixture(state)
        counts = apportion(mixture, schedule.steps * schedule.batch, arms.ids)
        order = rng.permutation(np.repeat(np.arange(len(arms.ids)), counts)).reshape(schedule.steps, schedule.batch)
        curve.mixtures.append(mixture.tolist())
        for picked in order:
            step += 1
            _step(model, optimizer, draw(picked, rng), min(1.0, step / schedule.warmup), schedule)
            if step % schedule.evaluate_every == 0:
                curve.steps.append(step)
                curve.losses.append(answer_losses(model, validation))
                if done(step, curve.losses[-1]):
                    return curve
        found = curve.losses[-1] if curve.steps[-1] == step else answer_losses(model, validation)
        state = _told(mixer, state, number, found, answers, counts.astype(np.float64))
    return curve


def _step(
    model: torch.nn.Module, optimizer: torch.optim.Optimizer, texts: Tensor, warm: float, schedule: Schedule
) -> None:
    for group in optimizer.param_groups:
        group["lr"] = schedule.learning_rate * warm
    optimizer.zero_grad()
    F.cross_entropy(model(texts[:, :-1]), texts[:, -1]).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), schedule.clip)
    optimizer.step()


def _told(
    mixer: Mixer,
    state: dict[str, Any],
    number: int | None,
    losses: Losses,
    answers: Mapping[str, int],
    drawn: np.ndarray,
) -> dict[str, Any]:
    if not mixer.uses_feedback:
        return state
    seen = {skill: losses[skill] for skill in answers}
    return mixer.update(state, Observation(round=number, losses=seen, eval_tokens=answers, drawn_tokens=drawn))
