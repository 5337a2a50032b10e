"""The processes of one schedule: a sampler and a trainer, started, killed and judged."""

import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import chaos_worker as worker
from chaos_worker import NO_FAULTS, Faults, Place

_LIMIT_S = 60.0
SMALL: dict[str, Any] = {"rounds": 6, "batches_per_round": 3, "global_batch": 8, "batches_per_shard": 2, "seed": 3}


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
        return {**SMALL, **self.variant.settings}

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
