"""Where the skills of a layered drawing go: columns by stage, an order with few crossings, heights, and edge routes.

Geometry only; `graph.render` makes the picture. Everything is deterministic: ties keep the order they came in, which
starts from the ids.

Source:
    Sugiyama, Tagawa, Toda 1981, "Methods for visual understanding of hierarchical system structures": layers, dummy
    nodes on long edges, barycentre sweeps. Heights are least squares with minimum distances, solved per column by
    pooling adjacent violators.
"""

from bisect import bisect_left, insort
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from prereq.graph import order
from prereq.graph.skill_graph import SkillGraph

_ORDER_SWEEPS = 24
_HEIGHT_SWEEPS = 40
_GRID_COLUMNS = 8  # of skills without an edge, where the rest of the drawing is narrower


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One edge as drawn."""

    source: str
    target: str
    stops: tuple[tuple[int, float], ...]  # (column, y) of the lane in every column that the edge crosses in between
    implied: bool  # a longer path makes it too
    cyclic: bool  # its ends lie on a common cycle, so it has no direction from left to right


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Positions of a layered drawing; y grows downwards from 0. Skills without an edge stand in a grid below."""

    column: Mapping[str, int]
    y: Mapping[str, float]  # of a node's middle
    columns: int
    linked_height: float  # of the part with edges
    height: float  # of everything
    routes: tuple[Route, ...]


def arrange(graph: SkillGraph, *, node_distance: float, lane_distance: float) -> Layout:
    """Lay a graph out; cycles (of other kinds than prerequisite) share a column.

    Args:
        graph: Any kind.
        node_distance: Least distance between the middles of two nodes in a column.
        lane_distance: Least distance between two edges that cross a column.
    """
    linked = {end for edge in graph.edges for end in (edge.prerequisite, edge.target)}
    alone = [node for node in graph.ids if node not in linked]
    if not linked:
        return _with_grid(
            Layout(column={}, y={}, columns=0, linked_height=0.0, height=0.0, routes=()), alone, node_distance
        )
    drawing = _Drawing(graph.subgraph(linked))
    drawing.cross_less()
    heights = _heights(drawing, node_distance, lane_distance)
    # half a node above the highest node, half a lane above the highest lane, whichever is higher
    top = min(value - (lane_distance if item[0] == " " else node_distance) / 2 for item, value in heights.items())
    y = {item: value - top for item, value in heights.items()}
    routes = tuple(
        Route(
            source=edge.prerequisite,
            target=edge.target,
            stops=tuple(
                (drawing.column[stop], y[stop]) for stop in drawing.chains.get((edge.prerequisite, edge.target), ())
            ),
            implied=(edge.prerequisite, edge.target) in drawing.implied,
            cyclic=drawing.column[edge.prerequisite] == drawing.column[edge.target],
        )
        for edge in graph.edges
    )
    lowest = max(y.values()) + node_distance / 2
    columns = len(drawing.order)
    layout = Layout(column=drawing.column, y=y, columns=columns, linked_height=lowest, height=lowest, routes=routes)
    return _with_grid(layout, alone, node_distance)


