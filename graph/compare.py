"""How well a graph agrees with another one, or with a measured influence: edges, order of pairs, helpers of a target.

Every figure comes with what a graph that says nothing gets on average, in closed form: so many edges put anywhere, or
all pairs in a random order. The reference is what is believed, not the truth.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prereq.graph.errors import GraphError
from prereq.graph.influence import Influence
from prereq.graph.rankings import area_under_curve, average_precision, chance_precision, ndcg, regret
from prereq.graph.skill_graph import SkillGraph

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Opinion:
    """What a graph or an influence says of pairs of skills, `(k, k)` each, entry (i, j) for i helping j."""

    ids: tuple[str, ...]
    weights: FloatArray  # 0 where there is no edge
    edges: BoolArray
    known: BoolArray  # pairs of which anything is said: off the diagonal all of a graph, of an influence its entries
    directed: bool

    @classmethod
    def of_graph(cls, graph: SkillGraph, least: float = 0.0) -> "Opinion":
        """Every edge counts; of a graph of kind influence those of a weight above `least`."""
        place = {name: number for number, name in enumerate(graph.ids)}
        weights, edges = np.zeros((len(graph), len(graph))), np.zeros((len(graph), len(graph)), dtype=bool)
        for edge in graph.edges:
            at = place[edge.prerequisite], place[edge.target]
            weights[at], edges[at] = edge.weight, graph.kind != "influence" or edge.weight > least
        if graph.kind == "similarity":
            weights, edges = np.where(edges, weights, weights.T), edges | edges.T
        return cls(graph.ids, weights, edges, ~np.eye(len(graph), dtype=bool), graph.kind != "similarity")

    @classmethod
    def of_influence(cls, influence: Influence, least: float = 0.0) -> "Opinion":
        """Entries above `least` are edges; the diagonal says nothing of pairs."""
        ids = tuple(dict.fromkeys((*influence.eval, *influence.train)))
        place = {name: number for number, name in enumerate(ids)}
        inside = np.ix_([place[name] for name in influence.train], [place[name] for name in influence.eval])
        weights, known = np.zeros((len(ids), len(ids))), np.zeros((len(ids), len(ids)), dtype=bool)
        weights[inside], known[inside] = influence.matrix, True
        np.fill_diagonal(known, False)
        return cls(ids, weights, known & (weights > least), known, True)

    def restricted(self, ids: Sequence[str]) -> "Opinion":
        """Of these skills only, in this order."""
        place = {name: number for number, name in enumerate(self.ids)}
        at = np.ix_([place[name] for name in ids], [place[name] for name in ids])
        return Opinion(tuple(ids), self.weights[at], self.edges[at], self.known[at], self.directed)

    def undirected(self) -> "Opinion":
        """Both directions say the stronger of the two."""
        said = np.where(self.known, self.weights, -np.inf)
        known = self.known | self.known.T
        weights = np.where(known, np.maximum(said, said.T), 0.0)
        return Opinion(self.ids, weights, self.edges | self.edges.T, known, False)


@dataclass(frozen=True, slots=True)
class Measure:
    """One figure; None where it is not defined (no edge, nothing measured)."""

    name: str
    value: float | None
    random: float | None  # what a graph that says nothing gets on average


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A graph beside a reference.

    Attributes:
        skills: In both.
        pairs: Compared; ordered where `directed`.
        directed: Both have a direction. Where one has none, neither counts one.
        edges, reference_edges, both: Edges among these pairs, of the graph, the reference, and the two.
        outside: Edges of the reference that are not among these pairs: a skill is only there, or nothing is known.
        linked: Pairs that both link, one way or the other, and the reference more one way than the other.
        targets: Skills that something helps by the reference, over which the figures of the ranking are means.
        measures: The figures.
    """

    skills: int
    pairs: int
    directed: bool
    edges: int
    reference_edges: int
    both: int
    outside: int
    linked: int
    targets: int
    measures: tuple[Measure, ...]


