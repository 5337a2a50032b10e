"""Rows to documents: fields, labels, filters, ids, and everything that a row can get wrong."""

import datetime
from typing import Any

import pyarrow as pa
import pytest

from prereq.graph.errors import ConfigError
from prereq.selector.corpus.documents import (
    Document,
    DocumentTable,
    IngestConfig,
    Reject,
    SourceConfig,
    as_text,
    content_id,
    field_getter,
    make_converter,
    pieces,
)


def convert(row: dict[str, Any], ingest: IngestConfig | None = None, **source: Any) -> Document | None:
    config = SourceConfig(name="s", paths=("x.jsonl",), **source)
    return make_converter(config, ingest or IngestConfig())(row)


def reason(row: dict[str, Any], ingest: IngestConfig | None = None, **source: Any) -> str:
    with pytest.raises(Reject) as caught:
        convert(row, ingest, **source)
    return caught.value.reason


def test_a_row_becomes_a_document_with_labels_and_metadata():
    row = {
        "key": "a",
        "body": {"text": "hi"},
        "skill": "loops",
        "more": ["ifs", "loops", ""],
        "year": 1999,
        "tag": None,
    }
    document = convert(
        row,
        id_field="key",
        text_field="body.text",
        skills_fields=["skill", "more", "absent"],
        metadata=["year", "tag", "body.lang"],
    )
    assert document == Document("a", "hi", "a", ["loops", "ifs"], ["1999", None, None])


def test_a_key_with_a_dot_comes_before_a_field_inside_a_field():
    get = field_getter("a.b.c")
    assert get({"a.b.c": 1, "a": {"b": {"c": 2}}}) == 1
    assert get({"a": {"b.c": 3, "b": {"c": 2}}}) == 3
    assert get({"a": {"b": {"c": 2}}}) == 2
    assert get({"a": {"b": "text"}}) is None
    assert get({"a": None}) is None


def test_integer_ids_are_ids_and_other_values_are_not():
    document = convert({"id": 7, "text": "x"})
    assert document is not None
    assert document.id == "7"
    assert reason({"id": True, "text": "x"}) == "bad_id"
    assert reason({"id": 1.5, "text": "x"}) == "bad_id"
    assert reason({"text": "x"}) == "missing_id"


@pytest.mark.parametrize("name", ["", "a\nb", "a\tb", "a\0b", "a\u2028b", "a\x7fb", "x" * 1025, "é" * 513])
def test_ids_that_would_blur_the_digest_of_an_order_are_rejected(name: str):
    assert reason({"id": name, "text": "x"}) == "bad_id"


@pytest.mark.parametrize("name", ["a/../b", "<script>", "é" * 512, "a b", "\u200bz", "a#00001"])
def test_odd_ids_are_kept_as_they_are(name: str):
    document = convert({"id": name, "text": "x"})
    assert document is not None
    assert document.id == name


def test_text_must_be_there_and_be_text():
    assert reason({"id": "a"}) == "missing_text"
    assert reason({"id": "a", "text": None}) == "missing_text"
    assert reason({"id": "a", "text": 3}) == "text_not_string"
    assert reason({"id": "a", "text": ["x"]}) == "text_not_string"
    assert reason({"id": "a", "text": " \n\t\u00a0"}) == "empty"
    assert reason({"id": "a", "text": "   short   "}, IngestConfig(min_characters=6)) == "empty"
    assert convert({"id": "a", "text": ""}, IngestConfig(min_characters=0)) is not None


def test_nul_line_ends_and_control_characters_stay_in_the_text():
    text = "a\0b\r\nc\x1b\ufeffd"
    document = convert({"id": "a", "text": text})
    assert document is not None
    assert document.text == text


def test_lone_surrogates_are_rejected_wherever_they_stand():
    bad = "x\ud800y"
    assert reason({"id": "a", "text": bad}) == "lone_surrogate"
    assert reason({"id": bad, "text": "x"}) == "lone_surrogate"
    assert reason({"id": "a", "text": "x", "s": [bad]}, skills_fields=["s"]) == "lone_surrogate"
    assert reason({"id": "a", "text": "x", "m": bad}, metadata=["m"]) == "lone_surrogate"


def test_bytes_are_read_as_utf8():
    document = convert({"id": b"a", "text": "wörd".encode()})
    assert document is not None
    assert (document.id, document.text) == ("a", "wörd")
    assert reason({"id": "a", "text": b"\xff"}) == "invalid_utf8"


def test_labels_that_are_not_text_are_rejected():
    assert reason({"id": "a", "text": "x", "s": 3}, skills_fields=["s"]) == "bad_label"
    assert reason({"id": "a", "text": "x", "s": ["a", {}]}, skills_fields=["s"]) == "bad_label"
    document = convert({"id": "a", "text": "x", "s": [None, "b"]}, skills_fields=["s"])
    assert document is not None
    assert document.labels == ["b"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("x", "x"),
        (True, "true"),
        (1.5, "1.5"),
        ({"b": 1, "a": "é"}, '{"a": "é", "b": 1}'),
        ([1, None], "[1, null]"),
        (datetime.date(2020, 1, 2), "2020-01-02"),
        ({"when": datetime.date(2020, 1, 2)}, '{"when": "2020-01-02"}'),
        (b"ab\xff", "ab\\xff"),
    ],
)
def test_metadata_values_become_text(value: Any, text: str):
    assert as_text(value) == text


