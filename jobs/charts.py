"""Charts as inline SVG: drawn by hand, so that a page needs no plotting library, script or font, and texts stay texts.

Every chart takes plain numbers by name and returns one `<svg>` element without ids. Long runs are thinned out before
they are drawn. Resting the pointer on a mark tells its value.
"""

import math
from collections.abc import Mapping, Sequence

from prereq.jobs.page import text

WIDTH = 1090.0  # pixels, of a card's inside
COLUMNS = 120  # marks along the rounds, at most
_INK, _QUIET, _GRID = "#17212b", "#5d6b7a", "#e3e8ee"
_ACCENT, _SECOND, _BAD, _GOOD = "#0c548c", "#e08a1e", "#b3261e", "#1b7f4b"
_PALETTE = (
    "#0c548c",
    "#e08a1e",
    "#2b8a6e",
    "#c4483b",
    "#7b5ea7",
    "#8c6d4f",
    "#d277a8",
    "#35a5c2",
    "#a9a11f",
    "#4a5a6b",
)
_REST = "#d5dce4"
_LESS, _EVEN, _MORE = (196, 106, 30), (247, 248, 250), (12, 84, 140)  # RGB of a ratio below 1, of 1, above 1

Points = Sequence[tuple[float, float]]


def stacked(rounds: Sequence[int], series: Mapping[str, Sequence[float]], rest: str) -> str:
    """Shares of each round as a stack of bars, first series at the bottom.

    Where the series stay small together, the scale ends above them and what is missing to 1 is not drawn.

    Args:
        rounds: Of each bar, `(n,)`.
        series: Name -> share in each round `(n,)`; together at most 1 in a round.
        rest: Name of what is missing to 1; empty: nothing is.
    """
    height, left, right, top, bottom = 300.0, 46.0, 250.0, 10.0, 34.0
    step = (WIDTH - left - right) / max(len(rounds), 1)
    bar = min(step * (0.86 if len(rounds) <= 60 else 1.0), 90.0)
    missing = [max(0.0, 1.0 - math.fsum(column)) for column in _columns(series, len(rounds))]
    whole = min(missing, default=0.0) < 0.4
    ticks = [0.0, 0.25, 0.5, 0.75, 1.0] if whole else _ticks(0.0, 1.0 - min(missing))
    y = _Scale(0.0, ticks[-1], height - bottom, top)
    stack = [(n, v, _PALETTE[i % len(_PALETTE)]) for i, (n, v) in enumerate(series.items())]
    stack += [(rest, missing, _REST)] if whole and rest else []
    parts = [_grid(y, ticks, left, WIDTH - right, "{:.0%}")]
    base = [0.0] * len(rounds)
    for name, shares, colour in stack:
        for index, share in enumerate(shares):
            x = left + index * step + (step - bar) / 2
            parts.append(
                f'<rect x="{x:.1f}" y="{y(base[index] + share):.1f}" width="{bar:.1f}" '
                f'height="{y(base[index]) - y(base[index] + share):.1f}" fill="{colour}">'
                f"{_tip(f'round {rounds[index]}: {name} {share:.1%}')}</rect>"
            )
            base[index] += share
    parts.append(_round_axis(rounds, [left + (index + 0.5) * step for index in range(len(rounds))], height - bottom))
    parts.append(_legend([(name, f"{v[-1]:.1%}", c) for name, v, c in stack[::-1] if v], WIDTH - right + 24, top + 4))
    return _svg(height, parts)


