"""A user's own evaluation set: read whole or refused with the place."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prereq.graph.errors import ConfigError, PrereqError, TableError
from prereq.selector.corpus.evaluation_set import file_digest, read_evaluation_set
from prereq.selector.corpus.tokens import make_tokenizer

SKILLS = ("loops", "strings")
GOOD = {"id": "a", "text": "for ever", "skills": ["loops"]}


def read(path: Path, seed: int = 0) -> list[dict[str, Any]]:
    """The rows of a set."""
    rows: list[dict[str, Any]] = read_evaluation_set(str(path), SKILLS, make_tokenizer("bytes"), seed).to_pylist()
    return rows


def write(path: Path, rows: list[Any]) -> Path:
    """JSON Lines."""
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n\n", encoding="utf-8")
    return path


def test_parquet_and_json_lines_give_the_same_rows(tmp_path: Path) -> None:
    rows = [
        {"id": "b", "text": "größe", "skills": ["strings", "loops"], "split": "report"},
        {"id": "a", "text": "for", "skills": ["loops"], "split": "control"},
    ]
    pq.write_table(pa.Table.from_pylist([{**row, "more": 1} for row in rows]), tmp_path / "e.parquet")
    found = read(write(tmp_path / "e.jsonl", rows))
    assert found == read(tmp_path / "e.parquet")
    assert [row["id"] for row in found] == ["a", "b"]
    assert found[1] == {"id": "b", "text": "größe", "skills": ["loops", "strings"], "split": "report", "n_tokens": 7}


def test_rows_without_a_split_are_halved_by_seed_within_each_skill(tmp_path: Path) -> None:
    rows = [{"id": f"{i}", "text": "x", "skills": [SKILLS[i % 2]]} for i in range(40)]
    path = write(tmp_path / "e.jsonl", rows)
    found = read(path)
    for skill in SKILLS:
        assert sum(row["split"] == "report" for row in found if row["skills"] == [skill]) == 10
    assert read(path) == found
    assert read(path, seed=1) != found
    assert read(write(tmp_path / "r.jsonl", rows[::-1])) == found


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ([1], "line 2: expected an object with id, text, skills; got list"),
        ({**GOOD, "id": 3}, "line 2: id must be text, got 3"),
        ({"id": "b", "skills": ["loops"]}, "line 2: text must be text, got None"),
        ({**GOOD, "id": "b", "text": " "}, "line 2: text must be text"),
        ({**GOOD, "id": "b", "skills": []}, "line 2: skills must be a list of at least one"),
        ({**GOOD, "id": "b", "skills": "loops"}, "line 2: skills must be a list"),
        ({**GOOD, "id": "b", "skills": ["loop"]}, "line 2: the graph has no skill 'loop'; did you mean 'loops'?"),
        ({**GOOD, "id": "b", "split": "test"}, "line 2: split is 'test', expected control or report"),
        (GOOD, "the id 'a' is given twice"),
    ],
)
def test_a_bad_row_is_refused_with_its_place(tmp_path: Path, row: Any, message: str) -> None:
    with pytest.raises(TableError) as caught:
        read(write(tmp_path / "e.jsonl", [GOOD, row]))
    assert message in str(caught.value)


def test_files_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "e.parquet").write_bytes(b"PAR1 not really")
    (tmp_path / "e.txt").write_text("x")
    (tmp_path / "empty.jsonl").write_text("\n")
    (tmp_path / "broken.jsonl").write_text('{"id": ')
    cases: list[tuple[str, type[PrereqError], str]] = [
        ("e.parquet", TableError, "cannot be read"),
        ("missing.jsonl", TableError, "cannot be read"),
        ("e.txt", ConfigError, r"expected .jsonl or .parquet"),
        ("empty.jsonl", TableError, "holds no document"),
        ("broken.jsonl", TableError, "cannot be read"),
    ]
    for name, kind, message in cases:
        with pytest.raises(kind, match=message):
            read(tmp_path / name)
    with pytest.raises(ConfigError, match=r"holdout.path: .*missing.jsonl cannot be read"):
        file_digest(str(tmp_path / "missing.jsonl"))
