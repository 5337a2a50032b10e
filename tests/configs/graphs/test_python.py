"""The default graph of Python programming, judged on the running interpreter's own standard library."""

import time
from collections import Counter
from pathlib import Path
from statistics import median

import pytest

from prereq.graph.load import load_graph
from prereq.graph.skill import compile_pattern
from prereq.selector.corpus.patterns import WINDOW, SkillMatcher
from prereq.selector.corpus.stdlib_source import definitions, stdlib_files

PATH = Path(__file__).resolve().parents[3] / "configs" / "graphs" / "python.yaml"


@pytest.fixture(scope="module")
def graph():
    return load_graph(PATH)


def test_it_is_one_connected_prerequisite_graph_of_the_promised_size(graph):
    assert graph.kind == "prerequisite"
    assert len(graph) >= 45
    assert all(skill.description and skill.aliases and skill.patterns for skill in graph.skills)
    joined = {graph.ids[0]}
    for _ in graph.ids:
        joined |= {other for node in joined for other in (*graph.prerequisites(node), *graph.targets(node))}
    assert joined == set(graph.ids)
    assert len(graph.stages()) <= 12


def test_it_leads_from_the_basics_to_the_deep_end(graph):
    assert {"names", "literals"} == set(graph.stages()[0])
    assert {"names", "functions", "classes", "iterators"} <= graph.ancestors("async")
    assert {"classes", "inheritance", "descriptors"} <= graph.ancestors("metaclasses")


def test_no_edge_is_implied_by_the_others(graph):
    for edge in graph.edges:
        others = [other for other in graph.prerequisites(edge.target) if other != edge.prerequisite]
        assert all(edge.prerequisite not in graph.ancestors(other) for other in others), str(edge)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("def walk(tree):\n    for child in tree:\n        yield from walk(child)\n", {"generators", "recursion"}),
        (
            "class Meta(type):\n    def __new__(mcs, name, bases, body):\n        return super().__new__(mcs, name)\n",
            {"metaclasses", "inheritance"},
        ),
        (
            "async def fetch(url):\n    async with session.get(url) as reply:\n        return await reply.json()\n",
            {"async", "context-managers"},
        ),
        ("squares = [n * n for n in range(10)]\n", {"comprehensions", "for-loops", "arithmetic"}),
        (
            "def __get__(self, instance, owner):\n    return instance.__dict__[self.name]\n",
            {"descriptors", "attribute-access"},
        ),
        (
            "match = re.match(r'\\d+', line)\nif match is None:\n    raise ValueError(line)\n",
            {"regular-expressions", "none", "raising"},
        ),
        ("A decorator takes a function and returns a wrapper function.", {"decorators"}),
        ("Guard the counter with a lock, or two threads will lose updates.", {"threads"}),
        ("The context manager closes the file object in the end.", {"context-managers", "files"}),
        ("header, size = struct.unpack('<4sI', data[:8])\n", {"bytes", "slicing", "tuples"}),
    ],
)
def test_known_snippets_get_their_skills(graph, text, expected):
    found = {graph.ids[index] for index in SkillMatcher(graph.skills).hits(text)}
    assert expected <= found


@pytest.mark.parametrize(
    "text", ["", "x = 1\n", "The cat sat on the mat and looked at the moon.", "def total(order):\n    pass\n"]
)
def test_plain_text_gets_no_skill(graph, text):
    assert SkillMatcher(graph.skills).hits(text) == {}


@pytest.mark.parametrize(
    "piece",
    [
        "a",
        " ",
        "[",
        "(",
        "\n",
        "'",
        "0",
        "_",
        "a.",
        "a, ",
        "a = ",
        "def a(",
        " def a(a)\n  a(",
        "[a for a, ",
        "@a\n",
        "a=a, *",
        "if a and ",
        "with a",
        "\n \n",
    ],
)
def test_no_pattern_backtracks_for_long(graph, piece):
    """Text made to provoke backtracking, as long as the most that the tagger shows to a pattern at once."""
    text = (piece * WINDOW)[:WINDOW]
    started = time.process_time()
    for skill in graph.skills:
        for pattern in skill.patterns:
            sum(1 for _ in compile_pattern(pattern, skill.id).finditer(text))
    # 300 patterns of linear time need some milliseconds, one of cubic time would need minutes
    assert time.process_time() - started < 5


@pytest.mark.slow
def test_every_skill_is_found_often_and_most_tags_say_something(graph):
    matcher = SkillMatcher(graph.skills)
    documents = []
    for _, path in stdlib_files():
        try:
            documents += [item.text for item in definitions(Path(path).read_bytes())]
        except (SyntaxError, UnicodeDecodeError):  # fixtures of the library's own tools
            continue
    found = [matcher.hits(text) for text in documents]
    count = Counter(graph.ids[index] for hits in found for index in hits)
    assert {skill_id: count[skill_id] for skill_id in graph.ids if count[skill_id] < 60} == {}
    assert 2 <= median(map(len, found)) <= 6
    assert max(count.values()) < 0.3 * len(documents)
    assert sum(1 for hits in found if not hits) < 0.1 * len(documents)
    assert sum(1 for number in count.values() if number < 0.1 * len(documents)) > 0.75 * len(graph)