def test_include_keeps_rows_with_one_of_the_values():
    wanted = {"labels.kind": ("text", 3), "ok": (True,)}
    row = {"id": "a", "text": "x", "labels": {"kind": "text"}, "ok": True}
    assert convert(row, include=wanted) is not None
    assert convert({**row, "labels": {"kind": ["test", 3]}}, include=wanted) is not None
    assert convert({**row, "labels": {"kind": "test"}}, include=wanted) is None
    assert convert({**row, "ok": False}, include=wanted) is None
    assert convert({"id": "a", "text": "x"}, include={"kind": ("null",)}) is None
    assert convert({"id": "a", "kind": b"\xff"}, include={"kind": ("x",)}) is None, "left out before it is judged"


def test_content_names_a_document_whatever_its_fields():
    by_content = IngestConfig(ids="content")
    one, two = convert({"text": "x"}, by_content), convert({"id": "other", "text": "x"}, by_content)
    assert one is not None
    assert two is not None
    assert one.id == two.id == content_id("x")
    assert len(one.id) == 32
    assert content_id("y") != one.id


def test_long_documents_are_split_and_name_their_parent():
    text = "0123456789\n" * 10
    document = Document("a", text, "a", ["loops"], ["m"])
    parts = [part for part in pieces(document, 40, 1) if isinstance(part, Document)]
    assert "".join(part.text for part in parts) == text
    assert [part.id for part in parts] == ["a#00001", "a#00002", "a#00003", "a#00004"]
    assert all(part.parent == "a" and part.labels == ["loops"] and part.metadata == ["m"] for part in parts)
    assert max(len(part.text) for part in parts) <= 40
    assert list(pieces(document, len(text), 1)) == [document]


def test_a_piece_of_white_space_is_rejected_by_name():
    document = Document("a", "x" * 15 + "\n" + " " * 30, "a", [], [])
    outcomes = list(pieces(document, 16, 1))
    assert isinstance(outcomes[0], Document)
    assert all(isinstance(outcome, Reject) and outcome.reason == "empty" for outcome in outcomes[1:])
    assert "a#00002" in str(outcomes[1])


def test_the_table_fills_columns_that_a_source_lacks_with_null():
    table = DocumentTable(["lang", "year"])
    table.add(Document("a", "wörd", "a", [], []), "s", "f:1", {"year": "1999"})
    found = table.to_table()
    assert found.to_pylist() == [
        {
            "id": "a",
            "text": "wörd",
            "source": "s",
            "parent": "a",
            "place": "f:1",
            "labels": [],
            "lang": None,
            "year": "1999",
        }
    ]
    assert (table.rows, table.bytes, table.ids()) == (1, 5, ["a"])
    assert found.schema.field("text").type == pa.large_string()
    assert found.schema.field("labels").type == pa.list_(pa.string())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"paths": ()}, "needs paths"),
        ({"paths": "x.jsonl"}, "paths must be a list"),
        ({"paths": ("",)}, "paths must be a list of non-empty"),
        ({"format": "csv"}, "format 'csv' is unknown"),
        ({"format": "stdlib"}, "needs no paths"),
        ({"name": ""}, "needs a name"),
        ({"name": "a\nb"}, "needs a name"),
        ({"text_field": ""}, "must not be empty"),
        ({"max_documents": 0}, "max_documents must be at least 1, got 0"),
        ({"include": {"kind": "text"}}, "include.kind must be a list"),
        ({"include": {"kind": ()}}, "include.kind must be a list"),
        ({"metadata": ("a.kind", "b.kind")}, "metadata field 'b.kind' has the name of a.kind"),
        ({"metadata": ("labels.text",)}, "has the name of a column of prereq itself"),
        ({"skills_fields": "skill"}, "skills_fields must be a list"),
    ],
)
def test_a_source_that_cannot_be_meant_is_refused(values: dict[str, Any], message: str):
    with pytest.raises(ConfigError, match=message):
        SourceConfig(**{"name": "s", "paths": ("x.jsonl",), **values})


@pytest.mark.parametrize(
    "values",
    [
        {"part_rows": 0},
        {"part_mib": 0},
        {"max_document_bytes": 15},
        {"max_record_mib": 0},
        {"min_characters": -1},
        {"max_rejected": 1.5},
        {"max_rejected": float("nan")},
        {"ids": "uuid"},
    ],
)
def test_an_ingest_setting_out_of_range_is_refused_by_name(values: dict[str, Any]):
    with pytest.raises(ConfigError, match=f"ingest.{next(iter(values))}"):
        IngestConfig(**values)
