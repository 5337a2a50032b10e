"""Merging the skills of cycles."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prereq.graph import order
from prereq.graph.skill import Edge, Skill
from prereq.graph.skill_graph import SkillGraph


def edge(prerequisite, target, weight=1.0):
    return Edge(prerequisite=prerequisite, target=target, weight=weight)


def test_a_cycle_becomes_one_skill_by_the_stated_rule():
    skills = [
        Skill(id="z", name="Start"),
        Skill(id="c", name="Cee", description="third", aliases=("sea", "shared"), patterns=("c+",)),
        Skill(id="a", name="Ay", description="first", aliases=("shared",), patterns=("a+",)),
        Skill(id="b", name="Bee", aliases=("bee",)),
        Skill(id="q", name="End"),
    ]
    edges = [edge("a", "b"), edge("b", "c"), edge("c", "a"), edge("z", "b", 0.5), edge("z", "c", 2.0), edge("c", "q")]
    graph = SkillGraph("prerequisite", skills, edges, on_cycle="condense")
    assert graph.ids == ("z", "a", "q")
    merged = graph.skill("a")
    assert merged.name == "Ay / Bee / Cee"
    assert merged.description == "first\nthird"
    assert merged.aliases == ("shared", "bee", "sea")
    assert merged.patterns == ("a+", "c+")
    assert graph.merged == {"b": "a", "c": "a"}
    assert [(str(item), item.weight) for item in graph.edges] == [("z -> a", 2.0), ("a -> q", 1.0)]


def test_condensing_drops_edges_from_a_skill_to_itself():
    graph = SkillGraph(
        "prerequisite", [Skill(id="a"), Skill(id="b")], [edge("a", "a"), edge("a", "b")], on_cycle="condense"
    )
    assert [str(item) for item in graph.edges] == ["a -> b"]
    assert graph.merged == {}


def test_an_acyclic_graph_is_its_own_condensation():
    graph = SkillGraph("prerequisite", [Skill(id="a"), Skill(id="b")], [edge("a", "b", 0.25)])
    assert graph.condense() == graph
    assert SkillGraph("prerequisite", graph.skills, graph.edges, on_cycle="condense") == graph


def test_between_influences_of_equal_size_the_positive_one_stays_whatever_the_order():
    skills = [Skill(id=name) for name in "abc"]
    cycle = [edge("a", "b"), edge("b", "a")]
    for pair in itertools.permutations([edge("a", "c", -1.0), edge("b", "c", 1.0)]):
        graph = SkillGraph("influence", skills, [*cycle, *pair]).condense()
        assert [(str(item), item.weight) for item in graph.edges] == [("a -> c", 1.0)]


@settings(max_examples=50, deadline=None)
@given(st.sets(st.tuples(st.sampled_from("abcdef"), st.sampled_from("abcdef")), max_size=16))
def test_condensed_graphs_are_acyclic_and_keep_reachability(pairs):
    skills = [Skill(id=name) for name in "abcdef"]
    graph = SkillGraph("prerequisite", skills, [edge(a, b) for a, b in sorted(pairs)], on_cycle="condense")
    targets = {name: [b for a, b in sorted(pairs) if a == name] for name in "abcdef"}
    leader = {name: graph.merged.get(name, name) for name in "abcdef"}
    assert sorted(graph.ids) == sorted(set(leader.values()))
    for name in "abcdef":
        expected = {leader[other] for other in order.reachable(targets, [name])} - {leader[name]}
        assert graph.descendants(leader[name]) == expected
    assert graph.stages()


def test_merged_ids_stay_known_through_a_subgraph_and_a_second_condensation():
    skills = [Skill(id=name) for name in "abcd"]
    edges = [edge("a", "b"), edge("b", "a"), edge("c", "d"), edge("d", "c")]
    graph = SkillGraph("prerequisite", skills, edges, on_cycle="condense")
    assert graph.merged == {"b": "a", "d": "c"}
    assert graph.subgraph(["a"]).merged == {"b": "a"}
    assert graph.condense().merged == graph.merged


@pytest.mark.parametrize("kind", ["influence", "similarity"])
def test_only_prerequisite_graphs_condense_on_their_own(kind):
    graph = SkillGraph(
        kind, [Skill(id=name) for name in "abc"], [edge("a", "b"), edge("b", "c"), edge("c", "a")], on_cycle="condense"
    )
    assert len(graph) == 3
    assert graph.condense().ids == ("a",)
