"""Text and picture of a graph: what they say, and that hostile names stay text."""

import re
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prereq.graph.errors import GraphError
from prereq.graph.load import load_edges
from prereq.graph.render import describe, to_svg
from prereq.graph.skill import Edge, Skill
from prereq.graph.skill_graph import SkillGraph

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def graph():
    skills = [
        Skill(id="loops", name="Loops", aliases=("loop",)),
        Skill(id="generators", name="Generators", description="pause and go on"),
        Skill(id="async"),
        Skill(id="alone"),
    ]
    edges = [("loops", "generators"), ("generators", "async"), ("loops", "async")]
    return SkillGraph("prerequisite", skills, [Edge(prerequisite=a, target=b) for a, b in edges])


def texts(svg):
    return [element.text for element in ET.fromstring(svg).iter(f"{SVG}text")]


def test_describe_counts_stages_chain_and_loners(graph):
    assert describe(graph) == (
        "prerequisite graph: 4 skills, 3 edges\n"
        "3 stages; longest chain: loops -> generators -> async\n"
        "  stage 0: alone, loops\n"
        "  stage 1: generators\n"
        "  stage 2: async\n"
        "isolated skills: alone\n"
        "skills without aliases or patterns: generators, async, alone\n"
    )


def test_describe_of_a_similarity_graph_tells_groups_and_no_stages():
    edges = [Edge(prerequisite="d", target="b"), Edge(prerequisite="a", target="c"), Edge(prerequisite="b", target="e")]
    told = describe(SkillGraph("similarity", [Skill(id=name) for name in "abcdef"], edges))
    assert "2 groups of linked skills\n  3 skills: b, d, e\n  2 skills: a, c\nisolated skills: f\n" in told
    assert "stage" not in told


def test_describe_names_cycles_and_merged_skills():
    skills = [Skill(id="a"), Skill(id="b")]
    edges = [Edge(prerequisite="a", target="b"), Edge(prerequisite="b", target="a")]
    assert "has cycles, such as a -> b -> a\n" in describe(SkillGraph("influence", skills, edges))
    condensed = describe(SkillGraph("prerequisite", skills, edges, on_cycle="condense"))
    assert "merged because of cycles: b into a\n" in condensed
    assert "skills without aliases or patterns: all\n" in condensed


def test_every_skill_and_every_edge_is_drawn_once(graph):
    root = ET.fromstring(to_svg(graph))
    assert [found for found in texts(to_svg(graph)) if found in ("Loops", "Generators", "async", "alone")] == [
        "Loops",
        "Generators",
        "async",
        "alone",
    ]
    tips = [path.find(f"{SVG}title").text for path in root.iter(f"{SVG}path") if path.find(f"{SVG}title") is not None]
    assert sorted(tips) == ["generators -> async", "loops -> async", "loops -> generators"]
    assert "stage 2" in texts(to_svg(graph))
    assert "skills without an edge" in texts(to_svg(graph))
    assert "edge that a longer path implies" in texts(to_svg(graph))


def boxes(svg):
    """Fill and dash of each skill's box, by the first line of its tooltip."""
    found = {}
    for group in ET.fromstring(svg).iter(f"{SVG}g"):
        rect = group.find(f"{SVG}rect")
        found[group.find(f"{SVG}title").text.split("\n")[0]] = (rect.get("fill"), rect.get("stroke-dasharray"))
    return found


def test_fill_goes_from_pale_to_dark_and_unmeasured_is_dashed(graph):
    found = boxes(to_svg(graph, {"loops": 0.0, "generators": 1.0, "async": None}))
    assert found["Loops"] == ("#e6f0fa", None)
    assert found["Generators"] == ("#0c548c", None)
    assert found["async"] == found["alone"] == ("#ffffff", "4 3")
    assert {dash for _, dash in boxes(to_svg(graph)).values()} == {None}


