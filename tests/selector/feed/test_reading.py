"""Which row groups are read, by whom and when: a rank's own, each once, the next ones ahead of the loop."""

import threading
from collections.abc import Callable
from typing import Any

import pytest

from prereq.graph.errors import ManifestError
from prereq.selector.feed import Feed, WaitConfig
from prereq.selector.feed.shard_file import ShardFile

QUICK = WaitConfig(first_s=0.005, most_s=0.02, timeout_s=10.0, start_timeout_s=10.0)
MakeRun = Callable[..., Any]


def feed_of(run: Any, **changes: Any) -> Feed:
    return Feed(run.root, **{"wait": QUICK, **changes})


def test_a_rank_reads_only_the_row_groups_of_its_slice(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(1, rows_per_group=3)
    read: list[int] = []
    original = ShardFile.fetch
    monkeypatch.setattr(ShardFile, "fetch", lambda self, groups: read.extend(groups) or original(self, groups))
    list(feed_of(run, rank=2, world_size=4, verify="size"))
    assert read == [2, 6, 2]  # two batches of 4 groups in the first shard, one in the second


def test_a_row_group_that_spans_batches_is_read_once(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(1, rows_per_group=100, batches_per_shard=3)
    read: list[int] = []
    original = ShardFile.fetch
    monkeypatch.setattr(ShardFile, "fetch", lambda self, groups: read.extend(groups) or original(self, groups))
    list(feed_of(run))
    assert read == [0]


@pytest.fixture
def ahead(monkeypatch: pytest.MonkeyPatch) -> list[tuple[bool, int]]:
    """Every batch behind the second of a shard is read in a second thread; who read which row group."""
    read: list[tuple[bool, int]] = []
    original = ShardFile.fetch

    def fetch(self: ShardFile, groups: Any) -> Any:
        read.extend((threading.current_thread() is threading.main_thread(), group) for group in groups)
        return original(self, groups)

    monkeypatch.setattr(ShardFile, "fetch", fetch)
    monkeypatch.setattr("prereq.selector.feed.reading._AHEAD", 1)
    monkeypatch.setattr("prereq.selector.feed.reading._WORTH", 1)
    return read


@pytest.mark.parametrize("world_size", [1, 3])
@pytest.mark.parametrize("rows_per_group", [2, 5])
def test_what_is_read_ahead_is_what_would_be_read(
    make_run: MakeRun, ahead: list[tuple[bool, int]], world_size: int, rows_per_group: int
) -> None:
    run = make_run(2, batches_per_round=6, batches_per_shard=6, rows_per_group=rows_per_group)
    plain = [list(feed_of(run, rank=r, world_size=world_size, verify="size")) for r in range(world_size)]
    assert [i for step in zip(*plain, strict=True) for batch in step for i in batch.ids] == run.ids
    assert {who for who, _ in ahead} == {True, False}
    if rows_per_group == 2:
        assert sorted(group for _, group in ahead) == sorted([*range(36)] * 2), "every row group once in each round"


def test_damage_that_was_met_ahead_is_told_where_its_rows_are_due(
    make_run: MakeRun, ahead: list[tuple[bool, int]]
) -> None:
    run = make_run(1, batches_per_round=6, batches_per_shard=6, rows_per_group=12)
    shard, feed = run.shards(0)[0], feed_of(run)
    whole = shard.read_bytes()
    seen = [next(feed).ids, next(feed).ids]
    assert ahead[-1] == (False, 2)
    assert feed._reader._coming is not None
    assert feed._reader._coming.take() is not None  # it has been read by now
    shard.write_bytes(whole[:100])  # the file itself, which is open
    seen.append(next(feed).ids)
    with pytest.raises(ManifestError, match="ends at byte"):
        next(feed)
    shard.write_bytes(whole)
    assert [i for ids in [*seen, *(batch.ids for batch in feed)] for i in ids] == run.ids
