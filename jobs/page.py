"""Pieces of one self-contained HTML page: no script, nothing from a network, every text escaped.

Texts come from documents, graphs and configurations of others. `text` is the only way from a text into a page.
"""

import html
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_NOT_HTML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"  # should something slip through, it can neither run nor load

_STYLE = """
:root { --ink: #17212b; --quiet: #5d6b7a; --line: #dde3ea; --soft: #f4f6f9; --accent: #0c548c;
  --good: #1b7f4b; --bad: #b3261e; }
* { box-sizing: border-box; }
body { margin: 0; background: #eef1f5; color: var(--ink); font: 14px/1.5 system-ui, -apple-system, "Segoe UI", Roboto,
  "Helvetica Neue", Arial, sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 28px 20px 60px; }
h1 { font-size: 24px; line-height: 1.25; margin: 0 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 17px; margin: 0 0 4px; }
p { margin: 0 0 10px; }
.quiet { color: var(--quiet); }
.card { background: #fff; border: 1px solid var(--line); border-radius: 10px; padding: 18px 20px; margin-top: 18px; }
.tiles { display: flex; flex-wrap: wrap; gap: 12px; margin-top: 18px; }
.tile { flex: 1 1 110px; background: #fff; border: 1px solid var(--line); border-radius: 10px; padding: 12px 16px; }
.tile b { display: block; font-size: 19px; line-height: 1.4; font-weight: 650; white-space: nowrap;
  font-variant-numeric: tabular-nums; }
.tile span { color: var(--quiet); font-size: 12.5px; }
.warn { border-color: #e4c46a; background: #fffaeb; }
.warn ul { margin: 6px 0 0; padding-left: 20px; }
.warn li { overflow-wrap: anywhere; }
.scroll { overflow: auto; max-width: 100%; }
.tall { max-height: 640px; }
svg { display: block; }
svg.chart { max-width: 100%; height: auto; }
table { border-collapse: collapse; width: 100%; font-size: 13px; font-variant-numeric: tabular-nums; }
th, td { padding: 4px 10px; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap;
  unicode-bidi: isolate; }
th { position: sticky; top: 0; background: var(--soft); color: var(--quiet); font-weight: 600; z-index: 1; }
th.t, td.t { text-align: left; }
td.w { white-space: normal; overflow-wrap: anywhere; min-width: 200px; }
tr.sum td { font-weight: 650; background: var(--soft); }
.good { color: var(--good); }
.bad { color: var(--bad); }
.id { color: var(--quiet); font-size: 12px; margin-left: 6px; }
.bar { display: inline-block; height: 9px; border-radius: 2px; background: var(--accent); margin-left: 8px; }
.bar-room { display: inline-block; width: 70px; text-align: left; }
pre { background: var(--soft); border: 1px solid var(--line); border-radius: 8px; padding: 12px 14px;
  margin: 8px 0 0; overflow: auto; max-height: 520px; }
pre, blockquote { font: 12px/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; }
details > summary { cursor: pointer; font-size: 17px; font-weight: 650; }
details > summary + * { margin-top: 10px; }
blockquote { margin: 6px 0 0; padding: 6px 12px; border-left: 3px solid var(--line); overflow-wrap: anywhere;
  white-space: pre-wrap; unicode-bidi: isolate; }
h3 { font-size: 14px; margin: 16px 0 0; overflow-wrap: anywhere; }
@media print { body { background: #fff; } .scroll, pre { max-height: none; overflow: visible; } }
"""


def text(value: object) -> str:
    """Any value as HTML text, safe in elements and in quoted attributes."""
    return html.escape(_NOT_HTML.sub("\N{REPLACEMENT CHARACTER}", str(value)), quote=True)


@dataclass(frozen=True, slots=True)
class Markup:
    """HTML that is already safe: only made from constants and from what `text` returned."""

    html: str


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table."""

    title: str
    kind: str = ""  # "": right-aligned; "t": text; "t w": text that may wrap
    hint: str = ""  # shown when the pointer rests on the title


Cell = str | Markup


def table(columns: Sequence[Column], rows: Iterable[Sequence[Cell]], sums: Iterable[Sequence[Cell]] = ()) -> str:
    """A table that scrolls in its card; `sums` are rows that stand out."""
    head = "".join(
        f'<th class="{column.kind}"'
        + (f' title="{text(column.hint)}"' if column.hint else "")
        + f">{text(column.title)}</th>"
        for column in columns
    )
    body = [_row(columns, row, "") for row in rows] + [_row(columns, row, ' class="sum"') for row in sums]
    return (
        f'<div class="scroll tall"><table><thead><tr>{head}</tr></thead><tbody>'
        + "\n".join(body)
        + "</tbody></table></div>"
    )


def _row(columns: Sequence[Column], row: Sequence[Cell], look: str) -> str:
    cells = (
        f'<td class="{column.kind}">{cell.html if isinstance(cell, Markup) else text(cell)}</td>'
        for column, cell in zip(columns, row, strict=True)
    )
    return f"<tr{look}>{''.join(cells)}</tr>"


def card(title: str, note: str, *content: str, look: str = "") -> str:
    """A section with a heading and a quiet line below it; `content` is HTML."""
    below = f'<p class="quiet">{text(note)}</p>' if note else ""
    return f'<section class="card{look}"><h2>{text(title)}</h2>{below}{"".join(content)}</section>'


def folded(title: str, *content: str) -> str:
    """A section that opens on a click; `content` is HTML."""
    return f'<details class="card"><summary>{text(title)}</summary>{"".join(content)}</details>'


def tile(figure: str, meaning: str) -> str:
    """A large figure and what it is."""
    return f'<div class="tile"><b>{text(figure)}</b><span>{text(meaning)}</span></div>'


def bar(share: float, of: float) -> Markup:
    """A share as a percentage and a bar; a full bar is `of`."""
    width = 70 * min(1.0, share / of) if of > 0 else 0.0
    return Markup(f'{share:.1%}<span class="bar-room"><span class="bar" style="width:{width:.0f}px"></span></span>')


def page(title: str, *sections: str) -> str:
    """The whole page."""
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{text(title)}</title><style>{_STYLE}</style></head>\n<body><main>\n"
        + "\n".join(sections)
        + "\n</main></body></html>\n"
    )
