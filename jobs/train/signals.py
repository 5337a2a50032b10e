"""What the reference trainer reports beside losses, as far as the run's mixer asks for it; see docs/mixers.md.

Signals by arm are taken on the first documents that the round drew from each arm (`train.signal_tokens`), with the
weights at the round's end. An arm that was not drawn is "not measured". Nothing here moves a weight.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from prereq.graph.errors import ConfigError
from prereq.jobs.train.arm_texts import ArmTexts
from prereq.jobs.train.config import TrainConfig
from prereq.jobs.train.evaluate import evaluate, prepare
from prereq.jobs.train.gradients import GroupGradient, dot, group_gradient
from prereq.jobs.train.kronecker import target_gradient, wanted_step
from prereq.jobs.train.model import make_optimizer
from prereq.jobs.train.probes import mixed_windows, steps
from prereq.jobs.train.reference import Reference
from prereq.jobs.train.windows import IGNORE, Windows, training_windows
from prereq.selector.feed import HoldoutDocument
from prereq.selector.mixers import MIXERS, mixer_config
from prereq.selector.mixers.missing_skills import missing_profile
from prereq.selector.rounds.run import RunInfo
from prereq.selector.storage import Folder

Values = dict[str, float]
_DIGITS = 6  # significant, as of losses: what is reported depends on no rounding of sums
_PROBE = "probe_drop."
_GRADIENTS = ("gradient_norm", "gradient_variance", "alignment", "influence")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What goes into a report beside losses by skill."""

    signals: dict[str, Values] | None
    arm_losses: Values | None


