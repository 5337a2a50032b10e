"""A whole run on an S3-compatible store, with its pool: the same manifests as on a disk, kills included."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.fs as pafs
import pytest

from prereq.graph.errors import ConfigError
from prereq.jobs.build import PoolSummary, build
from prereq.jobs.config import load_config
from prereq.jobs.inspect import run_facts
from prereq.jobs.progress import Progress
from prereq.jobs.report import write_report
from prereq.jobs.sample import open_sampler
from prereq.jobs.verify import verify_pool, verify_run
from prereq.selector.feed import Feed, WaitConfig
from prereq.selector.storage import Folder

pytestmark = pytest.mark.slow
ROUNDS = 4


def wait_for(condition: Callable[[], Any], process: subprocess.Popen[str], timeout: float = 120.0) -> None:
    end = time.monotonic() + timeout
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "what the test waits for did not happen"
        time.sleep(0.02)


def make_pool(config: Path) -> PoolSummary:
    return build(load_config(str(config)), Progress(quiet=True))


def manifests(run: Folder) -> dict[str, bytes]:
    return {number: run.read(f"rounds/{number}/manifest.json") for number in run.names("rounds")}


def losses(feed: Feed, number: int) -> dict[str, float | None]:
    """Losses that depend on the round and the skill alone."""
    return {skill: 3.0 / (number + 2 + place) for place, skill in enumerate(feed.skills)}


def train(run: str, state: dict[str, Any] | None = None, most: int = 10**9) -> tuple[list[str], dict[str, Any]]:
    """Read to the end (or `most` documents) and report each round; the ids and the state."""
    feed = Feed(run, wait=WaitConfig(timeout_s=60.0))
    ids: list[str] = []
    if state is None:
        feed.report_initial(losses(feed, -1))
    else:
        feed.load_state_dict(state)
    for batch in feed:
        ids += batch.ids
        if feed.round_ended:
            feed.report(losses(feed, batch.round))
            feed.checkpointed()
        if len(ids) >= most:
            break
    feed.close()
    return ids, feed.state_dict()


def test_sampler_killed_on_a_store_goes_on_and_gives_the_bytes_of_a_disk(prereq: Any, s3: str):
    local = prereq.config("local", rounds=ROUNDS)
    make_pool(local)
    on_disk = prereq.start("sample", local)
    expected_ids, _ = train(str(prereq.root / "run"))
    told = on_disk.communicate(timeout=60)
    assert on_disk.returncode == 0, told

    files = pafs.FileSystem.from_uri(s3)[0]
    pafs.copy_files(str(prereq.root / "pool"), f"{s3[5:]}/pool", destination_filesystem=files)
    where = {"run_dir": f"{s3}/run", "pool_dir": f"{s3}/pool", "ahead": 2, "keep_rounds": 1}
    remote, run = prereq.config("remote", rounds=ROUNDS, **where), Folder(f"{s3}/run")
    sampler = prereq.start("sample", remote)
    feed = Feed(f"{s3}/run")
    feed.report_initial(losses(feed, -1))
    wait_for(lambda: run.exists("rounds/000000"), sampler)  # its first shard is there, its manifest not yet
    sampler.send_signal(signal.SIGKILL)
    sampler.communicate()
    orphan = f"rounds/000000/shard-00000-{'0' * 12}.parquet"
    run.replace(orphan, b"of a killed writer")

    sampler = prereq.start("sample", remote)
    ids, state = train(f"{s3}/run", most=24)
    wait_for(lambda: run.exists("rounds/000001/manifest.json"), sampler)
    sampler.send_signal(signal.SIGKILL)
    sampler.communicate()
    sampler = prereq.start("sample", remote)
    more, _ = train(f"{s3}/run", state)
    told = sampler.communicate(timeout=60)
    assert sampler.returncode == 0, told

    assert ids + more == expected_ids
    assert manifests(run) == manifests(Folder(prereq.root / "run"))
    assert not run.exists(orphan)
    assert run.exists("rounds/000000/deleted.json")
    assert run.names("rounds/000000") == ["deleted.json", "manifest.json"]
    assert json.loads(run.read("done.json"))["rounds"] == ROUNDS
    assert run_facts(f"{s3}/run")["rounds"] == ROUNDS
    findings = verify_run(f"{s3}/run")
    assert findings.failures == []
    assert findings.checked > 20
    assert write_report(f"{s3}/run") == f"{s3}/run/report.html"
    assert b"</html>" in run.read("report.html")
    everything = b"".join(run.read(name) for name in ("run.json", "report.html"))
    assert os.environ["AWS_SECRET_ACCESS_KEY"].encode() not in everything


def test_build_train_and_repair_on_a_store(prereq: Any, s3: str, tmp_path: Path):
    where = {"run_dir": f"{s3}/run", "pool_dir": f"{s3}/pool", "rounds": 2}
    with pytest.raises(ConfigError, match=r"need a local or mounted folder .*; set work_dir"):
        make_pool(prereq.config("nowhere", **where))
    train_config = {"train__layers": 1, "train__width": 16, "train__seq_len": 32, "train__threads": 1}
    config = prereq.config(work_dir=str(tmp_path / "work"), **where, **train_config)
    prereq("run", config)
    run, pool = Folder(f"{s3}/run"), Folder(f"{s3}/pool")
    assert {"checkpoint.pt", "final.json", "log.jsonl", "stderr.log"} <= set(run.names("train"))
    lines = [json.loads(line) for line in run.read("train/log.jsonl").splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == [0, 1, 2, 3]
    assert make_pool(config).was_done
    assert verify_pool(f"{s3}/pool").failures == []
    (shard,) = [name for name in run.names("rounds/000001") if name.startswith("shard-")]
    whole = run.read(f"rounds/000001/{shard}")
    run.replace(f"rounds/000001/{shard}", whole[:-1])
    assert open_sampler(load_config(str(config))).repair(1) == 1
    assert run.read(f"rounds/000001/{shard}") == whole

    make_pool(prereq.config("local", root=tmp_path / "local"))
    assert pool.read("manifest.json") == (tmp_path / "local/pool/manifest.json").read_bytes()
