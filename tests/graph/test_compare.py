"""Graphs beside a reference: figures worked out by hand on four skills."""

from collections.abc import Sequence

import numpy as np
import pytest

from prereq.graph.compare import Comparison, Opinion, compare
from prereq.graph.errors import GraphError
from prereq.graph.influence import Influence
from prereq.graph.skill import Edge, Skill
from prereq.graph.skill_graph import Kind, SkillGraph


def graph(edges: Sequence[tuple[str, str, float]], ids: str = "abcd", kind: Kind = "prerequisite") -> Opinion:
    """What a graph of few skills says."""
    return Opinion.of_graph(
        SkillGraph(kind, [Skill(id=i) for i in ids], [Edge(prerequisite=a, target=b, weight=w) for a, b, w in edges])
    )


REFERENCE = graph([("a", "b", 1.0), ("b", "c", 1.0), ("a", "d", 1.0)])
JUDGED = graph([("a", "b", 0.9), ("c", "b", 0.5), ("a", "c", 0.4)])


def figures(found: Comparison) -> dict[str, tuple[float | None, float | None]]:
    """Measures by name."""
    return {measure.name: (measure.value, measure.random) for measure in found.measures}


def test_four_skills_by_hand() -> None:
    found = compare(JUDGED, REFERENCE, k=1)
    assert (found.skills, found.pairs, found.directed) == (4, 12, True)
    assert (found.edges, found.reference_edges, found.both, found.outside) == (3, 3, 1, 0)
    measures = figures(found)
    for name in ("precision", "recall", "F1"):
        assert measures[name] == pytest.approx((1 / 3, 1 / 4))
    # the first is right; the other two are among nine zeros that end at rank 12
    assert measures["average precision"][0] == pytest.approx((1 + 2 * 3 / 12) / 3)
    assert measures["AUC"] == pytest.approx(((9 + 2 * 3.5) / 27, 0.5))
    assert found.linked == 2  # a and b the same way, b and c the other
    assert measures["direction"] == (0.5, 0.5)
    second, third = 1 / np.log2(3), 1 / 2  # discounts
    anywhere = (1 + second + third) / 3
    assert found.targets == 3
    assert measures["NDCG"] == pytest.approx(((1 + (second + third) / 2 + anywhere) / 3, anywhere))
    assert measures["Regret@1"] == pytest.approx(((0 + 1 + 2 / 3) / 3, 2 / 3))


def test_a_graph_agrees_with_itself() -> None:
    measures = figures(compare(REFERENCE, REFERENCE))
    assert {name for name, (value, _) in measures.items() if value == pytest.approx(1)} == set(measures) - {"Regret@5"}
    assert measures["Regret@5"] == (0, 0)  # three candidates: any five are all


def test_a_graph_without_edges_gets_what_chance_gets() -> None:
    measures = figures(compare(graph([]), REFERENCE, k=1))
    assert measures.pop("precision") == (None, None)
    assert measures.pop("direction") == (None, 0.5)
    for value, random in measures.values():
        assert value == pytest.approx(random)


def test_where_one_has_no_direction_none_counts() -> None:
    near = graph([("b", "a", 0.9), ("c", "d", 0.5)], kind="similarity")
    found = compare(near, REFERENCE)
    assert (found.directed, found.pairs, found.edges, found.reference_edges, found.both) == (False, 6, 2, 3, 1)
    assert figures(found)["direction"][0] is None
    assert figures(compare(REFERENCE, near))["recall"][0] == pytest.approx(1 / 2)


def test_without_direction_a_pair_has_the_stronger_weight_of_both_directions() -> None:
    near = graph([("b", "c", 1.0)], kind="similarity")  # JUDGED says c -> b .5, behind a -> b .9
    assert figures(compare(JUDGED, near))["average precision"][0] == pytest.approx(1 / 2)
    turned = figures(compare(near, JUDGED))  # helpers of c: b is worth .5, a .4; of b: a .9, c .5; of a: b .9, c .4
    assert turned["Regret@5"][0] == 0
    assert figures(compare(near, JUDGED, k=1))["Regret@1"][0] == pytest.approx((0 + 4 / 9 + (1 - 1.3 / 2.7)) / 3)


