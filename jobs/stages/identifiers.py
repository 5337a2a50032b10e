"""Stages `ids` and `rekey`: no two documents of a corpus share an id.

STAGES/ids/all/repeats.parquet               where ids are made from content: the rows whose id an earlier row has
STAGES/rekey/000000/part-00000.parquet ...   the parts of `ingest` with those ids numbered, where there are any
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from prereq.graph.canonical import digest
from prereq.graph.errors import TableError
from prereq.jobs.stages.runner import Bench, StageFile, StageResult, Task, run_stage
from prereq.selector.corpus.identifiers import find_repeats, repeated_id

_REPEATS_SCHEMA = pa.schema([("part", pa.int64()), ("row", pa.int64()), ("number", pa.int64())])
_EXAMPLES = 3  # named in an error


def settle_ids(bench: Bench, ingested: StageResult, *, by_content: bool) -> StageResult:
    """Refuse repeated ids, or number them where they are digests of the content.

    Args:
        bench: Of this build.
        ingested: Of the stage `ingest`, with files `part-*`, `ids.npy` and `rejects.parquet`.
        by_content: Whether ids are digests of the texts, so that a repeat is a repeated text and no fault.

    Returns:
        The parts and rejects of `ingested`; the parts are copies where an id got a number.

    Raises:
        TableError: An id of the data appears twice.
    """
    parts, ids = ingested.matching("part-"), ingested.matching("ids")
    places = tuple((part.path, part.rows) for part in parts)
    task = Task("all", (tuple(file.path for file in ids), places, by_content), tuple(file.sha256 for file in ids))
    checked = run_stage(bench, "ids", check_ids, [task], {"by_content": by_content})
    kept = (*parts, *ingested.matching("rejects"))
    if not checked.files:
        return replace(ingested, files=kept)
    repeats = checked.files[0]
    tasks = [
        Task(f"{index:06d}", (part.path, repeats.path, index), (part.sha256, repeats.sha256))
        for index, part in enumerate(parts)
    ]
    renamed = run_stage(bench, "rekey", number_repeats, tasks, {})
    return _joined(ingested, renamed, ingested.matching("rejects"))


def _joined(ingested: StageResult, renamed: StageResult, rejects: list[StageFile]) -> StageResult:
    return replace(
        ingested,
        files=(*renamed.files, *rejects),
        counts={**ingested.counts, **renamed.counts},
        digest=digest([ingested.digest, renamed.digest]),
    )


def check_ids(
    folder: str, digest_paths: Sequence[str], parts: Sequence[tuple[str, int]], by_content: bool
) -> dict[str, int]:
    """One task: find ids that appear twice, over all parts (path, rows).

    Raises:
        TableError: There are, and they come from the data.
    """
    if not digest_paths:
        return {}
    repeats = find_repeats(np.concatenate([np.load(path, mmap_mode="r") for path in digest_paths]))
    ends = np.cumsum([rows for _, rows in parts])
    if by_content:
        index = np.searchsorted(ends, repeats.rows, side="right")
        starts = np.concatenate([[0], ends[:-1]])
        columns = [index, repeats.rows - starts[index], repeats.numbers]
        if len(index):
            table = pa.table([pa.array(column, pa.int64()) for column in columns], schema=_REPEATS_SCHEMA)
            pq.write_table(table, Path(folder) / "repeats.parquet", compression="zstd")
        return {}
    if not len(repeats.rows):
        return {}
    found = []
    for first, second in zip(repeats.firsts[:_EXAMPLES], repeats.rows[:_EXAMPLES], strict=True):
        (name, here), (_, there) = (_id_and_place(parts, ends, int(row)) for row in (first, second))
        found.append(f"{name!r} at {here} and {there}")
    raise TableError(
        f"ingest: {len(repeats.rows)} ids appear again, the first: {'; '.join(found)}; give each document an id of its "
        "own, or set `ingest.ids: content`"
    )


def _id_and_place(parts: Sequence[tuple[str, int]], ends: np.ndarray, row: int) -> tuple[str, str]:
    index = int(np.searchsorted(ends, row, side="right"))
    path, rows = parts[index]
    found = pq.read_table(path, columns=["id", "place", "source"]).slice(row - (int(ends[index]) - rows), 1)
    values = found.to_pylist()[0]
    return str(values["id"]), f"{values['place']} (source {values['source']})"


def number_repeats(folder: str, part: str, repeats: str, index: int) -> dict[str, int]:
    """One task: copy a part with a number behind the ids (and parents) that an earlier row has."""
    table = pq.read_table(part)
    rows = pq.read_table(repeats, filters=pc.field("part") == index)
    ids, parents = table["id"].to_pylist(), table["parent"].to_pylist()
    for row, number in zip(rows["row"].to_pylist(), rows["number"].to_pylist(), strict=True):
        ids[row], parents[row] = repeated_id(ids[row], parents[row], number)
    for name, values in (("id", ids), ("parent", parents)):
        table = table.set_column(table.schema.get_field_index(name), name, pa.array(values, pa.string()))
    pq.write_table(table, Path(folder) / "part-00000.parquet", compression="zstd")
    return {"rekeyed": rows.num_rows}
