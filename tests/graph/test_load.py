"""Graphs as files: round trips, hostile and damaged content, edge lists, the real graphs."""

import csv
import gzip
import json
import os
import re
import stat

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prereq.graph.canonical import canonical_json
from prereq.graph.errors import GraphError
from prereq.graph.load import load_edges, load_graph, read_text, save_edges, save_graph, write_whole
from prereq.graph.skill import Edge, Skill
from prereq.graph.skill_graph import SkillGraph

HEAD = "format: prereq.graph/1\nkind: prerequisite\n"
SMALL = (
    HEAD + "skills:\n  - id: a\n  - {id: b, name: Bee, aliases: [two b]}\nedges:\n  - {prerequisite: a, target: b}\n"
)

words = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
terms = words.filter(str.strip)
ids = st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=6).filter(lambda text: text.isascii())


@st.composite
def graphs(draw):
    names = draw(st.lists(ids, min_size=1, max_size=5, unique=True))
    skills = [
        Skill(
            id=name,
            name=draw(words),
            description=draw(words),
            aliases=tuple(draw(st.lists(terms, max_size=2))),
            patterns=tuple(re.escape(term) for term in draw(st.lists(terms, max_size=2))),
        )
        for name in names
    ]
    pairs = [(a, b) for a in names for b in names if names.index(a) < names.index(b)]
    weights = st.floats(0, 1e300)
    chosen = draw(st.lists(st.sampled_from(pairs), unique=True)) if pairs else []
    edges = [Edge(prerequisite=a, target=b, weight=draw(weights)) for a, b in chosen]
    return SkillGraph("prerequisite", skills, edges)


@pytest.mark.parametrize("suffix", [".json", ".yaml"])
@given(graph=graphs())
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_graph_survives_its_file(tmp_path, suffix, graph):
    path = tmp_path / f"graph{suffix}"
    save_graph(graph, path)
    assert load_graph(path) == graph


def test_json_files_are_canonical_and_yaml_files_leave_defaults_out(tmp_path):
    graph = SkillGraph.from_dict(_parse(SMALL))
    save_graph(graph, tmp_path / "g.json")
    assert (tmp_path / "g.json").read_bytes() == canonical_json(graph.to_dict())
    save_graph(graph, tmp_path / "g.yml")
    assert (tmp_path / "g.yml").read_text() == (
        "format: prereq.graph/1\nkind: prerequisite\nskills:\n- {id: a}\n- id: b\n  name: Bee\n  aliases: [two b]\n"
        "edges:\n- {prerequisite: a, target: b}\n"
    )


def _parse(text):
    import yaml

    return yaml.safe_load(text)


def load_text(tmp_path, text, name="g.yaml", **options):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_graph(path, **options)


def test_a_readable_yaml_file_with_a_byte_order_mark(tmp_path):
    graph = load_text(tmp_path, "\ufeff" + SMALL)
    assert graph.skill("b") == Skill(id="b", name="Bee", aliases=("two b",))
    assert graph.edges == (Edge(prerequisite="a", target="b"),)


CYCLE = HEAD + "skills: [{id: a}, {id: b}]\nedges: [{prerequisite: a, target: b}, {prerequisite: b, target: a}]\n"


