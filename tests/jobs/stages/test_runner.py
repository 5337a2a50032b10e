"""One stage: done tasks are skipped, changed ones run again, a kill costs one task, readers trust the manifest only."""

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prereq.graph.canonical import canonical_json, sha256_hex
from prereq.graph.errors import PrereqError, TableError
from prereq.jobs.executor import InProcessExecutor
from prereq.jobs.progress import Progress
from prereq.jobs.stages.runner import Bench, StageResult, Task, run_stage

KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {here!r})
import test_runner

def write_and_die(folder, value):
    test_runner.write(folder, value)
    if value == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return {{"rows": value}}

test_runner.run(Path({stages!r}), [1, 2, 3], function=write_and_die)
"""


def write(folder: str, value: int) -> dict[str, int]:
    pq.write_table(pa.table({"x": list(range(value))}), Path(folder) / "part-00000.parquet")
    (Path(folder) / "note.txt").write_text(str(value))
    return {"rows": value}


def run(stages: Path, values: list[int], *, function: Any = write, **config: Any) -> StageResult:
    bench = Bench(stages=stages, executor=InProcessExecutor(), progress=Progress(quiet=True), seed=1)
    tasks = [Task(f"{index:05d}", (value,), (sha256_hex(b"%d" % value),)) for index, value in enumerate(values)]
    return run_stage(bench, "numbers", function, tasks, config)


def manifest(stages: Path) -> bytes:
    return (stages / "numbers" / "manifest.json").read_bytes()


def test_files_counts_and_manifest_of_a_stage(tmp_path: Path):
    result = run(tmp_path, [3, 4])
    assert [Path(file.path).relative_to(tmp_path).as_posix() for file in result.files] == [
        "numbers/00000/note.txt",
        "numbers/00000/part-00000.parquet",
        "numbers/00001/note.txt",
        "numbers/00001/part-00000.parquet",
    ]
    assert [file.rows for file in result.matching("part-")] == [3, 4]
    for file in result.files:
        data = Path(file.path).read_bytes()
        assert (file.bytes, file.sha256) == (len(data), sha256_hex(data))
    assert (result.counts, result.skipped, result.tasks) == ({"rows": 7}, 0, ("00000", "00001"))
    stored = json.loads(manifest(tmp_path))
    assert canonical_json(stored) == manifest(tmp_path)
    assert (stored["format"], stored["counts"]) == ("prereq.stage/1", {"rows": 7})
    assert result.digest == sha256_hex(manifest(tmp_path))


def test_a_rerun_does_nothing_and_gives_the_same_result(tmp_path: Path):
    first = run(tmp_path, [3, 4])
    again = run(tmp_path, [3, 4])
    assert again.skipped == 2
    assert (again.files, again.counts, again.digest) == (first.files, first.counts, first.digest)


def test_changed_inputs_run_their_task_and_changed_settings_run_all(tmp_path: Path):
    run(tmp_path, [3, 4])
    changed = run(tmp_path, [3, 5])
    assert (changed.skipped, changed.counts) == (1, {"rows": 8})
    assert run(tmp_path, [3, 5], width=2).skipped == 0
    assert run(tmp_path, [3, 5], width=2).skipped == 2


def test_tasks_that_are_gone_take_their_files_along(tmp_path: Path):
    run(tmp_path, [3, 4, 5])
    assert len(run(tmp_path, [3]).matching("part-")) == 1
    assert sorted(path.name for path in (tmp_path / "numbers").iterdir()) == ["00000", "manifest.json"]


@pytest.mark.parametrize("damage", ["shorter", "gone", "receipt", "torn receipt"])
def test_a_damaged_task_folder_is_made_again(tmp_path: Path, damage: str):
    first = run(tmp_path, [3, 4])
    folder = tmp_path / "numbers" / "00001"
    if damage == "shorter":
        (folder / "part-00000.parquet").write_bytes(b"PAR1")
    elif damage == "gone":
        (folder / "part-00000.parquet").unlink()
    elif damage == "receipt":
        (folder / "receipt.json").unlink()
    else:
        (folder / "receipt.json").write_bytes(b'{"key": "')
    again = run(tmp_path, [3, 4])
    assert (again.skipped, again.digest) == (1, first.digest)


def test_a_kill_costs_the_task_that_was_running(tmp_path: Path):
    script = KILLED.format(here=str(Path(__file__).parent), stages=str(tmp_path / "killed"))
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert ran.returncode == -signal.SIGKILL, ran.stderr.decode()
    assert not (tmp_path / "killed" / "numbers" / "manifest.json").exists()
    resumed = run(tmp_path / "killed", [1, 2, 3])
    assert resumed.skipped == 1
    assert resumed.digest == run(tmp_path / "whole", [1, 2, 3]).digest
    assert manifest(tmp_path / "killed") == manifest(tmp_path / "whole")
    assert [path.name for path in (tmp_path / "killed" / "numbers").iterdir() if ".tmp-" in path.name] == []


def test_an_error_says_which_task_and_leaves_what_was_done(tmp_path: Path):
    def fail(folder: str, value: int) -> dict[str, int]:
        write(folder, value)
        if value == 4:
            raise TableError("value 4 is bad")
        return {"rows": value}

    with pytest.raises(TableError, match="value 4 is bad") as caught:
        run(tmp_path, [3, 4], function=fail)
    assert caught.value.__notes__ == [f"while making {tmp_path}/numbers/00001"]
    assert sorted(path.name for path in (tmp_path / "numbers").iterdir()) == ["00000"]
    assert run(tmp_path, [3, 4]).skipped == 1


def test_no_room_is_one_line_and_gives_the_room_back(tmp_path: Path):
    def full(folder: str, value: int) -> dict[str, int]:
        write(folder, value)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(PrereqError, match=r"numbers/00000: could not be written \(No space left on device\)"):
        run(tmp_path, [3], function=full)
    assert list((tmp_path / "numbers").iterdir()) == []


def test_a_full_device_is_recognised_through_pyarrow(tmp_path: Path):
    def full(folder: str, value: int) -> dict[str, int]:
        # not by path: when writing fails, pyarrow deletes the file that it was given by path, and root can do that
        with pa.OSFile("/dev/full", "wb") as sink:
            pq.write_table(pa.table({"x": list(range(100_000 * value))}), sink)
        return {}

    if not os.path.exists("/dev/full"):
        pytest.skip("this system has no /dev/full")
    with pytest.raises(PrereqError, match="No space left on device"):
        run(tmp_path, [3], function=full)
    assert os.path.exists("/dev/full")


def test_more_tasks_and_files_than_their_numbers_have_places_stay_in_order(tmp_path: Path):
    def fates(folder: str, first: int) -> dict[str, int]:
        for number in range(first, first + 2):
            pq.write_table(pa.table({"x": [number]}), Path(folder) / f"fates-{number:05d}.parquet")
        return {}

    bench = Bench(stages=tmp_path, executor=InProcessExecutor(), progress=Progress(quiet=True), seed=1)
    numbers = [10_000, 99_999, 100_001]
    result = run_stage(bench, "numbers", fates, [Task(f"{number:05d}", (number,)) for number in numbers], {})
    assert [pq.read_table(file.path)["x"][0].as_py() for file in result.matching("fates-")] == [
        *(10_000, 10_001),
        *(99_999, 100_000),
        *(100_001, 100_002),
    ]
    assert result.tasks == ("10000", "99999", "100001")


def test_two_tasks_of_one_name_are_refused(tmp_path: Path):
    bench = Bench(stages=tmp_path, executor=InProcessExecutor(), progress=Progress(quiet=True), seed=1)
    with pytest.raises(TableError, match=r"two tasks share a name: \['a', 'a'\]"):
        run_stage(bench, "numbers", write, [Task("a", (1,)), Task("a", (2,))], {})
