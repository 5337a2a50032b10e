"""A run's summary as text for a terminal."""

import unicodedata
from collections.abc import Sequence

from prereq.jobs.facts import RunSummary, SkillSummary, mean

_NAME_COLUMNS = 30
_WIDTHS = (10, 13, 7, 11, 10, 8)  # of the columns behind the name


def table(summary: RunSummary) -> str:
    """The run as text for a terminal: one line per skill in graph order, then mean and worst, totals and warnings."""
    rows = [_row(skill) for skill in summary.skills]
    both = [s for s in summary.skills if s.first_loss is not None and s.last_loss is not None]
    head = ("skill", "documents", "tokens", "share", "first loss", "last loss", "change")
    lines = [_line(head), *map(_line, rows)]
    if summary.untagged:
        lines.append(_line(("(no skill)", "", f"{summary.untagged:,.0f}", _percent(summary, summary.untagged))))
    if both:
        first, last = mean(s.first_loss for s in both), mean(s.last_loss for s in both)
        lines += ["", _line(("mean", "", "", "", _loss(first), _loss(last), _change(first, last)))]
        worst = max(both, key=lambda skill: (skill.last_loss or 0.0, skill.id))
        lines.append(_line((f"worst: {worst.id}", *_row(worst)[1:])))
    judged = [s for s in summary.skills if s.first_report_loss is not None and s.last_report_loss is not None]
    if judged:
        first, last = mean(s.first_report_loss for s in judged), mean(s.last_report_loss for s in judged)
        lines.append(_line(("mean, report split", "", "", "", _loss(first), _loss(last), _change(first, last))))
    how = "" if summary.exact else ", estimated per skill"
    lines += ["", f"{summary.documents:,} documents and {summary.tokens:,} tokens drawn{how}; losses in nats per token"]
    lines += [f"warning: {printable(line)}" for line in summary.warnings]
    return "\n".join(lines)


def _row(skill: SkillSummary) -> tuple[str, ...]:
    return (
        skill.id,
        "?" if skill.documents is None else f"{skill.documents:,}",
        f"{skill.tokens:,.0f}",
        f"{skill.share:.1%}",
        _loss(skill.first_loss),
        _loss(skill.last_loss),
        _change(skill.first_loss, skill.last_loss),
    )


def _line(cells: Sequence[str]) -> str:
    rest = "".join(f" {cell:>{width}}" for cell, width in zip(cells[1:], _WIDTHS, strict=False))
    return f"{_fit(printable(cells[0]), _NAME_COLUMNS)}{rest}".rstrip()


def _fit(text: str, columns: int) -> str:
    """Cut or pad a text to a number of terminal columns."""
    if _columns(text) > columns:
        while _columns(text) > columns - 1:
            text = text[:-1]
        text += "…"
    return text + " " * (columns - _columns(text))


def _columns(text: str) -> int:
    # East Asian wide characters take two columns, combining ones none
    return sum(
        0 if unicodedata.combining(character) else 1 + (unicodedata.east_asian_width(character) in "WF")
        for character in text
    )


def printable(text: str) -> str:
    """Text for a terminal: ids come from outside and hold no escape sequences afterwards."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


def _percent(summary: RunSummary, tokens: float) -> str:
    return f"{tokens / summary.tokens:.1%}" if summary.tokens else ""


def _loss(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _change(first: float | None, last: float | None) -> str:
    return "-" if first is None or last is None or not first else f"{last / first - 1:+.1%}"
