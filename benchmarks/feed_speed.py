"""Rows on how fast rows come out of a feed, beside other loaders over the same documents; and what ranks read too much.

All run in turns (ours, peer, peer, ours, ...), each in a process of its own, timed behind its imports. A speed is the
median of `TURNS` runs; `spread` holds the slowest and the fastest of them, and of ours over a peer turn by turn.
Everybody reads files that were just written, so the page cache is warm for all.
"""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from corpus_rows import Context, Found, Row
from made_pool import write_pool

HERE = Path(__file__).parent
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
BATCH = 500  # documents of a global batch, and of the peers' batches
ROUND = 20  # batches
SEQ_LEN = 2048
PACKED_BATCH = 512
GROUP_ROWS = 64
PEER_TIMEOUT_S = 900
TURNS = 5


def load(mode: str, *arguments: str) -> dict[str, Any]:
    """One measurement of ours."""
    return _result([sys.executable, str(HERE / "feed_loads.py"), mode, *arguments])


def peer(context: Context, mode: str, data: Path, out: Path, batch: int) -> dict[str, Any]:
    """One measurement of a peer, in its own interpreter."""
    command = [str(context.peer("loaders")), str(HERE / "feed_peers.py"), mode, str(data), str(out), str(batch)]
    return _result(command)


