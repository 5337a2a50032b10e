"""Curves of runs, and token ratios: what a run needs to get to the loss that uniform has at the end."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from comparison import interval

FloatArray = npt.NDArray[np.float64]

COMPARED_AT = 360_000  # tokens; runs go on to 1.1 times as many, so that a ratio up to 1.1 is seen


@dataclass(frozen=True, slots=True)
class Curve:
    """Losses of a run on the report split.

    Attributes:
        tokens: `(e,)`, tokens trained on before each evaluation, ascending.
        losses: `(e, m)`, nats per token, columns `skills`.
        skills: m ids.
        seconds: Of the processor, the whole run.
        mixture: Share of the tokens drawn per skill over the whole run.
    """

    tokens: list[int]
    losses: list[list[float]]
    skills: list[str]
    seconds: float = 0.0
    mixture: dict[str, float] = field(default_factory=dict)

    def of(self, skills: Sequence[str]) -> FloatArray:
        """Mean loss over some skills at each evaluation, `(e,)`."""
        columns = [self.skills.index(skill) for skill in skills]
        return np.array(self.losses)[:, columns].mean(axis=1)


def falling(values: FloatArray) -> FloatArray:
    """The nearest sequence (least squares) that never rises: pool adjacent violators.

    Single evaluations of a trainer at a constant rate are noisy; the first one below a bar would be early by chance.
    """
    blocks: list[list[float]] = []  # of mean and length
    for value in values.tolist():
        blocks.append([value, 1.0])
        while len(blocks) > 1 and blocks[-2][0] < blocks[-1][0]:
            mean, length = blocks.pop()
            before = blocks[-1]
            before[0] = (before[0] * before[1] + mean * length) / (before[1] + length)
            before[1] += length
    return np.concatenate([np.full(int(length), mean) for mean, length in blocks])


def loss_at(curve: Curve, skills: Sequence[str], tokens: float) -> float:
    """Mean loss over skills at a number of tokens, between evaluations on a straight line of the falling curve."""
    return float(np.interp(tokens, curve.tokens, falling(curve.of(skills))))


def tokens_to(curve: Curve, skills: Sequence[str], loss: float) -> float | None:
    """Tokens at which the falling curve reaches a loss, on a straight line between evaluations; None: it never does."""
    values = falling(curve.of(skills))
    reached = np.flatnonzero(values <= loss)
    if not len(reached):
        return None
    index = int(reached[0])
    if index == 0 or values[index] == values[index - 1]:
        return float(curve.tokens[index])
    part = (values[index - 1] - loss) / (values[index - 1] - values[index])
    return float(curve.tokens[index - 1] + part * (curve.tokens[index] - curve.tokens[index - 1]))


def ratio(curve: Curve, skills: Sequence[str], loss: float) -> float | None:
    """Tokens to a loss over COMPARED_AT; None where it is not reached."""
    tokens = tokens_to(curve, skills, loss)
    return None if tokens is None else tokens / COMPARED_AT


def at_least(found: float | None, curve: Curve) -> float:
    """A ratio, or for a run that does not get there what it had trained on: its ratio is larger."""
    return curve.tokens[-1] / COMPARED_AT if found is None else found


def continual_table(curves: Mapping[tuple[str, int], Curve]) -> dict[str, Any]:
    """Per mixer: mean and worst loss after COMPARED_AT tokens, and tokens to uniform's mean loss, by seed."""
    table: dict[str, Any] = {}
    for variant, seed in curves:
        curve, uniform = curves[variant, seed], curves["uniform", seed]
        by_skill = {skill: loss_at(curve, [skill], COMPARED_AT) for skill in curve.skills}
        names = ("seeds", "mean", "worst", "worst_skill", "ratio", "ratio_at_least")
        row = table.setdefault(variant, {name: [] for name in names})
        row["seeds"].append(seed)
        row["mean"].append(loss_at(curve, curve.skills, COMPARED_AT))
        row["worst"].append(max(by_skill.values()))
        row["worst_skill"].append(max(by_skill, key=lambda skill: by_skill[skill]))
        found = ratio(curve, curve.skills, loss_at(uniform, uniform.skills, COMPARED_AT))
        row["ratio"].append(found)
        row["ratio_at_least"].append(at_least(found, curve))
    for row in table.values():
        row["ratio_mean"], row["ratio_interval"] = interval(row["ratio_at_least"])
    return table


def target_aims(
    curves: Mapping[tuple[str, int], Curve], seeds: Sequence[int], targets: Sequence[str]
) -> dict[tuple[int, str], float]:
    """By seed and target, the loss that uniform has on it after COMPARED_AT tokens."""
    return {
        (seed, target): loss_at(curves["uniform", seed], [target], COMPARED_AT) for seed in seeds for target in targets
    }


def target_table(
    curves: Mapping[tuple[str, int], Curve], aims: Mapping[tuple[int, str], float]
) -> dict[str, dict[str, Any]]:
    """Per method: ratio by target and seed (None: uniform's loss is not reached), the median over all, the spread."""
    table: dict[str, dict[str, Any]] = {}
    for (variant, seed), curve in curves.items():
        method, _, target = variant.partition("-")
        found = ratio(curve, [target], aims[seed, target])
        row = table.setdefault(method, {"ratios": {}, "all": [], "never": 0})
        row["ratios"].setdefault(target, []).append(found)
        row["all"].append(at_least(found, curve))
        row["never"] += found is None
    for row in table.values():
        values = row.pop("all")
        row["median"] = statistics.median(values)
        row["quartiles"] = np.quantile(values, [0.25, 0.75]).tolist()
        row["range"] = [min(values), max(values)]
    return table
