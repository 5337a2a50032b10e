"""Runs one stage: tasks in, finished task folders and a stage manifest out, skipping what is already done.

    STAGES/<stage>/<task>/...          what the task wrote, plus receipt.json: renamed into place as a whole
    STAGES/<stage>/manifest.json       written last; the only thing that readers trust

A task is identified by its key: the digest of the stage's configuration and of the inputs it reads. A task folder whose
receipt has that key is done. Task borders come from the configuration, never from the machine.

On a cluster two attempts at one task may run at once: a node that is thought dead may write on, and so may the workers
of a killed driver. Each attempt has a folder of its own, the first one whole gives the task its files, and a later one
leaves them alone, since its own are the same.
"""

import errno
import json
import os
import re
import secrets
import shutil
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from prereq.graph.canonical import canonical_json, digest, sha256_hex
from prereq.graph.errors import PrereqError, TableError
from prereq.jobs.executor import Executor
from prereq.jobs.progress import Progress
from prereq.selector.storage import Folder

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}
_TAKEN = {errno.ENOTEMPTY, errno.EEXIST}
_MARK = ".tmp-"  # in the name of a folder that is being written


@dataclass(frozen=True, slots=True)
class StageFile:
    """A finished file of a stage: its absolute path, rows (0 where it is not Parquet), bytes and sha256."""

    path: str
    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Task:
    """One unit of work and of retry.

    Args:
        name: Names the folder of its output; unique in the stage.
        args: Picklable arguments for the stage's function, behind the output folder.
        inputs: Digests (sha256) of everything that it reads beyond its arguments' own values.
    """

    name: str
    args: tuple[Any, ...] = ()
    inputs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StageResult:
    """What a stage left behind."""

    stage: str
    files: tuple[StageFile, ...]  # in the order of the tasks, then by name, numbers in it as numbers
    counts: dict[str, int]  # summed over tasks
    skipped: int  # tasks that were already done
    digest: str  # sha256 of the stage's manifest
    tasks: tuple[str, ...] = field(default=())

    def matching(self, prefix: str) -> list[StageFile]:
        """The files whose name starts with `prefix`, in order."""
        return [file for file in self.files if os.path.basename(file.path).startswith(prefix)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What every stage of one build shares."""

    stages: Path  # the folder of all stages of this pool
    executor: Executor
    progress: Progress
    seed: int  # pool.seed


def run_stage(
    bench: Bench,
    stage: str,
    function: Callable[..., Mapping[str, int]],
    tasks: Sequence[Task],
    config: Mapping[str, Any],
) -> StageResult:
    """Run `function(output_folder, *task.args)` for every task that is not done, then write the stage's manifest.

    Args:
        bench: Folder, executor and progress of this build.
        stage: The stage's name, also its folder below `bench.stages`.
        function: A module-level function; writes its files into `output_folder` (Parquet or anything else) and
            returns counts, which are summed into the manifest.
        tasks: The work; names are unique.
        config: Plain values that, with a task's inputs, decide its output.

    Raises:
        TableError: Two tasks share a name, or an output cannot be read back.
    """
    names = [task.name for task in tasks]
    if len(set(names)) != len(names):
        raise TableError(f"stage {stage}: two tasks share a name: {sorted(n for n in names if names.count(n) > 1)[:2]}")
    folder = bench.stages / stage
    folder.mkdir(parents=True, exist_ok=True)
    keys = {task.name: digest([stage, dict(config), list(task.inputs)]) for task in tasks}
    _sweep(folder, keep=set(names))
    todo = [task for task in tasks if not _is_done(folder / task.name, keys[task.name])]
    with bench.progress.stage(stage, total=len(tasks), done=len(tasks) - len(todo)) as bar:
        calls = [(function, str(folder / task.name), keys[task.name], task.args) for task in todo]
        for _index, _ in bench.executor.run(_run_task, calls):
            bar.advance()
        _sweep_attempts(folder)
        result = _finish(folder, stage, config, keys, skipped=len(tasks) - len(todo))
        bar.note(result.counts, result.skipped)
    return result


def _run_task(function: Callable[..., Mapping[str, int]], target: str, key: str, args: tuple[Any, ...]) -> None:
    """Write a task's files under a temporary name, count and digest them, rename the folder into place.

    Raises:
        PrereqError: There is no room for them.
    """
    # a process id alone is not enough: another node's worker may have the same
    temporary = f"{target}{_MARK}{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
    try:
        os.makedirs(temporary)
        counts = dict(function(temporary, *args))
        files = [_describe(Path(temporary) / name) for name in sorted(os.listdir(temporary), key=_in_order)]
        receipt = {"key": key, "files": files, "counts": counts}
        (Path(temporary) / "receipt.json").write_bytes(canonical_json(receipt))
        _settle(temporary, target, key)
    except Exception as error:
        shutil.rmtree(temporary, ignore_errors=True)  # on a full disk, the room that the next start needs
        if isinstance(error, OSError) and error.errno in _NO_ROOM:
            raise PrereqError(
                f"{target}: could not be written ({os.strerror(error.errno)}); free space or mend the folder and run "
                "the same command again: finished parts stay"
            ) from error
        error.add_note(f"while making {target}")
        raise


def _settle(temporary: str, target: str, key: str) -> None:
    """Give a finished attempt the task's name, unless another attempt has it with everything in place."""
    for _ in range(3):
        try:
            os.rename(temporary, target)
            return
        except OSError as error:
            if error.errno not in _TAKEN:
                raise
        if _is_done(Path(target), key):
            shutil.rmtree(temporary, ignore_errors=True)
            return
        shutil.rmtree(target, ignore_errors=True)
    raise TableError(f"{target}: cannot be replaced; delete it and run the same command again")


def _in_order(name: str) -> list[tuple[str, int]]:
    """A key to sort names by, in which numbers count as numbers: part-100000 comes behind part-99999."""
    return [(text, int(number or 0)) for text, number in re.findall(r"([^0-9]*)([0-9]*)", name)]


def _describe(path: Path) -> dict[str, Any]:
    data = path.read_bytes()
    rows = pq.read_metadata(path).num_rows if path.suffix == ".parquet" else 0
    return {"path": path.name, "rows": rows, "bytes": len(data), "sha256": sha256_hex(data)}


def _receipt(task_folder: Path) -> dict[str, Any] | None:
    try:
        loaded: dict[str, Any] = json.loads((task_folder / "receipt.json").read_bytes())
    except (FileNotFoundError, ValueError):  # not there, or torn by a power cut: the task is not done
        return None
    return loaded


def _is_done(task_folder: Path, key: str) -> bool:
    receipt = _receipt(task_folder)
    if receipt is None or receipt["key"] != key:
        return False
    return all(
        (task_folder / f["path"]).is_file() and (task_folder / f["path"]).stat().st_size == f["bytes"]
        for f in receipt["files"]
    )


def _sweep(folder: Path, keep: set[str]) -> None:
    """Remove what killed or older tasks left: nothing but the tasks of this stage stays."""
    for entry in folder.iterdir():
        if entry.is_dir() and entry.name not in keep:
            shutil.rmtree(entry)
    (folder / "manifest.json").unlink(missing_ok=True)


def _sweep_attempts(folder: Path) -> None:
    """Remove what attempts that were killed, or came too late, left of a finished stage."""
    for entry in folder.iterdir():
        if _MARK in entry.name:
            shutil.rmtree(entry, ignore_errors=True)


def _finish(folder: Path, stage: str, config: Mapping[str, Any], keys: Mapping[str, str], skipped: int) -> StageResult:
    names = list(keys)  # as the tasks were given
    tasks, files, totals = [], [], dict[str, int]()
    for name in names:
        receipt = _receipt(folder / name)
        if receipt is None:
            raise TableError(
                f"stage {stage}: task {name} left no receipt in {folder}; run the same command again (on a cluster, "
                "every node must see this folder)"
            )
        if receipt["key"] != keys[name]:
            raise TableError(
                f"stage {stage}: task {name} in {folder} was written by a build of other input or settings meanwhile; "
                "let one build at a time use the folder and run the same command again"
            )
        tasks.append({"name": name, **receipt})
        files += [
            StageFile(str(folder / name / f["path"]), f["rows"], f["bytes"], f["sha256"]) for f in receipt["files"]
        ]
        for key, value in receipt["counts"].items():
            totals[key] = totals.get(key, 0) + int(value)
    manifest = {
        "format": "prereq.stage/1",
        "stage": stage,
        "config": digest(dict(config)),
        "tasks": tasks,
        "counts": totals,
    }
    data = canonical_json(manifest)
    Folder(folder).replace("manifest.json", data)
    return StageResult(stage, tuple(files), totals, skipped, sha256_hex(data), tuple(names))
