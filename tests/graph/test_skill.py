"""What makes one skill or one edge valid."""

import math

import pytest

from prereq.graph.errors import GraphError
from prereq.graph.skill import Edge, Skill, check_keys, compile_pattern, nearest


@pytest.mark.parametrize(
    "skill_id", ["loops", "python/aliasing", "K.CC.A.1", "c++", "a b", "späte-Bindung", "3", "a:b", ".5"]
)
def test_ordinary_ids_are_legal(skill_id):
    assert Skill(id=skill_id).name == skill_id


@pytest.mark.parametrize(
    ("skill_id", "reason"),
    [
        ("", "is empty"),
        (" loops", "blanks at its ends"),
        ("loops\n", "blanks at its ends"),
        ("a\x00b", "control or invisible"),
        ("a\x1b[2Jb", "control or invisible"),
        ("a\u202eb", "control or invisible"),
        ("a\u200bb", "control or invisible"),
        ("a\ud800b", "control or invisible"),
        ("../loops", "between slashes"),
        ("a/../b", "between slashes"),
        ("/etc/passwd", "between slashes"),
        ("a//b", "between slashes"),
        ("a\\b", "backslash"),
        ("e\u0301", "NFC"),
        ("_none", "reserved"),
        (True, "must be text"),
        (1.0, "must be text"),
        (None, "must be text"),
    ],
)
def test_ids_that_could_mislead_or_escape_are_refused(skill_id, reason):
    with pytest.raises(GraphError, match=reason):
        Skill(id=skill_id)
    with pytest.raises(GraphError, match=reason):
        Edge(prerequisite="a", target=skill_id)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": 3}, "skill 'x': name must be text, got 3"),
        ({"description": None}, "skill 'x': description must be text"),
        ({"description": "\udcff"}, "cannot be written as UTF-8"),
        ({"aliases": "loop"}, "aliases must be a list of texts, got 'loop'"),
        ({"aliases": ("loop", 3)}, "aliases must be text, got 3"),
        ({"aliases": (" ",)}, "blank entry"),
        ({"patterns": ("a(b",)}, r"skill 'x': pattern 'a\(b' is not a regular expression: missing \)"),
        ({"patterns": ("[[a]",)}, "is not a regular expression: Possible nested set"),
        ({"patterns": ("a{99999999999}",)}, "is not a regular expression"),
        ({"patterns": ("x*",)}, r"pattern 'x\*' matches the empty text"),
        ({"patterns": ("^",)}, "matches the empty text"),
    ],
)
def test_bad_fields_name_the_skill_and_the_value(fields, message):
    with pytest.raises(GraphError, match=message):
        Skill(id="x", **fields)


def test_lists_become_tuples_so_that_a_skill_is_hashable_and_fixed():
    skill = Skill(id="x", aliases=["loop"], patterns=["for"])
    assert (skill.aliases, skill.patterns) == (("loop",), ("for",))
    assert hash(skill) == hash(Skill(id="x", aliases=("loop",), patterns=("for",)))


def test_patterns_are_multiline():
    assert compile_pattern("^yield", "here").findall("a\nyield b\nyield c") == ["yield", "yield"]


@pytest.mark.parametrize("weight", [math.nan, math.inf, -math.inf, 10**400, "1", True, None])
def test_weights_that_are_no_finite_numbers_name_the_edge(weight):
    with pytest.raises(GraphError, match="edge a -> b: weight must be"):
        Edge(prerequisite="a", target="b", weight=weight)


def test_an_integer_weight_becomes_a_float():
    assert isinstance(Edge(prerequisite="a", target="b", weight=2).weight, float)


def test_nearest_gives_a_hint_only_where_something_is_close():
    assert nearest("lops", ["loops", "strings"]) == "; did you mean 'loops'"
    assert nearest("zzz", ["loops", "strings"]) == ""


def test_check_keys_names_unknown_and_missing_keys():
    assert check_keys({"id": 1}, ("id",), ("name",), "skill 1") == {"id": 1}
    with pytest.raises(GraphError, match="skill 1: unknown key 'nmae'; did you mean 'name'; known keys: 'id', 'name'"):
        check_keys({"id": 1, "nmae": 2}, ("id",), ("name",), "skill 1")
    with pytest.raises(GraphError, match="skill 1: missing 'id'"):
        check_keys({"name": 1}, ("id",), ("name",), "skill 1")
    with pytest.raises(GraphError, match="skill 1 must be a mapping with 'id', got list"):
        check_keys([], ("id",), (), "skill 1")
    with pytest.raises(GraphError, match="unknown key 3"):
        check_keys({3: 1}, ("id",), (), "skill 1")
