"""SIGKILL to sampler, trainer and Ray worker, at three moments each: the next start ends with the same bytes."""

import os
import signal
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


def wait_for(condition, timeout: float = 120.0):
    """The condition's first true value."""
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.005)
    raise AssertionError("what the test waits for did not happen")


def children(pid: int) -> list[tuple[int, str]]:
    """(pid, command line) of all descendants of a process."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except (OSError, IndexError):
                continue  # it ended while we looked
            parents.setdefault(parent, []).append(int(entry.name))
    found, todo = [], [pid]
    while todo:
        for child in parents.get(todo.pop(), []):
            todo.append(child)
            try:
                line = Path(f"/proc/{child}/cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            found.append((child, line))
    return found


@pytest.fixture
def undisturbed(prereq, manifests):
    """One pool and the files of a run on it that nobody disturbed."""
    config = prereq.config("undisturbed", root=prereq.root, run_dir=str(prereq.root / "whole"), rounds=5)
    prereq("run", config)
    return manifests(prereq.root / "whole")


def test_sampler_and_trainer_killed(prereq, manifests, reader, undisturbed):
    pool = reader.check_pool(prereq.root / "pool")
    for victim in ("sampler", "trainer"):
        for moment in (0, 1, 3):
            run = prereq.root / f"{victim}-{moment}"
            config = prereq.config(run.name, root=prereq.root, run_dir=str(run), rounds=5)
            sampler, trainer = prereq.start("sample", config), prereq.start("train", config)
            # the sampler in the middle of round moment + 1, the trainer in the middle of reading round `moment`
            name = f"rounds/{moment:06d}/manifest.json" if victim == "sampler" else "feedback"
            if victim == "trainer":
                name = f"feedback/{moment - 1:06d}.json" if moment else "feedback/initial.json"
            wait_for((run / name).exists)
            time.sleep(0.03)
            (sampler if victim == "sampler" else trainer).send_signal(signal.SIGKILL)
            (sampler if victim == "sampler" else trainer).wait()
            again = prereq.start("sample" if victim == "sampler" else "train", config)
            other = trainer if victim == "sampler" else sampler
            assert again.wait(timeout=200) == 0, again.stderr.read()
            assert other.wait(timeout=200) == 0, other.stderr.read()
            assert manifests(run) == undisturbed, f"{victim} killed at {moment}"
            reader.check_run(run, pool)
            for process in (sampler, trainer, again):
                process.stdout.close()
                process.stderr.close()


def test_packed_rounds_killed(prereq, manifests, reader):
    packed = {
        "samples": {"kind": "packed", "seq_len": 256, "eos": 256},
        "global_batch": 8,
        "mixer": {"name": "uniform"},
    }
    prereq("build", prereq.config(**packed))
    pool = reader.check_pool(prereq.root / "pool")
    prereq("sample", prereq.config("whole", root=prereq.root, run_dir=str(prereq.root / "whole"), **packed))
    expected = manifests(prereq.root / "whole")
    for moment in (0, 2):
        run = prereq.root / f"killed-{moment}"
        config = prereq.config(run.name, root=prereq.root, run_dir=str(run), **packed)
        sampler = prereq.start("sample", config)
        wait_for((run / f"rounds/{moment:06d}/manifest.json").exists)
        sampler.kill()
        sampler.communicate()
        prereq("sample", config)
        assert manifests(run) == expected
        reader.check_run(run, pool)
    shard = next((prereq.root / "whole/rounds/000001").glob("shard-*"))
    whole = shard.read_bytes()
    shard.write_bytes(whole[:99] + bytes([whole[99] ^ 1]) + whole[100:])
    whole_config = prereq.root / "whole.yaml"
    assert "sha256 is" in prereq("inspect", prereq.root / "whole", "--verify", code=2).stdout
    prereq("sample", whole_config, "--repair", "1")
    assert shard.read_bytes() == whole
    assert "all hold" in prereq("inspect", prereq.root / "whole", "--verify").stdout


def test_whole_run_killed_leaves_no_trainer_and_goes_on(prereq, manifests, undisturbed):
    run = prereq.root / "run"
    config = prereq.config(rounds=5)
    for moment in (0, 2):
        process = prereq.start("run", config)
        wait_for((run / f"rounds/{moment:06d}/manifest.json").exists)
        below = [pid for pid, line in children(process.pid) if " train " in line]
        assert below, "the trainer is a process of its own"
        process.kill()
        process.communicate()
        wait_for(lambda below=below: not any(Path(f"/proc/{pid}/exe").exists() for pid in below), timeout=20)
    prereq("run", config)
    assert manifests(run) == undisturbed


@pytest.mark.ray
def test_ray_worker_killed_in_three_stages(prereq, manifests):
    prereq("build", prereq.config("whole", root=prereq.root / "whole"))
    expected = manifests(prereq.root / "whole/pool")
    for stage in ("signatures", "embedding", "tagger"):
        root = prereq.root / stage
        process = prereq.start("build", prereq.config(stage, root=root, ray__num_cpus=2))
        folder = root / "pool/stages" / stage
        wait_for(folder.exists)
        workers = wait_for(
            lambda pid=process.pid: [p for p, line in children(pid) if line.startswith("ray::call_pinned")]
        )
        os.kill(workers[0], signal.SIGKILL)
        _, err = process.communicate(timeout=200)
        assert process.returncode == 0, err
        assert manifests(root / "pool") == expected, f"a worker killed in {stage}"


def test_build_killed_goes_on_and_says_what_was_done(prereq, manifests):
    prereq("build", prereq.config("whole", root=prereq.root / "whole"))
    config = prereq.config("killed", root=prereq.root / "killed")
    for stage in ("dedup", "clusters", "scatter"):
        process = prereq.start("build", config)
        wait_for((prereq.root / "killed/pool/stages" / stage).exists)
        process.kill()
        process.communicate()
    result = prereq("build", config)
    assert "parts already done" in result.stderr
    assert manifests(prereq.root / "killed/pool") == manifests(prereq.root / "whole/pool")
