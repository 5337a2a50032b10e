"""The feed's order, states, links and integrity, on runs written by hand."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from prereq.graph.errors import ConfigError, FeedbackError, ManifestError, PrereqError
from prereq.selector.feed import Batch, Feed, WaitConfig

QUICK = WaitConfig(first_s=0.005, most_s=0.02, timeout_s=10.0, start_timeout_s=10.0)
MakeRun = Callable[..., Any]


def feed_of(run: Any, **changes: Any) -> Feed:
    return Feed(run.root, **{"wait": QUICK, **changes})


def seen(batches: list[Batch]) -> list[tuple[Any, ...]]:
    """All that a batch says, comparable."""
    return [
        (b.step, b.round, b.last_of_round, b.ids, b.texts, b.arms, b.skills, b.n_tokens, json.dumps(b.state))
        for b in batches
    ]


def test_one_rank_sees_every_row_once_in_order(make_run: MakeRun) -> None:
    run = make_run(3)
    batches = list(feed_of(run))
    assert [i for b in batches for i in b.ids] == run.ids
    assert [b.step for b in batches] == list(range(9))
    assert [b.round for b in batches] == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert [b.last_of_round for b in batches] == [False, False, True] * 3
    assert batches[0].texts is not None
    assert batches[0].texts[3] == "text of document 3 – xxx"
    assert batches[0].skills[:2] == [[], ["count"]]
    assert batches[0].arms[:2] == ["a", "b"]
    assert batches[0].n_tokens[:2] == [20, 21]


@pytest.mark.parametrize("world_size", [1, 2, 3, 4, 6, 12])
@pytest.mark.parametrize("rows_per_group", [1, 5, 100])
def test_every_world_size_sees_the_same_global_batches(make_run: MakeRun, world_size: int, rows_per_group: int) -> None:
    """Row groups that do not divide a rank's slice cost reads, never order."""
    run = make_run(2, rows_per_group=rows_per_group)
    ranks = [list(feed_of(run, rank=r, world_size=world_size)) for r in range(world_size)]
    joined = [[i for batch in step for i in batch.ids] for step in zip(*ranks, strict=True)]
    assert joined == [run.ids[s * 12 : (s + 1) * 12] for s in range(6)]
    states = [[b.state for b in batches] for batches in ranks]
    assert all(other == states[0] for other in states)


def test_a_state_after_every_step_gives_exactly_the_rest_at_any_world_size(make_run: MakeRun) -> None:
    run = make_run(2)
    whole = seen(list(feed_of(run)))
    for after in range(7):
        feed = feed_of(run, rank=0, world_size=2)
        for _ in range(after):
            next(feed)
        state = json.loads(json.dumps(feed.state_dict()))
        rest = feed_of(run)
        rest.load_state_dict(state)
        assert seen(list(rest)) == whole[after:]
        thirds = [feed_of(run, rank=r, world_size=3) for r in range(3)]
        for third in thirds:
            third.load_state_dict(state)
        joined = [i for step in zip(*thirds, strict=True) for batch in step for i in batch.ids]
        assert joined == run.ids[after * 12 :]


def test_the_state_of_a_batch_is_that_batch_and_not_a_prefetched_one(make_run: MakeRun) -> None:
    feed = feed_of(make_run(2))
    first, second = next(feed), next(feed)
    assert second.state == feed.state_dict()
    assert first.state is not None
    again = feed_of(make_run(2, name="copy"))
    again.load_state_dict(first.state)
    assert next(again).ids == second.ids


