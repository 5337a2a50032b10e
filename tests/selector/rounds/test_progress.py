"""Backpressure counts from where readers are; checkpoints, progress and reports all say so."""

import json
import os

import pytest

from prereq.graph.errors import ConfigError, ManifestError
from prereq.selector.feed import Feed, WaitConfig
from prereq.selector.rounds.config import SamplerConfig
from prereq.selector.rounds.progress import (
    SAMPLER,
    Progress,
    read_progress,
    readers_progress,
    slowest_place,
)


def put(run, name, value):
    path = run.folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def test_a_loop_that_checkpoints_seldom_is_not_waited_for_while_it_waits(make_driver):
    """Ahead 2 and no checkpoint after round 0: the reader's own progress lets the sampler go on."""
    run = make_driver(mixer="uniform", rounds=8, ahead=2)
    feed, read = None, 0
    for _ in range(20):
        if run.sampler().run(patient=False) is not None:
            break
        feed = feed or Feed(run.folder, wait=WaitConfig(first_s=0.001, most_s=0.001))
        while read < len(run.manifests()):
            batch = next(feed)
            if batch.last_of_round:
                read += 1
            if batch.step == 0:
                feed.checkpointed()
        feed._place.ask(feed._manifest, feed._waiter)  # what the next batch would do before it waits
    assert len(run.manifests()) == 8
    assert readers_progress(run.run)["trainer"].round == 6, "written when that round was asked for"


def test_the_slowest_reader_counts_by_whatever_says_that_it_is_furthest(make_driver):
    run = make_driver()
    run.sampler().run(patient=False)
    assert slowest_place(run.run) == 0
    put(run, "readers/trainer.json", {"round": 3})
    put(run, "readers/slow.json", {"round": 1})
    assert slowest_place(run.run) == 1
    progress = {"format": "prereq.progress/1", "name": "slow", "round": 2, "tokens": 5, "elapsed_s": 2.0}
    put(run, "progress/reader-slow.json", {**progress, "waited_s": 0.5, "waits": 1, "at": 1.0})
    assert slowest_place(run.run) == 2
    report = {"format": "prereq.feedback/1", "round": 6, "step": 1, "tokens_seen": 1, "losses": {}, "eval_tokens": {}}
    put(run, "feedback/000006.json", {**report, "reporter": "slow"})
    assert slowest_place(run.run) == 3, "its report moves the slow one; now the other is the slowest"
    put(run, "feedback/000006.json", {**report, "reporter": "somebody"})
    assert slowest_place(run.run) == 7, "a reporter that is no reader counts for all"


def test_both_sides_write_their_pace_and_a_damaged_file_is_named(make_driver):
    run = make_driver(mixer="uniform", rounds=2)
    run.sampler().run()
    told = read_progress(run.run, SAMPLER)
    assert (told.name, told.round, told.waits) == ("sampler", 2, 0)
    assert told.tokens > 0
    assert told.tokens_per_s > 0
    assert len(list(Feed(run.folder, name="gpu"))) == 8
    reader = readers_progress(run.run)["gpu"]
    assert reader.tokens == told.tokens
    assert reader.round == 2
    put(run, SAMPLER, {"format": "prereq.progress/1"})
    with pytest.raises(ManifestError, match=r"sampler.json: is not a prereq.progress/1 file; delete it"):
        read_progress(run.run, SAMPLER)


def test_progress_waits_for_no_disk_and_an_empty_file_is_as_none(make_driver, monkeypatch):
    """It is written on the loop's way; a power failure may then leave it empty."""
    run = make_driver(mixer="uniform", rounds=2)
    run.sampler().run()
    synced = []
    monkeypatch.setattr(os, "fsync", synced.append)
    assert len(list(Feed(run.folder))) == 8
    assert synced == []
    assert readers_progress(run.run)["trainer"].round == 2
    (run.folder / "progress/reader-trainer.json").write_bytes(b"")
    assert readers_progress(run.run) == {}
    assert slowest_place(run.run) == 0


def test_stall_share_is_waiting_over_time():
    told = Progress(name="x", round=1, tokens=300, elapsed_s=30.0, waited_s=0.3, waits=1, at=0.0)
    assert (told.tokens_per_s, round(told.stall_share, 9)) == (10.0, 0.01)


@pytest.mark.parametrize("key", ["max_epochs", "global_batch", "seed", "lookahead", "batches_per_shard"])
def test_a_count_that_is_no_whole_number_is_a_config_error(key):
    with pytest.raises(ConfigError, match=f"{key}: must be a whole number of . or more, got None"):
        SamplerConfig(rounds=1, **{key: None})


def test_stop_is_asked_before_every_round(make_driver):
    run = make_driver(mixer="uniform", rounds=6)
    answers = iter([False, False, True])
    assert run.sampler().run(stop=lambda: next(answers)) is None
    assert len(run.manifests()) == 2
