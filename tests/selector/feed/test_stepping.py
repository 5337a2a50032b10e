"""A feed that moves without reading: same states, no shard opened, reports where rounds end."""

from collections.abc import Callable
from typing import Any

import pyarrow.parquet as pq
import pytest

from prereq.graph.errors import ConfigError
from prereq.selector.feed import Feed, WaitConfig
from prereq.selector.feed.stepping import SteppingFeed

QUICK = WaitConfig(first_s=0.005, most_s=0.02, timeout_s=5.0, start_timeout_s=5.0)
LOSSES = {"losses": {"add": 2.0, "count": 1.0}, "eval_tokens": {"add": 10, "count": 20}}
MakeRun = Callable[..., Any]


def test_skipping_gives_the_states_of_reading_and_opens_no_shard(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(2)
    states = [batch.state for batch in Feed(run.root, wait=QUICK)]
    monkeypatch.setattr(pq, "ParquetFile", lambda *a, **k: pytest.fail("a shard was opened"))
    feed = SteppingFeed(run.root, wait=QUICK)
    skipped = []
    while (batch := feed.skip()) is not None:
        skipped.append((batch.state, batch.ids, batch.step))
    assert skipped == [(state, [], step) for step, state in enumerate(states)]


def test_reading_goes_on_behind_what_was_skipped(make_run: MakeRun) -> None:
    run = make_run(2)
    feed = SteppingFeed(run.root, wait=QUICK, rank=1, world_size=2)
    first = next(feed)
    feed.skip()
    assert feed.next_step == 2
    third = next(feed)
    assert first.ids == run.ids[6:12]
    assert third.ids == run.ids[30:36]


def test_begin_and_advance_report_the_start_and_each_round_once(make_run: MakeRun) -> None:
    run = make_run(2)
    feed = SteppingFeed(run.root, wait=QUICK)
    calls: list[int] = []

    def measure() -> dict[str, Any]:
        calls.append(feed.next_step)
        return LOSSES

    feed.begin(measure)
    for _ in range(6):
        feed.advance(measure)
    assert calls == [0, 3, 6]
    assert sorted(p.name for p in (run.root / "feedback").iterdir()) == ["000000.json", "000001.json", "initial.json"]
    assert feed.unreported is None


def test_begin_reports_a_round_that_a_checkpoint_left_unreported(make_run: MakeRun) -> None:
    run = make_run(2)
    before = SteppingFeed(run.root, wait=QUICK)
    for _ in range(3):
        before.skip()
    after = SteppingFeed(run.root, wait=QUICK)
    after.load_state_dict(before.state_dict())
    after.begin(lambda: LOSSES)
    assert [p.name for p in (run.root / "feedback").iterdir()] == ["000000.json"]
    after.begin(lambda: pytest.fail("it was reported"))


def test_fetching_ahead_is_refused_only_where_a_round_waits_for_the_last_one(make_run: MakeRun) -> None:
    waits = SteppingFeed(make_run(1, lookahead=0, uses_feedback=True, name="waits").root, wait=QUICK)
    with pytest.raises(ConfigError, match=r"a loop fetches batches before .* lookahead 0: .* lookahead 1 or more"):
        waits.refuse_fetching_ahead("a loop")
    for name, settings in {"ahead": {"lookahead": 1, "uses_feedback": True}, "free": {"lookahead": 0}}.items():
        SteppingFeed(make_run(1, name=name, **settings).root, wait=QUICK).refuse_fetching_ahead("a loop")