def _result(command: Sequence[str]) -> dict[str, Any]:
    env = {**os.environ, **ONE_THREAD, "HF_DATASETS_OFFLINE": "1", "HF_HUB_OFFLINE": "1"}
    env = {key: value for key, value in env.items() if key != "PYTHONPATH"}
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False, timeout=PEER_TIMEOUT_S)
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if done.returncode != 0 and not lines:
        raise RuntimeError(f"{' '.join(command[1:4])}: exit {done.returncode}: {done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(lines[-1].removeprefix("RESULT "))
    return found


def corpus_documents(context: Context, arms: int) -> pa.Table:
    """The corpus as `id, text, arm`: document i in arm i mod `arms`."""
    files = sorted((context.corpus / "parquet").glob("*.parquet"))
    table = pa.concat_tables([pq.read_table(file, columns=["id", "text"]) for file in files])
    return table.append_column("arm", pa.array([f"arm-{i % arms:03d}" for i in range(table.num_rows)]))


def make_run(context: Context, documents: pa.Table, settings: dict[str, Any], name: str = "run") -> Path:
    """A finished run that holds the documents, drawn by the pool's proportions."""
    pool = write_pool(context.scratch / f"{name}-pool", documents)
    load("sampler", str(context.scratch / name), str(pool), json.dumps(settings), "proportional")
    return context.scratch / name


def text_row(context: Context) -> Found:
    """text_vs_pyarrow, text_vs_hf, text_vs_mosaic; LitData and the variants of each beside them."""
    documents = corpus_documents(context, 20)
    rounds = documents.num_rows // (BATCH * ROUND)
    settings = {"rounds": rounds, "batches_per_round": ROUND, "global_batch": BATCH, "max_epochs": 1}
    run = make_run(context, documents, settings)
    data, mds, lit = run / "rounds", context.scratch / "mds", context.scratch / "lit"
    written = {
        "mds": peer(context, "mds_write", data, mds, BATCH),
        "litdata": peer(context, "lit_write", data, lit, BATCH),
    }
    runs: dict[str, list[dict[str, Any]]] = {}
    for _ in range(TURNS):
        runs.setdefault("ours", []).append(load("text", str(run), "sha256"))
        for mode, place in (("arrow_dicts", data), ("arrow_lists", data), ("hf", data), ("mds", mds), ("lit", lit)):
            runs.setdefault(mode, []).append(peer(context, mode, place, context.scratch / "none", BATCH))
        runs.setdefault("ours_unverified", []).append(load("text", str(run), "size"))
    if context.size == "full":
        for mode, place in (("hf_shuffle", data), ("mds_hash", mds)):
            runs[mode] = [peer(context, mode, place, context.scratch / "none", BATCH) for _ in range(TURNS)]
    speeds = _speeds(runs, "rows", rounds * ROUND * BATCH)
    values = {
        "text_vs_pyarrow": speeds["ours"] / speeds["arrow_dicts"],
        "text_vs_hf": speeds["ours"] / speeds["hf"],
        "text_vs_mosaic": speeds["ours"] / speeds["mds"],
    }
    per_cpu = _speeds(runs, "rows", rounds * ROUND * BATCH, "cpu_s")
    further = {
        "ours_vs_litdata": speeds["ours"] / speeds["lit"],
        "documents_per_s": speeds,
        "documents_per_cpu_s": per_cpu,
        "spread": _spread(runs, "rows"),
    }
    return values, {**further, "runs": runs, "written": written, "settings": settings}


def packed_row(context: Context) -> Found:
    """packed_vs_litdata, packed_vs_mosaic and read_amplification_w8, over the same packed rows."""
    documents = corpus_documents(context, 20)
    batches = 48 if context.size == "check" else 96
    settings = {
        "rounds": batches // 8,
        "batches_per_round": 8,
        "global_batch": PACKED_BATCH,
        "rows_per_group": GROUP_ROWS,
        "max_epochs": 4,
        "samples": {"kind": "packed", "seq_len": SEQ_LEN},
    }
    run = make_run(context, documents, settings)
    data, mds, lit = run / "rounds", context.scratch / "mds", context.scratch / "lit"
    written = {
        "mds": peer(context, "mds_packed_write", data, mds, PACKED_BATCH),
        "litdata": peer(context, "lit_packed_write", data, lit, PACKED_BATCH),
    }
    runs: dict[str, list[dict[str, Any]]] = {}
    for _ in range(TURNS):
        runs.setdefault("ours", []).append(load("packed", str(run), "sha256"))
        for mode, place in (("mds_packed", mds), ("lit_packed", lit)):
            runs.setdefault(mode, []).append(peer(context, mode, place, context.scratch / "none", PACKED_BATCH))
        runs.setdefault("ours_unverified", []).append(load("packed", str(run), "size"))
    speeds = _speeds(runs, "amount", batches * PACKED_BATCH * SEQ_LEN)
    read = load("amplification", str(run), "8")
    values = {
        "packed_vs_litdata": speeds["ours"] / speeds["lit_packed"],
        "packed_vs_mosaic": speeds["ours"] / speeds["mds_packed"],
        "read_amplification_w8": max(read["counted"], read["kernel"]) / read["used"],
    }
    per_cpu = _speeds(runs, "amount", batches * PACKED_BATCH * SEQ_LEN, "cpu_s")
    further = {"tokens_per_s": speeds, "tokens_per_cpu_s": per_cpu, "spread": _spread(runs, "amount")}
    further |= {"amplification": read, "written": written}
    return values, {**further, "runs": runs, "settings": settings}


def _speeds(
    runs: dict[str, list[dict[str, Any]]], counted: str, expected: int, clock: str = "seconds"
) -> dict[str, float]:
    """Medians per second (of wall time, or of CPU time); refuses a loader that did not give everything."""
    for name, found in runs.items():
        for one in found:
            if one[counted] != expected:
                raise RuntimeError(f"{name} gave {one[counted]:,} {counted}, expected {expected:,}")
    return {name: statistics.median(one[counted] / one[clock] for one in found) for name, found in runs.items()}


def _spread(runs: dict[str, list[dict[str, Any]]], counted: str) -> dict[str, dict[str, list[float]]]:
    """Slowest and fastest run of each loader, per second of wall time; least and most of ours over it, turn by turn."""
    speeds = {name: [one[counted] / one["seconds"] for one in found] for name, found in runs.items()}
    ratios = {
        name: [mine / its for mine, its in zip(speeds["ours"], found, strict=True)] for name, found in speeds.items()
    }
    return {
        name: {"per_s": [min(speeds[name]), max(speeds[name])], "ours_over_it": [min(ratios[name]), max(ratios[name])]}
        for name in speeds
    }


ROWS: dict[str, Row] = {
    "text": Row(run=text_row, needs=("corpus", "peers")),
    "packed": Row(run=packed_row, needs=("corpus", "peers")),
}
