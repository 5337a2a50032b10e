"""Row fault_runs_identical: builds on a Ray cluster of three nodes, each disturbed once, that end with the same pool.

In every stage that a build runs, each of three things (with --size check: one, in turn) dies by SIGKILL in the middle
of a task, with the task's files written but not yet published:

    worker   the process that runs the task: Ray starts the task again
    node     the raylet of the task's node with all its processes: the task goes to the other node, a new node joins
    driver   the program itself, whose workers Ray then ends: the same command is run again, and goes on

The head takes no tasks (as Ray advises for clusters), the two other nodes one each, so all three nodes are real raylets
with processes of their own on this machine. A run counts as identical when every file of its final pool (its work area
left out) has the digest that it has in an undisturbed build without Ray.

    python benchmarks/bench_corpus.py --out DIR --rows fault_runs_identical
    python benchmarks/corpus_faults.py SETTINGS HOLD            one build, as the row starts it
"""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from corpus_rows import Context, Found, Row

from prereq.jobs import build as building
from prereq.jobs.config import make_config
from prereq.jobs.executor import InProcessExecutor, RayConfig, RayExecutor
from prereq.jobs.progress import Progress

VICTIMS = ("worker", "node", "driver")
STAGE_TIMEOUT_S = 120.0  # a run that does not get on is a failed one
DOCUMENTS = 160
TOPICS = {
    "loops": "for while loop iterate over range break continue",
    "strings": "string text slice upper lower strip join format",
    "files": "open file path read write line buffer close",
}
FAST = {"health_check_period_ms": 500, "health_check_failure_threshold": 4, "health_check_initial_delay_ms": 500}


def write_corpus(folder: Path) -> None:
    """Two files of JSON Lines with copies and near copies, evaluation data and a graph."""
    rng = np.random.default_rng(7)
    names, rows = list(TOPICS), list[dict[str, str]]()
    for number in range(DOCUMENTS):
        words = TOPICS[names[number % 3]].split() if number % 8 else ["plain", "words", "here", "and", "there"]
        numbers = " ".join(map(str, rng.integers(0, 99, 8)))
        text = " ".join(rng.choice(words, 30).tolist()) + f" number {number} {numbers}"
        if number % 40 == 39:
            text = rows[number - 3]["text"]
            text = text.upper() if number % 80 == 39 else text  # a text that repeats repeats its id, made from content
        rows.append({"id": f"d{number:04d}", "text": text})
    for name, part in (("one", rows[::2]), ("two", rows[1::2])):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    (folder / "eval.jsonl").write_text(json.dumps({"id": "q", "text": rows[5]["text"]}) + "\n")
    skills = [{"id": skill, "patterns": [rf"\b{words.split()[0]}\b"]} for skill, words in TOPICS.items()]
    edges = [{"prerequisite": "loops", "target": "files"}]
    graph = {"format": "prereq.graph/1", "kind": "prerequisite", "skills": skills, "edges": edges}
    (folder / "graph.json").write_text(json.dumps(graph))


def settings(folder: Path, pool: Path) -> dict[str, Any]:
    """A configuration in which every stage runs: ids by content, decontamination, semantic duplicates, a classifier."""
    return {
        "run_dir": str(folder / "run"),
        "pool_dir": str(pool),
        "rounds": 2,
        "sources": [{"name": "made", "paths": [f"{folder}/one.jsonl", f"{folder}/two.jsonl"]}],
        "ingest": {"part_rows": 40, "ids": "content"},
        "decontaminate": {"paths": [f"{folder}/eval.jsonl"]},
        "dedup": {"semantic": 0.999},
        "embedding": {"dim": 8, "min_count": 1, "epochs": 1},
        "clustering": {"clusters": 4},
        "graph": {"path": str(folder / "graph.json")},
        "tagging": {"methods": ["patterns", "classifier"]},
        "layout": {"rows_per_group": 16},
        "ray": {"num_cpus": 1, "max_retries": 3},
    }


