"""Which charts a run's page shows: from a summary to cards. How they are drawn is `jobs.charts`."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar

from prereq.graph.render import to_svg
from prereq.jobs.charts import COLUMNS, lines, pairs, ratios, stacked, thin
from prereq.jobs.facts import RoundSummary, RunSummary
from prereq.jobs.page import card
from prereq.selector.mixers.shares import NO_SKILL

_STACKED = 10  # skills with a colour of their own
_RATIO_ROWS = 40  # skills in the field of colours
_PANELS = 16  # arms with a small chart
_GRAPH_SKILLS = 400  # a graph of more is not drawn: nobody could read it
_LINES = 300  # skills with a line of their losses
_AFTER_TRAINING = 3  # reports from which on the untrained model is left out of the losses' scale

T = TypeVar("T")
Shares = Mapping[str, Sequence[float]]  # name -> share in each column of a chart


def figures(summary: RunSummary) -> Iterator[str]:
    """The cards with charts, those that the run has data for."""
    if summary.rounds:
        rounds, shares = _drawn(summary.rounds, summary)
        yield _mixture(summary, rounds, shares)
        yield from _emphasis(summary, rounds, shares)
        yield _arms(summary)
    yield from _losses(summary)
    yield from _graph(summary)


def _drawn(rounds: Sequence[RoundSummary], summary: RunSummary) -> tuple[list[int], dict[str, list[float]]]:
    """Share of the tokens per skill, `_none` included; neighbouring rounds together where there are many."""
    size = math.ceil(len(rounds) / COLUMNS)
    groups = [rounds[start : start + size] for start in range(0, len(rounds), size)]
    names = [*(skill.id for skill in summary.skills), NO_SKILL]
    totals = [sum(entry.tokens for entry in group) for group in groups]
    shares = {
        name: [
            math.fsum(entry.drawn.tokens.get(name, 0.0) for entry in group) / total if total else 0.0
            for group, total in zip(groups, totals, strict=True)
        ]
        for name in names
    }
    return [group[0].round for group in groups], shares


def _mixture(summary: RunSummary, rounds: list[int], shares: Shares) -> str:
    names = {skill.id: skill.name for skill in summary.skills}
    top = sorted(names, key=lambda skill: (-math.fsum(shares[skill]), skill))[:_STACKED]
    others = len(names) - len(top)
    untagged = max(shares[NO_SKILL], default=0.0) > 0
    rest = " and ".join([*([f"{others} other skills"] if others else []), *(["no skill"] if untagged else [])])
    how = "" if summary.exact else ", estimated from the arms' shares per skill"
    which = f"; {rest} make up the rest" if rest else ""
    note = f"Share of the tokens drawn in each round{how}; the figures are those of the end{which}"
    return card("What was drawn", note, stacked(rounds, _unique({s: shares[s] for s in top}, names), rest))


def _emphasis(summary: RunSummary, rounds: list[int], shares: Shares) -> Iterator[str]:
    """How much more than its part of the pool each skill was drawn."""
    names = {skill.id: skill.name for skill in summary.skills}
    rows: dict[str, list[float | None]] = {
        skill.id: [share / skill.pool_share for share in shares[skill.id]]
        for skill in summary.skills
        if skill.pool_share
    }
    if not rows:
        return
    strongest = sorted(rows, key=lambda skill: (-max(map(_doublings, rows[skill])), skill))[:_RATIO_ROWS]
    ordered = sorted(strongest, key=lambda skill: (-(rows[skill][-1] or 0.0), skill))
    which = f"the {len(ordered)} of {len(rows)} skills that differ most; " if len(ordered) < len(rows) else ""
    note = f"Share of the tokens drawn over share of the pool's tokens; {which}×1: as in the pool"
    yield card("Emphasis", note, ratios(rounds, _unique({skill: rows[skill] for skill in ordered}, names)))


def _doublings(ratio: float | None) -> float:
    return abs(math.log2(max(ratio or 0.0, 2.0**-8)))


def _arms(summary: RunSummary) -> str:
    pool = sum(arm.pool_tokens or 0 for arm in summary.arms)
    kept = [summary.rounds[index] for index in thin(len(summary.rounds))]

    def moved(arm: str) -> float:
        weights = [entry.requested.get(arm, 0.0) for entry in kept]
        return max(weights) - min(weights)

    by_id = {arm.id: arm for arm in summary.arms}
    chosen = sorted(by_id, key=lambda arm: (-moved(arm), -by_id[arm].tokens, arm))[:_PANELS]
    panels = {
        arm: (
            [(float(entry.round), entry.requested.get(arm, 0.0)) for entry in kept],
            [(float(entry.round), entry.realised.get(arm, 0.0)) for entry in kept],
            (by_id[arm].pool_tokens or 0) / pool if pool else None,
        )
        for arm in chosen
    }
    which = (
        f"the {len(chosen)} of {len(by_id)} arms whose weight moved most" if len(chosen) < len(by_id) else "every arm"
    )
    return card(
        "Requested and drawn",
        f"Share of tokens per arm over the rounds, {which}",
        pairs(_unique(panels, {arm: by_id[arm].name for arm in chosen}), ("requested", "drawn", "share of the pool")),
    )


def _losses(summary: RunSummary) -> Iterator[str]:
    trained = [report for report in summary.reports if report.round is not None]
    reports = trained if len(trained) >= _AFTER_TRAINING else list(summary.reports)
    if not reports:
        return
    names = {skill.id: skill.name for skill in summary.skills}
    series: dict[str, list[tuple[float, float]]] = {}
    means: list[tuple[float, float]] = []
    for report in reports:
        number = -1.0 if report.round is None else float(report.round)
        for skill, loss in report.losses.items():
            if loss is not None:
                series.setdefault(skill, []).append((number, loss))
        if report.mean is not None:
            means.append((number, report.mean))
    measured = [skill for skill in names if skill in series]
    ends = sorted(measured, key=lambda skill: (series[skill][-1][1], skill))
    kept = {*(measured[index] for index in thin(len(measured), _LINES)), *ends[:1], *ends[-1:]}
    shown = _unique({skill: series[skill] for skill in measured if skill in kept}, names)
    by_last = sorted(shown, key=lambda name: (shown[name][-1][1], name))
    marked = {by_last[-1]: "bad", by_last[0]: "good"} if len(by_last) > 1 else {}
    untrained = next((r.mean for r in summary.reports if r.round is None), None)
    left_out = f"; the untrained model's mean was {untrained:.3f}" if untrained and reports is trained else ""
    note = f"Control split, a line per skill; green: lowest, red: highest at the end{left_out}"
    yield card("Loss", note, lines(shown, marked, y_name="nats per token", mean=means or None))


def _graph(summary: RunSummary) -> Iterator[str]:
    graph = summary.graph
    if graph is None:
        return
    if len(graph) > _GRAPH_SKILLS:
        yield card("Skill graph", f"{len(graph):,} skills are too many to draw; `prereq graph show` lists them")
        return
    changes = {skill.id: skill.change for skill in summary.skills if skill.id in graph}
    known = {skill: change for skill, change in changes.items() if change is not None}
    labels = {
        skill.id: f"{skill.first_loss:.2f} → {skill.last_loss:.2f}"
        for skill in summary.skills
        if skill.id in known and skill.last_loss is not None
    }
    note, fill = "", None
    if known:
        least, most = max(known.values()), min(known.values())
        span = least - most
        fill = {skill: None if c is None else (least - c) / span if span else 1.0 for skill, c in changes.items()}
        at_least, at_most = _first(known, least), _first(known, most)
        note = (
            f"Control loss, first to last report. Pale: changed least ({at_least} {least:+.1%}), "
            f"dark: fell most ({at_most} {most:+.1%})"
        )
    drawing = to_svg(graph, fill, labels or None, title="", fill_name="progress, least to most")
    yield card("Skill graph", note, f'<div class="scroll">{drawing}</div>')


def _first(values: Mapping[str, float], wanted: float) -> str:
    return min(key for key, value in values.items() if value == wanted)


def _unique(by_id: Mapping[str, T], names: Mapping[str, str]) -> dict[str, T]:
    """The same values by readable name; a name that two share is followed by its id."""
    shared = Counter(names[key] for key in by_id)
    return {names[key] if shared[names[key]] == 1 else f"{names[key]} ({key})": value for key, value in by_id.items()}
