"""Labels of the data and terms of the graph, as weak labels."""

import time

import pyarrow as pa
import pytest

from prereq.graph.errors import TableError
from prereq.graph.skill import Skill
from prereq.selector.corpus.keys import id_keys
from prereq.selector.corpus.patterns import SkillMatcher
from prereq.selector.corpus.weak_labels import WEAK_SCHEMA, LabelReader, weak_labels

SKILLS = (Skill(id="loops", aliases=("loop",)), Skill(id="lists", aliases=("list",)))
READER = LabelReader.of(["loops", "lists"], {"while": "loops"}, ignore_unknown=False)


def documents(*rows: tuple[str, str, list[str] | None]) -> pa.Table:
    columns = {
        "id": [name for name, _, _ in rows],
        "text": pa.array([text for _, text, _ in rows], pa.large_string()),
        "place": [f"file.jsonl:{n}" for n, _ in enumerate(rows, 1)],
        "labels": pa.array([labels for _, _, labels in rows], pa.list_(pa.string())),
    }
    return pa.table(columns)


def find(table: pa.Table, reader: LabelReader | None = READER, min_hits: int = 1) -> tuple[pa.Table, dict[str, int]]:
    return weak_labels(table, reader=reader, matcher=SkillMatcher(SKILLS), min_hits=min_hits, timeout_s=60)


def test_labels_and_terms_together() -> None:
    table, counts = find(documents(("a", "a list, a list", ["while", "loops"]), ("b", "nothing", None)))
    assert table.schema == WEAK_SCHEMA
    assert table.to_pylist() == [
        {"id": "a", "key": int(id_keys(["a"])[0]), "skills": [0, 1], "hits": [0, 2], "stated": [True, False]},
        {"id": "b", "key": int(id_keys(["b"])[0]), "skills": [], "hits": [], "stated": []},
    ]
    assert counts == {"documents": 2, "stated": 1, "matched": 1, "ignored labels": 0}


def test_few_hits_do_not_count_but_labels_always_do() -> None:
    table, _ = find(documents(("a", "one loop, a list, a list", []), ("b", "one loop", ["loops"])), min_hits=2)
    assert table["skills"].to_pylist() == [[1], [0]]
    assert table["hits"].to_pylist() == [[2], [1]]


def test_without_a_reader_labels_are_not_looked_at() -> None:
    table, counts = find(documents(("a", "loop", ["no such skill"])), reader=None)
    assert table["skills"].to_pylist() == [[0]]
    assert counts["stated"] == 0


def test_without_a_matcher_texts_are_not_looked_at() -> None:
    table, _ = weak_labels(documents(("a", "loop", ["lists"])), reader=READER, matcher=None, min_hits=1, timeout_s=1)
    assert table["skills"].to_pylist() == [[1]]


def test_an_unknown_label_names_document_place_and_nearest_skill() -> None:
    message = (
        "document 'b' \\(file.jsonl:2\\) is labelled with skill 'loop'.*did you mean 'loops'.*unknown_labels: ignore"
    )
    with pytest.raises(TableError, match=message):
        find(documents(("a", "", ["loops"]), ("b", "", ["loop"])))


def test_unknown_labels_can_be_ignored_and_are_counted() -> None:
    reader = LabelReader.of(["loops"], {}, ignore_unknown=True)
    table, counts = find(documents(("a", "", ["x", "loops", "y"])), reader)
    assert table["skills"].to_pylist() == [[0]]
    assert counts["ignored labels"] == 2


def test_patterns_that_backtrack_end_in_an_error_naming_skill_and_document() -> None:
    matcher = SkillMatcher([Skill(id="bad", patterns=("(?:a+)+b",))])
    table = documents(("fine", "b", []), ("slow", "a" * 60 + " ab", []))
    start = time.monotonic()
    with pytest.raises(TableError, match=r"document 'slow': pattern .* of skill 'bad' takes more than .* = 0.3 s"):
        weak_labels(table, reader=None, matcher=matcher, min_hits=1, timeout_s=0.3)
    assert time.monotonic() - start < 5
