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
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import chaos_worker as worker
from chaos_worker import CRASHED, FINISHED, NO_FAULTS, REFUSED, Faults, Place
from made_pool import small_documents, write_pool

_LIMIT_S = 60.0
_SIZES = {"a": 60, "b": 35, "c": 90, "d": 20}
_RACED = {"rounds": 12, "batches_per_round": 1, "global_batch": 8, "seed": 5}
_SMALL = {"rounds": 6, "batches_per_round": 3, "global_batch": 8, "batches_per_shard": 2, "seed": 3}


@dataclass(frozen=True, slots=True)
class Variant:
    """A run that schedules are made for; `processes` ranks each in its own, or all ranks in one process."""

    mixer: str
    settings: dict[str, Any]
    processes: int = 1


VARIANTS = (
    Variant("skill_it", {"lookahead": 1}),
    Variant("skill_bandit", {"lookahead": 0}),
    Variant("skill_it", {"lookahead": 2, "report_every": 2, "ahead": 3, "keep_rounds": 1}),
    Variant("uniform", {"ahead": 2}),
    Variant("skill_it", {"lookahead": 1, "ahead": 2}, processes=2),
)
KINDS = (
    "kill sampler",
    "kill trainer",
    "kill both",
    "sampler dies inside",
    "trainer dies inside",
    "other world size",
    "full disk",
    "full disk for the trainer",
    "file too large",
    "torn leftovers",
    "torn shard",
    "lost checkpoint",
)
LAST_KINDS = ("torn manifest", "torn report")  # from which no run goes on


@dataclass(slots=True)
class Job:
    """The processes of one schedule."""

    place: Place
    variant: Variant
    rng: random.Random
    mischief: float
    world: int = 1
    running: dict[str, int] = field(default_factory=dict)
    ended: dict[str, int] = field(default_factory=dict)
    told: list[str] = field(default_factory=list)

    @property
    def settings(self) -> dict[str, Any]:
        """Of the sampler."""
        return {**_SMALL, **self.variant.settings}

    def start(self, who: str, faults: Faults = NO_FAULTS) -> None:
        """Start the sampler, or every process of the trainer."""
        if who == "sampler":
            self._fork("sampler", partial(worker.sample, self.place, self.settings, self.variant.mixer), faults)
            return
        split = self.variant.processes > 1
        self.world = 2 if split else self.world
        for ranks in [(r,) for r in range(self.world)] if split else [tuple(range(self.world))]:
            seed = self.rng.randrange(2**32)
            work = partial(worker.train, self.place, self.world, ranks, seed, self.mischief)
            self._fork(f"trainer {ranks[0]}", work, faults if ranks[0] == 0 else NO_FAULTS)

    def _fork(self, name: str, work: Callable[[], None], faults: Faults) -> None:
        self.ended.pop(name, None)
        self.running[name] = worker.fork(work, self.place.root / f"{name}.log", faults)

    def kill(self, who: str) -> None:
        """SIGKILL to the sampler or to all of the trainer, and collect them."""
        for name in [name for name in self.running if name.startswith(who)]:
            os.kill(self.running[name], signal.SIGKILL)
            os.waitpid(self.running.pop(name), 0)
        for name in [name for name in self.ended if name.startswith(who)]:
            del self.ended[name]

    def poll(self) -> None:
        """Collect the processes that have ended, with their exit codes (minus the signal)."""
        for name, pid in list(self.running.items()):
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                del self.running[name]
                self.ended[name] = os.waitstatus_to_exitcode(status)

    def wait(self, ready: Callable[[], bool]) -> None:
        """Until `ready`, or nothing runs, or something ended badly."""
        begin = time.monotonic()
        while self.running and not ready() and not any(self.ended.values()):
            if time.monotonic() - begin > _LIMIT_S:
                raise TimeoutError(f"still running after {_LIMIT_S:.0f} s: {sorted(self.running)}")
            time.sleep(0.003)
            self.poll()

    def say(self, name: str) -> str:
        """What a process said when it ended."""
        log = self.place.root / f"{name}.log"
        return log.read_text() if log.exists() else ""

    def manifests(self) -> list[Path]:
        """Of the committed rounds."""
        return sorted(self.place.run.glob("rounds/*/manifest.json"))

    def result(self) -> tuple[list[bytes], bytes | None, list[str]]:
        """What is judged: manifests, the end, and the final model of each trainer process."""
        finals = [path.read_text() for path in sorted(self.place.root.glob("checkpoint*/final"))]
        done = self.place.run / "done.json"
        return [path.read_bytes() for path in self.manifests()], done.read_bytes() if done.exists() else None, finals


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
    rounds = sorted(rng.randrange(_SMALL["rounds"]) for _ in events)
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
        if _EVENTS[kind](job):
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


# ---------------------------------------------------------------------------------------------- what can go wrong


def _again(job: Job, who: str, faults: Faults = NO_FAULTS) -> None:
    job.kill(who)
    job.start(who, faults)


def _kill(job: Job, *victims: str) -> bool:
    for who in victims:
        job.kill(who)
    for who in victims:
        job.start(who)
    return False


def _inside(job: Job, who: str) -> bool:
    at = job.rng.randint(1, 60 if who == "sampler" else 25)
    _again(job, who, Faults(die_at=at, die_before=job.rng.random() < 0.5))
    return False


def _other_world(job: Job) -> bool:
    job.kill("trainer")
    job.world = job.rng.choice([w for w in (1, 2, 4, 8) if w != job.world])
    job.start("trainer")
    return False


def _full_disk(job: Job, who: str) -> bool:
    _again(job, who, Faults(disk_bytes=job.rng.randint(200, 60_000 if who == "sampler" else 6_000)))
    return False


