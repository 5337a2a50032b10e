"""Loss per skill on a holdout split: nats per byte token.

Each document is evaluated once and counts for each of its skills.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from prereq.jobs.train.windows import IGNORE, SEPARATOR, IntArray, Windows, cut, encode
from prereq.selector.feed import HoldoutDocument

_DIGITS = 6  # of a reported loss: below what summing in another order changes


@dataclass(frozen=True, slots=True)
class EvaluationSet:
    """A split made ready for many evaluations.

    Attributes:
        windows: Sorted by length, longest first, so that a batch pads little.
        lengths: int64 `(windows,)`, tokens of each window.
        documents: int64 `(windows,)`, the document of each window, an index into `tokens` and `skills`.
        tokens: Tokens evaluated per document.
        skills: Skills per document.
        names: Every skill that is to have a loss, measured or not.
    """

    windows: Windows
    lengths: IntArray
    documents: IntArray
    tokens: tuple[int, ...]
    skills: tuple[tuple[str, ...], ...]
    names: tuple[str, ...]

    def of_skill(self, skill: str) -> Windows:
        """The windows of one skill's documents, longest first; maybe none."""
        members = [index for index, skills in enumerate(self.skills) if skill in skills]
        chosen = np.isin(self.documents, members)
        return Windows(self.windows.inputs[chosen], self.windows.targets[chosen])

    @property
    def measures(self) -> bool:
        """Whether any skill has a token to be measured on."""
        return any(count and skills for count, skills in zip(self.tokens, self.skills, strict=True))


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What a split says of a model.

    Attributes:
        losses: Skill -> nats per token; None where the split has no token of it.
        eval_tokens: Skill -> tokens behind its loss.
    """

    losses: dict[str, float | None]
    eval_tokens: dict[str, int]

    @property
    def mean(self) -> float:
        """Mean over the skills that were measured; NaN when there is none."""
        measured = [loss for loss in self.losses.values() if loss is not None]
        return math.fsum(measured) / len(measured) if measured else math.nan


def prepare(
    documents: Iterable[HoldoutDocument], names: Sequence[str], seq_len: int, tokens_per_skill: int | None
) -> EvaluationSet:
    """Choose documents within a budget and cut them into windows.

    Documents are taken in the order given while one of their skills has less than `tokens_per_skill` tokens; a longer
    document is cut off there.

    Args:
        documents: Of one split.
        names: Skills to report on; others that a document carries are reported too.
        seq_len: Tokens in a window.
        tokens_per_skill: Budget; None: everything.
    """
    taken = dict.fromkeys(names, 0)
    chosen: list[tuple[IntArray, tuple[str, ...]]] = []
    for document in documents:
        skills = tuple(dict.fromkeys(document.skills))
        if not skills or (tokens_per_skill and all(taken.get(s, 0) >= tokens_per_skill for s in skills)):
            continue
        tokens = encode(document.text)[:tokens_per_skill]
        chosen.append((tokens, skills))
        taken |= {skill: taken.get(skill, 0) + len(tokens) for skill in skills}
    pieces = [_windows_of(tokens, seq_len) for tokens, _ in chosen]
    windows = Windows(*(np.concatenate([np.empty((0, seq_len), np.int64), *column]) for column in _columns(pieces)))
    owners = np.repeat(np.arange(len(pieces)), [len(piece.inputs) for piece in pieces]).astype(np.int64)
    lengths = (windows.targets != IGNORE).sum(axis=1)
    order = np.argsort(-lengths, kind="stable")
    return EvaluationSet(
        Windows(windows.inputs[order], windows.targets[order]),
        lengths[order],
        owners[order],
        tuple(len(tokens) for tokens, _ in chosen),
        tuple(skills for _, skills in chosen),
        tuple(taken),
    )


def _columns(pieces: list[Windows]) -> tuple[list[IntArray], list[IntArray]]:
    return [piece.inputs for piece in pieces], [piece.targets for piece in pieces]


def _windows_of(tokens: IntArray, seq_len: int) -> Windows:
    """Every token of a document is a target once; each window after the first sees one token before its own."""
    before = np.concatenate([np.array([SEPARATOR], dtype=np.int64), tokens])[: len(tokens)]
    return cut(before, tokens, seq_len)


def evaluate(model: torch.nn.Module, split: EvaluationSet, windows_at_a_time: int) -> Evaluation:
    """Loss per skill of a model: sum of nll over sum of tokens, over all documents of the skill.

    Args:
        model: int64 tokens `(n, t)` -> logits `(n, t, vocabulary)`.
        split: From `prepare`.
        windows_at_a_time: Windows in one call of the model.
    """
    nll = np.zeros(len(split.tokens))  # (documents,), nats
    device = next(model.parameters()).device
    with torch.inference_mode():
        for start in range(0, len(split.lengths), windows_at_a_time):
            stop = min(start + windows_at_a_time, len(split.lengths))
            longest = int(split.lengths[start])
            inputs, targets = (torch.from_numpy(side[start:stop, :longest]).to(device) for side in split.windows)
            # (n, t, vocabulary) -> nll per window (n,)
            each = F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten(), reduction="none")
            sums = each.view(targets.shape).double().sum(dim=1).cpu().numpy()
            np.add.at(nll, split.documents[start:stop], sums)
    return _by_skill(split, nll)


def _by_skill(split: EvaluationSet, nll: np.ndarray) -> Evaluation:
    losses: dict[str, float | None] = {}
    tokens: dict[str, int] = {}
    for skill in split.names:
        members = [d for d, skills in enumerate(split.skills) if skill in skills]
        tokens[skill] = sum(split.tokens[d] for d in members)
        total = math.fsum(float(nll[d]) for d in members)
        losses[skill] = round(total / tokens[skill], _DIGITS) if tokens[skill] else None
    return Evaluation(losses, tokens)
