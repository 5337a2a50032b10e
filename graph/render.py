"""Skill graphs for people: a summary in text and a layered drawing as self-contained SVG.

The SVG holds no script, no style sheet, no reference to anything outside and no element id, so several can stand in one
HTML page. Every text that comes from a graph is escaped.
"""

import html
import re
import unicodedata
from collections.abc import Mapping, Sequence

from prereq.graph import order
from prereq.graph.errors import GraphError
from prereq.graph.layout import Layout, Route, arrange
from prereq.graph.skill import nearest
from prereq.graph.skill_graph import SkillGraph, show_path

_NODE_WIDTH, _COLUMN_WIDTH, _LINE_HEIGHT = 138.0, 182.0, 14.0  # pixels
_MARGIN, _HEADER, _LEGEND = 16.0, 58.0, 34.0  # pixels
_NAME_CHARACTERS = 19  # that fit the width of a node at 12 pixels
_LOW, _HIGH, _PLAIN = (230, 240, 250), (12, 84, 140), (238, 242, 247)  # RGB at fill 0, at fill 1, without fill
_INK, _QUIET, _LINE = "#17212b", "#5d6b7a", "#8fa0b2"
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def describe(graph: SkillGraph) -> str:
    """A few lines of text: counts, stages, longest chain, isolated skills, skills without a way to be found.

    A similarity graph has no direction, so no stages: of it the groups that hang together are told, the largest first.
    """
    linked = {end for edge in graph.edges for end in (edge.prerequisite, edge.target)}
    isolated = [skill_id for skill_id in graph.ids if skill_id not in linked]
    silent = [skill.id for skill in graph.skills if not skill.aliases and not skill.patterns]
    lines = [f"{graph.kind} graph: {len(graph)} skills, {len(graph.edges)} edges"]
    cycle = order.find_cycle({node: graph.targets(node) for node in graph.ids})
    if graph.kind == "similarity":
        groups = _groups(graph)
        lines.append(f"{len(groups)} groups of linked skills")
        lines += [f"  {len(group)} skills: {', '.join(group)}" for group in groups]
    elif cycle:
        lines.append(f"has cycles, such as {show_path(cycle)}")
    else:
        stages = graph.stages()
        lines.append(f"{len(stages)} stages; longest chain: {show_path(graph.longest_chain())}")
        lines += [f"  stage {number}: {', '.join(stage)}" for number, stage in enumerate(stages)]
    lines.append(f"isolated skills: {', '.join(isolated) or 'none'}")
    lines.append(f"skills without aliases or patterns: {_share(silent, graph)}")
    if graph.merged:
        merged = (f"{absorbed} into {into}" for absorbed, into in sorted(graph.merged.items()))
        lines.append(f"merged because of cycles: {', '.join(merged)}")
    return _printable("\n".join(lines)) + "\n"


def _groups(graph: SkillGraph) -> list[list[str]]:
    """Linked skills that hang together, the largest group first, then by id."""
    around = {node: {*graph.targets(node), *graph.prerequisites(node)} for node in graph.ids}
    groups = [group for group in order.strong_components(around) if len(group) > 1]
    return sorted(groups, key=lambda group: (-len(group), group))


def to_svg(
    graph: SkillGraph,
    fill: Mapping[str, float | None] | None = None,
    labels: Mapping[str, str] | None = None,
    *,
    title: str = "Skill graph",
    fill_name: str = "progress",
) -> str:
    """Draw a graph: one column per stage, prerequisites to the left of what they lead to.

    Args:
        graph: Any kind; skills of one cycle share a column.
        fill: Colour of each skill from 0 (pale) to 1 (dark). None or absent: not measured, drawn with a dashed border.
        labels: A short second line per skill, such as a loss.
        title: Heading of the drawing.
        fill_name: What the colour means, for the legend.

    Returns:
        An `<svg>` element with its own size; wide graphs want a container that scrolls.

    Raises:
        GraphError: An unknown skill in `fill` or `labels`, or a fill outside 0..1.
    """
    _check_values(graph, fill, labels)
    lines = {skill.id: _wrap(skill.name) for skill in graph.skills}
    rows = max(map(len, lines.values())) + (1 if labels else 0)
    node_height = rows * _LINE_HEIGHT + 12
    layout = arrange(graph, node_distance=node_height + 12, lane_distance=11)
    width = max(2 * _MARGIN + (layout.columns - 1) * _COLUMN_WIDTH + _NODE_WIDTH, 480.0)
    height = _HEADER + layout.height + _LEGEND + _MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" font-family="system-ui, sans-serif" font-size="12" fill="{_INK}">',
        f"<title>{_escape(title)}</title>",
        f'<rect width="{width:.0f}" height="{height:.0f}" fill="#ffffff"/>',
        f'<text x="{_MARGIN:.0f}" y="24" font-size="16" font-weight="600">{_escape(title)}</text>',
        *_stage_names(layout),
        *_edges(layout, node_height),
        *(_node(graph, layout, node_height, skill_id, lines[skill_id], fill, labels) for skill_id in graph.ids),
        *_legend(layout, height - _MARGIN - 6, fill is not None, fill_name),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _check_values(graph: SkillGraph, fill: Mapping[str, float | None] | None, labels: Mapping[str, str] | None) -> None:
    for what, mapping in (("fill", fill), ("labels", labels)):
        for skill_id in mapping or {}:
            if skill_id not in graph:
                raise GraphError(f"drawing: {what} names {skill_id!r}, no skill of it{nearest(skill_id, graph.ids)}")
    for skill_id, value in (fill or {}).items():
        if value is not None and not 0 <= value <= 1:
            raise GraphError(f"drawing: fill of {skill_id!r} is {value}, expected 0 to 1, or None for not measured")


