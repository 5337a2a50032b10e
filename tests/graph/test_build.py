"""Graphs from matrices: thresholds, the strongest of each skill, and no cycles."""

import numpy as np
import pytest

from prereq.graph import order
from prereq.graph.build import influence_weights, prerequisite_graph, similarity_graph
from prereq.graph.errors import GraphError
from prereq.graph.influence import Influence
from prereq.graph.skill import Edge, Skill

ABC = tuple(Skill(id=name) for name in "abc")
#                   to a   b    c
CYCLIC = np.array([[9.0, 0.9, 0.0], [0.8, 9.0, 0.5], [0.4, 0.0, 9.0]])


def arcs(edges: tuple[Edge, ...]) -> list[tuple[str, str, float]]:
    """Edges as plain values."""
    return [(edge.prerequisite, edge.target, edge.weight) for edge in edges]


def test_cycles_lose_their_weaker_edges_the_strongest_first() -> None:
    built = prerequisite_graph(ABC, CYCLIC)
    assert arcs(built.graph.edges) == [("a", "b", 0.9), ("b", "c", 0.5)]
    assert arcs(built.dropped) == [("b", "a", 0.8), ("c", "a", 0.4)]
    assert built.pairs == 4


def test_a_cycle_is_printed_where_it_is_refused() -> None:
    with pytest.raises(GraphError, match="a -> b -> a"):
        prerequisite_graph(ABC, CYCLIC, on_cycle="error")
    built = prerequisite_graph(ABC, CYCLIC, least=0.8, on_cycle="error")  # above, not at: 0.8 goes
    assert arcs(built.graph.edges) == [("a", "b", 0.9)]


def test_top_keeps_the_strongest_into_each_skill_ties_by_id() -> None:
    weights = np.array([[0, 0.5, 0], [0, 0, 0], [0, 0.5, 0]])
    assert arcs(prerequisite_graph(ABC, weights, top=1).graph.edges) == [("a", "b", 0.5)]


def test_similar_skills_are_linked_where_one_is_among_the_closest_of_the_other() -> None:
    near = np.array([[0, 0.9, 0.2], [0.9, 0, 0.3], [0.2, 0.3, 0]])
    built = similarity_graph(ABC, near, top=1)
    assert built.graph.kind == "similarity"
    assert arcs(built.graph.edges) == [("a", "b", 0.9), ("b", "c", 0.3)]  # b is the closest of c, not the other way
    assert arcs(similarity_graph(ABC, near, least=0.3).graph.edges) == [("a", "b", 0.9)]


def test_a_skill_in_the_middle_has_its_closest_on_both_sides() -> None:
    near = np.array([[0, 0.5, 0, 0.9], [0.5, 0, 0.6, 0], [0, 0.6, 0, 0.8], [0.9, 0, 0.8, 0]])
    skills = (*ABC, Skill(id="d"))
    assert arcs(similarity_graph(skills, near, top=1).graph.edges) == [
        ("a", "d", 0.9),
        ("c", "d", 0.8),
        ("b", "c", 0.6),
    ]
    rng = np.random.default_rng(1)
    for size in (3, 9):
        skills = tuple(Skill(id=f"s{number}") for number in rng.permutation(size))
        half = np.triu(rng.integers(0, 5, (size, size)) / 4, 1)
        weights = half + half.T
        expected = set()
        for own in range(size):
            ranked = sorted(
                (o for o in range(size) if weights[o, own] > 0), key=lambda o: (-weights[o, own], skills[o].id)
            )
            expected |= {frozenset((own, other)) for other in ranked[:2]}
        found = similarity_graph(skills, weights, top=2).graph.edges
        place = {skill.id: number for number, skill in enumerate(skills)}
        assert {frozenset((place[e.prerequisite], place[e.target])) for e in found} == expected


def test_any_matrix_gives_an_acyclic_graph_and_every_dropped_edge_would_have_closed_a_cycle() -> None:
    rng = np.random.default_rng(3)
    for size in (2, 5, 12):
        skills = tuple(Skill(id=f"s{number:02d}") for number in range(size))
        weights = rng.integers(-2, 6, (size, size)) / 4  # many ties
        built = prerequisite_graph(skills, weights)
        for edge in built.dropped:
            stronger = [e for e in built.graph.edges if (-e.weight, str(e)) < (-edge.weight, str(edge))]
            targets: dict[str, list[str]] = {skill.id: [] for skill in skills}
            for each in stronger:
                targets[each.prerequisite].append(each.target)
            assert edge.prerequisite in order.reachable(targets, [edge.target])
        turned = rng.permutation(size)
        again = prerequisite_graph([skills[i] for i in turned], weights[np.ix_(turned, turned)])
        assert again.graph.edges == built.graph.edges


def test_last_digits_decide_neither_weights_nor_ranks() -> None:
    weights = np.array([[0, 0.1 + 0.2, 0], [0, 0, 0], [0, np.nextafter(0.3, 0), 0]])
    assert arcs(prerequisite_graph(ABC, weights, top=1).graph.edges) == [("a", "b", 0.3)]


@pytest.mark.parametrize(
    ("weights", "settings", "message"),
    [
        (np.zeros((2, 3)), {}, "do not fit 3 skills"),
        (np.where(np.eye(3) > 0, 0, np.nan), {}, "a -> b is nan"),
        (np.zeros((3, 3)), {"least": -1.0}, "0 or more"),
        (np.zeros((3, 3)), {"least": float("nan")}, "0 or more"),
        (np.zeros((3, 3)), {"top": 0}, "1 or more"),
    ],
)
def test_what_makes_no_sense_is_refused(weights: np.ndarray, settings: dict[str, float], message: str) -> None:
    for make in (prerequisite_graph, similarity_graph):
        with pytest.raises(GraphError, match=message):
            make(ABC, weights, **settings)


def test_influence_is_relative_to_what_a_skill_does_for_itself() -> None:
    influence = Influence(("b", "a"), ("a", "b"), np.array([[0.1, 0.5], [0.2, 0.25]]))
    expected = np.array([[1.0, 0.5, 0.0], [0.5, 1.0, 0.0], [0.0, 0.0, 0.0]])  # c was not measured
    np.testing.assert_allclose(influence_weights(influence, "abc"), expected)
    np.testing.assert_allclose(influence_weights(influence, "abc", relative=False)[1], [0.1, 0.5, 0.0])
    with pytest.raises(GraphError, match="'b' is no skill of the graph"):
        influence_weights(influence, ("a", "c"))


def test_influence_without_a_skill_that_helps_itself_cannot_be_relative() -> None:
    apart = Influence(("a",), ("b",), np.array([[0.5]]))
    with pytest.raises(GraphError, match="--measure drop"):
        influence_weights(apart, "abc")
    assert influence_weights(apart, "abc", relative=False)[0, 1] == 0.5