def pool_digests(pool: Path) -> dict[str, str]:
    """sha256 of every file of a pool but its work area."""
    files = [path for path in sorted(pool.rglob("*")) if path.is_file() and "stages" not in path.parts]
    return {path.relative_to(pool).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


# --- inside a build -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Hold:
    """Where a build stops to be disturbed: the first task of `stage` waits until `release` exists."""

    stage: str
    marker: str  # file in which that task says who it is: {pid, node}
    release: str


def held_function(hold: Hold, function: Callable[..., Any], output: str, *args: Any) -> Any:
    """A stage's function that stops with its files written: once per marker, the second attempt goes through."""
    import ray

    counts = function(output, *args)
    try:
        with open(hold.marker + ".taken", "x"):
            pass
    except FileExistsError:
        return counts
    who = {"pid": os.getpid(), "node": ray.get_runtime_context().get_node_id()}
    Path(hold.marker + ".new").write_text(json.dumps(who))
    os.rename(hold.marker + ".new", hold.marker)
    end = time.monotonic() + STAGE_TIMEOUT_S
    while not os.path.exists(hold.release) and time.monotonic() < end:
        time.sleep(0.01)
    return counts


class HoldingExecutor(RayExecutor):
    """The executor of a build, whose tasks of one stage can be stopped; nothing else differs."""

    hold: Hold

    def run(self, function: Callable[..., Any], tasks: Sequence[tuple[Any, ...]]) -> Iterator[tuple[int, Any]]:
        """As `RayExecutor.run`."""
        return super().run(function, [self._held(task) for task in tasks])

    def _held(self, task: tuple[Any, ...]) -> tuple[Any, ...]:
        work, target, *rest = task
        if Path(target).parent.name != self.hold.stage:
            return task
        return (partial(held_function, self.hold, work), target, *rest)


def build_held(config: Mapping[str, Any], hold: Hold) -> None:
    """Build with the cluster that RAY_ADDRESS names, stopping at `hold`."""

    def make(ray: RayConfig, *rest: Any) -> HoldingExecutor:
        executor = HoldingExecutor(ray, *rest)
        executor.hold = hold
        return executor

    building.make_executor = make  # type: ignore[assignment]
    building.build(make_config(config, "faults"), Progress(quiet=True))


# --- around a build -------------------------------------------------------------------------------------------------


@dataclass
class Nodes:
    """A head that takes no tasks and two nodes that take one each."""

    cluster: Any = None
    nodes: list[Any] = field(default_factory=list)

    def __enter__(self) -> "Nodes":
        from ray.cluster_utils import Cluster

        here = str(Path(__file__).parent)
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")]))
        head = {"num_cpus": 0, "object_store_memory": 80 << 20, "include_dashboard": False, "_system_config": FAST}
        self.cluster = Cluster(initialize_head=True, head_node_args=head)
        self.refill()
        return self

    def __exit__(self, *_: object) -> None:
        self.cluster.shutdown()

    def refill(self) -> None:
        """Add nodes until two take tasks, and wait for them."""
        while len(self.nodes) < 2:
            self.nodes.append(self.cluster.add_node(num_cpus=1, object_store_memory=80 << 20))

    def kill(self, node_id: str) -> None:
        """SIGKILL to the raylet of a node and to all processes below it."""
        victim = next(node for node in self.nodes if node.unique_id == node_id or node.node_id == node_id)
        self.nodes.remove(victim)
        self.cluster.remove_node(victim, allow_graceful=False)


def start(config: Mapping[str, Any], hold: Hold, address: str, log: Path) -> subprocess.Popen[bytes]:
    """A build as a process of its own."""
    arguments = [json.dumps(config), json.dumps([hold.stage, hold.marker, hold.release])]
    environment = {**os.environ, "RAY_ADDRESS": address, "OMP_NUM_THREADS": "1"}
    with open(log, "ab") as out:
        return subprocess.Popen([sys.executable, __file__, *arguments], stdout=out, stderr=out, env=environment)


def disturb(nodes: Nodes, folder: Path, stage: str, victim: str) -> dict[str, Any]:
    """One run: build, kill the victim in the stage, let the build end; its pool's digests and seconds."""
    scratch = folder / f"{victim}-{stage}"
    scratch.mkdir()
    hold = Hold(stage, str(scratch / "marker"), str(scratch / "release"))
    config, address, log = settings(folder, scratch / "pool"), nodes.cluster.address, scratch / "log"
    begin = time.monotonic()
    process = start(config, hold, address, log)
    found: dict[str, Any] = {"stage": stage, "victim": victim, "digests": {}}
    try:
        who = wait_for(lambda: json.loads(Path(hold.marker).read_text()) if os.path.exists(hold.marker) else None)
        if victim == "worker":
            os.kill(who["pid"], signal.SIGKILL)
        elif victim == "node":
            nodes.kill(who["node"])
        else:
            process.kill()
            process.wait()
            Path(hold.release).touch()
            process = start(config, hold, address, log)
        Path(hold.release).touch()
        found["exit"] = process.wait(timeout=STAGE_TIMEOUT_S)
        found["digests"] = pool_digests(scratch / "pool")
    except (TimeoutError, subprocess.TimeoutExpired) as error:
        found["exit"] = type(error).__name__
    finally:
        process.kill()
        process.wait()
        nodes.refill()
    if found["exit"] != 0:
        found["log"] = log.read_text(errors="replace")[-600:]
    return found | {"seconds": round(time.monotonic() - begin, 1)}


def wait_for(condition: Callable[[], Any]) -> Any:
    """The condition's first true value; TimeoutError when it does not come."""
    end = time.monotonic() + STAGE_TIMEOUT_S
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.02)
    raise TimeoutError