def _stage_names(layout: Layout) -> list[str]:
    look = f'font-size="11" fill="{_QUIET}"'
    stages = 1 + max(
        (layout.column[end] for route in layout.routes for end in (route.source, route.target)), default=-1
    )
    middle = _NODE_WIDTH / 2
    names = [
        f'<text x="{_left(stage) + middle:.1f}" y="{_HEADER - 10:.0f}" text-anchor="middle" {look}>stage {stage}</text>'
        for stage in range(stages)
    ]
    if layout.height > layout.linked_height:
        y = _HEADER + (layout.linked_height + 16 if stages else -10)
        names.append(f'<text x="{_MARGIN:.0f}" y="{y:.1f}" {look}>skills without an edge</text>')
    return names


def _edges(layout: Layout, node_height: float) -> list[str]:
    starts = _ports(layout, node_height, leaving=True)
    ends = _ports(layout, node_height, leaving=False)
    # the quiet ones first, so that the others lie on top
    routes = sorted(layout.routes, key=lambda route: not route.implied)
    return [_edge(route, layout, starts[_key(route)], ends[_key(route)]) for route in routes]


def _ports(layout: Layout, node_height: float, *, leaving: bool) -> dict[tuple[str, str], float]:
    """Heights at which edges touch their node, spread over its side in the order of where they come from."""
    by_node: dict[str, list[tuple[float, tuple[str, str]]]] = {}
    for route in layout.routes:
        node, other = (route.source, route.target) if leaving else (route.target, route.source)
        stop = (route.stops[0 if leaving else -1][1]) if route.stops else layout.y[other]
        by_node.setdefault(node, []).append((stop, _key(route)))
    ports: dict[tuple[str, str], float] = {}
    for node, touching in by_node.items():
        step = min(node_height * 0.7 / len(touching), 8.0)
        for index, (_, key) in enumerate(sorted(touching)):
            ports[key] = layout.y[node] + (index - (len(touching) - 1) / 2) * step
    return ports


def _edge(route: Route, layout: Layout, start: float, end: float) -> str:
    x, y = _left(layout.column[route.source]) + _NODE_WIDTH, _HEADER + start
    x_end, y_end = _left(layout.column[route.target]), _HEADER + end
    path = [f"M{x:.1f} {y:.1f}"]
    if route.cyclic:
        x_end += _NODE_WIDTH
        path.append(f"C{x + 36:.1f} {y:.1f} {x + 36:.1f} {y_end:.1f} {x_end:.1f} {y_end:.1f}")
    else:
        for column, lane in route.stops:
            path.append(_curve(x, y, _left(column), _HEADER + lane))
            x, y = _left(column) + _NODE_WIDTH, _HEADER + lane
            path.append(f"H{x:.1f}")
        path.append(_curve(x, y, x_end, y_end))
    way = -5 if not route.cyclic else 5
    path.append(f"M{x_end + way:.1f} {y_end - 3:.1f}L{x_end:.1f} {y_end:.1f}L{x_end + way:.1f} {y_end + 3:.1f}")
    look = 'stroke-width="0.8" stroke-dasharray="2 3" stroke-opacity="0.55"' if route.implied else 'stroke-width="1.2"'
    tip = _escape(f"{route.source} -> {route.target}")
    return f'<path d="{"".join(path)}" fill="none" stroke="{_LINE}" {look}><title>{tip}</title></path>'


def _curve(x: float, y: float, x_end: float, y_end: float) -> str:
    middle = (x + x_end) / 2
    return f"C{middle:.1f} {y:.1f} {middle:.1f} {y_end:.1f} {x_end:.1f} {y_end:.1f}"


