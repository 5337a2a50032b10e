"""Rows on deduplication: speed beside two peers, what it found, and how it grows.

All three read the same Parquet files with two processes, word 5-grams, threshold .8 and at most 128 hashes. A peer gets
what its own rule (datasketch's, equal weights) makes of that: 9 bands of 13 rows, fewer than ours and so less work.
Peers take signatures at their word; ours then compares texts exactly. The clock is on whole processes: imports, Ray's
start and its end, reading, and writing the kept documents. Runs of peers and of ours alternate.
"""

import json
import shutil
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from corpus_exact import near_pairs, normal_form, shingle_sets
from corpus_rows import Context, Found, Row
from processes import Measured, measure

from prereq.selector.corpus.documents import IngestConfig

HERE = Path(__file__).parent
THRESHOLD = 0.8
BANDS, BAND_ROWS = 9, 13  # of the peers
PEERS = {"td": "text-dedup", "datatrove": "datatrove"}  # environment -> package
STRATA = (0.8, 0.85, 0.9)  # lower borders; the last one reaches to 1
GROWTH = 10
LONG_RUNS = 3  # of datatrove in --size check at most: one takes two minutes
TINY = 20  # documents whose deduplication counts as start-up


def installed(python: Path, name: str) -> str:
    """The version of a package in another environment."""
    ask = f"from importlib.metadata import version; print(version({name!r}))"
    return subprocess.run([python, "-c", ask], check=True, capture_output=True, text=True).stdout.strip()


def ours(context: Context, name: str, source: Path) -> tuple[Measured, Path]:
    """One run of ours on two cores: what it took, and the folder of its stages."""
    out = context.scratch / name
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    command = [sys.executable, HERE / "deduplicate.py", out, source, "--cpus", "2"]
    return measure(command, context.scratch / f"{name}.log"), out


def text_dedup(context: Context) -> Measured:
    """One run of text-dedup 0.4.0 with its faster hash; its caches start empty."""
    out, home = context.scratch / "textdedup", context.scratch / "textdedup-home"
    for folder in (out, home):
        shutil.rmtree(folder, ignore_errors=True)
    command = [
        *(context.peer("td"), "-m", "text_dedup.minhash", "--path", "parquet", "--split", "train"),
        *("--data_files", f"{context.corpus}/parquet/*.parquet", "--cache_dir", home, "--output", out),
        *(
            "--column",
            "text",
            "--ngram",
            5,
            "--num_perm",
            128,
            "--threshold",
            THRESHOLD,
            "--b",
            BANDS,
            "--r",
            BAND_ROWS,
        ),
        *("--hash_func", "xxh3", "--num_proc", 2),
    ]
    offline = {"HF_HOME": str(home), "HF_DATASETS_OFFLINE": "1", "HF_HUB_OFFLINE": "1"}
    return measure(command, context.scratch / "textdedup.log", cwd=context.scratch, environment=offline)


def datatrove(context: Context) -> Measured:
    """One run of datatrove 0.10.1."""
    out = context.scratch / "datatrove"
    shutil.rmtree(out, ignore_errors=True)
    command = [context.peer("datatrove"), HERE / "peer_datatrove.py", out, context.corpus / "parquet"]
    return measure(command, context.scratch / "datatrove.log", cwd=context.scratch)


def speed_row(context: Context) -> Found:
    """Wall times of the three, alternating, and what ours found in its last run."""
    versions = {name: installed(context.peer(venv), name) for venv, name in PEERS.items()}
    runs: dict[str, list[Measured]] = {"ours": [], "text-dedup": [], "datatrove": []}
    out = Path()
    long_runs = min(LONG_RUNS, context.repeats(1)) if context.size == "check" else context.repeats(1)
    for repeat in range(context.repeats(3)):
        run, out = ours(context, "ours", context.corpus / "parquet")
        runs["ours"].append(run)
        runs["text-dedup"].append(text_dedup(context))
        if repeat < long_runs:
            runs["datatrove"].append(datatrove(context))
    median = {name: statistics.median(run.wall_seconds for run in found) for name, found in runs.items()}
    values = {
        "dedup_speedup_textdedup": median["text-dedup"] / median["ours"],
        "dedup_speedup_datatrove": median["datatrove"] / median["ours"],
    }
    quality, measured = judge(context.corpus / "parquet", out)
    details: dict[str, Any] = {
        "runs": {name: [run.plain() for run in found] for name, found in runs.items()},
        "median_seconds": median,
        "ours": json.loads(runs["ours"][-1].output),
        "peers": {
            "versions": versions,
            "bands": BANDS,
            "rows": BAND_ROWS,
            "ngram": 5,
            "threshold": THRESHOLD,
            "processes": 2,
        },
        "quality": measured,
    }
    return values | quality, details


