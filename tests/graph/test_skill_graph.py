"""The graph as a value: what it refuses, what it answers, what it turns into."""

import itertools
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prereq.graph.canonical import canonical_json
from prereq.graph.errors import GraphError
from prereq.graph.skill import Edge, Skill
from prereq.graph.skill_graph import SkillGraph, show_path

IDS = ("names", "loops", "functions", "closures", "decorators")


def make(*edges: str, ids=(), kind="prerequisite", on_cycle="error"):
    """A graph from texts such as `a>b` or `a>b:0.5`."""
    parsed = []
    for text in edges:
        ends, _, weight = text.partition(":")
        prerequisite, target = ends.split(">")
        parsed.append(Edge(prerequisite=prerequisite, target=target, weight=float(weight or 1)))
    names = ids or dict.fromkeys(end for edge in parsed for end in (edge.prerequisite, edge.target))
    return SkillGraph(kind, [Skill(id=name) for name in names], parsed, on_cycle=on_cycle)


@pytest.fixture
def diamond():
    return make("a>b", "a>c", "b>d", "c>d", "d>e", ids="edcbax")


def test_ids_and_skills_keep_the_order_given(diamond):
    assert diamond.ids == ("e", "d", "c", "b", "a", "x")
    assert [skill.id for skill in diamond.skills] == list(diamond.ids)
    assert len(diamond) == 6
    assert "a" in diamond
    assert "nothing" not in diamond


def test_neighbours_ancestors_and_descendants(diamond):
    assert diamond.prerequisites("d") == ("b", "c")
    assert diamond.targets("a") == ("b", "c")
    assert diamond.ancestors("e") == {"a", "b", "c", "d"}
    assert diamond.descendants("b") == {"d", "e"}
    assert diamond.ancestors("x") == frozenset()


def test_stages_and_longest_chain(diamond):
    assert diamond.stages() == [["a", "x"], ["b", "c"], ["d"], ["e"]]
    assert diamond.longest_chain() == ["a", "b", "d", "e"]


@pytest.mark.parametrize(
    ("mastered", "expected"),
    [("", ["a", "x"]), ("a", ["b", "c", "x"]), ("abx", ["c"]), ("abcx", ["d"]), ("abcdex", []), ("d", ["a", "e", "x"])],
)
def test_frontier_is_what_all_prerequisites_of_are_mastered(diamond, mastered, expected):
    assert diamond.frontier(mastered) == expected


@settings(max_examples=30, deadline=None)
@given(st.sets(st.sampled_from("abcdex")))
def test_mastering_the_frontier_again_and_again_follows_the_stages(mastered):
    graph = make("a>b", "a>c", "b>d", "c>d", "d>e", ids="edcbax")
    done = set(mastered)
    for _ in graph.stages():
        done.update(graph.frontier(done))
    assert done == set(graph.ids)


@pytest.mark.parametrize("question", ["skill", "prerequisites", "targets", "ancestors", "descendants"])
def test_an_unknown_id_is_an_error_with_the_nearest_name(question):
    graph = make("loops>functions")
    with pytest.raises(GraphError, match="no skill 'lops' in the graph; did you mean 'loops'"):
        getattr(graph, question)("lops")
    with pytest.raises(GraphError, match="no skill 'lops'"):
        graph.frontier(["lops"])
    with pytest.raises(GraphError, match="no skill 'lops'"):
        graph.subgraph(["lops"])


@pytest.mark.parametrize(
    ("edges", "options", "message"),
    [
        (["b>c", "c>a", "a>b"], {}, "prerequisites form a cycle: a -> b -> c -> a; .*on_cycle: condense"),
        (["a>b", "b>b"], {}, r"edge 2 \(b -> b\): a skill cannot be its own prerequisite"),
        (["a>b", "b>c", "a>b:2"], {}, r"edge 3 \(a -> b\): the same edge as edge 1"),
        (["a>b:-1"], {}, r"edge 1 \(a -> b\): weight is -1.0, a prerequisite graph takes 0 or more"),
        (["loops>lops"], {"ids": ("loops",)}, r"edge 1 \(loops -> lops\): unknown skill 'lops'; did you mean 'loops'"),
        (["a>b"], {"ids": ("a", "b", "a")}, "skill 3: id 'a' is already that of skill 1"),
        (["a>b", "b>a"], {"kind": "similarity"}, r"edge 2 \(b -> a\): the same edge as edge 1"),
        (
            ["a>b"],
            {"kind": "prerequisites"},
            "kind is 'prerequisites', expected one of .*; did you mean 'prerequisite'",
        ),
        (["a>b"], {"kind": None}, "kind is None"),
        (["a>b"], {"on_cycle": "merge"}, "on_cycle is 'merge', expected one of error, condense"),
        (["a>b", "a>b"], {"on_cycle": "condense"}, "the same edge as edge 1"),
    ],
)
def test_what_does_not_fit_together_is_refused(edges, options, message):
    with pytest.raises(GraphError, match=message):
        make(*edges, **options)