def _node(
    graph: SkillGraph,
    layout: Layout,
    height: float,
    skill_id: str,
    lines: Sequence[str],
    fill: Mapping[str, float | None] | None,
    labels: Mapping[str, str] | None,
) -> str:
    skill, value = graph.skill(skill_id), (fill or {}).get(skill_id)
    colour = _PLAIN if fill is None else (255, 255, 255) if value is None else _blend(value)
    ink = "#ffffff" if sum(colour) < 380 else _INK
    dashed = ' stroke-dasharray="4 3"' if fill is not None and value is None else ""
    x, y = _left(layout.column[skill_id]), _HEADER + layout.y[skill_id]
    label = (labels or {}).get(skill_id, "")
    rows = [*lines, _shorten(label, _NAME_CHARACTERS + 2)] if label else list(lines)
    shown = "" if value is None else f"{value:.0%}"
    tip = "\n".join(
        filter(None, (skill.name, skill.id if skill.id != skill.name else "", skill.description, shown, label))
    )
    first = y - (len(rows) - 1) * _LINE_HEIGHT / 2 + 4
    texts = "".join(
        f'<text x="{x + _NODE_WIDTH / 2:.1f}" y="{first + index * _LINE_HEIGHT:.1f}" '
        f'font-size="{10.5 if label and index == len(rows) - 1 else 12}">{_escape(row)}</text>'
        for index, row in enumerate(rows)
    )
    return (
        f'<g fill="{ink}" text-anchor="middle"><title>{_escape(tip)}</title>'
        f'<rect x="{x:.1f}" y="{y - height / 2:.1f}" width="{_NODE_WIDTH:.0f}" height="{height:.1f}" rx="6" '
        f'fill="{_hex(colour)}" stroke="{_QUIET}"{dashed}/>{texts}</g>'
    )


def _legend(layout: Layout, y: float, coloured: bool, fill_name: str) -> list[str]:
    x, parts = _MARGIN, []
    text = f'<text x="{{x:.0f}}" y="{y:.0f}" font-size="11" fill="{_QUIET}">{{text}}</text>'
    if coloured:
        parts.append(text.format(x=x, text=_escape(f"{_shorten(fill_name, 24)} 0")))
        x += 8 + 6.2 * (len(_shorten(fill_name, 24)) + 2)
        box = f'y="{y - 10:.0f}" height="12"'
        parts += [
            f'<rect x="{x + 10 * step:.0f}" {box} width="10" fill="{_hex(_blend(step / 9))}"/>' for step in range(10)
        ]
        parts.append(text.format(x=x + 106, text="1"))
        parts.append(
            f'<rect x="{x + 134:.0f}" {box} width="22" rx="3" fill="#ffffff" stroke="{_QUIET}" stroke-dasharray="4 3"/>'
        )
        parts.append(text.format(x=x + 162, text="not measured"))
        x += 256
    if any(route.implied for route in layout.routes):
        parts.append(f'<path d="M{x:.0f} {y - 4:.0f}h26" stroke="{_LINE}" stroke-width="0.8" stroke-dasharray="2 3"/>')
        parts.append(text.format(x=x + 32, text="edge that a longer path implies"))
    return parts


def _left(column: int) -> float:
    return _MARGIN + column * _COLUMN_WIDTH


def _key(route: Route) -> tuple[str, str]:
    return route.source, route.target


def _blend(value: float) -> tuple[int, int, int]:
    red, green, blue = (round(low + (high - low) * value) for low, high in zip(_LOW, _HIGH, strict=True))
    return red, green, blue


def _hex(colour: tuple[int, int, int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)


def _wrap(name: str) -> list[str]:
    """A name on at most two lines, broken at a space, a slash, a dash or an underscore where there is one."""
    name = " ".join(name.split()) or "?"
    if _width(name) <= _NAME_CHARACTERS:
        return [name]
    breaks = [
        match.end()
        for match in re.finditer(r"[ /_-]", name)
        if _width(name[: match.end()].rstrip()) <= _NAME_CHARACTERS
    ]
    cut = breaks[-1] if breaks else _NAME_CHARACTERS
    return [name[:cut].rstrip(), _shorten(name[cut:], _NAME_CHARACTERS)]


def _shorten(text: str, characters: int) -> str:
    if _width(text) <= characters:
        return text
    while _width(text) > characters - 1:
        text = text[:-1]
    return text + "…"


def _width(text: str) -> int:
    # East Asian wide characters take the room of two, combining ones of none
    return sum(
        0 if unicodedata.combining(character) else 1 + (unicodedata.east_asian_width(character) in "WF")
        for character in text
    )


def _share(ids: Sequence[str], graph: SkillGraph) -> str:
    if len(ids) == len(graph):
        return "all"
    return ", ".join(ids) or "none"


def _printable(text: str) -> str:
    # names reach a terminal: no escape sequences
    return "".join(character if character == "\n" or character.isprintable() else "�" for character in text)


def _escape(text: str) -> str:
    return html.escape(_NOT_XML.sub("\ufffd", text), quote=True)