def lines(series: Mapping[str, Points], marked: Mapping[str, str], *, y_name: str, mean: Points | None = None) -> str:
    """Thin lines over rounds, some of them marked and named at their end.

    Args:
        series: Name -> points (round, value); -1 is the untrained model.
        marked: Name of a series -> "good" or "bad".
        y_name: What the values are.
        mean: Drawn thick.
    """
    height, left, right, top, bottom = 340.0, 52.0, 210.0, 26.0, 34.0
    every = [point for points in [*series.values(), mean or ()] for point in points]
    if not every:
        return ""
    ticks = _ticks(min(v for _, v in every), max(v for _, v in every))
    y = _Scale(ticks[0], ticks[-1], height - bottom, top)
    rounds = sorted({int(r) for r, _ in every})
    x = _Scale(rounds[0], max(rounds[-1], rounds[0] + 1), left + 14, WIDTH - right - 8)
    parts = [_grid(y, ticks, left, WIDTH - right, "{:g}"), _label(left - 40, 14, y_name, _QUIET, 11)]
    for name, points in series.items():
        if name not in marked:
            parts.append(_line(points, x, y, name, "#8fa0b2", 1.0, 0.5))
    ends: list[tuple[float, str, str]] = []
    for name, how in marked.items():
        colour = _GOOD if how == "good" else _BAD
        parts.append(_line(series[name], x, y, name, colour, 2.0, 1.0))
        ends.append((y(series[name][-1][1]), f"{_short(name, 20)} {series[name][-1][1]:.3f}", colour))
    if mean:
        parts.append(_line(mean, x, y, "mean", _INK, 2.8, 1.0))
        ends.append((y(mean[-1][1]), f"mean {mean[-1][1]:.3f}", _INK))
    for place, (_, label, colour) in zip(_apart([e[0] for e in sorted(ends)], 16.0), sorted(ends), strict=True):
        parts.append(_label(WIDTH - right + 6, place + 4, label, colour, 12, weight=600))
    parts.append(_round_axis(rounds, [x(r) for r in rounds], height - bottom))
    return _svg(height, parts)


def ratios(rounds: Sequence[int], rows: Mapping[str, Sequence[float | None]]) -> str:
    """A field of colours: one row per name, one column per round, blue above 1 and brown below.

    Args:
        rounds: Of each column, `(n,)`.
        rows: Name -> ratio in each round `(n,)`; None is left white.
    """
    left, right, row_height, top = 190.0, 60.0, 17.0, 34.0
    height = top + row_height * len(rows) + 34.0
    known = [abs(math.log2(v)) for values in rows.values() for v in values if v is not None and v > 0]
    most = min(max([*known, 0.1]), 4.0)  # doublings at full colour
    step = (WIDTH - left - right) / max(len(rounds), 1)
    parts = []
    for index, (name, values) in enumerate(rows.items()):
        y = top + index * row_height
        parts.append(_label(left - 8, y + 12, _short(name, 28), _INK, 11.5, anchor="end"))
        for column, value in enumerate(values):
            if value is not None:
                parts.append(
                    f'<rect x="{left + column * step:.1f}" y="{y:.1f}" width="{step + 0.2:.1f}" '
                    f'height="{row_height - 1.5:.1f}" fill="{_blend(value, most)}">'
                    f"{_tip(f'{name}, round {rounds[column]}: ×{value:.2f}')}</rect>"
                )
        if values and values[-1] is not None:
            parts.append(_label(WIDTH - right + 8, y + 12, f"×{values[-1]:.2f}", _QUIET, 11))
    centres = [left + (index + 0.5) * step for index in range(len(rounds))]
    parts += [_round_axis(rounds, centres, height - 34.0), _ratio_legend(left, most)]
    return _svg(height, parts)


