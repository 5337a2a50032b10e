"""Orders of a directed graph: strong components, cycles, layers, longest chains.

Plain functions over `targets`, a mapping from every node to the nodes it points at. Every answer is the same for every
order of the input: ties go to the smaller id. Nothing recurses, so a chain of a million nodes is no trouble.
"""

from collections import deque
from collections.abc import Collection, Iterable, Mapping

Targets = Mapping[str, Collection[str]]


def strong_components(targets: Targets) -> list[list[str]]:
    """Groups of nodes that reach one another; each group and the list of groups are sorted by id.

    Source:
        Tarjan 1972, "Depth-first search and linear graph algorithms"; with an explicit stack instead of recursion.
    """
    number: dict[str, int] = {}
    low: dict[str, int] = {}
    open_nodes: dict[str, None] = {}
    groups: list[list[str]] = []
    for root in sorted(targets):
        if root in number:
            continue
        work = [(root, iter(sorted(targets[root])))]
        number[root] = low[root] = len(number)
        open_nodes[root] = None
        while work:
            node, rest = work[-1]
            for target in rest:
                if target not in number:
                    number[target] = low[target] = len(number)
                    open_nodes[target] = None
                    work.append((target, iter(sorted(targets[target]))))
                    break
                if target in open_nodes:
                    low[node] = min(low[node], number[target])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == number[node]:
                    groups.append(_close_group(open_nodes, node))
    return sorted(groups)


def _close_group(open_nodes: dict[str, None], root: str) -> list[str]:
    group: list[str] = []
    while not group or group[-1] != root:
        group.append(open_nodes.popitem()[0])
    return sorted(group)


def find_cycle(targets: Targets) -> list[str] | None:
    """A shortest cycle through the smallest id that lies on one, as `[a, b, a]`; None where there is none."""
    for group in strong_components(targets):
        start, inside = group[0], set(group)
        if len(group) == 1 and start not in targets[start]:
            continue
        came_from: dict[str, str] = {}
        queue = deque([start])
        while queue:
            node = queue.popleft()
            for target in sorted(targets[node]):
                if target == start:
                    return _walk_back(came_from, start, node)
                if target in inside and target not in came_from:
                    came_from[target] = node
                    queue.append(target)
    return None


def _walk_back(came_from: Mapping[str, str], start: str, last: str) -> list[str]:
    path = [last]
    while path[-1] != start:
        path.append(came_from[path[-1]])
    return [*reversed(path), start]


def layers(targets: Targets) -> list[list[str]]:
    """Nodes of an acyclic graph by the length of the longest way that leads to them; each layer sorted by id.

    Raises:
        ValueError: The graph has a cycle.
    """
    depth = dict.fromkeys(targets, 0)
    waiting = indegrees(targets)
    queue = deque(sorted(node for node, count in waiting.items() if count == 0))
    placed: list[list[str]] = []
    while queue:
        node = queue.popleft()
        while len(placed) <= depth[node]:
            placed.append([])
        placed[depth[node]].append(node)
        for target in targets[node]:
            depth[target] = max(depth[target], depth[node] + 1)
            waiting[target] -= 1
            if waiting[target] == 0:
                queue.append(target)
    if sum(map(len, placed)) != len(depth):
        raise ValueError(f"the graph has a cycle: {find_cycle(targets)}")
    return [sorted(layer) for layer in placed]


def longest_chain(targets: Targets) -> list[str]:
    """The longest path of an acyclic graph, the first in id order among equals; empty for an empty graph."""
    after: dict[str, str | None] = {}
    length: dict[str, int] = {}
    for layer in reversed(layers(targets)):
        for node in layer:
            following = min(targets[node], key=lambda target: (-length[target], target), default=None)
            after[node] = following
            length[node] = 1 + (length[following] if following is not None else 0)
    chain: list[str] = []
    step = min(length, key=lambda node: (-length[node], node), default=None)
    while step is not None:
        chain.append(step)
        step = after[step]
    return chain


def reachable(targets: Targets, starts: Iterable[str]) -> frozenset[str]:
    """Every node that a path of one step or more leads to from one of `starts`."""
    seen: set[str] = set()
    stack = list(starts)
    while stack:
        for target in targets[stack.pop()]:
            if target not in seen:
                seen.add(target)
                stack.append(target)
    return frozenset(seen)


def indegrees(targets: Targets) -> dict[str, int]:
    """How many edges point at each node."""
    counts = dict.fromkeys(targets, 0)
    for node in targets:
        for target in targets[node]:
            counts[target] += 1
    return counts


def reverse(targets: Targets) -> dict[str, list[str]]:
    """The same graph with every edge turned round."""
    turned: dict[str, list[str]] = {node: [] for node in targets}
    for node in targets:
        for target in targets[node]:
            turned[target].append(node)
    return turned


def implied_edges(targets: Targets) -> set[tuple[str, str]]:
    """Edges of an acyclic graph that a longer path also makes (what a transitive reduction would leave out)."""
    below: dict[str, frozenset[str]] = {}
    implied: set[tuple[str, str]] = set()
    for layer in reversed(layers(targets)):
        for node in layer:
            through = frozenset[str]().union(*(below[target] for target in targets[node]))
            implied.update((node, target) for target in targets[node] if target in through)
            below[node] = through.union(targets[node])
    return implied