def _too_large(job: Job) -> bool:
    _again(job, "sampler", Faults(file_bytes=job.rng.choice([300, 1500, 2500])))
    return False


def _torn_leftovers(job: Job) -> bool:
    """As a power failure leaves them: half a temporary file, half a shard under its name, in the next round."""
    job.kill("sampler")
    folder = job.place.run / f"rounds/{len(job.manifests()):06d}"
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.glob("shard-*"):
        path.write_bytes(path.read_bytes()[: job.rng.randrange(100)])
    (folder / ".tmp-1-dead").write_bytes(b"half a shard")
    (folder / "shard-00000-000000000000.parquet").write_bytes(b"of other content")
    (job.place.run / ".tmp-1-dead").write_bytes(b"half a done.json")
    job.start("sampler")
    return False


def _torn_shard(job: Job) -> bool:
    job.kill("sampler")
    job.kill("trainer")
    shards = sorted(job.place.run.glob("rounds/*/shard-*"))
    if shards:
        path = job.rng.choice(shards)
        data = bytearray(path.read_bytes())
        how = job.rng.randrange(3)
        if how == 0:
            path.unlink()
        elif how == 1:
            path.write_bytes(data[: len(data) // 2])
        else:
            data[job.rng.randrange(len(data))] ^= 1 << job.rng.randrange(8)
            path.write_bytes(data)
    job.start("sampler")
    job.start("trainer")
    return False


def _lost_checkpoint(job: Job) -> bool:
    """The trainer goes back to an older checkpoint, and reports again what it had reported."""
    job.kill("trainer")
    for folder in job.place.root.glob("checkpoint*"):
        saved = sorted(folder.glob("0*.json"))
        for path in saved[len(saved) // 2 :]:
            path.unlink()
    job.start("trainer")
    return False


def _torn_file(job: Job, pattern: str) -> bool:
    """Half a manifest or report: nothing can go on, and it must be said."""
    job.kill("sampler")
    job.kill("trainer")
    files = sorted(job.place.run.glob(pattern))
    files = [path for path in files if not path.name.endswith(".late.json")]
    if not files:
        return _kill(job, "sampler", "trainer")
    path = job.rng.choice(files)
    path.write_bytes(path.read_bytes()[: job.rng.randrange(1, 100)])
    job.start("sampler")
    job.wait(lambda: False)
    code, said = job.ended.get("sampler"), job.say("sampler")
    if code == FINISHED and path.parent.name == "feedback":  # the run was done, its reports are not read again
        job.start("trainer")
        return False
    if code != REFUSED or path.name not in said:
        raise RuntimeError(f"{path} is torn, the sampler ended with {code}: {said}")
    job.told.append(said)
    return True


_EVENTS: dict[str, Callable[[Job], bool]] = {
    "kill sampler": lambda job: _kill(job, "sampler"),
    "kill trainer": lambda job: _kill(job, "trainer"),
    "kill both": lambda job: _kill(job, "sampler", "trainer"),
    "sampler dies inside": lambda job: _inside(job, "sampler"),
    "trainer dies inside": lambda job: _inside(job, "trainer"),
    "other world size": _other_world,
    "full disk": lambda job: _full_disk(job, "sampler"),
    "full disk for the trainer": lambda job: _full_disk(job, "trainer"),
    "file too large": _too_large,
    "torn leftovers": _torn_leftovers,
    "torn shard": _torn_shard,
    "lost checkpoint": _lost_checkpoint,
    "torn manifest": lambda job: _torn_file(job, "rounds/*/manifest.json"),
    "torn report": lambda job: _torn_file(job, "feedback/*.json"),
}


# ---------------------------------------------------------------------------------------------- two samplers


def race(root: Path, pool: Path, expected: list[bytes]) -> str:
    """Two samplers on one run, started together; "clean", or what was wrong."""
    root.mkdir()
    place = Place(root, pool)
    gate, opener = os.pipe()

    ready, tell = os.pipe()

    def contend() -> None:
        os.close(opener)
        told = iter([True])

        def meet() -> None:
            if next(told, False):  # before the first round: neither can be done before the other has begun
                os.write(tell, b".")
                os.close(tell)
                os.read(gate, 1)  # until the writing end is closed

        worker.sample(place, _RACED, "uniform", meet)

    children = [worker.fork(contend, root / f"{n}.log") for n in range(2)]
    os.close(tell)
    came = sum(len(os.read(ready, 1)) for _ in children)  # fewer where one ended before it was ready
    os.close(opener)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    os.close(gate)
    os.close(ready)
    if came < len(children):
        return f"only {came} samplers were ready to draw"
    said = [(root / f"{n}.log").read_text() if (root / f"{n}.log").exists() else "" for n in range(2)]
    if sorted(codes) != [FINISHED, REFUSED] or "another sampler wrote round" not in said[codes.index(REFUSED)]:
        return f"exit codes {codes}: {said}"
    found = [path.read_bytes() for path in sorted(place.run.glob("rounds/*/manifest.json"))]
    return "clean" if found == expected else "the rounds differ"


def run_races(root: Path, pool: Path, tries: int) -> list[str]:
    """The outcomes of so many races."""
    alone = Place(root / "alone", pool)
    alone.root.mkdir()
    os.waitpid(worker.fork(partial(worker.sample, alone, _RACED, "uniform"), alone.root / "log"), 0)
    expected = [path.read_bytes() for path in sorted(alone.run.glob("rounds/*/manifest.json"))]
    outcomes = []
    for number in range(tries):
        outcomes.append(race(root / f"race-{number}", pool, expected))
        shutil.rmtree(root / f"race-{number}")
    return outcomes


# ---------------------------------------------------------------------------------------------- the program


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
