"""A run folder written by hand: pyarrow and json, nothing of the sampler."""

import hashlib
import io
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

SKILLS = ["add", "count", "read"]


def canonical(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


def write(path: Path, value: Any) -> str:
    """Write canonical JSON; return its sha256."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".tmp-{path.name}")
    partial.write_bytes(canonical(value))
    partial.rename(path)  # whole or not at all, as the sampler writes: a feed may be waiting for it
    return hashlib.sha256(canonical(value)).hexdigest()


@dataclass
class HandmadeRun:
    """Knows what a reader must see: the ids of all rows, in order."""

    root: Path
    global_batch: int
    batches_per_round: int
    batches_per_shard: int
    rows_per_group: int
    config: str
    pool: str
    ids: list[str] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)  # per round
    parent: str | None = None

    @property
    def rounds(self) -> int:
        return len(self.tokens)

    def shards(self, number: int) -> list[Path]:
        return sorted((self.root / f"rounds/{number:06d}").glob("shard-*"))

    def add_round(self) -> None:
        """Write and commit the next round."""
        number = self.rounds
        folder = self.root / f"rounds/{number:06d}"
        folder.mkdir(parents=True)
        rows = [self._row(len(self.ids) + i) for i in range(self.global_batch * self.batches_per_round)]
        per_shard = self.batches_per_shard * self.global_batch
        shards = [
            self._shard(folder, index, rows[start : start + per_shard])
            for index, start in enumerate(range(0, len(rows), per_shard))
        ]
        self.ids += [row["id"] for row in rows]
        self.tokens.append(sum(row["n_tokens"] for row in rows))
        manifest = {
            "format": "prereq.round/1",
            "round": number,
            "parent": self.parent,
            "config": self.config,
            "pool": self.pool,
            "seed": 0,
            "global_batch": self.global_batch,
            "feedback": [],
            "mixer": {"name": "uniform", "state": {}},
            "mixture": {"requested": {"a": 0.5, "b": 0.5}, "arms": {"a": 0.5, "b": 0.5}, "skills": {}},
            "realised": {},
            "draws": {},
            "samples": len(rows),
            "documents": len(rows),
            "tokens": self.tokens[-1],
            "bytes": sum(shard["bytes"] for shard in shards),
            "order": hashlib.sha256("\n".join(row["id"] for row in rows).encode()).hexdigest(),
            "shards": shards,
        }
        self.parent = write(folder / "manifest.json", manifest)

    def finish(self) -> None:
        """Write done.json."""
        write(
            self.root / "done.json",
            {"format": "prereq.done/1", "rounds": self.rounds, "last": self.parent, "reason": "budget"},
        )

    def _row(self, index: int) -> dict[str, Any]:
        return {
            "id": f"doc-{index:05d}",
            "text": f"text of document {index} – " + "x" * (index % 7),
            "n_tokens": 20 + index % 7,
            "arm": "ab"[index % 2],
            "skills": [SKILLS[index % 3]] if index % 4 else [],
            "source": "hand",
            "level": str(index % 5),
        }

    def _shard(self, folder: Path, index: int, rows: list[dict[str, Any]]) -> dict[str, Any]:
        sink = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(rows), sink, row_group_size=self.rows_per_group)
        data = sink.getvalue()
        sha256 = hashlib.sha256(data).hexdigest()
        path = f"shard-{index:05d}-{sha256[:12]}.parquet"
        (folder / path).write_bytes(data)
        tokens = sum(row["n_tokens"] for row in rows)
        return {
            "path": path,
            "samples": len(rows),
            "documents": len(rows),
            "tokens": tokens,
            "bytes": len(data),
            "sha256": sha256,
        }


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., HandmadeRun]:
    """Start a run by hand; keyword arguments change its sizes and what run.json says of mixer and policy."""

    def make(
        rounds: int = 3,
        *,
        done: bool = True,
        name: str = "run",
        global_batch: int = 12,
        batches_per_round: int = 3,
        batches_per_shard: int = 2,
        rows_per_group: int = 2,
        uses_feedback: bool = False,
        lookahead: int = 1,
        report_every: int = 1,
        policy: str = "wait",
        initial_evaluation: bool = True,
        pool_path: str = "",
        seed: int = 0,
    ) -> HandmadeRun:
        drawing = {
            "batches_per_round": batches_per_round,
            "lookahead": lookahead,
            "report_every": report_every,
            "policy": policy,
            "initial_evaluation": initial_evaluation,
            "seed": seed,
        }
        root = tmp_path / name
        run = HandmadeRun(
            root,
            global_batch,
            batches_per_round,
            batches_per_shard,
            rows_per_group,
            config=hashlib.sha256(canonical(drawing)).hexdigest(),
            pool="0" * 64,
        )
        write(
            root / "run.json",
            {
                "format": "prereq.run/1",
                "drawing": drawing,
                "config_sha256": run.config,
                "pool": pool_path,
                "pool_sha256": run.pool,
                "seed": seed,
                "global_batch": global_batch,
                "mixer": {"name": "uniform", "uses_feedback": uses_feedback, "signals": []},
                "skills": SKILLS,
            },
        )
        for _ in range(rounds):
            run.add_round()
        if done:
            run.finish()
        return run

    return make
