"""A small pool written by hand (pyarrow and json only), for tests of what reads pools."""

import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

Arm = tuple[str, list[int], list[str]]  # id, tokens of each document, skills of its documents


def _parquet(table: pa.Table, groups: list[int]) -> bytes:
    sink = io.BytesIO()
    with pq.ParquetWriter(sink, table.schema, write_page_checksum=True) as writer:
        start = 0
        for rows in groups:
            writer.write_table(table.slice(start, rows), row_group_size=rows)
            start += rows
    return sink.getvalue()


def write_pool(folder: Path, arms: list[Arm], *, skills: list[str], group_rows: int = 8, holdout: int = 2) -> Path:
    """Write a pool of `prereq.pool/1` with one part; document ids are `<arm>/<row>`."""
    folder.mkdir(parents=True)
    (folder / "holdout").mkdir()
    rows: list[dict[str, Any]] = []
    groups: list[int] = []
    entries = []
    for arm, tokens, arm_skills in sorted(arms):
        sizes = [min(group_rows, len(tokens) - s) for s in range(0, len(tokens), group_rows)]
        numbers = list(range(len(groups), len(groups) + len(sizes)))
        groups += sizes
        for row, count in enumerate(tokens):
            text = f"{arm} {row} ".ljust(count, "x")[:count]
            rows.append(
                {
                    "id": f"{arm}/{row}",
                    "text": text,
                    "n_tokens": count,
                    "arm": arm,
                    "skills": arm_skills,
                    "source": "made",
                }
            )
        entries.append({"id": arm, "rows": len(tokens), "tokens": sum(tokens), "groups": numbers})
    schema = pa.schema(
        [
            ("id", pa.string()),
            ("text", pa.large_string()),
            ("n_tokens", pa.int64()),
            ("arm", pa.string()),
            ("skills", pa.list_(pa.string())),
            ("source", pa.string()),
        ]
    )
    data = _parquet(pa.Table.from_pylist(rows, schema=schema), groups)
    part = f"part-00000-{hashlib.sha256(data).hexdigest()[:12]}.parquet"
    (folder / part).write_bytes(data)
    shares = [[(s, 1 / len(k)) for s in k] or [("_none", 1.0)] for _, _, k in sorted(arms)]
    pq.write_table(
        pa.table(
            {
                "id": [e["id"] for e in entries],
                "name": [e["id"] for e in entries],
                "centroid": pa.array([[1.0, 0.0]] * len(entries), pa.list_(pa.float32())),
                "T": pa.array(shares, pa.map_(pa.string(), pa.float64())),
            }
        ),
        folder / "arms.parquet",
    )
    held = [
        {
            "id": f"held/{split}/{skill}/{i}",
            "text": f"held out {split} {skill} {i} " * 4,
            "skills": [skill],
            "split": split,
        }
        for split in ("control", "report")
        for skill in skills
        for i in range(holdout)
    ]
    held_schema = pa.schema(
        [("id", pa.string()), ("text", pa.large_string()), ("skills", pa.list_(pa.string())), ("split", pa.string())]
    )
    held_data = _parquet(pa.Table.from_pylist(held, schema=held_schema), [len(held)])
    (folder / "holdout" / f"part-00000-{hashlib.sha256(held_data).hexdigest()[:12]}.parquet").write_bytes(held_data)
    manifest = {
        "format": "prereq.pool/1",
        "config": "0" * 64,
        "seed": 0,
        "documents": sum(e["rows"] for e in entries),
        "tokens": sum(e["tokens"] for e in entries),
        "arms": [
            {
                "id": e["id"],
                "rows": e["rows"],
                "tokens": e["tokens"],
                "parts": [{"path": part, "row_groups": e["groups"]}],
            }
            for e in entries
        ],
        "skills": skills,
        "holdout": hashlib.sha256(held_data).hexdigest(),
    }
    (folder / "manifest.json").write_bytes(json.dumps(manifest, sort_keys=True, separators=(",", ":")).encode())
    return folder


@pytest.fixture
def make_pool(tmp_path: Path) -> Callable[..., Path]:
    """Write a pool below this test's folder: `make_pool(arms, skills=[...])`, or with no arms a pool of four."""

    def make(arms: list[Arm] | None = None, *, skills: list[str] | None = None, **more: Any) -> Path:
        rng = np.random.default_rng(7)
        if arms is None:
            sizes = {"a": 60, "b": 35, "c": 90, "d": 20}
            arms = [(arm, rng.integers(20, 200, n).tolist(), [f"skill-{arm}"]) for arm, n in sizes.items()]
        known = skills if skills is not None else sorted({s for _, _, k in arms for s in k})
        return write_pool(tmp_path / "pool", arms, skills=known, **more)

    return make
