"""What a run in phases kept and passed on: with the mixer `phases`, the losses of each phase's skills over time.

A stage is a stretch of rounds with one requested mixture. Its loss is the mean control loss of the skills by the tokens
that its rounds drew of them.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prereq.graph.continual import transfer_curll, transfer_gem
from prereq.jobs.facts import ReportSummary, RoundSummary, RunSummary
from prereq.jobs.page import Cell, Column, card, table

_SAME = 1e-9  # total variation below which two mixtures are one
_MOST = 200  # stages that are told; a run with more has no phases to speak of
_NAMES = 3  # skills named for a stage
FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StageLosses:
    """Losses in nats per token.

    Attributes:
        first: The round that each stage begins with.
        shares: Of the tokens per measured skill in each stage `(T, k)`; rows sum to 1.
        skills: Their ids `(k,)`.
        losses: `(T, T)`, entry (t, i): loss of stage i's skills at the end of stage t.
        untrained: Before round 0 `(T,)`; None where it was not measured.
    """

    first: tuple[int, ...]
    shares: FloatArray
    skills: tuple[str, ...]
    losses: FloatArray
    untrained: FloatArray | None


def stage_losses(summary: RunSummary) -> StageLosses | None:
    """The losses by stages; None for another mixer, or with fewer than two stages that were reported on."""
    if not _jumps(summary):
        return None
    stages: list[tuple[list[RoundSummary], ReportSummary]] = []
    for rounds in _stretches(summary.rounds):
        numbers = {entry.round for entry in rounds}
        reports = [report for report in summary.reports if report.round in numbers]
        if not reports:
            break
        stages.append((rounds, reports[-1]))
    if not 2 <= len(stages) <= _MOST:
        return None
    untrained = next((report.losses for report in summary.reports if report.round is None), None)
    measured = [report.losses for _, report in stages]
    skills = tuple(
        s.id
        for s in summary.skills
        if all(losses.get(s.id) is not None for losses in (*measured, untrained or measured[0]))
    )
    # shares: (T, k)
    shares = np.array([[sum(e.drawn.tokens.get(s, 0.0) for e in rounds) for s in skills] for rounds, _ in stages])
    if not skills or (shares.sum(axis=1) <= 0).any():
        return None
    shares = shares / shares.sum(axis=1, keepdims=True)
    at = np.array([[losses[s] for s in skills] for losses in measured], dtype=np.float64)
    before = None if untrained is None else np.array([untrained[s] for s in skills], dtype=np.float64)
    return StageLosses(
        first=tuple(rounds[0].round for rounds, _ in stages),
        shares=shares,
        skills=skills,
        losses=at @ shares.T,
        untrained=None if before is None else shares @ before,
    )


def _jumps(summary: RunSummary) -> bool:
    drawing = summary.settings.get("drawing", {})
    mixer = drawing.get("mixer", {})
    return mixer.get("name") == "phases" and mixer["parameters"].get("transition") == "step" and "fork" not in drawing


def _stretches(rounds: tuple[RoundSummary, ...]) -> Iterator[list[RoundSummary]]:
    """Rounds whose requested mixture stays the same."""
    held: list[RoundSummary] = []
    for entry in rounds:
        if held and (entry.moved is None or entry.moved > _SAME):
            yield held
            held = []
        held.append(entry)
    if held:
        yield held


def stages_card(summary: RunSummary) -> Iterator[str]:
    """A table of the stages, for a run that has them."""
    found = stage_losses(summary)
    if found is None:
        return
    names = {skill.id: skill.name for skill in summary.skills}
    columns = [
        Column("from round"),
        Column("drawn most", "t w", hint="skills by tokens drawn in the stage"),
        Column("untrained", hint="loss of the stage's skills, by the tokens drawn of them, nats per token"),
        Column("before", hint="the same when the stage began: what earlier stages did for it"),
        Column("at its end"),
        Column("at the end", hint="of the last stage"),
        Column("forgotten", hint="loss at the end over its lowest at the end of an earlier stage"),
    ]
    rows: list[list[Cell]] = []
    last = len(found.first) - 1
    for stage, start in enumerate(found.first):
        losses = found.losses[:, stage]
        top = np.argsort(-found.shares[stage], kind="stable")[:_NAMES]
        rows.append(
            [
                f"{start}",
                ", ".join(names[found.skills[skill]] for skill in top if found.shares[stage, skill] > 0),
                "" if found.untrained is None else f"{found.untrained[stage]:.4f}",
                f"{losses[stage - 1]:.4f}" if stage else "",
                f"{losses[stage]:.4f}",
                f"{losses[last]:.4f}",
                f"{losses[last] - losses[:last].min():+.4f}" if stage < last else "",
            ]
        )
    yield card("Stages", _note(found), table(columns, rows))


def _note(found: StageLosses) -> str:
    untrained = None if found.untrained is None else -found.untrained
    gem = transfer_gem(-found.losses, untrained)  # a score is what should be high
    curll = transfer_curll(-found.losses)
    said = [("backward transfer", gem["backward_gem"]), ("forward transfer", gem["forward_gem"])]
    said += [("forgetting", gem["forgetting_gem"]), ("CurLL's forgetting", curll["forgetting_curll"])]
    figures = ", ".join(f"{name} {value:+.4f}" for name, value in said if value is not None)
    return (
        f"Control loss, nats per token; transfer is a fall of it, forgetting a rise. Means, as GEM has them: {figures}"
    )
