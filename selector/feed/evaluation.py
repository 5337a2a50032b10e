"""Loss per skill on a holdout split, for any causal torch model: nats per token, with the tokens behind each loss.

    split = prepare_holdout(feed.holdout("control"), feed.skills, encode, EvaluationConfig(tokens_per_skill=8192))
    feed.report(**evaluate_holdout(model, split).report())

The work is shared by the ranks of `torch.distributed` where it is initialised; every rank gets the same answer, and it
is the same at every world size: batches are cut before they are shared out. Nothing here moves a mixture.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch.nn import functional as F

from prereq.graph.errors import ConfigError
from prereq.selector.feed.batch import HoldoutDocument

Encode = Callable[[str], Sequence[int]]
_DIGITS = 6  # of a reported loss: below what summing in another order changes
_IGNORE = -100  # a target that carries no loss


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationConfig:
    """How much of a holdout is evaluated, and in what pieces."""

    tokens_per_skill: int | None = 8192  # tokens, budget of each skill; none: every document
    window: int = 256  # tokens the model sees at once
    windows_at_a_time: int = 16  # windows in one call of the model
    start_token: int | None = None  # put before each document; none: a document's first token is not predicted

    def __post_init__(self) -> None:
        for name in ("tokens_per_skill", "window", "windows_at_a_time"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"evaluation: {name} must be 1 or more, got {value}")


@dataclass(frozen=True, slots=True)
class HoldoutSplit:
    """Documents within the budget, cut into windows.

    Attributes:
        windows: Tokens of each window and one more: the last `targets` of them are predicted. Longest first.
        targets: Tokens predicted in each window.
        owners: The document of each window.
        tokens: Tokens predicted per document.
        skills: Skills per document.
        names: Every skill that is to have a loss, measured or not.
        config: What it was cut by.
    """

    windows: tuple[tuple[int, ...], ...]
    targets: tuple[int, ...]
    owners: tuple[int, ...]
    tokens: tuple[int, ...]
    skills: tuple[tuple[str, ...], ...]
    names: tuple[str, ...]
    config: EvaluationConfig


@dataclass(frozen=True, slots=True)
class SkillLosses:
    """What a split says of a model.

    Attributes:
        losses: Skill -> nats per token; None where the split holds no token of it.
        eval_tokens: Skill -> tokens behind its loss.
        standard_errors: Skill -> standard error of the loss in nats per token, documents taken as drawn independently
            (of a ratio of sums, linearised); None below two documents.
    """

    losses: dict[str, float | None]
    eval_tokens: dict[str, int]
    standard_errors: dict[str, float | None]

    def report(self) -> dict[str, Any]:
        """The arguments of `Feed.report` and `Feed.report_initial`."""
        return {"losses": self.losses, "eval_tokens": self.eval_tokens}


def prepare_holdout(
    documents: Iterable[HoldoutDocument], skills: Sequence[str], encode: Encode, config: EvaluationConfig
) -> HoldoutSplit:
    """Choose documents within the budget and cut them into windows.

    Documents are taken in the order given while one of their skills has less than its budget; the last one is cut off
    where none of its skills has budget left.

    Args:
        documents: `feed.holdout("control")` to report on, `"report"` to judge by.
        skills: `feed.skills`: those that a report names. Others that a document carries are left out.
        encode: Text -> token ids, as the model was trained on.
        config: Budget and sizes.
    """
    taken = dict.fromkeys(skills, 0)
    chosen: list[tuple[list[int], tuple[str, ...]]] = []
    for document in documents:
        members = tuple(s for s in dict.fromkeys(document.skills) if s in taken)
        left = _left(config, [taken[s] for s in members])
        if not members or left == 0:
            continue
        ids = [*([] if config.start_token is None else [config.start_token]), *encode(document.text)]
        ids = ids if left is None else ids[: left + 1]
        if len(ids) > 1:
            chosen.append((ids, members))
            taken.update({s: taken[s] + len(ids) - 1 for s in members})
    pieces = [(ids, owner) for owner, (whole, _) in enumerate(chosen) for ids in _windows(whole, config.window)]
    pieces.sort(key=lambda piece: -len(piece[0]))  # stable: ties stay in the order of the documents
    return HoldoutSplit(
        windows=tuple(tuple(ids) for ids, _ in pieces),
        targets=tuple(len(ids) - 1 for ids, _ in pieces),
        owners=tuple(owner for _, owner in pieces),
        tokens=tuple(len(ids) - 1 for ids, _ in chosen),
        skills=tuple(members for _, members in chosen),
        names=tuple(skills),
        config=config,
    )


def evaluate_holdout(model: torch.nn.Module, split: HoldoutSplit) -> SkillLosses:
    """Loss per skill: sum of nll over sum of tokens, over all documents of the skill.

    Every rank must call it. The model is put into evaluation mode and back; its gradients are not touched.

    Args:
        model: int64 `(n, t)` -> logits `(n, t, vocabulary)`, or an object with such `logits`; causal: padding stands on
            the right. It may be wrapped for distributed training: every rank calls it equally often.
        split: From `prepare_holdout`, the same on every rank.
    """
    rank, world = (dist.get_rank(), dist.get_world_size()) if _distributed() else (0, 1)
    size = split.config.windows_at_a_time
    starts = list(range(0, len(split.windows), size))
    device = next(iter(model.parameters())).device
    nll = torch.zeros(len(split.tokens), dtype=torch.float64)  # (documents,), nats
    with _evaluating(model):
        for turn in range(-(-len(starts) // world)):
            mine = turn * world + rank
            spare = mine >= len(starts)  # a call for the other ranks' sake: sharded models talk in each
            start = starts[0 if spare else mine]
            batch = slice(start, start + size)
            sums = _nll(model, split.windows[batch], device)
            if not spare:
                nll.index_add_(0, torch.tensor(split.owners[batch]), sums)
    if world > 1:
        shared = nll.to(device)
        dist.all_reduce(shared)
        nll = shared.cpu()
    return _by_skill(split, nll.numpy())


def _left(config: EvaluationConfig, taken: list[int]) -> int | None:
    """Tokens that a document may add: what the emptiest of its skills has left; None: any number."""
    if config.tokens_per_skill is None or not taken:
        return None
    return max(0, config.tokens_per_skill - min(taken))


def _windows(ids: list[int], window: int) -> Iterator[list[int]]:
    """Each token but the first is predicted once; a window begins with the last token of the one before."""
    for start in range(0, len(ids) - 1, window):
        yield ids[start : start + window + 1]


def _distributed() -> bool:
    return dist.is_available() and dist.is_initialized()


@contextmanager
def _evaluating(model: torch.nn.Module) -> Iterator[None]:
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training


def _nll(model: torch.nn.Module, windows: Sequence[Sequence[int]], device: torch.device) -> torch.Tensor:
    """Summed nll of each window, float64 `(windows,)` on the CPU, nats."""
    longest = max(len(ids) for ids in windows)
    rows = torch.zeros((len(windows), longest), dtype=torch.int64)  # padding: any token, no target
    targets = torch.full((len(windows), longest - 1), _IGNORE)
    for row, ids in enumerate(windows):
        rows[row, : len(ids)] = torch.tensor(ids)
        targets[row, : len(ids) - 1] = rows[row, 1 : len(ids)]
    output = model(rows[:, :-1].to(device))
    logits = getattr(output, "logits", output)
    each = F.cross_entropy(logits.float().flatten(0, 1), targets.flatten().to(device), reduction="none")
    return each.view(targets.shape).cpu().double().sum(dim=1)


def _by_skill(split: HoldoutSplit, nll: np.ndarray) -> SkillLosses:
    members: dict[str, list[int]] = {name: [] for name in split.names}
    for document, skills in enumerate(split.skills):
        for skill in skills:
            members[skill].append(document)
    losses: dict[str, float | None] = {}
    tokens: dict[str, int] = {}
    errors: dict[str, float | None] = {}
    for name, documents in members.items():
        tokens[name] = sum(split.tokens[d] for d in documents)
        if not tokens[name]:
            losses[name] = errors[name] = None
            continue
        loss = math.fsum(float(nll[d]) for d in documents) / tokens[name]
        losses[name] = round(loss, _DIGITS)
        errors[name] = _standard_error([float(nll[d]) - loss * split.tokens[d] for d in documents], tokens[name])
    return SkillLosses(losses, tokens, errors)


def _standard_error(residuals: list[float], tokens: int) -> float | None:
    """Of a ratio of sums over n documents: sqrt(n / (n - 1) Σ r²) / Σ tokens, r = nll - loss × tokens."""
    n = len(residuals)
    if n < 2:
        return None
    return round(math.sqrt(n / (n - 1) * math.fsum(r * r for r in residuals)) / tokens, _DIGITS)