def test_loading_opens_one_manifest_however_far_the_run_is(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(8)
    batches = list(feed_of(run))
    feed = feed_of(run)
    names: list[str] = []
    from prereq.selector.storage import Folder

    original = Folder.read
    monkeypatch.setattr(Folder, "read", lambda self, name: names.append(name) or original(self, name))
    feed.load_state_dict(batches[19].state or {})
    assert names == ["rounds/000006/manifest.json"]


def test_a_state_of_another_run_is_refused(make_run: MakeRun) -> None:
    state = next(feed_of(make_run(1))).state
    other = feed_of(make_run(1, name="other", seed=5))
    with pytest.raises(ManifestError, match="belongs to the run with configuration"):
        other.load_state_dict(state or {})


def test_a_state_whose_manifest_has_changed_is_refused(make_run: MakeRun) -> None:
    state = dict(next(feed_of(make_run(1))).state or {})
    with pytest.raises(ManifestError, match=r"000000/manifest\.json: sha256 is .*, the feed's state says ffff"):
        feed_of(make_run(1, name="again")).load_state_dict({**state, "manifest": "f" * 64})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"row": 7}, "state is at row 7"),
        ({"row": 480}, "state is at row 480"),
        ({"row": -12}, "row -12, expected an integer"),
        ({"step": True}, "step True, expected an integer"),
        ({"step": None}, "step None but manifest"),
        ({"format": "other"}, "expected prereq.feed-state/1"),
        ({"more": 1}, "expected prereq.feed-state/1"),
    ],
)
def test_a_state_that_was_tampered_with_is_refused(make_run: MakeRun, changes: dict[str, Any], message: str) -> None:
    run = make_run(1)
    state = next(feed_of(run)).state or {}
    with pytest.raises(ManifestError, match=message):
        feed_of(run).load_state_dict({**state, **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"global_batch": 24}, "global_batch 24 was asked for, the run has 12"),
        ({"world_size": 5}, "5 ranks do not divide the global batch of 12; start 2 or 3 or 4 or 6 of them"),
        ({"rank": 2, "world_size": 2}, "rank 2 is not one of the 2 ranks"),
        ({"micro_batch": 5}, "micro_batch 5 does not divide a share of 12"),
        ({"name": "../x"}, "name '../x' may hold"),
        ({"verify": "crc"}, "'crc' is not one of"),
    ],
)
def test_arguments_that_do_not_fit_the_run_are_refused(
    make_run: MakeRun, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        feed_of(make_run(1), **changes)


def test_micro_batches_cut_the_share_and_carry_the_state_last(make_run: MakeRun) -> None:
    run = make_run(1)
    batches = list(feed_of(run, world_size=2, rank=1, micro_batch=2, global_batch=12))
    pieces = list(batches[2].micro_batches())
    assert [i for p in pieces for i in p.ids] == batches[2].ids == run.ids[30:36]
    assert [len(p) for p in pieces] == [2, 2, 2]
    assert [p.state is None for p in pieces] == [True, True, False]
    assert [p.last_of_round for p in pieces] == [False, False, True]
    assert pieces[2].state == batches[2].state
    assert [t for p in pieces for t in p.texts or []] == batches[2].texts


def test_columns_bring_metadata_and_leave_out_the_text(make_run: MakeRun) -> None:
    batch = next(feed_of(make_run(1), columns=["level", "arm"]))
    assert batch.extra == {"level": [str(i % 5) for i in range(12)]}
    assert batch.texts is None
    assert batch.arms[:2] == ["a", "b"]
    assert len(batch.ids) == len(batch.skills) == len(batch.n_tokens) == 12


def test_a_column_that_is_not_there_is_an_error_that_lists_those_that_are(make_run: MakeRun) -> None:
    with pytest.raises(ManifestError, match=r"no columns \['lang'\]; it has .*'level'"):
        next(feed_of(make_run(1), columns=["lang"]))


# ---------------------------------------------------------------------------------------------------- integrity


def flip_byte(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("at", [200, -200, -1])
def test_a_flipped_byte_stops_the_feed_at_that_shard(make_run: MakeRun, at: int) -> None:
    run = make_run(2)
    shard = run.shards(1)[0]
    flip_byte(shard, at)
    feed = feed_of(run)
    with pytest.raises(ManifestError, match=r"sha256 is .* manifest says .*prereq sample --repair 1") as caught:
        list(feed)
    assert shard.name in str(caught.value)
    assert (feed.state_dict()["round"], feed.state_dict()["row"]) == (0, 36)


def test_a_repaired_shard_lets_the_same_feed_go_on(make_run: MakeRun) -> None:
    run = make_run(1)
    feed = feed_of(run)
    flip_byte(run.shards(0)[1], 60)
    got = [next(feed), next(feed)]
    with pytest.raises(ManifestError, match="sha256"):
        next(feed)
    flip_byte(run.shards(0)[1], 60)
    assert [i for b in [*got, *feed] for i in b.ids] == run.ids


def test_a_truncated_shard_names_both_sizes(make_run: MakeRun) -> None:
    run = make_run(1)
    shard = run.shards(0)[0]
    size = shard.stat().st_size
    shard.write_bytes(shard.read_bytes()[:-9])
    with pytest.raises(ManifestError, match=f"has {size - 9} bytes, the manifest says {size}; run"):
        next(feed_of(run, verify="size"))


def test_a_missing_shard_says_what_to_do(make_run: MakeRun) -> None:
    run = make_run(1)
    run.shards(0)[0].unlink()
    with pytest.raises(ManifestError, match=r"is missing, expected \d+ bytes with sha256 .*--repair 0"):
        next(feed_of(run))


def test_a_shard_that_retention_deleted_says_so(make_run: MakeRun) -> None:
    run = make_run(1)
    run.shards(0)[0].unlink()
    (run.root / "rounds/000000/deleted.json").write_text("{}")
    with pytest.raises(ManifestError, match=r"retention .* load a newer checkpoint"):
        next(feed_of(run))


def test_damage_that_a_size_cannot_show_is_an_error_and_not_other_rows(make_run: MakeRun) -> None:
    run = make_run(1, rows_per_group=100)
    shard = run.shards(0)[0]
    data = shard.read_bytes()
    shard.write_bytes(data[:4] + bytes(len(data) - 4))
    with pytest.raises(ManifestError, match="not a readable Parquet file"):
        next(feed_of(run, verify="size"))


def test_a_round_of_another_chain_is_refused(make_run: MakeRun) -> None:
    run, other = make_run(2), make_run(0, name="other", done=False)
    other.ids = ["x"]  # other documents, so another round 0
    other.add_round()
    (run.root / "rounds/000000/manifest.json").write_bytes((other.root / "rounds/000000/manifest.json").read_bytes())
    for shard in other.shards(0):
        (run.root / "rounds/000000" / shard.name).write_bytes(shard.read_bytes())
    feed = feed_of(run)
    for _ in range(3):
        next(feed)
    with pytest.raises(ManifestError, match=r"000001/manifest\.json: parent is .*, expected "):
        next(feed)


def test_a_round_of_another_configuration_is_refused(make_run: MakeRun) -> None:
    run, other = make_run(0, done=False), make_run(1, name="other", seed=3)
    (other.root / "rounds").rename(run.root / "rounds")
    with pytest.raises(ManifestError, match=r"config is .*, expected .*rounds of two runs were mixed"):
        next(feed_of(run))


def test_a_manifest_missing_before_the_end_is_an_error(make_run: MakeRun) -> None:
    run = make_run(2)
    (run.root / "rounds/000001/manifest.json").unlink()
    with pytest.raises(ManifestError, match=r"000001/manifest\.json: is missing, and done\.json says 2 rounds"):
        list(feed_of(run))


# ------------------------------------------------------------------------------------------------------ waiting


def test_the_feed_waits_for_rounds_that_another_thread_writes(make_run: MakeRun) -> None:
    run = make_run(0, done=False)

    def sampler() -> None:
        for _ in range(3):
            time.sleep(0.06)
            run.add_round()
        run.finish()

    thread = threading.Thread(target=sampler)
    thread.start()
    feed = feed_of(run)
    ids = [i for batch in feed for i in batch.ids]
    thread.join()
    assert ids == run.ids
    assert len(ids) == 3 * 36
    assert 0.05 < feed.waited_s < 5


def test_no_round_in_time_is_an_error_with_the_file_awaited(make_run: MakeRun) -> None:
    feed = feed_of(make_run(1, done=False), wait=WaitConfig(timeout_s=0.05))
    for _ in range(3):
        next(feed)
    with pytest.raises(
        PrereqError, match=r"000001/manifest\.json: not there after 0\.\d s; is `prereq sample` running"
    ):
        next(feed)
    assert feed.waited_s >= 0.05


def test_a_folder_that_is_no_run_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(PrereqError, match=r"run\.json: not there after .* run_dir"):
        Feed(tmp_path / "typo", wait=WaitConfig(start_timeout_s=0.02))


def test_stop_ends_a_wait_and_keeps_the_position(make_run: MakeRun) -> None:
    stop = threading.Event()
    feed = feed_of(make_run(1, done=False), stop=stop.is_set)
    threading.Timer(0.05, stop.set).start()
    assert len(list(feed)) == 3
    assert feed.state_dict()["step"] == 2


def test_a_finished_feed_stays_finished(make_run: MakeRun) -> None:
    feed = feed_of(make_run(1))
    assert len(list(feed)) == 3
    assert list(feed) == []


def test_a_long_wait_says_so_in_the_log(make_run: MakeRun, caplog: pytest.LogCaptureFixture) -> None:
    feed = feed_of(make_run(0, done=False), wait=WaitConfig(first_s=0.01, notice_s=0.03, timeout_s=0.1))
    with pytest.raises(PrereqError):
        next(feed)
    assert "still waiting after" in caplog.text


def test_a_start_without_a_run_says_so_soon(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A misspelt folder must not look like half a minute of nothing."""
    monkeypatch.setattr("prereq.selector.feed.rounds._START_NOTICE_S", 0.02)
    with pytest.raises(PrereqError):
        Feed(tmp_path / "typo", wait=WaitConfig(first_s=0.01, start_timeout_s=0.5, notice_s=60.0))
    assert "run.json: still waiting after 0 s; is this the run_dir" in caplog.text


def test_a_round_blocked_by_the_feeds_own_missing_report_is_an_error(make_run: MakeRun) -> None:
    run = make_run(2, done=False, uses_feedback=True)
    feed = feed_of(run)
    for _ in range(6):
        next(feed)
    with pytest.raises(FeedbackError, match="round 2 waits for the report of round 0"):
        next(feed)
    feed.report({"add": 1.0}, round=0)
    run.add_round()
    assert next(feed).round == 2


def test_round_0_that_waits_for_the_initial_evaluation_is_an_error(make_run: MakeRun) -> None:
    run = make_run(0, done=False, uses_feedback=True)
    with pytest.raises(FeedbackError, match=r"evaluation of the untrained model.*report_initial"):
        next(feed_of(run))


@pytest.mark.parametrize(
    ("run_changes", "feed_changes"),
    [
        ({"uses_feedback": False}, {}),
        ({"uses_feedback": True, "policy": "reuse"}, {}),
        ({"uses_feedback": True, "report_every": 2}, {}),  # round 2 would follow round 0, which is not reported
        ({"uses_feedback": True}, {"reporter": False}),
        ({"uses_feedback": True}, {"rank": 1, "world_size": 2}),
    ],
)
def test_waiting_that_can_end_is_not_an_error(
    make_run: MakeRun, run_changes: dict[str, Any], feed_changes: dict[str, Any]
) -> None:
    run = make_run(2, done=False, **run_changes)
    feed = feed_of(run, **feed_changes)
    for _ in range(6):
        next(feed)
    threading.Timer(0.05, lambda: (run.add_round(), run.finish())).start()
    assert len(list(feed)) == 3


def test_importing_the_feed_is_light() -> None:
    """A trainer's environment has numpy and pyarrow; nothing of the jobs and no torch may come along."""
    code = (
        "import sys, time, pyarrow.parquet; t = time.perf_counter(); import prereq.selector.feed; "
        "ms = (time.perf_counter() - t) * 1000; "
        "heavy = {'ray', 'torch', 'sklearn', 'scipy', 'networkx', 'yaml', 'pydantic', 'datasketch', 'fasttext'}; "
        "print(f'{ms:.0f}', sorted(heavy & set(sys.modules)), 'prereq.jobs' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    milliseconds, rest = out.split(maxsplit=1)
    print(f"import prereq.selector.feed: {milliseconds} ms beyond pyarrow")
    assert rest.strip() == "[] False"
    assert int(milliseconds) < 2000
