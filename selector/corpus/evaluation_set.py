"""A user's own evaluation set: read once, checked whole, used as the holdout in place of documents of the corpus.

The set is held in memory: it is what a trainer evaluates after every round, so it is small by nature.
"""

import difflib
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from prereq.graph.errors import ConfigError, TableError
from prereq.selector.corpus.holdout import CONTROL, REPORT, SPLITS
from prereq.selector.corpus.keys import id_keys, seeded_order
from prereq.selector.corpus.layout import HOLDOUT_SCHEMA
from prereq.selector.corpus.tokens import Tokenizer

_SPLIT_NAMES = tuple(SPLITS[split] for split in (CONTROL, REPORT))


def read_evaluation_set(path: str, skills: Sequence[str], tokenizer: Tokenizer, seed: int) -> pa.Table:
    """Read `id, text, skills` and, where it is given, `split` (control or report).

    Rows without a split are divided by a seeded order of their ids: of each first skill's rows, every other one goes
    to the report split.

    Args:
        path: `.jsonl` (UTF-8, one object a line) or `.parquet`.
        skills: Ids that the graph has.
        tokenizer: Counts tokens.
        seed: `pool.seed`.

    Returns:
        Rows of HOLDOUT_SCHEMA, sorted by id.

    Raises:
        TableError: The file cannot be read, or a row lacks a field, repeats an id or names an unknown skill.
        ConfigError: The file is of another kind.
    """
    rows = [_checked(row, where, skills) for row, where in _rows(Path(path))]
    ids = [row["id"] for row in rows]
    if len(set(ids)) < len(ids):
        twice = next(name for name in ids if ids.count(name) > 1)
        raise TableError(f"{path}: the id {twice!r} is given twice; ids of an evaluation set are unique")
    if not rows:
        raise TableError(f"{path}: holds no document; leave holdout.path out to take the holdout from the corpus")
    splits = _divide(rows, seed)
    full = [
        {**row, "split": split, "n_tokens": tokenizer.count(row["text"])}
        for row, split in zip(rows, splits, strict=True)
    ]
    return pa.Table.from_pylist(sorted(full, key=lambda row: row["id"]), schema=HOLDOUT_SCHEMA)


def read_labelled(path: str, skills: Sequence[str]) -> list[tuple[str, str, frozenset[int]]]:
    """Name, text and skills (by position) of each row of a labelled sample, `text, skills` and maybe `id`.

    Args:
        path: `.jsonl` (UTF-8, one object a line) or `.parquet`.
        skills: Ids that the graph has.

    Raises:
        TableError: The file cannot be read, holds no row, or a row lacks a field or names an unknown skill.
        ConfigError: The file is of another kind.
    """
    place = {skill: number for number, skill in enumerate(skills)}
    found = []
    for row, where in _rows(Path(path), "tagging.labelled"):
        checked = _checked({"id": where, **row} if isinstance(row, Mapping) else row, where, skills)
        found.append((checked["id"], checked["text"], frozenset(place[skill] for skill in checked["skills"])))
    if not found:
        raise TableError(f"{path}: holds no document; leave tagging.labelled out to use held-back weak labels")
    return found


def file_digest(path: str, key: str = "holdout.path") -> str:
    """sha256 of the bytes of a user's file; `key` names the setting in an error.

    Raises:
        ConfigError: The file cannot be read.
    """
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ConfigError(f"{key}: {path} cannot be read ({error.strerror})") from error


def _rows(path: Path, key: str = "holdout.path") -> Iterator[tuple[Any, str]]:
    """Each row with the place it came from."""
    try:
        if path.suffix == ".parquet":
            names = pq.read_schema(path).names
            table = pq.read_table(path, columns=[name for name in ("id", "text", "skills", "split") if name in names])
            for number, row in enumerate(table.to_pylist(), 1):
                yield row, f"{path} row {number}"
        elif path.suffix == ".jsonl":
            for number, line in enumerate(path.read_bytes().decode("utf-8-sig").split("\n"), 1):
                if line.strip():
                    yield json.loads(line), f"{path} line {number}"
        else:
            raise ConfigError(f"{key}: {path} ends in {path.suffix!r}; expected .jsonl or .parquet")
    except (OSError, ValueError, pa.ArrowInvalid) as error:
        if isinstance(error, ConfigError):
            raise
        raise TableError(f"{path}: cannot be read: {' '.join(str(error).split())}") from error


def _checked(row: Any, where: str, skills: Sequence[str]) -> dict[str, Any]:
    if not isinstance(row, Mapping):
        raise TableError(f"{where}: expected an object with id, text, skills; got {type(row).__name__}")
    for name in ("id", "text"):
        if not isinstance(row.get(name), str) or not row[name].strip():
            raise TableError(f"{where}: {name} must be text, got {row.get(name)!r}")
    tags = row.get("skills")
    if not isinstance(tags, list) or not tags:
        raise TableError(f"{where}: skills must be a list of at least one skill's id, got {tags!r}")
    for tag in tags:
        if tag not in skills:
            close = difflib.get_close_matches(str(tag), skills, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise TableError(f"{where}: the graph has no skill {tag!r}{hint}")
    split = row.get("split")
    if split is not None and split not in _SPLIT_NAMES:
        raise TableError(f"{where}: split is {split!r}, expected {' or '.join(_SPLIT_NAMES)}")
    order = {skill: place for place, skill in enumerate(skills)}
    return {"id": row["id"], "text": row["text"], "skills": sorted(set(tags), key=order.__getitem__), "split": split}


def _divide(rows: Sequence[Mapping[str, Any]], seed: int) -> list[str]:
    keys = seeded_order(id_keys(row["id"] for row in rows), seed, "evaluation set")
    splits: list[str] = [row["split"] or "" for row in rows]
    seen: dict[str, int] = {}
    for place in np.argsort(keys, kind="stable"):
        if not splits[place]:
            skill = rows[place]["skills"][0]
            splits[place] = _SPLIT_NAMES[seen.get(skill, 0) % 2]
            seen[skill] = seen.get(skill, 0) + 1
    return splits