def pairs(panels: Mapping[str, tuple[Points, Points, float | None]], names: tuple[str, str, str]) -> str:
    """Small charts of two lines and a level each, every one from 0 to its own largest value.

    Args:
        panels: Title -> (first points, second points, level), values are shares.
        names: Of the two lines and the level, for the legend.
    """
    across, width, height, top = 4, WIDTH / 4, 104.0, 28.0
    parts = []
    for index, (title, (first, second, level)) in enumerate(panels.items()):
        x0, y0 = index % across * width, top + index // across * height
        most = max([v for _, v in (*first, *second)] + [level or 0.0, 1e-9])
        rounds = [r for r, _ in first]
        x = _Scale(rounds[0], max(rounds[-1], rounds[0] + 1), x0 + 44, x0 + width - 18)
        y = _Scale(0.0, most, y0 + 78, y0 + 24)
        parts.append(_label(x0 + 44, y0 + 14, _short(title, 32), _INK, 11.5, weight=600))
        parts += [
            f'<path d="M{x0 + 40:.1f} {y(v):.1f}H{x0 + width - 14:.1f}" stroke="{_GRID}"/>'
            + _label(x0 + 36, y(v) + 4, f"{v:.1%}" if v else "0", _QUIET, 10.5, anchor="end")
            for v in (0.0, most)
        ]
        if level is not None:
            dashed = f'stroke="{_QUIET}" stroke-width="1" stroke-dasharray="3 3"'
            parts.append(f'<path d="M{x0 + 40:.1f} {y(level):.1f}H{x0 + width - 14:.1f}" {dashed}/>')
        parts.append(_line(second, x, y, f"{title}: {names[1]}", _SECOND, 2.2, 0.9))
        parts.append(_line(first, x, y, f"{title}: {names[0]}", _ACCENT, 1.6, 1.0))
    mark = 44.0
    for name, look in zip(names, (_ACCENT, _SECOND, f'{_QUIET}" stroke-dasharray="3 3'), strict=True):
        parts.append(f'<path d="M{mark:.0f} 10h22" stroke="{look}" stroke-width="2"/>')
        parts.append(_label(mark + 28, 14, name, _QUIET, 11.5))
        mark += 50 + 6.4 * len(name)
    return _svg(top + math.ceil(len(panels) / across) * height, parts)


def thin(count: int, most: int = COLUMNS) -> list[int]:
    """Positions of at most `most` of `count` points, the first and the last among them, evenly spaced."""
    if count <= most:
        return list(range(count))
    return sorted({round(index * (count - 1) / (most - 1)) for index in range(most)})


class _Scale:
    """A line from values to pixels."""

    def __init__(self, low: float, high: float, start: float, stop: float) -> None:
        self._low, self._start = low, start
        self._slope = (stop - start) / (high - low)

    def __call__(self, value: float) -> float:
        return self._start + (value - self._low) * self._slope


def _columns(series: Mapping[str, Sequence[float]], count: int) -> list[list[float]]:
    return [[values[index] for values in series.values()] for index in range(count)]


def _svg(height: float, parts: Sequence[str]) -> str:
    size = f'width="{WIDTH:.0f}" height="{height:.0f}" viewBox="0 0 {WIDTH:.0f} {height:.0f}"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="chart" role="img" {size} '
        'font-family="system-ui, sans-serif" font-size="12">' + "\n".join(parts) + "</svg>"
    )


def _tip(words: str) -> str:
    return f"<title>{text(words)}</title>"


def _label(
    x: float, y: float, words: str, colour: str, size: float, *, anchor: str = "start", weight: int = 400
) -> str:
    look = f'fill="{colour}" font-size="{size:g}" text-anchor="{anchor}" font-weight="{weight}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {look}>{text(words)}</text>'


def _line(points: Points, x: _Scale, y: _Scale, name: str, colour: str, width: float, opacity: float) -> str:
    chosen = [points[index] for index in thin(len(points))]
    tip = _tip(f"{name}: {points[0][1]:.4g} to {points[-1][1]:.4g}")
    if len(chosen) == 1:
        place = f'cx="{x(chosen[0][0]):.1f}" cy="{y(chosen[0][1]):.1f}" r="{width + 1:.1f}"'
        return f'<circle {place} fill="{colour}">{tip}</circle>'
    way = "L".join(f"{x(r):.1f} {y(v):.1f}" for r, v in chosen)
    look = f'stroke="{colour}" stroke-width="{width}" stroke-opacity="{opacity}" stroke-linejoin="round"'
    return f'<path d="M{way}" fill="none" {look}>{tip}</path>'