def test_a_graph_needs_a_skill():
    with pytest.raises(GraphError, match="no skills"):
        SkillGraph("prerequisite", [], [])


def test_other_kinds_may_be_cyclic_and_negative_but_have_no_stages():
    graph = make("a>b:-0.5", "b>a", kind="influence")
    assert graph.ancestors("a") == {"a", "b"}
    with pytest.raises(GraphError, match="the cycle a -> b -> a has no stages"):
        graph.stages()
    with pytest.raises(GraphError, match="has no longest chain"):
        graph.longest_chain()
    assert make("a>b:-0.5", kind="influence").stages() == [["a"], ["b"]]


def test_a_very_long_cycle_is_shortened_in_the_message():
    names = [f"s{number:03d}" for number in range(100)]
    with pytest.raises(GraphError, match=r"s000 -> s001 .* -> \(77 more\) -> .* -> s099 -> s000;"):
        make(*(f"{a}>{b}" for a, b in itertools.pairwise([*names, names[0]])))
    assert show_path(["a", "b"]) == "a -> b"


def test_subgraph_keeps_order_and_inner_edges(diamond):
    part = diamond.subgraph(["b", "d", "a"])
    assert part.ids == ("d", "b", "a")
    assert [str(edge) for edge in part.edges] == ["a -> b", "b -> d"]


def test_a_graph_cannot_be_changed_through_what_it_hands_out(diamond):
    before = diamond.digest()
    diamond.to_dict()["skills"].clear()
    diamond.merged["a"] = "b"
    with pytest.raises(AttributeError):
        diamond.kind = "influence"
    with pytest.raises(AttributeError):
        diamond.surprise = 1
    assert diamond.digest() == before
    assert diamond.merged == {}


def test_equal_graphs_are_equal_hash_alike_and_survive_pickle(diamond):
    again = SkillGraph.from_dict(diamond.to_dict())
    assert again == diamond
    assert hash(again) == hash(diamond)
    assert pickle.loads(pickle.dumps(diamond)) == diamond
    assert pickle.loads(pickle.dumps(diamond)).frontier("a") == diamond.frontier("a")
    assert diamond != make("a>b")
    assert diamond != "a graph"


def test_the_format_is_exactly_as_documented():
    skill = Skill(id="loops", name="Loops", description="again", aliases=("for loop",), patterns=(r"^for\b",))
    graph = SkillGraph("prerequisite", [skill, Skill(id="x")], [Edge(prerequisite="loops", target="x")])
    assert graph.to_dict() == {
        "format": "prereq.graph/1",
        "kind": "prerequisite",
        "skills": [
            {"id": "loops", "name": "Loops", "description": "again", "aliases": ["for loop"], "patterns": [r"^for\b"]},
            {"id": "x", "name": "x", "description": "", "aliases": [], "patterns": []},
        ],
        "edges": [{"prerequisite": "loops", "target": "x", "weight": 1.0}],
    }
    assert canonical_json(graph.to_dict()).startswith(b'{"edges":[{"prerequisite":"loops","target":"x","weight":1.0}]')


def entry(**changes):
    base = {"format": "prereq.graph/1", "kind": "prerequisite", "skills": [{"id": "a"}, {"id": "b"}], "edges": []}
    return {key: value for key, value in {**base, **changes}.items() if value is not ...}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "graph must be a mapping with 'format', 'kind', 'skills', 'edges', got list"),
        (None, "graph must be a mapping"),
        (entry(format="prereq.graph/2"), "format is 'prereq.graph/2', expected 'prereq.graph/1'"),
        (entry(format=...), "graph: missing 'format'"),
        (entry(kind=["prerequisite"]), "kind is \\['prerequisite'\\]"),
        (entry(skils=[]), "graph: unknown key 'skils'; did you mean 'skills'"),
        (entry(skills={}), "graph: skills must be a list, got dict"),
        (entry(edges=None), "graph: edges must be a list, got NoneType"),
        (entry(skills=[{"id": "a"}, "b"]), "skill 2 must be a mapping with 'id', got str"),
        (entry(skills=[{"id": "a"}, {"name": "b"}]), "skill 2: missing 'id'"),
        (entry(skills=[{"id": "a", "alias": []}]), "skill 1: unknown key 'alias'; did you mean 'aliases'"),
        (entry(skills=[{"id": "a", "name": None}]), "skill 'a': name must be text, got None"),
        (entry(edges=[{"prerequisite": "a"}]), "edge 1: missing 'target'"),
        (entry(edges=[["a", "b"]]), "edge 1 must be a mapping"),
        (
            entry(edges=[{"prerequisite": "a", "target": "b", "wieght": 2}]),
            "unknown key 'wieght'; did you mean 'weight'",
        ),
        (entry(edges=[{"prerequisite": "a", "target": "b", "weight": "2"}]), "weight must be a number, got '2'"),
    ],
)
def test_from_dict_refuses_other_shapes(data, message):
    with pytest.raises(GraphError, match=message):
        SkillGraph.from_dict(data)
