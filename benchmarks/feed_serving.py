"""Rows on a run that is served: resuming, from report to manifest, stalls, chaos, races and the import."""

import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from corpus_rows import Context, Found, Row
from feed_speed import HERE, corpus_documents, load
from made_pool import small_documents, write_pool

from prereq.selector.feed.state import FeedState
from prereq.selector.rounds.manifest import RoundManifest, read_chain
from prereq.selector.rounds.run import read_run
from prereq.selector.storage import Folder

RESUME_SAMPLES = 10_000_000
RESUME_BATCH = 512
RESUME_ROUND = 128  # batches
POSITIONS = 5


def resume_row(context: Context) -> Found:
    """resume_ms: from a state to its first batch, in a fresh process, anywhere in a run of 10 million samples."""
    per_round = RESUME_BATCH * RESUME_ROUND
    rounds = -(-RESUME_SAMPLES // per_round)
    settings = {
        "rounds": rounds,
        "batches_per_round": RESUME_ROUND,
        "global_batch": RESUME_BATCH,
        "max_epochs": 10 * rounds,
    }
    pool = write_pool(context.scratch / "pool", small_documents(dict.fromkeys("abcd", 5000), least=12, most=40))
    run = context.scratch / "run"
    made = load("sampler", str(run), str(pool), json.dumps(settings), "proportional")
    chain = read_chain(Folder(run))
    found: list[dict[str, Any]] = []
    states = [_state(run, chain, round((rounds - 1) * p / (POSITIONS - 1)), p) for p in range(POSITIONS)]
    for _ in range(5):
        for place, state in enumerate(states):
            one = load("resume", str(run), json.dumps(state))
            if one["step"] != one["expected"]:
                raise RuntimeError(f"resumed at step {one['step']}, expected {one['expected']}")
            found.append({**one, "position": place})
    medians = [
        1000 * statistics.median(one["seconds"] for one in found if one["position"] == place)
        for place in range(POSITIONS)
    ]
    details = {"milliseconds": medians, "samples": rounds * per_round, "rounds": rounds, "made": made, "runs": found}
    return {"resume_ms": max(medians)}, {**details, "settings": settings}


def _state(run: Path, chain: list[RoundManifest], number: int, place: int) -> dict[str, Any]:
    """The feed's state in the middle of a round (of the last, a little before its end)."""
    info = read_run(Folder(run))
    if info is None:
        raise RuntimeError(f"{run}: no run.json")
    batch = (RESUME_ROUND * (place + 1)) // (POSITIONS + 1)
    state = FeedState(
        run=info.config,
        step=number * RESUME_ROUND + batch - 1,
        round=number,
        row=batch * RESUME_BATCH,
        manifest=chain[number].sha256,
        tokens=sum(manifest.tokens for manifest in chain[:number]),
    )
    return state.to_dict()


def _served(context: Context, settings: dict[str, Any], mode: str, *arguments: str) -> dict[str, Any]:
    """A sampler over the corpus in 100 arms beside a trainer; what the trainer found."""
    pool = write_pool(context.scratch / "pool", corpus_documents(context, 100))
    run = context.scratch / "run"
    command = [sys.executable, str(HERE / "feed_loads.py"), "sampler", str(run), str(pool), json.dumps(settings)]
    with subprocess.Popen([*command, "skill_it"], stdout=subprocess.PIPE, text=True) as sampler:
        try:
            found = load(mode, str(run), *arguments)
        finally:
            sampler.terminate()
    return {**found, "settings": settings}


def feedback_row(context: Context) -> Found:
    """feedback_to_manifest_ms: 100 arms, rounds of 2,560 documents, lookahead 0: a round waits for its report."""
    settings = {"rounds": 15, "batches_per_round": 10, "global_batch": 256, "lookahead": 0}
    found = _served(context, settings, "report")
    return {"feedback_to_manifest_ms": statistics.median(found["milliseconds"])}, found


def stall_row(context: Context) -> Found:
    """stall_share: a trainer that takes 5 s a round of 2,560 documents, lookahead 1."""
    settings = {"rounds": 8 if context.size == "check" else 20, "batches_per_round": 10, "global_batch": 256}
    found = _served(context, settings, "train", "5.0")
    return {"stall_share": found["share"]}, found


def chaos_row(context: Context) -> Found:
    """chaos_silent_differences and race_clean."""
    command = [sys.executable, str(HERE / "chaos.py"), "--schedules", "200", "--races", "100"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if not done.stdout:
        raise RuntimeError(done.stderr[-2000:])
    found = json.loads(done.stdout)
    values = {
        "chaos_silent_differences": float(len(found["bad"])),
        "race_clean": 1.0 - len(found["unclean"]) / found["races"],
    }
    return values, found


def import_row(context: Context) -> Found:
    """import_ms: the feed, where pyarrow is imported already."""
    found = [load("import", str(context.scratch)) for _ in range(6)][1:]  # the first fills the page cache
    heavy = sorted({name for one in found for name in one["heavy"]})
    if heavy:
        raise RuntimeError(f"importing the feed imports {heavy}")
    return {"import_ms": statistics.median(one["milliseconds"] for one in found)}, {"runs": found}


ROWS: dict[str, Row] = {
    "import": Row(run=import_row),
    "resume": Row(run=resume_row),
    "feedback": Row(run=feedback_row, needs=("corpus",)),
    "stall": Row(run=stall_row, needs=("corpus",)),
    "chaos": Row(run=chaos_row),
}