def _grid(y: _Scale, ticks: Sequence[float], left: float, right: float, form: str) -> str:
    return "".join(
        f'<path d="M{left:.1f} {y(tick):.1f}H{right:.1f}" stroke="{_GRID}"/>'
        + _label(left - 6, y(tick) + 4, form.format(tick), _QUIET, 11, anchor="end")
        for tick in ticks
    )


def _round_axis(rounds: Sequence[int], centres: Sequence[float], bottom: float) -> str:
    """Numbers of rounds below a chart, as many as fit, and what they are."""
    if not rounds:
        return ""
    fit = max(1, int((centres[-1] - centres[0]) / 64))
    every = next(s for s in _steps() if (rounds[-1] - rounds[0]) / s <= fit)
    shown: list[tuple[int, float]] = []
    for number, centre in zip(rounds, centres, strict=True):
        if (number % every == 0 or number < 0) and (not shown or centre - shown[-1][1] >= 48):
            shown.append((number, centre))
    marks = [_label(c, bottom + 15, "untrained" if r < 0 else f"{r}", _QUIET, 11, anchor="middle") for r, c in shown]
    middle = (centres[0] + centres[-1]) / 2
    return "".join(marks) + _label(middle, bottom + 30, "round", _QUIET, 11, anchor="middle")


def _steps() -> list[int]:
    return [factor * 10**power for power in range(10) for factor in (1, 2, 5)]


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers around a range, about six of them."""
    span = max(high - low, abs(high) * 1e-3, 1e-6)
    size = 10.0 ** math.floor(math.log10(span / 5))
    step = next(size * factor for factor in (1, 2, 5, 10) if span / (size * factor) <= 6)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [round(index * step, 12) for index in range(first, max(last, first + 1) + 1)]


def _apart(places: Sequence[float], gap: float) -> list[float]:
    """Ascending places moved apart by at least `gap`, downwards first, then as a whole back to their middle."""
    moved: list[float] = []
    for place in places:
        moved.append(max(place, moved[-1] + gap) if moved else place)
    shift = sum(moved) / len(moved) - sum(places) / len(places) if moved else 0.0
    return [place - shift for place in moved]


def _legend(entries: Sequence[tuple[str, str, str]], x: float, y: float) -> str:
    """Name, figure and colour of each entry, one below the other."""
    return "".join(
        f'<rect x="{x:.0f}" y="{y + 22 * index:.0f}" width="12" height="12" rx="2" fill="{colour}"/>'
        + _label(x + 19, y + 22 * index + 10, _short(name, 24), _INK, 12)
        + _label(WIDTH - 4, y + 22 * index + 10, figure, _QUIET, 12, anchor="end")
        for index, (name, figure, colour) in enumerate(entries)
    )


def _ratio_legend(x: float, most: float) -> str:
    colours = [_blend(2.0 ** (most * (index - 5) / 5), most) for index in range(11)]
    boxes = "".join(
        f'<rect x="{x + 44 + 12 * index:.0f}" y="6" width="12" height="12" fill="{colour}"/>'
        for index, colour in enumerate(colours)
    )
    low, high = _label(x, 16, f"×{2**-most:.2f}", _QUIET, 11), _label(x + 182, 16, f"×{2**most:.2f}", _QUIET, 11)
    return boxes + low + high


def _blend(ratio: float, most: float) -> str:
    power = max(-1.0, min(1.0, math.log2(ratio) / most)) if ratio > 0 else -1.0
    end = _MORE if power > 0 else _LESS
    mixed = (round(a + (b - a) * abs(power)) for a, b in zip(_EVEN, end, strict=True))
    return "#{:02x}{:02x}{:02x}".format(*mixed)


def _short(name: str, characters: int) -> str:
    return name if len(name) <= characters else f"{name[: characters - 1]}…"