class Signals:
    """The signals of one run.

    Args:
        run: The run's folder.
        info: What `run.json` says.
        config: The trainer.
        control: The control split; of each skill `signal_tokens` are used.
        texts: Where the arms' documents come from; None: the run.

    Raises:
        ConfigError: The mixer asks for a signal that is not known here.
    """

    def __init__(
        self,
        run: Folder,
        info: RunInfo,
        config: TrainConfig,
        control: Sequence[HoldoutDocument],
        texts: ArmTexts | None = None,
    ) -> None:
        self._config, self.names = config, info.signals
        mixer = mixer_config(info.mixer, info.parameters or {}) if info.mixer in MIXERS else None
        self._of_arms = getattr(mixer, "losses", None) == "arms"
        self._own_share = float(getattr(mixer, "one_hot_share", 1.0))  # of a probe, as the mixer takes it apart
        self._control = prepare(control, info.skills, config.seq_len, config.signal_tokens)
        known = {*_GRADIENTS, "excess_loss", "score", "missing"}
        odd = [name for name in self.names if name not in known and not name.startswith(_PROBE)]
        if odd:
            raise ConfigError(
                f"{run.name}: the mixer {info.mixer} needs the signals {odd}, which the reference trainer does not "
                f"measure (it knows {', '.join(sorted(known))}, {_PROBE}<skill>); use your own trainer"
            )
        needed = bool(self.names) or self._of_arms
        self._texts = (texts or ArmTexts(run, info, config.signal_tokens)) if needed else None
        self._reference = Reference(config, self._texts) if self._texts and "excess_loss" in self.names else None
        self._probe_windows = self._cut(self._texts.first()) if self._texts and self._probed() else {}

    def untrained(self) -> Measured:
        """For the report of the untrained model: every signal, without a number."""
        return Measured(signals={name: {} for name in self.names} or None, arm_losses=None)

    def measure(self, model: nn.Module, number: int) -> Measured:
        """What the mixer asks for, after a round.

        Args:
            model: int64 tokens `(n, t)` -> logits `(n, t, vocabulary)`.
            number: The round that has just been trained on.
        """
        if self._texts is None:
            return Measured(signals=None, arm_losses=None)
        windows = self._cut(self._texts.drawn(number))
        found: dict[str, Values] = {}
        if any(name in self.names for name in _GRADIENTS):
            found |= self._gradients(model, windows)
        if "excess_loss" in self.names and self._reference is not None:
            reference = self._reference
            found["excess_loss"] = _by_arm(
                windows, lambda w: float(np.maximum(token_losses(model, w) - reference.losses(w), 0.0).sum() / count(w))
            )
        if "score" in self.names:
            found["score"] = _by_arm(windows, lambda w: 1.0 - float(hits(model, w).sum() / count(w)))
        if "missing" in self.names:
            found["missing"] = self._missing(model)
        if self._probed():
            found |= self._probes(model)
        losses = _by_arm(windows, lambda w: float(token_losses(model, w).sum() / count(w))) if self._of_arms else None
        return Measured(signals={name: found[name] for name in self.names} or None, arm_losses=losses)

    def _cut(self, texts: Mapping[str, list[str]]) -> dict[str, Windows]:
        """Windows by arm, no more of them than hold the tokens of a signal."""
        most = -(-self._config.signal_tokens // self._config.seq_len)
        cut = {arm: training_windows(documents, self._config.seq_len) for arm, documents in texts.items()}
        return {arm: Windows(w.inputs[:most], w.targets[:most]) for arm, w in cut.items()}

    def _gradients(self, model: nn.Module, windows: Mapping[str, Windows]) -> dict[str, Values]:
        """Gradients of the arms, compared with the sum of the gradients of the control split's skills."""
        most = self._config.signal_windows
        groups = {arm: group_gradient(model, each, most) for arm, each in windows.items()}
        found = {
            "gradient_norm": _rounded({arm: group.norm for arm, group in groups.items()}),
            "gradient_variance": _rounded({arm: group.variance for arm, group in groups.items()}),
        }
        if "alignment" in self.names or "influence" in self.names:
            target = target_gradient(model, self._control, self._control.names, most)
            found["alignment"] = _rounded({arm: dot(target, group.mean) for arm, group in groups.items()})
        if "influence" in self.names:
            found["influence"] = self._influence(model, target, groups)
        return found

    def _influence(self, model: nn.Module, target: Mapping[str, Tensor], groups: Mapping[str, GroupGradient]) -> Values:
        wanted = wanted_step(model, self._control, target, self._config)
        return _rounded({arm: dot(wanted, group.mean) for arm, group in groups.items()})

    def _missing(self, model: nn.Module) -> Values:
        """By skill: documents of the control split of which the model guesses fewer bytes than of the average one."""
        windows, owner = self._control.windows, self._control.documents
        right, counted = np.zeros((2, len(self._control.tokens)))
        np.add.at(right, owner, hits(model, windows).sum(axis=1))
        np.add.at(counted, owner, (windows.targets != IGNORE).sum(axis=1))
        share = right / np.maximum(counted, 1)
        wrong = np.flatnonzero((share < right.sum() / max(counted.sum(), 1)) & (counted > 0))
        return missing_profile(self._control.skills[document] for document in wrong.tolist())

    def _probed(self) -> bool:
        return any(name.startswith(_PROBE) for name in self.names)

    def _probes(self, model: nn.Module) -> dict[str, Values]:
        """Per skill the drop in its control loss that a short probe of each arm brings, from the same weights."""
        before = evaluate(model, self._control, self._config.eval_windows).losses
        drops: dict[str, Values] = {name: {} for name in self.names}
        for arm in self._probe_windows:
            trial = copy.deepcopy(model)
            optimizer = make_optimizer(trial, self._config)
            windows = mixed_windows(self._probe_windows, arm, self._own_share, self._config)
            steps(trial, optimizer, windows, self._config)
            after = evaluate(trial, self._control, self._config.eval_windows).losses
            for name in self.names:
                skill = name.removeprefix(_PROBE)
                first, last = before.get(skill), after.get(skill)
                if first is not None and last is not None:
                    drops[name][arm] = round(first - last, _DIGITS)
        return drops


def token_losses(model: nn.Module, windows: Windows) -> np.ndarray:
    """Nats of every target `(windows, seq_len)`, 0 where it is padding."""
    inputs, targets = (torch.from_numpy(side).to(next(model.parameters()).device) for side in windows)
    with torch.inference_mode():
        each = F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten(), reduction="none", ignore_index=IGNORE)
    return each.view(targets.shape).double().cpu().numpy()


def hits(model: nn.Module, windows: Windows) -> np.ndarray:
    """Whether the likeliest byte is the right one, `(windows, seq_len)`; False where it is padding."""
    inputs = torch.from_numpy(windows.inputs).to(next(model.parameters()).device)
    with torch.inference_mode():
        best = model(inputs).argmax(dim=-1).cpu().numpy()
    right: np.ndarray = best == windows.targets
    return right


def count(windows: Windows) -> int:
    """Targets that are no padding, at least 1."""
    return max(1, int((windows.targets != IGNORE).sum()))


def _by_arm(windows: Mapping[str, Windows], value: Callable[[Windows], float]) -> Values:
    return _rounded({arm: value(each) for arm, each in windows.items()})


def _rounded(values: Mapping[str, float]) -> Values:
    return {key: float(f"{value:.{_DIGITS}g}") for key, value in values.items()}
