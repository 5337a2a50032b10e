"""The processes of a chaos schedule: a sampler, a trainer of one or more ranks, and what can go wrong inside them.

Each is forked from a process that has imported prereq and done nothing else. The "model" of the trainer is a chain of
digests over the ids that it was handed, kept in its checkpoint like weights: two runs end with the same chain when
every sample was trained on once, in the same order. Its losses depend on the chain, so that a wrong sample would move
the mixture as well.
"""

import ctypes
import errno
import hashlib
import json
import logging
import os
import random
import resource
import signal
import stat
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from made_pool import open_run

from prereq.graph.errors import FeedbackError, PrereqError
from prereq.selector.feed import Feed, WaitConfig

FINISHED, REFUSED, CRASHED = 0, 2, 3  # exit codes
_LIMIT_S = 30.0  # a wait beyond it is a hang
_WAIT = WaitConfig(first_s=0.002, most_s=0.01, start_timeout_s=_LIMIT_S, timeout_s=_LIMIT_S)


@dataclass(frozen=True, slots=True)
class Faults:
    """What goes wrong in a process, none by default."""

    die_at: int | None = None  # number of the file operation at which it is killed
    die_before: bool = True  # that operation is not done, or done and nothing after it
    disk_bytes: int | None = None  # written before the disk is full
    file_bytes: int | None = None  # largest file that can be written


NO_FAULTS = Faults()


@dataclass(frozen=True, slots=True)
class Place:
    """The folders of one schedule."""

    root: Path
    pool: Path

    @property
    def run(self) -> Path:
        """The run."""
        return self.root / "run"


def fork(work: Callable[[], None], log: Path, faults: Faults = NO_FAULTS) -> int:
    """Do `work` in a child; what it raises goes to `log`. Returns the child's process id."""
    pid = os.fork()
    if pid:
        return pid
    code = CRASHED
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: no child outlives the play
    logging.disable(logging.WARNING)  # repeated reports are part of the play
    try:
        _arm(faults)
        work()
        code = FINISHED
    except PrereqError as error:
        log.write_text(f"{type(error).__name__}: {error}")
        code = REFUSED
    except BaseException:  # noqa: BLE001 - the child ends here whatever it was, and its log says so
        log.write_text(traceback.format_exc())
    finally:
        sys.stdout.flush()
        os._exit(code)