def test_skills_of_one_side_only_are_left_out_and_their_edges_counted() -> None:
    found = compare(graph([("a", "b", 1.0), ("b", "x", 1.0)], "xba"), REFERENCE)
    assert (found.skills, found.pairs, found.edges, found.reference_edges, found.outside) == (2, 2, 1, 1, 2)
    with pytest.raises(GraphError, match="1 skills in common"):
        compare(graph([], "ax"), REFERENCE)


def test_an_influence_is_judged_on_what_was_measured() -> None:
    measured = Influence(("a", "b"), ("b", "c"), np.array([[0.5, -0.1], [0.9, 0.4]]))
    found = compare(Opinion.of_influence(measured), REFERENCE, k=1)
    assert (found.skills, found.pairs, found.edges, found.reference_edges, found.outside) == (3, 3, 2, 2, 1)
    assert figures(found)["average precision"][0] == pytest.approx(1.0)
    stricter = compare(Opinion.of_influence(measured, least=0.45), REFERENCE)
    assert (stricter.edges, stricter.both) == (1, 1)


def test_what_harms_is_no_help_that_could_be_missed() -> None:
    """Of the helpers of c by measure, a harms: b is all there is to find."""
    measured = Influence(("a", "b"), ("c",), np.array([[-0.5], [0.4]]))
    found = compare(graph([("b", "c", 1.0)], "abc"), Opinion.of_influence(measured), k=1)
    assert found.targets == 1
    assert figures(found)["NDCG"][0] == pytest.approx(1.0)
    assert figures(found)["Regret@1"] == pytest.approx((0.0, 0.5))


def test_direction_of_an_influence_is_the_stronger_one() -> None:
    both_ways = Influence(tuple("ab"), tuple("ab"), np.array([[1.0, 0.2], [0.6, 1.0]]))
    opinion = Opinion.of_influence(both_ways)
    assert figures(compare(opinion, REFERENCE))["direction"][0] == 0.0
    found = compare(REFERENCE, opinion)
    assert (found.linked, figures(found)["direction"][0]) == (1, 0.0)


def test_a_direction_that_is_open_or_was_not_measured_does_not_count() -> None:
    even = graph([("a", "b", 0.5), ("b", "a", 0.5)], kind="influence")
    assert compare(JUDGED, even).linked == 0
    found = compare(even, REFERENCE)  # open on the judged side: half
    assert (found.linked, figures(found)["direction"][0]) == (1, 0.5)
    one_way = Opinion.of_influence(Influence(("a",), ("b",), np.array([[0.5]])))
    assert compare(one_way, REFERENCE).linked == 0


def test_the_order_of_skills_changes_nothing() -> None:
    turned = graph([("a", "c", 0.4), ("c", "b", 0.5), ("a", "b", 0.9)], "dcab")
    assert compare(turned, REFERENCE) == compare(JUDGED, REFERENCE)


def test_k_below_one_and_pairs_that_nobody_measured_are_refused() -> None:
    with pytest.raises(GraphError, match="1 or more"):
        compare(JUDGED, REFERENCE, k=0)
    own = Influence(("a",), ("a",), np.array([[1.0]]))
    other = Opinion.of_influence(Influence(("b",), ("b",), np.array([[1.0]])))
    with pytest.raises(GraphError, match="in common"):
        compare(Opinion.of_influence(own), other)
    crossed = Influence(("a",), ("b",), np.array([[1.0]])), Influence(("b",), ("a",), np.array([[1.0]]))
    with pytest.raises(GraphError, match="no pair"):
        compare(*(Opinion.of_influence(each) for each in crossed))