def judge(source: Path, stages: Path) -> Found:
    """Compare what a run dropped with all pairs at or above the threshold, found exactly.

    A pair counts as found when its documents are in one component and at most one of them is kept. Texts of equal
    normal form stand as one.
    """
    table = pq.read_table(source, columns=["id", "text"])
    group: dict[str, int] = {}
    ids = table["id"].to_pylist()
    groups = [group.setdefault(normal_form(text), len(group)) for text in table["text"].to_pylist()]
    number = dict(zip(ids, groups, strict=True))
    sets = shingle_sets(list(group))
    pairs = near_pairs(sets, THRESHOLD)
    component, kept = _fates(stages, number)
    strata = {border: [0, 0] for border in STRATA}
    for a, b, similarity in pairs:
        counts = strata[max(border for border in STRATA if border <= similarity)]
        counts[0] += component[a] == component[b] and not (kept[a] and kept[b])
        counts[1] += 1
    listed = pq.read_table(stages / "duplicates" / "all" / "duplicates.parquet")
    rows = zip(*(listed[name].to_pylist() for name in ("id", "survivor", "similarity")), strict=True)
    exact = [(sets.similarity(number[own], number[survivor]), said) for own, survivor, said in rows]
    found, total = (sum(counts[i] for counts in strata.values()) for i in (0, 1))
    measured = {
        "pairs": total,
        "recall": {f"from {border:g}": hit / max(1, count) for border, (hit, count) in strata.items()},
        "pairs_per_stratum": {f"from {border:g}": count for border, (_, count) in strata.items()},
        "dropped": len(exact),
        "largest_error_of_listed_similarity": max(abs(true - said) for true, said in exact),
    }
    return {"dedup_recall": found / total, "dedup_worst_survivor": min(true for true, _ in exact)}, measured


def _fates(stages: Path, number: dict[str, int]) -> tuple[np.ndarray, np.ndarray]:
    """Component and whether a document is kept, for each distinct text."""
    component = np.full(max(number.values()) + 1, -1)
    kept = np.zeros(len(component), dtype=bool)
    documents = sorted((stages / "ingest").glob("*/part-*.parquet"))
    fates = sorted((stages / "duplicates" / "all").glob("fates-*.parquet"))
    if len(documents) != len(fates):
        raise RuntimeError(f"{stages}: {len(documents)} parts of documents, {len(fates)} of fates")
    for path, fate in zip(documents, fates, strict=True):
        rows = [number[own] for own in pq.read_table(path, columns=["id"])["id"].to_pylist()]
        found = pq.read_table(fate, columns=["kind", "component"])
        component[rows] = found["component"].to_numpy()
        np.logical_or.at(kept, rows, found["kind"].is_null().to_numpy())
    return component, kept


def growth_row(context: Context) -> Found:
    """Wall time and the largest worker at 1x and 10x the documents, less what almost no documents take."""
    tiny, large = context.scratch / "tiny", context.scratch / "large"
    tiny.mkdir()
    first = sorted((context.corpus / "parquet").glob("*.parquet"))[0]
    pq.write_table(pq.read_table(first).slice(0, TINY), tiny / "part-00000.parquet")
    multiply(context.corpus / "parquet", large, GROWTH)
    runs: dict[str, list[Measured]] = {"start": [], "1x": [], "10x": []}
    sources = {"start": tiny, "1x": context.corpus / "parquet", "10x": large}
    for _ in range(context.repeats(2)):
        for name, source in sources.items():
            run, out = ours(context, f"growth-{name}", source)
            runs[name].append(run)
            shutil.rmtree(out)
    seconds = {name: statistics.median(run.wall_seconds for run in found) for name, found in runs.items()}
    memory = {name: statistics.median(run.worker_peak_mib for run in found) for name, found in runs.items()}
    values = {
        "dedup_growth": (seconds["10x"] - seconds["start"]) / (seconds["1x"] - seconds["start"]),
        "dedup_memory_growth": memory["10x"] / memory["1x"],
    }
    details = {
        "runs": {name: [run.plain() for run in found] for name, found in runs.items()},
        "median_seconds": seconds,
        "median_worker_peak_mib": memory,
        "part_rows": IngestConfig().part_rows,
    }
    return values, details


def multiply(source: Path, target: Path, times: int) -> None:
    """Write `times` the documents of a folder, none of a copy similar to those of another copy.

    Copy i has every letter moved i places through the alphabet, so word lengths and the duplicates within a copy stay.
    """
    target.mkdir()
    for path in sorted(source.glob("*.parquet")):
        table = pq.read_table(path, columns=["id", "text"]).combine_chunks()
        for copy in range(times):
            moved = pa.table({"id": _prefixed(table["id"], f"{copy}-"), "text": _moved(table["text"], copy)})
            pq.write_table(moved, target / f"{path.stem}-{copy:05d}.parquet", compression="zstd")


def _prefixed(ids: pa.ChunkedArray, prefix: str) -> pa.Array:
    return pa.array([prefix + own for own in ids.to_pylist()], pa.string())


def _moved(texts: pa.ChunkedArray, places: int) -> pa.Array:
    letters = b"abcdefghijklmnopqrstuvwxyz"
    shifted = letters[places % 26 :] + letters[: places % 26]
    moved = bytes.maketrans(letters + letters.upper(), shifted + shifted.upper())
    return pa.array([text.encode().translate(moved).decode() for text in texts.to_pylist()], pa.string())


ROWS: dict[str, Row] = {
    "dedup": Row(run=speed_row, needs=("corpus", "peers")),
    "dedup_growth": Row(run=growth_row, needs=("corpus",)),
}
