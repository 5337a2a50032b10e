"""Rows on whole builds: seconds from ingest to pool with their profile, and five million short documents.

The corpus of the speed rows is tagged against the graph of Python that comes with prereq; every setting is the default.
"""

import json
import re
import shutil
import statistics
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from corpus_rows import Context, Found, Row
from processes import Measured, measure

SHORT = 400  # characters of a short document, about
FILE_ROWS = 50_000
_PARAGRAPH = re.compile(rf".{{1,{SHORT}}}(?:\s|$)|.{{{SHORT}}}", re.DOTALL)


def build(context: Context, name: str, source: Path, **settings: Any) -> tuple[Measured, Path]:
    """One `prereq build` on two cores: what it took, and the pool's folder."""
    pool = context.scratch / f"{name}-pool"
    shutil.rmtree(pool, ignore_errors=True)
    config = {
        "run_dir": str(context.scratch / f"{name}-run"),
        "pool_dir": str(pool),
        "sources": [{"name": "corpus", "paths": [str(source)]}],
        "graph": {"builtin": "python"},
        "rounds": 1,
        **settings,
    }
    path = context.scratch / f"{name}.yaml"
    path.write_text(yaml.safe_dump(config))
    command = [sys.executable, "-m", "prereq.jobs", "build", path, "--json"]
    return measure(command, context.scratch / f"{name}.log"), pool


def build_row(context: Context) -> Found:
    """Whole builds of the prepared corpus, with every stage's wall and CPU seconds and memory."""
    runs = []
    for _ in range(context.repeats(2)):
        run, pool = build(context, "build", context.corpus / "parquet")
        runs.append(run)
    summary = json.loads(runs[-1].output)
    details = {
        "runs": [run.plain() for run in runs],
        "documents": summary["documents"],
        "arms": summary["arms"],
        "stage_bytes": stage_bytes(pool / "stages"),
    }
    return {"build_seconds": statistics.median(run.wall_seconds for run in runs)}, details


def stage_bytes(stages: Path) -> dict[str, int]:
    """Bytes on the disk of every stage, the largest files being links from the pool."""
    return {
        folder.name: sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        for folder in sorted(stages.iterdir())
        if folder.is_dir()
    }


def scale_row(context: Context) -> Found:
    """One build of many short documents cut from the corpus: time and memory per stage."""
    documents = context.documents
    source = context.scratch / "short"
    size = write_short(context.corpus / "parquet", source, documents)
    run, pool = build(context, "scale", source)
    details = {
        "documents": documents,
        "text_bytes": size,
        "run": run.plain(),
        "summary": {key: value for key, value in json.loads(run.output).items() if key != "skills"},
        "stage_bytes": stage_bytes(pool / "stages"),
    }
    name = f"scale_{documents}"
    values = {
        f"{name}_seconds": run.wall_seconds,
        f"{name}_tree_gib": run.tree_pss_mib / 1024,
        f"{name}_worker_mib": run.worker_peak_mib,
    }
    return values, details


def write_short(source: Path, target: Path, documents: int) -> int:
    """Cut a corpus into pieces of about `SHORT` characters, again with its letters moved on when it is used up.

    Returns:
        Bytes of text.
    """
    target.mkdir()
    texts, size = _short_texts(source), 0
    for first in range(0, documents, FILE_ROWS):
        own = list(islice(texts, min(FILE_ROWS, documents - first)))
        size += sum(len(text.encode()) for text in own)
        table = pa.table({"id": [f"s{first + row:08d}" for row in range(len(own))], "text": own})
        pq.write_table(table, target / f"part-{first // FILE_ROWS:05d}.parquet", compression="zstd")
    return size


def _short_texts(source: Path) -> Iterator[str]:
    """Pieces without end: pass i has every letter moved i places through the alphabet."""
    letters = b"abcdefghijklmnopqrstuvwxyz"
    for moved in range(26):
        shifted = letters[moved:] + letters[:moved]
        table = bytes.maketrans(letters + letters.upper(), shifted + shifted.upper())
        for path in sorted(source.glob("*.parquet")):
            for text in pq.read_table(path, columns=["text"])["text"].to_pylist():
                yield from _PARAGRAPH.findall(text.encode().translate(table).decode())


ROWS: dict[str, Row] = {
    "build": Row(run=build_row, needs=("corpus",)),
    "scale": Row(run=scale_row, needs=("corpus",), sizes=("full",)),
}
