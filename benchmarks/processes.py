"""A process and all that it starts, measured from outside: wall time, memory of the tree, peak memory per worker."""

import os
import re
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

INTERVAL = 0.5  # seconds between two looks at the tree
MIB = 1024.0  # KiB in a MiB: /proc counts in KiB
_STAGE = re.compile(r" *([a-z-]+)  +([0-9.]+) s  (.*)")  # a finished stage, as `jobs.progress` says it


def tree(root: int) -> list[int]:
    """Process ids of `root` and all that descend from it."""
    below: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except OSError:
                continue  # it ended while we looked
            below.setdefault(parent, []).append(int(entry.name))
    found, todo = [], [root]
    while todo:
        process = todo.pop()
        found.append(process)
        todo += below.get(process, [])
    return found


def pss_mib(process: int) -> float:
    """Proportional set size of a process in MiB; 0 when it has ended."""
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One run of a program."""

    wall_seconds: float
    cpu_seconds: float  # of all its processes, each as last seen
    tree_pss_mib: float  # the most that all its processes held together
    worker_peak_mib: float  # the largest peak of resident memory of one Ray worker; 0 without Ray
    load_before: float  # the machine's load average over one minute before the start
    output: str  # what it printed on stdout
    stages: tuple[dict[str, Any], ...] = ()  # of a build: see `_Watch.stage`

    def plain(self) -> dict[str, Any]:
        """All but the output, rounded."""
        plain = {key: value for key, value in asdict(self).items() if key != "output"}
        return {key: round(value, 3) if isinstance(value, float) else value for key, value in plain.items()}


class _Watch:
    """What is seen of a tree of processes while it runs."""

    def __init__(self, log: Path) -> None:
        self.pss = self.worker = 0.0
        self.stages: list[dict[str, Any]] = []
        self._cpu: dict[int, float] = {}
        self._tick = os.sysconf("SC_CLK_TCK")
        self._log, self._seen, self._before = log, 0, 0.0
        self._here = {"worker_peak_mib": 0.0, "tree_pss_mib": 0.0}  # since the last stage ended

    def look(self, root: int) -> None:
        """Take one sample; put what was seen since the last stage ended to those that have ended now."""
        total, processes = 0.0, tree(root)
        for process in processes:
            total += pss_mib(process)
            try:
                fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
                command = Path(f"/proc/{process}/cmdline").read_bytes()
                status = Path(f"/proc/{process}/status").read_text()
            except OSError:
                continue  # it ended while we looked
            self._cpu[process] = (int(fields[11]) + int(fields[12])) / self._tick
            if command.startswith(b"ray::") and b"Agent" not in command:
                self._here["worker_peak_mib"] = max(self._here["worker_peak_mib"], _peak_mib(status))
        self._here["tree_pss_mib"] = max(self._here["tree_pss_mib"], total)
        self.worker = max(self.worker, self._here["worker_peak_mib"])
        self.pss = max(self.pss, self._here["tree_pss_mib"])
        self._end_stages(processes)

    def _end_stages(self, processes: Sequence[int]) -> None:
        """Read the lines of `jobs.progress` since the last look; stages between two looks share their numbers."""
        lines = self._log.read_text(errors="replace").splitlines(keepends=True)
        whole = [line for line in lines if line.endswith("\n")]
        ended = [match for line in whole[self._seen :] if (match := _STAGE.match(line))]
        self._seen = len(whole)
        if not ended:
            return
        cpu, self._before = self.cpu - self._before, self.cpu
        for match in ended:
            shared = {"cpu_seconds": round(cpu / len(ended), 2), **self._here}
            self.stages.append(
                {"stage": match[1], "wall_seconds": float(match[2]), "counts": match[3].strip(), **shared}
            )
        self._here = {"worker_peak_mib": 0.0, "tree_pss_mib": 0.0}
        for process in processes:
            with suppress(OSError):  # it ended while we looked
                Path(f"/proc/{process}/clear_refs").write_text("5")  # the kernel's peak starts anew

    @property
    def cpu(self) -> float:
        """CPU seconds of every process seen, up to the last look at it."""
        return sum(self._cpu.values())


def _peak_mib(status: str) -> float:
    """High-water mark of resident memory in MiB: kept by the kernel, so no peak falls between two looks."""
    return next((int(line.split()[1]) / MIB for line in status.splitlines() if line.startswith("VmHWM:")), 0.0)


def measure(
    command: Sequence[object], log: Path, cwd: Path | None = None, environment: Mapping[str, str] | None = None
) -> Measured:
    """Run a program to its end.

    Args:
        command: Program and arguments.
        log: Where its stderr goes.
        cwd: Folder to run it in.
        environment: Added to this process's.

    Raises:
        RuntimeError: It failed; with the end of its stderr.
    """
    load, start, watch = os.getloadavg()[0], time.monotonic(), _Watch(log)
    out = log.with_suffix(".out")
    with open(log, "wb") as errors, open(out, "wb") as output:
        env = {**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {})}
        process = subprocess.Popen([str(word) for word in command], stdout=output, stderr=errors, cwd=cwd, env=env)
        while True:
            watch.look(process.pid)
            try:
                process.wait(INTERVAL)
                break
            except subprocess.TimeoutExpired:
                continue
    wall = time.monotonic() - start
    if process.returncode != 0:
        said = log.read_text(errors="replace")[-2000:] + out.read_text(errors="replace")[-1000:]
        raise RuntimeError(f"{command[0]} ended with {process.returncode}: {said}")
    return Measured(
        wall_seconds=wall,
        cpu_seconds=watch.cpu,
        tree_pss_mib=watch.pss,
        worker_peak_mib=watch.worker,
        load_before=load,
        output=out.read_text(errors="replace"),
        stages=tuple(watch.stages),
    )