def compare(graph: Opinion, reference: Opinion, *, k: int = 5) -> Comparison:
    """Compare a graph with a reference over the skills that both have.

    Args:
        graph: What is judged.
        reference: What it is judged by.
        k: Of Regret@k.

    Raises:
        GraphError: Fewer than two skills in both, no pair of which both say anything, or k below 1.
    """
    if k < 1:
        raise GraphError(f"score: k of Regret@k is {k}, expected 1 or more")
    directed = graph.directed and reference.directed
    if not directed:
        graph, reference = graph.undirected(), reference.undirected()
    among = set(graph.ids)
    ids = [name for name in reference.ids if name in among]
    if len(ids) < 2:
        raise GraphError(
            f"score: the two have {len(ids)} skills in common, at least 2 are needed; the graph has "
            f"{', '.join(graph.ids[:3])} .., the reference {', '.join(reference.ids[:3])} .."
        )
    stated = int(reference.edges.sum()) // (1 if directed else 2)
    graph, reference = graph.restricted(ids), reference.restricted(ids)
    known = graph.known & reference.known
    pairs = known if directed else np.triu(known)
    if not pairs.any():
        raise GraphError("score: there is no pair of skills of which both say anything; see the rows of the influence")
    judged, believed = graph.edges[pairs], reference.edges[pairs]
    linked, agreement = _direction(graph, reference, known) if directed else (0, None)
    targets, ranking = _ranking(graph.weights, reference.weights, known, k)
    weights = graph.weights[pairs]
    return Comparison(
        skills=len(ids),
        pairs=len(judged),
        directed=directed,
        edges=int(judged.sum()),
        reference_edges=int(believed.sum()),
        both=int((judged & believed).sum()),
        outside=stated - int(believed.sum()),
        linked=linked,
        targets=targets,
        measures=(
            *_of_edges(judged, believed),
            Measure("average precision", average_precision(weights, believed), chance_precision(weights, believed)),
            Measure("AUC", area_under_curve(weights, believed), 0.5),
            Measure("direction", agreement, 0.5),
            *ranking,
        ),
    )


def _of_edges(judged: BoolArray, believed: BoolArray) -> tuple[Measure, ...]:
    """Precision, recall and F1 of edges; by chance as many edges hit their share."""
    found, wanted = int(judged.sum()), int(believed.sum())
    figures = []
    for hits in (float((judged & believed).sum()), found * wanted / len(judged)):  # these, and by chance
        precision = hits / found if found else None
        recall = hits / wanted if wanted else None
        figures.append((precision, recall, 2 * hits / (found + wanted) if found + wanted else None))
    names = ("precision", "recall", "F1")
    return tuple(Measure(*each) for each in zip(names, *figures, strict=True))


def _direction(graph: Opinion, reference: Opinion, known: BoolArray) -> tuple[int, float | None]:
    """Pairs that both link, and the share of them that both turn the same way; a pair that one leaves open is half."""
    both = known & known.T & (graph.edges | graph.edges.T) & (reference.edges | reference.edges.T)
    turns = []
    for opinion in (graph, reference):
        said = np.where(opinion.edges, opinion.weights, -np.inf)
        turns.append(np.where(said > said.T, 1, np.where(said < said.T, -1, 0)))
    linked = np.triu(both) & (turns[1] != 0)
    same = (turns[0] * turns[1])[linked]
    return len(same), float(np.mean((same + 1) / 2)) if len(same) else None


def _ranking(weights: FloatArray, gains: FloatArray, known: BoolArray, k: int) -> tuple[int, tuple[Measure, ...]]:
    """NDCG and Regret@k of the helpers of each target, `(k, k)` each: the means over targets, and how many."""
    rows = []
    for column in range(len(weights)):
        inside = known[:, column]
        scores, worth = weights[inside, column], gains[inside, column]
        if len(worth) > 1 and worth.max() > 0:
            nothing = np.zeros(len(worth))
            rows.append(
                [measure for said in (scores, nothing) for measure in (ndcg(said, worth), regret(said, worth, k))]
            )
    means = np.mean(rows, axis=0).tolist() if rows else [None] * 4
    return len(rows), (Measure("NDCG", means[0], means[2]), Measure(f"Regret@{k}", means[1], means[3]))