def test_on_cycle_reaches_the_graph(tmp_path):
    with pytest.raises(GraphError, match=r"g\.yaml: prerequisites form a cycle: a -> b -> a"):
        load_text(tmp_path, CYCLE)
    assert load_text(tmp_path, CYCLE, on_cycle="condense").merged == {"b": "a"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        ("# only a comment\n", "the file is empty"),
        ("just words", "graph must be a mapping"),
        ("a: [", "not plain YAML: while parsing"),
        ("a: 1\n---\nb: 2\n", "not plain YAML: expected a single document"),
        (
            SMALL.replace("name: Bee", "name: !!python/object/apply:os.system ['true']"),
            "tag 'tag:yaml.org,2002:python/",
        ),
        (SMALL.replace("name: Bee", "name: !include secret"), "line 5: the YAML tag '!include' is refused"),
        (SMALL.replace("name: Bee", "name: !!binary aGk="), "tag 'tag:yaml.org,2002:binary' is refused"),
        (
            SMALL.replace("[two b]", "&x [two b]").replace("target: b", "target: *x"),
            "line 7: YAML aliases are refused|line 5: YAML aliases",
        ),
        ("format: &a [*a]\n", "YAML aliases are refused|not plain YAML"),
        (SMALL + "kind: similarity\n", "the key 'kind' is not text or appears twice"),
        ("? [a, b]\n: 1\n", "is not text or appears twice"),
        (SMALL.replace("id: a", "id: yes"), r"a skill id must be text, got True \(bool\); quote it"),
        (SMALL.replace("id: a", "id: 3.10"), r"a skill id must be text, got 3.1 \(float\); quote it"),
        (SMALL.replace("id: a", "id: 2024-01-01"), r"must be text, got datetime.date\(2024, 1, 1\)"),
        (SMALL.replace("target: b", "target: b, weight: .nan"), "edge a -> b: weight must be finite, got nan"),
        (SMALL.replace("target: b", "target: bb"), r"edge 1 \(a -> bb\): unknown skill 'bb'; did you mean 'b'"),
        ("[" * 2000, "not plain YAML"),
        (b"format: \xff\n", "not UTF-8"),
    ],
)
def test_hostile_or_damaged_yaml(tmp_path, text, message):
    with pytest.raises(GraphError, match=f"g.yaml: .*(?:{message})"):
        load_text(tmp_path, text)


def test_a_yaml_bomb_is_refused_before_it_grows(tmp_path):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30)]
    with pytest.raises(GraphError, match="aliases are refused"):
        load_text(tmp_path, "\n".join(lines))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not JSON"),
        ("[]", "graph must be a mapping"),
        ('{"format": "prereq.graph/1"', "not JSON"),
        ('{"format": "a", "format": "b"}', "key 'format' appears twice"),
        ("[" * 100_000, "not JSON"),
        ("1" * 10_000, "not JSON"),
        (json.dumps({**_parse(SMALL), "skills": [{"id": "\ud800"}]}), "control or invisible"),
        (json.dumps({**_parse(SMALL), "skills": [{"id": "a", "name": "\ud800"}]}), "cannot be written as UTF-8"),
        (json.dumps(_parse(SMALL)).replace('"b"}]', '"b", "weight": NaN}]'), "weight must be finite, got nan"),
        (json.dumps(_parse(SMALL)).replace('"b"}]', '"b", "weight": 1e999}]'), "weight must be finite, got inf"),
    ],
)
def test_hostile_or_damaged_json(tmp_path, text, message):
    with pytest.raises(GraphError, match=f"g.json: .*{message}"):
        load_text(tmp_path, text, "g.json")


def test_paths_that_cannot_be_read_or_written(tmp_path):
    with pytest.raises(GraphError, match=r"nothing\.json: cannot be read"):
        load_graph(tmp_path / "nothing.json")
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(GraphError, match=r"folder\.json: cannot be read"):
        load_graph(tmp_path / "folder.json")
    with pytest.raises(GraphError, match=r"a graph file ends in \.json, \.yaml, \.yml, got '\.txt'"):
        load_graph(tmp_path / "graph.txt")
    graph = SkillGraph("prerequisite", [Skill(id="a")], [])
    with pytest.raises(GraphError, match=r"got '\.csv'"):
        save_graph(graph, tmp_path / "graph.csv")
    with pytest.raises(GraphError, match="cannot be written"):
        save_graph(graph, tmp_path / "no" / "graph.json")
    with pytest.raises(GraphError, match="cannot be written"):
        save_graph(graph, tmp_path / "folder.json")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder.json"]


def test_write_whole_replaces_and_follows_the_umask(tmp_path):
    path = tmp_path / "file"
    before = os.umask(0o027)
    try:
        write_whole(path, b"one")
        write_whole(path, b"two")
    finally:
        os.umask(before)
    assert path.read_bytes() == b"two"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert list(tmp_path.iterdir()) == [path]


