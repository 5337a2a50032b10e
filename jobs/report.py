"""`prereq report`: a run as one HTML file, and as a table in the terminal.

The page holds everything it shows: drawings are inline SVG, there is no script, and nothing is loaded. It can be
written at any time of a run.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from prereq.jobs.diversity import Diversity, measure_if_cheap
from prereq.jobs.facts import RunSummary, SkillSummary, status
from prereq.jobs.figures import figures
from prereq.jobs.page import Cell, Column, Markup, bar, card, folded, page, table, text, tile
from prereq.jobs.stages_card import stages_card
from prereq.jobs.summary import summarise
from prereq.jobs.summary import table as text_table
from prereq.selector.rounds.manifest import read_manifest, round_folder
from prereq.selector.storage import Folder

if TYPE_CHECKING:
    from prereq.jobs.config import RunConfig

NAME = "report.html"
_ROUNDS_SHOWN = 200  # rows of the table of rounds
_EXAMPLES, _CHARACTERS = 2, 200  # documents per arm, characters of each
_EXAMPLE_ARMS = 60
_DOCUMENTS_READ = 4096  # in search of examples
_VENDI = "Vendi score of order 1: the effective number of different documents, by their embedding"


def write_report(run_dir: str, summary: RunSummary | None = None) -> str:
    """Write `RUN/report.html`.

    Args:
        run_dir: A run, finished or not.
        summary: Of that run, where it is known already.

    Returns:
        The path of the page.

    Raises:
        PrereqError: There is no run, its files do not hold together, or the page cannot be written.
    """
    run = Folder(run_dir)
    found = summary or summarise(run_dir)
    work_dir = found.settings.get("config", {}).get("work_dir")
    diversity = measure_if_cheap(run, found.info, work_dir if isinstance(work_dir, str) else None)
    run.replace(NAME, render(found, run, diversity).encode())
    return run.path(NAME)


def render(summary: RunSummary, run: Folder, diversity: Diversity | str | None = None) -> str:
    """The page of a run as HTML.

    Args:
        summary: Of the run.
        run: Its folder.
        diversity: Of pool and rounds; words say why there is none.
    """
    if isinstance(diversity, str):
        summary, diversity = replace(summary, warnings=(*summary.warnings, diversity)), None
    sections = [
        _head(summary),
        _tiles(summary, diversity),
        _warnings(summary),
        *figures(summary),
        *stages_card(summary),
        _skills(summary),
        _rounds(summary, diversity),
        _arms(summary),
        _examples(summary, run),
        _configuration(summary),
    ]
    return page(f"{summary.run_dir}: prereq report", *filter(None, sections))


def _head(summary: RunSummary) -> str:
    facts = [status(summary), f"mixer {summary.info.mixer}", f"started {summary.settings.get('started', '?')}"]
    return f'<h1>{text(summary.run_dir)}</h1><p class="quiet">{text(" · ".join(facts))}</p>'


def _tiles(summary: RunSummary, diversity: Diversity | None) -> str:
    tiles = [
        tile(f"{len(summary.rounds):,}", "rounds committed"),
        tile(f"{summary.documents:,}", "documents drawn"),
        tile(f"{summary.tokens:,}", "tokens drawn"),
    ]
    for pairs, what in (
        ([(s.first_loss, s.last_loss) for s in summary.skills], "mean loss, control split"),
        ([(s.first_report_loss, s.last_report_loss) for s in summary.skills], "mean loss, report split"),
    ):
        if (means := _means(pairs)) is not None:
            tiles.append(tile(f"{means[0]:.3f} → {means[1]:.3f}", what))
    if diversity is not None and diversity.drawn is not None:
        scores = diversity.pool.scores[1.0], diversity.drawn.scores[1.0]
        tiles.append(tile(f"{scores[0]:.1f} → {scores[1]:.1f}", "Vendi score, the pool → what was drawn"))
    if summary.info.uses_feedback:
        stale = summary.staleness
        tiles.append(tile("none" if stale is None else f"{stale}", "rounds since the newest applied report"))
    return f'<div class="tiles">{"".join(tiles)}</div>'


def _warnings(summary: RunSummary) -> str:
    if not summary.warnings:
        return ""
    items = "".join(f"<li>{text(line)}</li>" for line in summary.warnings)
    return card("Worth knowing", "", f"<ul>{items}</ul>", look=" warn")


def _skills(summary: RunSummary) -> str:
    top = max((skill.share for skill in summary.skills), default=0.0)
    judged = any(skill.last_report_loss is not None for skill in summary.skills)
    columns = [
        Column("skill", "t"),
        Column("documents", hint="of the pool that carry the skill"),
        Column("pool share", hint="of the pool's tokens"),
        Column("tokens drawn", hint="a document's tokens are split evenly over its skills"),
        Column("share drawn"),
        Column("first loss", hint="control split, nats per token"),
        Column("last loss", hint="control split, nats per token"),
        Column("change"),
        *(
            [Column("report split", hint="loss before and after training, nats per token; steers nothing")]
            if judged
            else []
        ),
    ]
    rows = [_skill_row(skill, top, judged) for skill in summary.skills]
    how = "counted in the shards" if summary.exact else "estimated from the arms' shares per skill"
    sums = [_mean_row(summary, judged)] if any(skill.first_loss is not None for skill in summary.skills) else []
    return card("Skills", f"In the order of the graph; tokens per skill are {how}", table(columns, rows, sums))


def _mean_row(summary: RunSummary, judged: bool) -> list[Cell]:
    """Means over the skills that both ends of a column's pair have measured."""
    control = _means([(skill.first_loss, skill.last_loss) for skill in summary.skills])
    report = _means([(skill.first_report_loss, skill.last_report_loss) for skill in summary.skills])
    change = control[1] / control[0] - 1 if control and control[0] else None
    losses: list[Cell] = [*(_loss(value) for value in control or (None, None)), _change(change)]
    pair = f"{_loss(report[0])} → {_loss(report[1])}" if report else ""
    return ["mean", "", "", "", "", *losses, *([pair] if judged else [])]


