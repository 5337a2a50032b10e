"""Asking an endpoint about a sample of the corpus, as a stage: "asked" (one task, in the driver).

asked/asked/part-00000.parquet   row (of all documents), skills (positions, best first) of each answered document

The task runs where `prereq build` runs, whatever the executor: the key is in that process's environment only. Answers
outlive the stage in the cache (`selector.corpus.endpoint`).
"""

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from prereq.graph.skill import Skill
from prereq.jobs.executor import InProcessExecutor
from prereq.jobs.stages.runner import Bench, StageFile, Task, run_stage
from prereq.selector.corpus.endpoint import Asker, EndpointConfig, cache_folder
from prereq.selector.corpus.keys import seeded_order

ASKED_SCHEMA = pa.schema([("row", pa.int64()), ("skills", pa.list_(pa.int32()))])
_PART = "part-00000.parquet"
_MILLIONTHS = 1_000_000


def ask(
    bench: Bench,
    parts: list[StageFile],
    weak: list[StageFile],
    skills: tuple[Skill, ...],
    most: int,
    endpoint: EndpointConfig,
    settings: Mapping[str, Any],
) -> StageFile:
    """Ask about a seeded sample of the documents.

    Args:
        bench: Of this build.
        parts: The documents.
        weak: Their weak labels, which hold the documents' keys.
        skills: Of the graph.
        most: Skills per document.
        endpoint: Whom to ask.
        settings: What decides tags, plain values.

    Returns:
        The file of the answers; the stage's counts say what was asked, tried again, left out and paid.
    """
    paths = [(part.path, found.path) for part, found in zip(parts, weak, strict=True)]
    args = (paths, skills, most, endpoint, bench.seed, str(bench.stages))
    task = Task("asked", args, tuple(file.sha256 for pair in zip(parts, weak, strict=True) for file in pair))
    local = replace(bench, executor=InProcessExecutor())
    return run_stage(local, "asked", ask_all, [task], {**settings, "seed": bench.seed}).matching("part-")[0]


def ask_all(
    output: str,
    paths: list[tuple[str, str]],
    skills: tuple[Skill, ...],
    most: int,
    endpoint: EndpointConfig,
    seed: int,
    stages: str,
) -> dict[str, int]:
    """Write the answers about the documents that come first in a seeded order."""
    keys = [pq.read_table(weak, columns=["key"])["key"].to_numpy() for _, weak in paths]
    order = seeded_order(np.concatenate([np.zeros(0, dtype=np.uint64), *keys]), seed, "endpoint sample")
    rows = np.argsort(order, kind="stable")[: endpoint.documents].astype(np.int64)
    asker = Asker(endpoint, skills, most, cache_folder(endpoint, Path(stages)))
    answers = asker.ask(_texts([path for path, _ in paths], rows, endpoint.characters))
    told = sorted((int(row), found) for row, found in zip(rows, answers, strict=True) if found is not None)
    columns = [
        pa.array([row for row, _ in told], pa.int64()),
        pa.array([own for _, own in told], ASKED_SCHEMA.types[1]),
    ]
    table = pa.table(columns, schema=ASKED_SCHEMA)
    pq.write_table(table, Path(output) / _PART, compression="zstd")
    usage = asdict(asker.usage)
    cost = usage.pop("cost")
    named = {name.replace("_", " "): int(number) for name, number in usage.items()}
    return {"answered": len(told), **named, "cost in millionths": round(cost * _MILLIONTHS)}


def read_asked(path: str | None) -> dict[int, list[int]]:
    """Row -> skills of the answered documents."""
    if path is None:
        return {}
    return {entry["row"]: entry["skills"] for entry in pq.read_table(path).to_pylist()}


def _texts(paths: list[str], rows: npt.NDArray[np.int64], characters: int) -> list[str]:
    """The beginnings of some documents, in the order of `rows`."""
    found: dict[int, str] = {}
    start = 0
    for path in paths:
        with pq.ParquetFile(path) as file:
            stop = start + file.metadata.num_rows
            if ((rows >= start) & (rows < stop)).any():
                for batch in file.iter_batches(batch_size=1024, columns=["text"]):
                    own = rows[(rows >= start) & (rows < start + len(batch))]
                    found |= {int(row): batch["text"][int(row) - start].as_py()[:characters] for row in own}
                    start += len(batch)
            start = stop
    return [found[int(row)] for row in rows]
