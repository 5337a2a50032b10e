"""`prereq run`: build, sample and train together on one machine, then say what came of it.

The trainer is a process of its own that reads rounds while they are written, as any trainer does; this module only
starts it, watches it and ends it. Killed at any moment, the same command goes on from the files.
"""

import argparse
import ctypes
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from prereq.graph.errors import PrereqError
from prereq.jobs.build import build
from prereq.jobs.config import RunConfig
from prereq.jobs.progress import Bar, Progress
from prereq.jobs.report import write_report
from prereq.jobs.sample import ended, open_sampler
from prereq.jobs.summary import summarise, table
from prereq.selector.rounds.run import Done
from prereq.selector.storage import Folder

_POLL_S = 0.1
_LOG = "train/stderr.log"
_GRACE_S = 20.0  # for the trainer to end by itself when the run is stopped
_PR_SET_PDEATHSIG = 1


def run(config: RunConfig, progress: Progress) -> Done:
    """Build the pool if need be, then draw and train to the end of the run.

    Args:
        config: The whole configuration.
        progress: Shows one bar per stage and one for the rounds.

    Returns:
        How the run ended.

    Raises:
        PrereqError: A stage, the sampler or the trainer failed; what was finished stays for the next run.
    """
    folder = Folder(config.run_dir)
    folder.check_writable()
    build(config, progress)
    watch = _Watch(config, folder)
    sampler = open_sampler(config, watch.on_event)
    folder.replace("config.yaml", yaml.safe_dump(config.resolved(), sort_keys=False).encode())
    with (
        progress.stage("rounds", total=config.rounds or 0) as bar,
        _desk(folder) as desk,
        _trainer(desk) as trainer,
    ):
        watch.start(trainer, bar, desk)
        done = sampler.run(stop=watch.tick)
        if done is None:
            raise watch.failure()
        while trainer.poll() is None:
            watch.tick()
            time.sleep(max(_POLL_S, folder.poll_s))
        watch.tick()
        if trainer.returncode != 0:
            raise watch.failure()
        bar.note({"rounds": done.rounds, "documents": watch.documents, "tokens": watch.tokens})
    return done


class _Watch:
    """Follows the sampler's events, the trainer's process and its reports."""

    def __init__(self, config: RunConfig, folder: Folder) -> None:
        self._folder = folder
        self._trainer: subprocess.Popen[bytes] | None = None
        self._log: Path | None = None
        self._bar: Bar | None = None
        self._reported = 0
        self.documents = self.tokens = 0

    def start(self, trainer: "subprocess.Popen[bytes]", bar: Bar, desk: Path) -> None:
        self._trainer, self._bar, self._log = trainer, bar, desk / _LOG

    def on_event(self, kind: str, facts: dict[str, Any]) -> None:
        if kind == "round":
            self.documents += facts["manifest"].documents
            self.tokens += facts["manifest"].tokens

    def tick(self) -> bool:
        """Move the bar by new reports; True when the trainer has died."""
        reported = sum(1 for name in self._folder.names("feedback") if name[:6].isdigit())
        if self._bar is not None and reported > self._reported:
            self._bar.advance(reported - self._reported)
        self._reported = reported
        return self._trainer is not None and self._trainer.poll() not in (None, 0)

    def failure(self) -> PrereqError:
        code = self._trainer.returncode if self._trainer else None
        told = self._log.read_text(errors="replace") if self._log is not None and self._log.is_file() else ""
        lines = told.strip().splitlines()
        last = lines[-1] if lines else "it said nothing"
        how = f"was killed by signal {-code}" if code is not None and code < 0 else f"exited with {code}"
        return PrereqError(
            f"the trainer {how}: {last} (whole log: {self._folder.path(_LOG)}); run the same command again to go on"
        )


@contextmanager
def _desk(folder: Folder) -> Iterator[Path]:
    """Where the trainer finds `config.yaml` and leaves its log: the run's folder.

    For a run on an object store it is a temporary folder, whose log is put into the run at the end.
    """
    if folder.is_local:
        os.makedirs(folder.path("train"), exist_ok=True)
        yield Path(folder.path("train")).parent
        return
    with tempfile.TemporaryDirectory(prefix="prereq-") as name:
        desk = Path(name)
        (desk / _LOG).parent.mkdir()
        (desk / "config.yaml").write_bytes(folder.read("config.yaml"))
        try:
            yield desk
        finally:
            if (desk / _LOG).is_file():
                folder.replace(_LOG, (desk / _LOG).read_bytes())


@contextmanager
def _trainer(desk: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """The reference trainer as a child process that ends with this one, however this one ends."""
    command = [sys.executable, "-m", "prereq.jobs", "train", str(desk / "config.yaml")]
    with open(desk / _LOG, "wb") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=_die_with_parent
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(_GRACE_S)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()


def _die_with_parent() -> None:
    """In the child: ask Linux to end it when its parent dies, so that a killed run leaves no trainer behind."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def main_run(config: RunConfig, args: argparse.Namespace) -> int:
    """The verb: run, then the table and the paths of the run and its report."""
    done = run(config, Progress())
    summary = summarise(config.run_dir)
    report = write_report(config.run_dir, summary)
    print(table(summary))
    print(f"\n{ended(done)}\nrun:    {config.run_dir}\nreport: {report}")
    return 0