def test_labels_and_tooltips(graph):
    svg = to_svg(graph, {"generators": 0.5}, {"generators": "2.31 to 1.04"}, title="A & B", fill_name="drop")
    assert "2.31 to 1.04" in texts(svg)
    assert "A & B" in texts(svg)
    assert "drop 0" in texts(svg)
    assert "Generators\ngenerators\npause and go on\n50%\n2.31 to 1.04" in [
        title.text for title in ET.fromstring(svg).iter(f"{SVG}title")
    ]


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan"), float("inf")])
def test_fill_out_of_range_is_refused(graph, value):
    with pytest.raises(GraphError, match=r"fill of 'loops' is .*, expected 0 to 1"):
        to_svg(graph, {"loops": value})


def test_fill_and_labels_for_unknown_skills_are_refused(graph):
    with pytest.raises(GraphError, match="fill names 'loop', no skill of it; did you mean 'loops'"):
        to_svg(graph, {"loop": 0.5})
    with pytest.raises(GraphError, match="labels names 'x'"):
        to_svg(graph, None, {"x": "y"})


HOSTILE = [
    "<script>alert(1)</script>",
    "\"><img src=x onerror='alert(1)'>",
    "]]></svg><script>",
    "&lt;b&gt; &amp; &#0;",
    "{x} {text} %s",
    "\x00\x1b[31m\x07\ufffe\uffff",
    "\u202egpj.exe",
    "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 " * 20,
    "漢字" * 40,
]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_names_stay_text(text):
    skills = [Skill(id="a", name=text, description=text), Skill(id="b<i>&'\"", name="b")]
    graph = SkillGraph("prerequisite", skills, [Edge(prerequisite="a", target="b<i>&'\"")])
    svg = to_svg(graph, {"a": 0.5}, {"a": text}, title=text, fill_name=text)
    root = ET.fromstring(svg)  # well-formed, or this raises
    allowed = {"svg", "title", "rect", "text", "path", "g"}
    assert {element.tag.removeprefix(SVG) for element in root.iter()} <= allowed
    names = {name for element in root.iter() for name in element.attrib}
    assert not {name for name in names if name.startswith("on") or name in ("href", "style", "id", "class")}
    assert "<script" not in svg
    assert "<img" not in svg
    assert "\x1b" not in describe(graph)
    assert all(character == "\n" or character.isprintable() for character in describe(graph))


@given(st.text(max_size=40), st.text(max_size=40))
@settings(max_examples=50, deadline=None)
def test_any_name_and_label_give_well_formed_xml_that_fits(name, label):
    try:
        graph = SkillGraph("prerequisite", [Skill(id="a", name=name)], [])
    except GraphError:
        assert re.search("[\ud800-\udfff]", name)
        return
    svg = to_svg(graph, None, {"a": label})
    assert all(len(line or "") <= 40 for line in texts(svg))


def test_the_picture_is_self_contained_and_the_same_every_time(graph):
    svg = to_svg(graph, {"loops": 0.3})
    assert svg == to_svg(graph, {"loops": 0.3})
    assert re.findall(r"https?://[^\"]*", svg) == ["http://www.w3.org/2000/svg"]
    assert "url(" not in svg


def test_cyclic_graphs_are_drawn_too():
    skills = [Skill(id=name) for name in "abc"]
    edges = [Edge(prerequisite=a, target=b, weight=-1.0) for a, b in ("ab", "ba", "bc")]
    assert len(re.findall("<path", to_svg(SkillGraph("influence", skills, edges)))) == 3


@pytest.mark.data
def test_real_graphs_are_drawn_inside_their_frame(data_dir):
    for folder in ("metacademy", "exercism", "dm_mathematics"):
        graph = load_edges(data_dir / folder / "edges.csv")
        root = ET.fromstring(to_svg(graph))
        width, height = float(root.get("width")), float(root.get("height"))
        frames = [group.find(f"{SVG}rect") for group in root.iter(f"{SVG}g")]
        assert len(frames) == len(graph)
        for frame in frames:
            x, y, w, h = (float(frame.get(key)) for key in ("x", "y", "width", "height"))
            assert x >= 0
            assert y >= 0
            assert x + w <= width
            assert y + h <= height