def _arm(faults: Faults) -> None:
    """Put the faults into this process's file operations."""
    if faults.file_bytes is not None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (faults.file_bytes, faults.file_bytes))
    count = written = 0

    def counted(operation: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal count
            count += 1
            if count == faults.die_at and faults.die_before:
                os.kill(os.getpid(), signal.SIGKILL)
            done = operation(*args, **kwargs)
            if count == faults.die_at:
                os.kill(os.getpid(), signal.SIGKILL)
            return done

        return call

    sync = os.fsync

    def fsync(descriptor: int) -> None:
        nonlocal written
        written += os.fstat(descriptor).st_size if stat.S_ISREG(os.fstat(descriptor).st_mode) else 0
        if faults.disk_bytes is not None and written > faults.disk_bytes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(descriptor)

    os.fsync = counted(fsync)
    if faults.die_at is not None:
        for name in ("link", "replace", "unlink"):
            setattr(os, name, counted(getattr(os, name)))


def sample(
    place: Place, settings: Mapping[str, Any], mixer: str, before_round: Callable[[], object] = lambda: None
) -> None:
    """The sampler, to the end of the run; `before_round` is called when it is ready to draw one."""
    open_run(place.run, place.pool, settings, mixer).run(stop=lambda: bool(before_round()) and False)


def repair(place: Place, settings: Mapping[str, Any], mixer: str, number: int) -> None:
    """Put back the shards of a round."""
    open_run(place.run, place.pool, settings, mixer).repair(number)


def chained(chain: str, ids: list[str]) -> str:
    """The model after a batch."""
    return hashlib.sha256("\n".join([chain, *ids]).encode()).hexdigest()


def losses(skills: tuple[str, ...], chain: str) -> dict[str, float | None]:
    """The evaluation of a model."""
    return {
        skill: round(1.0 + int(hashlib.sha256(f"{skill}{chain}".encode()).hexdigest()[:6], 16) / 2**24, 6)
        for skill in skills
    }


class Trainer:
    """Ranks of one training job in one process, moving together.

    Args:
        place: Where the run and the checkpoint are.
        world: Ranks of the job.
        ranks: Those that this process plays.
        seed: Of what it does besides training: pauses, checkpoints, bad reports.
        mischief: Share of rounds around which it reports badly, late or twice.
    """

    def __init__(self, place: Place, world: int, ranks: tuple[int, ...], seed: int, mischief: float) -> None:
        self._random, self._mischief = random.Random(seed), mischief
        self._alone, self._writes = len(ranks) == world, ranks[0] == 0
        self._files = place.root / ("checkpoint" if self._alone else f"checkpoint-{ranks[0]}")
        pool = str(place.pool)
        self._feeds = [Feed(place.run, rank=r, world_size=world, wait=_WAIT, pool=pool) for r in ranks]
        self._chain = ""

    def load(self, step: int | None) -> None:
        """Go on from the checkpoint behind a global step; None: from the start."""
        if step is None:
            self._feeds[0].report_initial(losses(self._feeds[0].skills, ""))
            return
        saved = json.loads((self._files / f"{step:06d}.json").read_bytes())
        self._chain = saved["chain"]
        for feed in self._feeds:
            feed.load_state_dict(saved["state"])

    def run(self) -> None:
        """Train to the end of the run and leave the final model."""
        while True:
            if self._feeds[0].round_ended:
                self._report()
            batches = [next(feed, None) for feed in self._feeds]
            if batches[0] is None:
                break
            ids = [name for batch in batches if batch is not None for name in batch.ids]
            self._chain = chained(self._chain, ids)
            time.sleep(self._random.uniform(0.0, 0.004))
            # ranks of several processes meet at the ends of rounds, one process checkpoints anywhere
            if batches[0].last_of_round if not self._alone else self._random.random() < 0.4:
                self._save(batches[0].step, batches[0].state)
        _put(self._files / "final", self._chain.encode())

    def _report(self) -> None:
        feed, draw = self._feeds[0], self._random.random()
        good = losses(feed.skills, self._chain)
        if draw < self._mischief:
            self._bad_report(good)
            time.sleep(self._random.uniform(0.0, 0.05))  # late: the sampler waits
        for rank in self._feeds:
            rank.report(good)
        if draw < self._mischief / 2 and self._writes:
            again = feed.report(losses(feed.skills, "another"), round=feed.state_dict()["round"])
            assert again in ("already recorded", "late"), again

    def _bad_report(self, good: dict[str, float | None]) -> None:
        name = sorted(good)[0]
        bad = self._random.choice([{name: float("nan")}, {name: -1.0}, {name: float("inf")}, {"no such skill": 1.0}])
        try:
            outcome = self._feeds[0].report({**good, **bad}) if self._writes else None
        except FeedbackError:
            return
        assert not self._writes, f"{bad} was {outcome}"

    def _save(self, step: int, state: Any) -> None:
        _put(self._files / f"{step:06d}.json", json.dumps({"chain": self._chain, "state": state}).encode())
        self._feeds[0].checkpointed(state)


def newest_checkpoint(folders: list[Path]) -> int | None:
    """The newest step of which every process has a checkpoint."""
    steps = [{int(path.stem) for path in folder.glob("0*.json")} for folder in folders]
    return max(set.intersection(*steps), default=None) if steps else None


def _put(path: Path, data: bytes) -> None:
    """Write a file whole, without counting as one of prereq's operations."""
    path.parent.mkdir(exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.partial")
    partial.write_bytes(data)
    partial.rename(path)


def train(place: Place, world: int, ranks: tuple[int, ...], seed: int, mischief: float) -> None:
    """A trainer's process, from the newest checkpoint that all processes of the job have."""
    split = len(ranks) < world
    names = [f"checkpoint-{rank}" for rank in range(world)] if split else ["checkpoint"]
    step = newest_checkpoint([place.root / name for name in names])
    trainer = Trainer(place, world, ranks, seed, mischief)
    trainer.load(step)
    trainer.run()