def _means(pairs: Sequence[tuple[float | None, float | None]]) -> tuple[float, float] | None:
    both = [(first, last) for first, last in pairs if first is not None and last is not None]
    if not both:
        return None
    return fmean(first for first, _ in both), fmean(last for _, last in both)


def _skill_row(skill: SkillSummary, top: float, judged: bool) -> list[Cell]:
    row: list[Cell] = [
        _named(skill.name, skill.id),
        "?" if skill.documents is None else f"{skill.documents:,}",
        "" if skill.pool_share is None else f"{skill.pool_share:.1%}",
        f"{skill.tokens:,.0f}",
        bar(skill.share, top),
        _loss(skill.first_loss),
        _loss(skill.last_loss),
        _change(skill.change),
    ]
    if judged:
        row.append(f"{_loss(skill.first_report_loss)} → {_loss(skill.last_report_loss)}")
    return row


def _rounds(summary: RunSummary, diversity: Diversity | None) -> str:
    vendi = {number: each.scores[1.0] for number, each in diversity.rounds.items()} if diversity else {}
    columns = [
        Column("round"),
        Column("documents"),
        Column("tokens"),
        Column("reports applied", "t", hint="rounds whose reports moved this round's mixture"),
        Column("moved", hint="total variation of the requested mixture from the round before: 0 the same, 1 all new"),
        Column("capped", hint="total variation between what was requested and what the pool could still give"),
        Column("off", hint="total variation between the weights and the tokens drawn: documents are whole"),
        *([Column("diversity", hint=_VENDI)] if vendi else []),
        Column("mean loss", hint="control split, after this round, nats per token"),
    ]
    losses = {report.round: report.mean for report in summary.reports}
    hidden = max(0, len(summary.rounds) - _ROUNDS_SHOWN)
    rows = [
        (
            f"{entry.round}",
            f"{entry.documents:,}",
            f"{entry.tokens:,}",
            ", ".join(entry.applied) or "none",
            "" if entry.moved is None else f"{entry.moved:.3f}",
            f"{entry.capped:.3f}",
            f"{entry.off:.3f}",
            *([f"{vendi[entry.round]:.2f}" if entry.round in vendi else ""] if vendi else []),
            _loss(losses.get(entry.round)),
        )
        for entry in summary.rounds[hidden:]
    ]
    note = f"The newest {_ROUNDS_SHOWN} of {len(summary.rounds):,}" if hidden else ""
    return card("Rounds", note, table(columns, rows)) if rows else ""