def test_read_text_unpacks_gz_and_refuses_a_cut_one(tmp_path):
    path = tmp_path / "x.jsonl.gz"
    whole = gzip.compress(b"text" * 1000)
    path.write_bytes(whole)
    assert read_text(path) == "text" * 1000
    for damaged in (whole[:-9], b"not gzip", whole[:10] + b"\xff" * 20):
        path.write_bytes(damaged)
        with pytest.raises(GraphError, match=r"x\.jsonl\.gz: cannot be read"):
            read_text(path)


def edges_file(tmp_path, text):
    path = tmp_path / "edges.csv"
    path.write_text(text, newline="")
    return path


def test_edge_lists_take_weights_other_columns_and_any_order_of_columns(tmp_path):
    path = edges_file(tmp_path, '\ufeffbasis, target ,prerequisite,weight\r\nguess,b,a,0.5\r\n\r\n"x, y",c, a ,2\r\n')
    graph = load_edges(path)
    assert graph.ids == ("a", "b", "c")
    assert [(str(edge), edge.weight) for edge in graph.edges] == [("a -> b", 0.5), ("a -> c", 2.0)]


def test_edges_without_weights_weigh_one_and_kinds_pass_through(tmp_path):
    graph = load_edges(edges_file(tmp_path, "prerequisite,target\na,b\nb,a\n"), kind="influence")
    assert graph.kind == "influence"
    assert {edge.weight for edge in graph.edges} == {1.0}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no column 'prerequisite' in the header ''"),
        (
            "prerequisit,target\na,b\n",
            "no column 'prerequisite' in the header 'prerequisit,target'; did you mean 'prerequisit'",
        ),
        ("prerequisite,target,target\na,b,c\n", "a column appears twice"),
        ("prerequisite,target\na,b\na\n", "line 3: 1 cells, the header has 2"),
        ("prerequisite,target\na,b,c\n", "line 2: 3 cells, the header has 2"),
        ("prerequisite,target\na,\n", "line 2: target is empty"),
        ("prerequisite,target,weight\na,b,\n", "line 2: weight is '', expected a number"),
        ("prerequisite,target,weight\na,b,much\n", "line 2: weight is 'much', expected a number"),
        ("prerequisite,target,weight\na,b,inf\n", "line 2: edge a -> b: weight must be finite, got inf"),
        ("prerequisite,target\na,../b\n", "line 2: skill id '../b'"),
        ('prerequisite,target\na,"b\n', "line 2: not CSV|line 3: not CSV"),
        ("prerequisite,target\na,b\nb,c\nc,a\n", "prerequisites form a cycle: a -> b -> c -> a"),
        ("prerequisite,target\n", "no skills"),
    ],
)
def test_damaged_edge_lists_name_file_and_line(tmp_path, text, message):
    with pytest.raises(GraphError, match=f"edges.csv.*(?:{message})"):
        load_edges(edges_file(tmp_path, text))


def test_skills_come_from_json_lines_under_either_set_of_names(tmp_path):
    skills = tmp_path / "skills.jsonl"
    rows = [
        {"id": "a", "name": "Ay", "description": "d", "aliases": ["x"], "patterns": ["y"], "books": [1, 2]},
        {"skill_id": "b", "title": "Bee"},
        {"id": "c", "skill_id": "c", "name": "Cee", "title": "another heading"},
    ]
    skills.write_text("\n\n".join(json.dumps(row) for row in rows))
    graph = load_edges(edges_file(tmp_path, "prerequisite,target\na,b\n"), skills)
    assert graph.skill("a") == Skill(id="a", name="Ay", description="d", aliases=("x",), patterns=("y",))
    assert [skill.name for skill in graph.skills] == ["Ay", "Bee", "Cee"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("[]", "line 2: expected an object, got list"),
        ("{", "line 2: not JSON"),
        ('{"name": "x"}', "line 2: neither 'id' nor 'skill_id'"),
        ('{"id": "x", "skill_id": "y"}', "line 2: id is 'x' and skill_id is 'y'"),
        ('{"id": 3}', "line 2: a skill id must be text, got 3"),
        ('{"id": "x", "patterns": ["("]}', "line 2: skill 'x': pattern"),
    ],
)
def test_damaged_skills_name_file_and_line(tmp_path, row, message):
    skills = tmp_path / "skills.jsonl"
    skills.write_text('{"id": "a"}\n' + row)
    with pytest.raises(GraphError, match=f"skills.jsonl {message}"):
        load_edges(edges_file(tmp_path, "prerequisite,target\na,a2\n"), skills)