def _with_grid(layout: Layout, alone: Sequence[str], node_distance: float) -> Layout:
    if not alone:
        return layout
    width = max(layout.columns, min(len(alone), _GRID_COLUMNS))
    top = layout.linked_height + (node_distance if layout.columns else 0.0)
    column = {node: index % width for index, node in enumerate(sorted(alone))}
    y = {node: top + (index // width + 0.5) * node_distance for index, node in enumerate(sorted(alone))}
    height = max(y.values()) + node_distance / 2
    return replace(layout, column={**layout.column, **column}, y={**layout.y, **y}, columns=width, height=height)


class _Drawing:
    """Columns of nodes and of lanes (dummy nodes, named by a space that no id starts with), and their order."""

    def __init__(self, graph: SkillGraph) -> None:
        self.column, self.implied = _columns(graph)
        self.order: list[list[str]] = [[] for _ in range(max(self.column.values()) + 1)]
        for node in _reading_order(graph):
            self.order[self.column[node]].append(node)
        self.left: dict[str, list[str]] = {node: [] for node in graph.ids}
        self.right: dict[str, list[str]] = {node: [] for node in graph.ids}
        self.chains: dict[tuple[str, str], list[str]] = {}
        for edge in graph.edges:
            self._add_chain(edge.prerequisite, edge.target)

    def _add_chain(self, source: str, target: str) -> None:
        # an implied edge gets no lanes: its longer path already keeps its ends together
        if self.column[source] >= self.column[target] or (source, target) in self.implied:
            return
        chain = [f" {source} {target} {column}" for column in range(self.column[source] + 1, self.column[target])]
        self.chains[source, target] = chain
        for offset, lane in enumerate(chain, 1):
            self.column[lane] = self.column[source] + offset
            self.order[self.column[lane]].append(lane)
            self.left[lane], self.right[lane] = [], []
        stops = [source, *chain, target]
        for here, there in pairwise(stops):
            self.right[here].append(there)
            self.left[there].append(here)

    def cross_less(self) -> None:
        """Barycentre sweeps to the right and back, keeping the order with the fewest crossings."""
        best, best_order = self.crossings(), [list(column) for column in self.order]
        for sweep in range(_ORDER_SWEEPS):
            rightwards = sweep % 2 == 0
            neighbours = self.left if rightwards else self.right
            for column in self.order if rightwards else reversed(self.order):
                place = self._places()
                keys = {item: _mean([place[other] for other in neighbours[item]], place[item]) for item in column}
                column.sort(key=keys.__getitem__)
            if (count := self.crossings()) < best:
                best, best_order = count, [list(column) for column in self.order]
        self.order = best_order

    def _places(self) -> dict[str, float]:
        # relative, so that an item without neighbours compares fairly between columns of unlike length
        return {item: (index + 0.5) / len(column) for column in self.order for index, item in enumerate(column)}

    def crossings(self) -> int:
        """Pairs of edge pieces between neighbouring columns that cross."""
        total = 0
        for column, following in pairwise(self.order):
            place = {item: index for index, item in enumerate(following)}
            seen: list[int] = []
            for item in column:
                ends = sorted(place[other] for other in self.right[item])
                total += sum(len(seen) - bisect_left(seen, end + 1) for end in ends)
                for end in ends:
                    insort(seen, end)
        return total


def _columns(graph: SkillGraph) -> tuple[dict[str, int], set[tuple[str, str]]]:
    targets = {node: graph.targets(node) for node in graph.ids}
    leader = {member: group[0] for group in order.strong_components(targets) for member in group}
    condensed: dict[str, set[str]] = {head: set() for head in leader.values()}
    for node, found in targets.items():
        condensed[leader[node]].update(leader[target] for target in found if leader[target] != leader[node])
    depth = {head: index for index, layer in enumerate(order.layers(condensed)) for head in layer}
    implied = order.implied_edges(condensed)
    pairs = {(a, b) for a, found in targets.items() for b in found if (leader[a], leader[b]) in implied}
    return {node: depth[leader[node]] for node in graph.ids}, pairs


def _reading_order(graph: SkillGraph) -> list[str]:
    # depth first from each start: skills of one thread begin near one another
    seen: dict[str, None] = {}
    stack = sorted(graph.ids, key=lambda node: (len(graph.prerequisites(node)) > 0, node), reverse=True)
    while stack:
        node = stack.pop()
        if node not in seen:
            seen[node] = None
            stack.extend(sorted(graph.targets(node), reverse=True))
    return list(seen)


def _heights(drawing: _Drawing, node_distance: float, lane_distance: float) -> dict[str, float]:
    def distance(upper: str, lower: str) -> float:
        lanes = upper.startswith(" ") + lower.startswith(" ")
        return (node_distance, (node_distance + lane_distance) / 2, lane_distance)[lanes]

    gaps = [[distance(a, b) for a, b in pairwise(column)] for column in drawing.order]
    y: dict[str, float] = {}
    for column, gap in zip(drawing.order, gaps, strict=True):
        y.update(zip(column, _spread([0.0] * len(column), gap), strict=True))
    for sweep in range(_HEIGHT_SWEEPS):
        both = sweep >= _HEIGHT_SWEEPS // 2  # first let each side pull alone, then settle between the two
        indices = range(len(drawing.order)) if sweep % 2 == 0 else range(len(drawing.order) - 1, -1, -1)
        for index in indices:
            wanted = []
            for item in drawing.order[index]:
                side = drawing.left[item] if sweep % 2 == 0 else drawing.right[item]
                around = drawing.left[item] + drawing.right[item] if both else side
                wanted.append(_mean([y[other] for other in around], y[item]))
            y.update(zip(drawing.order[index], _spread(wanted, gaps[index]), strict=True))
    return y


def _spread(wanted: Sequence[float], gaps: Sequence[float]) -> list[float]:
    """The positions closest to `wanted` (least squares) with `gaps[i]` or more between item i and item i + 1."""
    offsets = [0.0]
    for gap in gaps:
        offsets.append(offsets[-1] + gap)
    blocks: list[tuple[float, int]] = []  # (sum of wanted - offset, items); their means must not fall
    for value, offset in zip(wanted, offsets, strict=False):
        total, count = value - offset, 1
        while blocks and blocks[-1][0] / blocks[-1][1] > total / count:
            total, count = total + blocks[-1][0], count + blocks[-1][1]
            blocks.pop()
        blocks.append((total, count))
    levels = [total / count for total, count in blocks for _ in range(count)]
    return [level + offset for level, offset in zip(levels, offsets, strict=False)]


def _mean(values: Sequence[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise
