"""Training on LEGO in rounds, each with the mixture that a mixer asks for; probes and the learned graph."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from lego_data import SKILLS, Examples, make_distinct, split
from lego_model import ClauseTransformer, ModelConfig
from torch import Tensor
from torch.nn import functional as F

from prereq.graph.influence import Influence
from prereq.selector.mixers import Arms, Mixer, Observation
from prereq.selector.mixers.aioli import AioliConfig
from prereq.selector.mixers.simplex import FloatArray, IntArray

PROBE = "probe_drop."
_CONTROL, _REPORT, _TRAIN, _PROBE, _SHORT = range(5)  # purposes of random numbers
Batch = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """How long and how fast a model is trained: AdamW, warm-up, then linearly down to 0 at the last step."""

    rounds: int
    # steps of a round
    steps: int
    # samples of a step
    batch: int
    learning_rate: float
    warmup: int
    weight_decay: float
    # largest length of the gradient
    clip: float
    # steps between two looks at the report set
    look_every: int
    # steps of one of Aioli's probes
    probe_steps: int
    # steps of a short run of the learned graph
    short_run_steps: int

    @property
    def total(self) -> int:
        """H."""
        return self.rounds * self.steps


@dataclass(frozen=True, slots=True)
class Held:
    """What no run trains on: `control` steers the mixers, `report` judges; a batch for each skill, keys of both."""

    control: list[Batch]
    report: list[Batch]
    keys: IntArray


@dataclass(slots=True)
class Curve:
    """What a run did: accuracies on the report set by skill at `steps`, mixtures and control losses by round."""

    steps: list[int] = field(default_factory=list)
    accuracies: list[list[float]] = field(default_factory=list)
    report_losses: list[list[float]] = field(default_factory=list)
    mixtures: list[list[float]] = field(default_factory=list)
    control_losses: list[list[float]] = field(default_factory=list)

    def first_step_at(self, accuracy: float) -> int | None:
        """The first look with a mean accuracy of at least this."""
        means = (float(np.mean(found)) for found in self.accuracies)
        return next((step for step, mean in zip(self.steps, means, strict=True) if mean >= accuracy), None)

    def mean_accuracy(self, step: int) -> float:
        """Mean accuracy over the skills at a look."""
        return float(np.mean(self.accuracies[self.steps.index(step)]))


def as_batch(examples: Examples) -> Batch:
    """The same as tensors."""
    clauses, asked, answers = (torch.from_numpy(a) for a in (examples.clauses, examples.asked, examples.answers))
    return clauses, asked, answers


def held_out(control: int, report: int, seed: int) -> Held:
    """Two sets of distinct examples, so many of each skill."""
    keys, found = np.zeros(0, dtype=np.int64), []
    for purpose, count in ((_CONTROL, control), (_REPORT, report)):
        rng, batches = np.random.default_rng([seed, purpose]), []
        for skill in range(len(SKILLS)):
            examples, keys = make_distinct(rng, np.full(count, skill), keys)
            batches.append(as_batch(examples))
        found.append(batches)
    return Held(found[0], found[1], keys)


@torch.no_grad()
def judge(model: torch.nn.Module, batches: Sequence[Batch]) -> tuple[list[float], list[float]]:
    """Accuracy in [0, 1] and mean loss (nats) of the answer, one of each for every batch."""
    accuracies, losses = [], []
    for clauses, asked, answers in batches:
        logits = model(clauses, asked)
        accuracies.append(float((logits.argmax(1) == answers).double().mean()))
        losses.append(float(F.cross_entropy(logits, answers)))
    return accuracies, losses


class Trainer:
    """A model and its optimiser."""

    def __init__(self, model: ModelConfig, schedule: Schedule, seed: int) -> None:
        self.schedule, self.step = schedule, 0
        self.model = ClauseTransformer(model, seed)
        self._optimizer = torch.optim.AdamW(
            self.model.parameters(), betas=(0.9, 0.98), weight_decay=schedule.weight_decay
        )

    def train(self, batch: Batch) -> None:
        """One step."""
        warm, left = (self.step + 1) / self.schedule.warmup, 1.0 - self.step / self.schedule.total
        for group in self._optimizer.param_groups:
            group["lr"] = self.schedule.learning_rate * min(1.0, warm) * max(left, 0.0)
        clauses, asked, answers = batch
        self._optimizer.zero_grad()
        F.cross_entropy(self.model(clauses, asked), answers).backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.schedule.clip)
        self._optimizer.step()
        self.step += 1

    def batches(self, counts: IntArray, rng: np.random.Generator, taken: IntArray) -> tuple[list[Batch], IntArray]:
        """Steps with so many new samples of each skill, shuffled; and the keys taken so far."""
        examples, taken = make_distinct(rng, rng.permutation(np.repeat(np.arange(len(counts)), counts)), taken)
        parts = (part.split(self.schedule.batch) for part in as_batch(examples))
        return list(zip(*parts, strict=True)), taken


def train_in_rounds(
    trainer: Trainer, mixer: Mixer, arms: Arms, held: Held, seed: int, say: Callable[[str], None]
) -> Curve:
    """Train for all rounds; the mixer sees the untrained model and the control losses at the end of every round.

    The samples follow from the seed, the round and the mixture, so that runs with the same mixture see the same ones.
    """
    schedule, curve, taken = trainer.schedule, Curve(), held.keys
    told: dict[str, Any] = {"eval_tokens": {s: len(held.control[i][1]) for i, s in enumerate(SKILLS)}}
    losses = judge(trainer.model, held.control)[1]
    signals: Mapping[str, Mapping[str, float]] = {name: {} for name in mixer.required_signals}
    observation = Observation(round=None, losses=_named(losses), signals=signals, **told)
    state = mixer.update(mixer.init(), observation)
    for number in range(schedule.rounds):
        mixture = mixer.mixture(state)
        curve.mixtures.append(mixture.tolist())
        curve.control_losses.append(losses)
        counts = split(mixture, schedule.steps * schedule.batch)
        batches, taken = trainer.batches(counts, np.random.default_rng([seed, _TRAIN, number]), taken)
        for batch in batches:
            trainer.train(batch)
            if trainer.step % schedule.look_every == 0:
                _look(trainer, held, curve)
        losses = judge(trainer.model, held.control)[1]
        say(f"round {number}: {_shown(mixture)} -> accuracy {_shown(curve.accuracies[-1])}")
        if number + 1 < schedule.rounds:
            signals = probe_drops(trainer, held, losses, mixer, [seed, _PROBE, number])
            drawn = counts.astype(np.float64)
            state = mixer.update(
                state, Observation(round=number, losses=_named(losses), signals=signals, drawn_tokens=drawn, **told)
            )
    curve.control_losses.append(losses)
    return curve


def probe_drops(
    trainer: Trainer, held: Held, before: Sequence[float], mixer: Mixer, seed: Sequence[int]
) -> Mapping[str, Mapping[str, float]]:
    """Aioli's signals, where the mixer asks for them: how much short runs lower the losses.

    These steps are beyond those of the run: H does not count them.
    """
    signals: dict[str, dict[str, float]] = {name: {} for name in mixer.required_signals}
    if not signals:
        return signals
    own, k = AioliConfig().one_hot_share, len(SKILLS)
    for arm, name in enumerate(SKILLS):
        after = short_run(trainer, np.eye(k)[arm] * own + (1.0 - own) / k, trainer.schedule.probe_steps, held, seed)
        for skill, (past, now) in zip(SKILLS, zip(before, after, strict=True), strict=True):
            signals[PROBE + skill][name] = past - now
    return signals


def short_run(trainer: Trainer, mixture: FloatArray, steps: int, held: Held, seed: Sequence[int]) -> list[float]:
    """Control losses after some steps from a copy of the trainer, which stays as it is."""
    other = copy.deepcopy(trainer)
    counts = split(mixture, steps * trainer.schedule.batch)
    for batch in other.batches(counts, np.random.default_rng(list(seed)), held.keys)[0]:
        other.train(batch)
    return judge(other.model, held.control)[1]


def learn_influence(trainer: Trainer, held: Held, seed: int, say: Callable[[str], None]) -> Influence:
    """Row i: what a short run on skill i alone takes off every control loss (nats).

    Source:
        Chen et al. 2023, arXiv:2307.14430, Algorithm 3 (approximate). Negative drops are kept here.
    """
    before, rows = judge(trainer.model, held.control)[1], []
    for skill in range(len(SKILLS)):
        mixture = np.eye(len(SKILLS))[skill]
        after = short_run(trainer, mixture, trainer.schedule.short_run_steps, held, [seed, _SHORT, skill])
        rows.append([past - now for past, now in zip(before, after, strict=True)])
        say(f"short run on {SKILLS[skill]}: losses fall by {_shown(rows[-1])}")
    return Influence(SKILLS, SKILLS, np.array(rows))


def _look(trainer: Trainer, held: Held, curve: Curve) -> None:
    accuracies, losses = judge(trainer.model, held.report)
    curve.steps.append(trainer.step)
    curve.accuracies.append(accuracies)
    curve.report_losses.append(losses)


def _named(values: Sequence[float]) -> dict[str, float]:
    return dict(zip(SKILLS, values, strict=True))


def _shown(values: Sequence[float] | FloatArray) -> str:
    return " ".join(f"{value:.2f}" for value in values)