def _arms(summary: RunSummary) -> str:
    if not summary.arms:
        return ""
    last = summary.rounds[-1].requested if summary.rounds else {}
    top = max(arm.share for arm in summary.arms)
    told = any(arm.cohesion is not None for arm in summary.arms)
    scores = sorted({name for arm in summary.arms for name in arm.scores})
    columns = [
        Column("arm", "t"),
        Column("documents", hint="in the pool"),
        Column("pool tokens"),
        *([Column("cohesion", hint="mean cosine of its documents to its centre; 1: all alike")] if told else []),
        *(Column(name, hint="mean of this score over its tokens") for name in scores),
        Column("tokens drawn"),
        Column("share drawn"),
        Column("last weight", hint="requested by the newest round"),
        Column("epochs", hint="drawn documents over documents in the pool"),
    ]
    rows: list[list[Cell]] = [
        [
            _named(arm.name, arm.id),
            "?" if arm.documents is None else f"{arm.documents:,}",
            "?" if arm.pool_tokens is None else f"{arm.pool_tokens:,}",
            *(["?" if arm.cohesion is None else f"{arm.cohesion:.2f}"] if told else []),
            *(f"{arm.scores[name]:.3g}" if name in arm.scores else "?" for name in scores),
            f"{arm.tokens:,}",
            bar(arm.share, top),
            f"{last[arm.id]:.1%}" if arm.id in last else "",
            "?" if arm.epochs is None else f"{arm.epochs:.2f}",
        ]
        for arm in sorted(summary.arms, key=lambda arm: (-arm.tokens, arm.id))
    ]
    return card("Arms", "Groups of similar documents that the mixture is over, most drawn first", table(columns, rows))


def _examples(summary: RunSummary, run: Folder) -> str:
    """The first documents of each arm in the newest round whose shards are there."""
    for entry in reversed(summary.rounds):
        found = read_examples(run, entry.round)
        if found:
            arms = sorted((arm for arm in summary.arms if arm.id in found), key=lambda arm: (-arm.tokens, arm.id))
            parts = [
                f"<h3>{_named(arm.name, arm.id).html}</h3>"
                + "".join(f"<blockquote>{text(t)}</blockquote>" for t in found[arm.id])
                for arm in arms[:_EXAMPLE_ARMS]
            ]
            return folded(f"Examples from round {entry.round}", *parts)
    return ""


def read_examples(run: Folder, number: int) -> dict[str, list[str]]:
    """The beginnings of a few documents per arm of a round; empty when its shards are gone or hold no text."""
    manifest = read_manifest(run, number)
    found: dict[str, list[str]] = {}
    seen = 0
    for shard in manifest.shards if manifest else ():
        try:
            with run.open(f"{round_folder(number)}/{shard.path}") as file:
                parquet = pq.ParquetFile(file)
                for group in range(parquet.num_row_groups):
                    rows = parquet.read_row_group(group, columns=["arm", "text"])
                    for arm, body in zip(rows["arm"].to_pylist(), rows["text"].to_pylist(), strict=True):
                        if len(kept := found.setdefault(arm, [])) < _EXAMPLES:
                            kept.append(body if len(body) <= _CHARACTERS else f"{body[:_CHARACTERS]}…")
                    seen += rows.num_rows
                    if seen >= _DOCUMENTS_READ:
                        return found
        except (OSError, pa.ArrowException, KeyError):
            return {}  # the summary has warned of it
    return found


def _configuration(summary: RunSummary) -> str:
    settings = summary.settings
    facts: Sequence[tuple[str, str]] = [
        *((f"version of {name}", version) for name, version in sorted(settings.get("versions", {}).items())),
        ("configuration", settings["config_sha256"]),
        ("pool", f"{summary.info.pool_path} ({summary.info.pool})"),
    ]
    lines = table([Column("", "t"), Column("", "t w")], facts)
    return folded(
        "Configuration and versions",
        lines,
        f"<pre>{text(json.dumps(settings.get('config', {}), indent=2, ensure_ascii=False))}</pre>",
    )


def _named(name: str, identity: str) -> Markup:
    shown = name if len(name) <= 60 else f"{name[:59]}…"
    return Markup(text(shown) + (f'<span class="id">{text(identity[:60])}</span>' if identity != name else ""))


def _loss(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _change(value: float | None) -> Cell:
    if value is None:
        return "–"
    return Markup(f'<span class="{"good" if value < 0 else "bad"}">{value:+.1%}</span>')


def main_report(target: "RunConfig | str", args: argparse.Namespace) -> int:
    """The verb: write the page, then the table and the page's path.

    Args:
        target: A configuration, or the folder of a run.
        args: `json`.
    """
    run_dir = target if isinstance(target, str) else target.run_dir
    summary = summarise(run_dir)
    path = write_report(run_dir, summary)
    if getattr(args, "json", False):
        print(json.dumps({"run": run_dir, "report": path}))
        return 0
    print(f"{text_table(summary)}\n\nreport: {path}")
    return 0
