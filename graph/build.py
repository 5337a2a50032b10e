"""A skill graph from numbers: of a matrix that says how much skills have to do with each other, the strongest pairs.

Where the numbers come from (documents, texts, short training runs) is not this file's business.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from prereq.graph.errors import GraphError
from prereq.graph.influence import Influence
from prereq.graph.skill import Edge, Skill, nearest
from prereq.graph.skill_graph import SkillGraph

FloatArray = NDArray[np.float64]
OnCycle = Literal["drop", "error"]
Pairs = NDArray[np.void]
_PAIR = np.dtype([("weight", np.float64), ("row", np.int64), ("column", np.int64)])


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltGraph:
    """A graph and what became of the numbers that it was made from.

    Attributes:
        graph: All skills, also those without an edge.
        pairs: Pairs whose weight was above `least`.
        dropped: Edges that would have closed a cycle, the strongest first.
    """

    graph: SkillGraph
    pairs: int
    dropped: tuple[Edge, ...] = ()


def prerequisite_graph(
    skills: Sequence[Skill],
    weights: FloatArray,
    *,
    least: float = 0.0,
    top: int | None = None,
    on_cycle: OnCycle = "drop",
) -> BuiltGraph:
    """The strongest prerequisites of every skill, without cycles.

    The rule for cycles: edges are taken from the strongest to the weakest (ties by the ids), and one that would close
    a cycle with those already taken is dropped. So of two skills that help each other the stronger direction stays.

    Args:
        skills: In the order of rows and columns.
        weights: `(k, k)`, entry (i, j): how much i helps j; the diagonal is not looked at. Edges have the weight with
            six significant digits, and ranks go by these.
        least: Only pairs above it become edges; 0 or more.
        top: At most so many prerequisites of a skill, the strongest (ties by id); None: all.
        on_cycle: `drop` by the rule, or `error`: refuse, and print a cycle.

    Raises:
        GraphError: A wrong shape, a weight that is not finite, a bad `least` or `top`, or a cycle with `error`.
    """
    _check(skills, weights, least, top)
    pairs = _strongest(skills, weights, least)
    edges = _edges(skills, pairs[_best_of_each(pairs, top)])
    if on_cycle == "error":
        return BuiltGraph(graph=SkillGraph("prerequisite", skills, edges), pairs=len(pairs))
    kept, dropped = _without_cycles(skills, edges)
    return BuiltGraph(graph=SkillGraph("prerequisite", skills, kept), pairs=len(pairs), dropped=dropped)


def similarity_graph(
    skills: Sequence[Skill], weights: FloatArray, *, least: float = 0.0, top: int | None = None
) -> BuiltGraph:
    """The closest pairs of skills: an edge where each is, or one of them is, among the other's `top` closest.

    Args:
        skills: In the order of rows and columns.
        weights: `(k, k)`, symmetric; read above the diagonal, rounded as in `prerequisite_graph`.
        least: Only pairs above it become edges; 0 or more.
        top: As above; None: all pairs above `least`.

    Raises:
        GraphError: As `prerequisite_graph`.
    """
    _check(skills, weights, least, top)
    pairs = _strongest(skills, np.triu(weights, 1), least)
    turned = pairs.copy()
    turned["row"], turned["column"] = pairs["column"], pairs["row"]
    both = np.concatenate([pairs, turned])  # a skill's closest are before it or behind it
    order = _order(skills, both)
    near = np.zeros(len(pairs), dtype=bool)
    near[order[_best_of_each(both[order], top)] % max(1, len(pairs))] = True
    return BuiltGraph(graph=SkillGraph("similarity", skills, _edges(skills, pairs[near])), pairs=len(pairs))


def influence_weights(influence: Influence, ids: Sequence[str], *, relative: bool = True) -> FloatArray:
    """A learned influence as a matrix over the skills of a graph; 0 where nothing was measured.

    Args:
        influence: Of training skills (rows) on evaluation skills (columns).
        ids: The graph's skills; those of the influence must be among them.
        relative: Each column is divided by what the skill does for itself, so that 1 is as much as its own training
            and columns can be compared; a column whose own entry is not above 0 says nothing then. False: as measured.

    Returns:
        `(k, k)`, rows and columns in the order of `ids`.

    Raises:
        GraphError: An id that is no skill of the graph, or `relative` without a single skill's effect on itself.
    """
    place = {name: number for number, name in enumerate(ids)}
    for name in (*influence.train, *influence.eval):
        if name not in place:
            raise GraphError(f"influence: {name!r} is no skill of the graph{nearest(name, place)}")
    weights = np.zeros((len(ids), len(ids)))
    rows, columns = ([place[name] for name in side] for side in (influence.train, influence.eval))
    weights[np.ix_(rows, columns)] = influence.matrix
    if not relative:
        return weights
    own = np.diag(weights).copy()
    if not (own > 0).any():
        raise GraphError(
            "influence: no skill lowers its own loss, so influence relative to it says nothing; "
            "look at the measured numbers instead (--measure drop)"
        )
    return np.divide(weights, own, out=np.zeros_like(weights), where=own > 0)


def _check(skills: Sequence[Skill], weights: FloatArray, least: float, top: int | None) -> None:
    k = len(skills)
    if weights.shape != (k, k):
        raise GraphError(f"graph: weights of shape {weights.shape} do not fit {k} skills")
    if not np.isfinite(weights).all():
        row, column = np.argwhere(~np.isfinite(weights))[0]
        raise GraphError(f"graph: the weight {skills[row].id} -> {skills[column].id} is {weights[row, column]}")
    if not (math.isfinite(least) and least >= 0):
        raise GraphError(f"graph: least is {least}, expected a finite number of 0 or more")
    if top is not None and top < 1:
        raise GraphError(f"graph: top is {top}, expected 1 or more edges of a skill")


def _strongest(skills: Sequence[Skill], weights: FloatArray, least: float) -> Pairs:
    """Every pair above `least`, the strongest first; digits that differ between machines are rounded away."""
    lots = [np.zeros(0, dtype=_PAIR)]
    for row, own in enumerate(weights):  # a row at a time: a Python number for every pair at once would not fit
        columns = np.flatnonzero(own > least)
        lot = np.zeros(len(columns), dtype=_PAIR)
        lot["row"], lot["column"] = row, columns
        lot["weight"] = [float(f"{weight:.6g}") for weight in own[columns].tolist()]
        lots.append(lot[(lot["weight"] > least) & (columns != row)])
    pairs = np.concatenate(lots)
    return pairs[_order(skills, pairs)]


def _order(skills: Sequence[Skill], pairs: Pairs) -> NDArray[np.int64]:
    """The strongest first; ties by the ids, not by the order of the skills."""
    rank = np.argsort(sorted(range(len(skills)), key=lambda number: skills[number].id))  # rank: (k,), of each id
    return np.lexsort((rank[pairs["column"]], rank[pairs["row"]], -pairs["weight"]))


def _best_of_each(pairs: Pairs, top: int | None) -> NDArray[np.bool_]:
    """Which of the ordered pairs are among the first `top` into their column, `(pairs,)`."""
    if top is None or not len(pairs):
        return np.ones(len(pairs), dtype=bool)
    order = np.argsort(pairs["column"], kind="stable")
    columns = pairs["column"][order]
    best = np.zeros(len(pairs), dtype=bool)
    best[order] = np.arange(len(pairs)) - np.searchsorted(columns, columns) < top
    return best


def _edges(skills: Sequence[Skill], pairs: Pairs) -> list[Edge]:
    return [Edge(prerequisite=skills[i].id, target=skills[j].id, weight=weight) for weight, i, j in pairs.tolist()]


def _without_cycles(skills: Sequence[Skill], edges: Sequence[Edge]) -> tuple[list[Edge], tuple[Edge, ...]]:
    place = {skill.id: number for number, skill in enumerate(skills)}
    reach = np.eye(len(skills), dtype=bool)  # reach: (k, k), whether a path leads from row to column
    kept, dropped = [], []
    for edge in edges:
        start, end = place[edge.prerequisite], place[edge.target]
        if reach[end, start]:
            dropped.append(edge)
            continue
        kept.append(edge)
        if not reach[start, end]:
            reach[reach[:, start]] |= reach[end]
    return kept, tuple(dropped)
