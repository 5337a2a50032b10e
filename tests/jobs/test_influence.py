"""The round trip: a pool, a model trained on it, the influence of its documents, a pool filtered by that."""

import contextlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from loading import load_module

from prereq.jobs.cli import main
from prereq.jobs.sample import open_sampler
from prereq.jobs.train.trainer import train
from prereq.selector.rounds.pool import Pool, read_holdout

_builds = load_module(Path(__file__).with_name("test_build.py"))
TOPICS, corpus, copy, make, run = (getattr(_builds, name) for name in ("TOPICS", "corpus", "copy", "make", "run"))
TRAIN = {"layers": 1, "width": 16, "heads": 2, "seq_len": 64, "windows_per_step": 4, "threads": 1}


def test_from_a_pool_over_training_to_a_pool_of_what_helped(copy: Path) -> None:
    settings = {"mixer": {"name": "proportional"}, "global_batch": 16, "batches_per_round": 4, "train": TRAIN}
    config = make(copy, **settings)
    (copy / "refs").mkdir()  # not among the sources
    with contextlib.chdir(copy):
        open_sampler(config).run()
        train(config.run_dir, config.train)
        more = ["--targets", "loops", "--per-arm", "20"]
        assert main(["influence", config.run_dir, "--out", "refs/influence.parquet", *more]) == 0
    found = {row["id"]: row for row in pq.read_table(copy / "refs/influence.parquet").to_pylist()}
    before = rows_of(copy / "pool")
    assert {row["id"] for row in before} == found.keys()
    for arm in {row["arm"] for row in before}:
        own = [row for row in found.values() if row["arm"] == arm]
        known = [row["value"] for row in own if row["measured"]]
        assert len(known) == min(20, len(own))
        assert all(row["value"] == pytest.approx(np.mean(known), rel=1e-5) for row in own if not row["measured"])
    means = {topic: np.mean([found[row["id"]]["value"] for row in before if row["topic"] == topic]) for topic in TOPICS}
    assert max(means, key=means.__getitem__) == "loops"

    score = {"name": "useful", "method": "file", "paths": ["refs/influence.parquet"], "keep_share": 0.5}
    run(make(copy, "better", scoring=[score | {"missing": "keep"}]))
    after, held = rows_of(copy / "better"), read_holdout(Pool(str(copy / "better")).folder)
    dropped = {row["id"]: row["value"] for row in pq.read_table(copy / "better/filtered.parquet").to_pylist()}
    assert len(dropped) == len(found) - round(len(found) / 2)
    stayed = [found[row["id"]]["value"] for row in after if row["id"] in found]
    assert min(stayed) >= max(dropped.values())
    assert all(dropped[name] == pytest.approx(found[name]["value"], rel=1e-6) for name in dropped)
    for row in after:
        if row["id"] in found:
            assert float(row["useful"]) == pytest.approx(found[row["id"]]["value"], rel=1e-6)
    held_before = set(read_holdout(Pool(str(copy / "pool")).folder)["id"].to_pylist())
    assert set(held["id"].to_pylist()) <= held_before, (
        "missing: keep leaves the held-out documents to be held out again"
    )
    summary = json.loads((copy / "better/summary.json").read_bytes())["counts"]["scorers"]
    assert summary["useful: rows of no document"] == 0


def rows_of(pool: Path) -> list[dict[str, Any]]:
    return [row for path in sorted(pool.glob("part-*")) for row in pq.read_table(path).to_pylist()]