def undisturbed(folder: Path) -> tuple[list[str], dict[str, str]]:
    """The stages of a build of the corpus in their order, and the digests of its pool; without Ray."""
    stages: list[str] = []

    class Noting(InProcessExecutor):
        def run(self, function: Callable[..., Any], tasks: Sequence[tuple[Any, ...]]) -> Iterator[tuple[int, Any]]:
            stages.extend(dict.fromkeys(Path(task[1]).parent.name for task in tasks))
            return super().run(function, tasks)

    made, building.make_executor = building.make_executor, lambda *_: Noting()  # type: ignore[assignment]
    try:
        building.build(make_config(settings(folder, folder / "whole"), "faults"), Progress(quiet=True))
    finally:
        building.make_executor = made
    return stages, pool_digests(folder / "whole")


def disturbed(folder: Path, choose: Callable[[list[str]], list[tuple[str, str]]]) -> list[dict[str, Any]]:
    """The runs (stage, victim) that `choose` takes, each with whether its pool is the undisturbed one."""
    write_corpus(folder)
    stages, expected = undisturbed(folder)
    if not expected:
        raise RuntimeError("the undisturbed build left no pool")
    runs = []
    with Nodes() as nodes:
        for stage, victim in choose(stages):
            run = disturb(nodes, folder, stage, victim)
            run["identical"] = run.pop("digests") == expected
            runs.append(run)
    return runs


def every(stages: list[str]) -> list[tuple[str, str]]:
    """Every victim in every stage."""
    return [(stage, victim) for stage in stages for victim in VICTIMS]


def in_turn(stages: list[str]) -> list[tuple[str, str]]:
    """One victim in every stage, in turn: a third of the runs."""
    return [(stage, VICTIMS[number % len(VICTIMS)]) for number, stage in enumerate(stages)]


def faults_row(context: Context) -> Found:
    """The share of disturbed builds with the undisturbed pool; every victim in every stage with --size full."""
    runs = disturbed(context.scratch, every if context.size == "full" else in_turn)
    share = sum(run["identical"] for run in runs) / len(runs)
    return {"fault_runs_identical": share}, {"runs": runs, "documents": DOCUMENTS}


ROWS = {"fault_runs_identical": Row(run=faults_row)}

if __name__ == "__main__":
    build_held(json.loads(sys.argv[1]), Hold(*json.loads(sys.argv[2])))
