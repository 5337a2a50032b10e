"""Scores from files: hostile rows by place, ids that do not match, what becomes of documents without one."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prereq.graph.errors import ConfigError, TableError
from prereq.jobs.build import _unmatched_scores
from prereq.jobs.stages.given_scores import fit_given, given_scores
from prereq.jobs.stages.reference_files import find_references
from prereq.jobs.stages.score import decide, drop_filtered, score_part, write_list
from prereq.selector.corpus.scoring import ScoreConfig

IDS = ["a", "b", "c", "7"]


def config(path: Path, **changes: Any) -> ScoreConfig:
    return ScoreConfig(name="s", method="file", paths=(str(path),), **changes)


def part(folder: Path, ids: list[str] = IDS, name: str = "part") -> str:
    rows = {"id": ids, "text": ids, "source": ["web"] * len(ids), "place": [f"x:{i}" for i in ids]}
    pq.write_table(pa.table(rows), folder / name)
    return str(folder / name)


def fit(folder: Path, rows: list[Any], **changes: Any) -> dict[str, int]:
    """Write the rows as JSON Lines and fit in `folder/s`."""
    path = folder / "scores.jsonl"
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows) + "\n")
    (folder / "s").mkdir(exist_ok=True)
    made = config(path, **changes)
    return fit_given(str(folder / "s"), made, find_references("s", made.paths), [part(folder)], "scoring: score 's'")


def of(**values: Any) -> list[dict[str, Any]]:
    return [{"id": name.lstrip("_"), "value": value} for name, value in values.items()]


def test_every_document_gets_the_value_of_its_id(tmp_path: Path):
    counts = fit(tmp_path, [{"id": 7, "value": -3}, *of(c=1.5, a=0, b=2e300)])
    assert counts == {"s: rows": 4, "s: rows of no document": 0, "s: documents without a row": 0}
    values, absent = given_scores(tmp_path / "s", ["b", "7", "a", "c"])
    assert values.tolist() == [2e300, -3.0, 0.0, 1.5]
    assert not absent.any()


def test_parquet_is_read_with_fields_of_other_names_and_further_columns(tmp_path: Path):
    table = {"doc": IDS, "s": pa.array([1.0, 2.0, 3.0, 4.0], pa.float32()), "measured": [True, False, True, False]}
    pq.write_table(pa.table(table), tmp_path / "f.parquet")
    (tmp_path / "s").mkdir()
    made = config(tmp_path / "f.parquet", id_field="doc", value_field="s")
    fit_given(str(tmp_path / "s"), made, find_references("s", made.paths), [part(tmp_path)], "s")
    assert given_scores(tmp_path / "s", IDS)[0].tolist() == [1.0, 2.0, 3.0, 4.0]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('{"id": "a", "value": NaN}', r"scores.jsonl:5.*"),
        ('{"id": "x", "value": 1e999}', r"scores.jsonl:5.*"),
        ({"id": "x", "value": None}, r"scores.jsonl:5.*"),
        ({"id": "x", "value": "3"}, r"scores.jsonl:5: value is '3', not a finite number; leave a document without"),
        ({"id": "x", "value": True}, r"scores.jsonl:5: value is 'True', not a finite number"),
        ({"id": "x", "value": [1]}, r"scores.jsonl:5: value is"),
        ({"id": "x", "value": 10**400}, r"scores.jsonl:5: value is '1000.*, not a finite number"),
        ({"id": "x"}, r"scores.jsonl:5.*"),
        ({"value": 1}, r"scores.jsonl:5.*"),
        ({"id": "", "value": 1}, r"scores.jsonl:5: id is '', not the id of a document"),
        ({"id": 1.5, "value": 1}, r"scores.jsonl:5: id is 1.5, not the id of a document"),
        ({"id": False, "value": 1}, r"scores.jsonl:5: id is False"),
        ('{"id": "\\ud800", "value": 1}', r"scores.jsonl:5.*half a character"),
        (
            {"id": "b", "value": 9},
            r"1 ids appear again, the first: 'b' at .*scores.jsonl:2 and .*scores.jsonl:5; leave",
        ),
        ({"id": "7", "value": 9}, r"1 ids appear again, the first: 7 at .*:4 and .*:5"),
        ("[1, 2]", r"scores.jsonl:5.*"),
    ],
)
def test_a_row_that_says_nothing_is_named_by_its_place(tmp_path: Path, row: Any, message: str):
    with pytest.raises(TableError, match=message):
        fit(tmp_path, [*of(a=1, b=2, c=3), {"id": 7, "value": 4}, row])


def test_nan_in_parquet_and_a_file_without_the_columns_are_refused(tmp_path: Path):
    for table, message in (
        ({"id": IDS, "value": [1.0, float("nan"), 2.0, 3.0]}, "value is 'nan', not a finite number"),
        ({"id": IDS, "value": pa.array([1.0, None, 2.0, 3.0])}, "f.parquet:2"),
        ({"id": IDS, "score": [1.0] * 4}, "f.parquet"),
        ({"id": pa.array([], pa.string()), "value": pa.array([], pa.float64())}, "none of the 0 ids"),
    ):
        pq.write_table(pa.table(table), tmp_path / "f.parquet")
        (tmp_path / "s").mkdir(exist_ok=True)
        made = config(tmp_path / "f.parquet")
        with pytest.raises(TableError, match=message):
            fit_given(str(tmp_path / "s"), made, find_references("s", made.paths), [part(tmp_path)], "s")


def test_documents_without_a_row_are_an_error_unless_something_else_is_chosen(tmp_path: Path):
    with pytest.raises(TableError, match="2 documents have no row in its files, the first: 'c', '7'; add rows, or say"):
        fit(tmp_path, of(a=1, b=2))
    counts = fit(tmp_path, of(a=1, b=2, z=50, y=60), missing="keep")
    assert counts == {"s: rows": 4, "s: rows of no document": 2, "s: documents without a row": 2}
    values, absent = given_scores(tmp_path / "s", IDS)
    assert values.tolist() == [1.0, 2.0, 1.5, 1.5], "the mean of the documents that have one, not of the file"
    assert absent.tolist() == [False, False, True, True]
    assert _unmatched_scores(counts) == [
        "score s: 2 documents have no row in its files (scoring.N.missing)",
        "score s: 2 rows of its files are of no document (dropped as duplicates, or not of this corpus)",
    ]


@pytest.mark.parametrize("missing", ["error", "keep", "drop"])
def test_a_file_of_another_corpus_is_refused(tmp_path: Path, missing: str):
    with pytest.raises(TableError, match=r"none of the 2 ids in .* is that of a document .*'a', 'b', 'c'"):
        fit(tmp_path, of(x=1, y=2), missing=missing)


@pytest.mark.parametrize(
    ("settings", "left"),
    [
        ({"missing": "keep"}, IDS),
        ({"missing": "drop"}, ["a", "b"]),
        ({"missing": "keep", "drop_below": 1.5}, ["b", "c", "7"]),
        ({"missing": "drop", "drop_below": 1.5}, ["b"]),
        ({"missing": "keep", "keep_share": 0.5}, ["b", "c", "7"]),  # of the two that have a score
        ({"missing": "drop", "keep_share": 0.5}, ["b"]),
        ({"missing": "keep", "drop_below": 9.0}, ["c", "7"]),
    ],
)
def test_what_becomes_of_documents_without_a_score(tmp_path: Path, settings: dict[str, Any], left: list[str]):
    fit(tmp_path, of(a=1, b=2), **settings)
    made = config(tmp_path / "scores.jsonl", **settings)
    (tmp_path / "scored").mkdir()
    score_part(str(tmp_path / "scored"), str(tmp_path / "part"), "", str(tmp_path), [made])
    scored = str(tmp_path / "scored/part-00000.parquet")
    assert pq.read_table(scored)["s"].to_pylist() == ["1", "2", "1.5", "1.5"]
    absent = {"s": [str(tmp_path / "scored/absent-s.npy")]}
    counts = decide(str(tmp_path), [scored], [made], 0, absent)
    gone = 0 if settings["missing"] == "keep" else 2
    assert counts == {"dropped by s": 4 - len(left), "dropped without a score": gone}
    write_list(str(tmp_path), [(scored, str(tmp_path / "part-00000.parquet"))], str(tmp_path / "limits.json"))
    drop_filtered(str(tmp_path / "s"), scored, str(tmp_path / "part-00000.parquet"))
    assert pq.read_table(tmp_path / "s/part-00000.parquet")["id"].to_pylist() == left
    listed = {row["id"]: row["value"] for row in pq.read_table(tmp_path / "filtered.parquet").to_pylist()}
    known = {"a": 1.0, "b": 2.0}
    assert listed == {name: known.get(name) for name in IDS if name not in left}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "file"}, "method file needs paths"),
        ({"method": "file", "paths": ("x",), "missing": "mean"}, "missing must be error, keep or drop, got 'mean'"),
        ({"method": "dsir", "paths": ("x",), "missing": "drop"}, "missing goes with method file"),
        ({"method": "file", "paths": ("x",), "value_field": ""}, "value_field must not be empty"),
        ({"method": "file", "paths": ("x",), "keep_share": 0.5, "draw": "sample"}, "goes with keep_share and method"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], message: str):
    with pytest.raises(ConfigError, match=message):
        ScoreConfig(name="s", **settings)


def test_other_scores_have_the_settings_that_they_had():
    keys = set(ScoreConfig(name="s", method="dsir", paths=("x",)).plain())
    assert not keys & {"id_field", "value_field", "missing"}
    assert keys | {"id_field", "value_field", "missing"} == set(
        ScoreConfig(name="s", method="file", paths=("x",)).plain()
    )


def test_many_ids_are_read_in_blocks(tmp_path: Path):
    count = 70_000
    ids = [f"d{i}" for i in range(count)]
    pq.write_table(pa.table({"id": ids[::-1], "value": np.arange(count, dtype=np.float64)}), tmp_path / "f.parquet")
    (tmp_path / "s").mkdir()
    made = config(tmp_path / "f.parquet")
    fit_given(str(tmp_path / "s"), made, find_references("s", made.paths), [part(tmp_path, ids)], "s")
    assert given_scores(tmp_path / "s", ids)[0].tolist() == list(range(count))[::-1]
