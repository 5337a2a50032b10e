"""Seeded schedules of what can go wrong around a run: each must end as if nothing had, or say why it stopped.

    python benchmarks/chaos.py [--schedules 200] [--first 0] [--races 100]

Prints one JSON object. A schedule draws kills of the sampler, of trainer ranks and of both (from outside, and at a
chosen file operation from inside), restarts at other world sizes, late, repeated and malformed reports, torn files and
full disks; it is judged by the manifests' bytes and by the trainer's "model" (see `chaos_worker`). A race starts two
samplers on one run: one must write it to its end, the other say that it was beaten.
"""

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import chaos_worker as worker
from chaos_events import EVENTS, KINDS, LAST_KINDS
from chaos_job import SMALL, VARIANTS, Job, Variant
from chaos_race import run_races
from chaos_worker import CRASHED, FINISHED, REFUSED, Place
from made_pool import small_documents, write_pool

_SIZES = {"a": 60, "b": 35, "c": 90, "d": 20}


def _make(pool: Path) -> None:
    write_pool(pool, small_documents(_SIZES), group_rows=8)


def undisturbed(root: Path, pool: Path, variant: Variant) -> Any:
    """The result that every schedule of a variant must have."""
    root.mkdir()
    job = Job(Place(root, pool), variant, random.Random(0), mischief=0.0)
    job.start("sampler")
    job.start("trainer")
    try:
        job.wait(lambda: False)
        if any(job.ended.values()):
            raise RuntimeError(str({name: job.say(name) for name in job.ended}))
        return job.result()
    finally:
        job.kill("sampler")
        job.kill("trainer")


def schedule_of(seed: int) -> tuple[Variant, float, list[tuple[int, str]]]:
    """Variant, mischief in reports and events (round at which, kind) of a schedule."""
    rng = random.Random(f"schedule {seed}")
    variant = VARIANTS[seed % len(VARIANTS)]
    kinds = [k for k in KINDS if not (k == "lost checkpoint" and "keep_rounds" in variant.settings)]
    events = [rng.choice(kinds) for _ in range(rng.randint(1, 4))]
    if rng.random() < 0.15:
        events.append(rng.choice(LAST_KINDS))
    rounds = sorted(rng.randrange(SMALL["rounds"]) for _ in events)
    return variant, rng.choice([0.0, 0.4]), list(zip(rounds, events, strict=True))


def run_schedule(seed: int, root: Path, pool: Path, expected: Any) -> dict[str, Any]:
    """Play one schedule; `outcome` is same, stopped, different, crashed, hung or unexpected."""
    variant, mischief, events = schedule_of(seed)
    root.mkdir()
    job = Job(Place(root, pool), variant, random.Random(f"play {seed}"), mischief)
    found = {"seed": seed, "variant": VARIANTS.index(variant), "events": events, "outcome": "hung", "said": ""}
    try:
        job.start("sampler")
        job.start("trainer")
        stopped = _play(job, events)
        found["said"] = " | ".join(job.told)
        same = job.result() == expected
        found["outcome"] = "same" if same else "stopped" if stopped else "different"
    except TimeoutError as error:
        found["said"] = str(error)
    except RuntimeError as error:
        found |= {"outcome": "crashed" if "Traceback" in str(error) else "unexpected", "said": str(error)}
    finally:
        job.kill("sampler")
        job.kill("trainer")
    return found


def _play(job: Job, events: Sequence[tuple[int, str]]) -> bool:
    """All events, then to the end; True when the run stopped with a clear error that the damage explains."""
    for number, kind in events:
        _settle(job, (job.place.run / f"rounds/{number:06d}/manifest.json").exists)
        time.sleep(job.rng.uniform(0.0, 0.02))
        job.poll()
        if EVENTS[kind](job):
            return True
    _settle(job, lambda: False)
    return False


def _settle(job: Job, ready: Callable[[], bool]) -> None:
    """Wait; mend what a process stopped for where that can be mended, and start it again.

    Raises:
        RuntimeError: A process crashed, or stopped for no reason that the schedule gave it.
    """
    while True:
        job.wait(ready)
        bad = {name: code for name, code in job.ended.items() if code != FINISHED}
        if not bad:
            return
        name, code = next(iter(bad.items()))
        said = job.say(name)
        if code == CRASHED or (code == REFUSED and not _mend(job, said)):
            raise RuntimeError(f"{name}: {said}")
        if code == REFUSED:
            job.told.append(f"{name}: {said}")
        who = name.split()[0]
        job.kill(who)
        job.start(who)


def _mend(job: Job, said: str) -> bool:
    """Whether a clear error was one that the schedule caused and a user can mend; mends it."""
    if "No space left" in said or "File too large" in said:
        return True
    for path in job.manifests():
        if str(path.parent) in said and "prereq sample --repair" in said:
            log = job.place.root / "repair.log"
            work = partial(worker.repair, job.place, job.settings, job.variant.mixer, int(path.parent.name))
            _, status = os.waitpid(worker.fork(work, log), 0)
            if os.waitstatus_to_exitcode(status) != FINISHED:
                raise RuntimeError(f"repair: {log.read_text()}")
            return True
    return False


def play(first: int, schedules: int, races: int) -> dict[str, Any]:
    """All schedules and races; what came of them."""
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        root = Path(folder)
        pool = root / "pool"
        # nothing of pyarrow runs in this process: its threads would not be there in the forked ones
        made = worker.fork(partial(_make, pool), root / "log")
        if os.waitstatus_to_exitcode(os.waitpid(made, 0)[1]) != FINISHED:
            raise RuntimeError((root / "log").read_text())
        seeds = range(first, first + schedules)
        needed = sorted({seed % len(VARIANTS) for seed in seeds})
        expected = {n: undisturbed(root / f"whole-{n}", pool, VARIANTS[n]) for n in needed}
        found = []
        for seed in seeds:
            found.append(run_schedule(seed, root / str(seed), pool, expected[seed % len(VARIANTS)]))
            print(f"schedule {seed}: {found[-1]['outcome']}", file=sys.stderr, flush=True)
            shutil.rmtree(root / str(seed))
        raced = run_races(root, pool, races) if races else []
    outcomes = [entry["outcome"] for entry in found]
    return {
        "schedules": len(found),
        "outcomes": {name: outcomes.count(name) for name in sorted(set(outcomes))},
        "bad": [entry for entry in found if entry["outcome"] not in ("same", "stopped")],
        "races": len(raced),
        "unclean": [outcome for outcome in raced if outcome != "clean"],
        "found": found,
    }


def main(arguments: list[str] | None = None) -> int:
    """Print what came of it; 1 when a schedule ended in another way than same or stopped, or a race was unclean."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--schedules", type=int, default=200)
    parser.add_argument("--first", type=int, default=0, help="seed of the first schedule")
    parser.add_argument("--races", type=int, default=100)
    options = parser.parse_args(arguments)
    found = play(options.first, options.schedules, options.races)
    print(json.dumps(found))
    return 1 if found["bad"] or found["unclean"] else 0


if __name__ == "__main__":
    sys.exit(main())