def test_an_edge_to_an_unlisted_skill_is_an_error_or_adds_it(tmp_path):
    skills = tmp_path / "skills.jsonl"
    skills.write_text('{"id": "loops"}\n{"id": "names"}\n')
    edges = edges_file(tmp_path, "prerequisite,target\nnames,loop\n")
    with pytest.raises(
        GraphError, match=r"with the skills of .*: edge 1 \(names -> loop\): unknown skill 'loop'; did you mean"
    ):
        load_edges(edges, skills)
    assert load_edges(edges, skills, on_unknown="add").ids == ("loops", "names", "loop")


@pytest.mark.data
def test_metacademy_is_a_dag_whose_longest_chain_has_18_concepts(data_dir):
    graph = load_edges(data_dir / "metacademy" / "edges.csv")
    assert (len(graph), len(graph.edges)) == (391, 964)
    assert len(graph.longest_chain()) == len(graph.stages()) == 18
    assert all(edge.target in graph.descendants(edge.prerequisite) for edge in graph.edges)


@pytest.mark.data
def test_exercism_has_410_edges_one_of_them_to_a_skill_that_its_list_lacks(data_dir):
    folder = data_dir / "exercism"
    with pytest.raises(
        GraphError, match="unknown skill 'python/comprehensions'; did you mean 'python/list-comprehensions'"
    ):
        load_edges(folder / "edges.csv", folder / "skills.jsonl")
    graph = load_edges(folder / "edges.csv", folder / "skills.jsonl", on_unknown="add")
    assert (len(graph), len(graph.edges)) == (233, 410)
    assert graph.skill("python/aliasing").name == "Aliasing"


@pytest.mark.data
def test_the_cycles_of_ccss_are_reported_and_condensed(data_dir, tmp_path):
    source = data_dir / "ccss_coherence" / "edges.csv"
    with pytest.raises(GraphError, match=r"ccss_coherence/edges\.csv line 47: prerequisite is empty"):
        load_edges(source)
    with open(source, encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["edge_type"] == "Arrow" and row["prerequisite"]]
    pairs = sorted({(row["prerequisite"], row["target"]) for row in rows})
    itself = [pair for pair in pairs if pair[0] == pair[1]]
    write = lambda chosen: edges_file(tmp_path, "prerequisite,target\n" + "".join(f"{a},{b}\n" for a, b in chosen))  # noqa: E731
    with pytest.raises(GraphError, match="cannot be its own prerequisite"):
        load_edges(write(pairs))
    with pytest.raises(GraphError, match=r"form a cycle: (\S+) -> \S+ -> \1;"):
        load_edges(write(pair for pair in pairs if pair not in itself))
    graph = load_edges(write(pairs), on_cycle="condense")
    assert len(itself) > 0
    assert len(graph.merged) == 2
    assert len(graph.stages()) > 5


def test_edges_written_as_csv_come_back_and_other_kinds_are_refused(tmp_path):
    edges = [Edge(prerequisite='a,"b"', target="é", weight=1 / 3), Edge(prerequisite="é", target="c", weight=2.0)]
    graph = SkillGraph("prerequisite", [Skill(id='a,"b"'), Skill(id="é"), Skill(id="c")], edges)
    save_edges(graph, tmp_path / "e.csv")
    assert load_edges(tmp_path / "e.csv") == graph
    with pytest.raises(GraphError, match=r"this graph is of kind similarity; write \.json"):
        save_edges(SkillGraph("similarity", graph.skills, edges), tmp_path / "s.csv")
