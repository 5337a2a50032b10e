"""Reports, rounds that ended, checkpoints' positions and the holdout, on runs written by hand."""

import hashlib
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prereq.graph.errors import FeedbackError, ManifestError
from prereq.selector.feed import Feed, WaitConfig

QUICK = WaitConfig(first_s=0.005, most_s=0.02, timeout_s=10.0, start_timeout_s=10.0)
MakeRun = Callable[..., Any]


def feed_of(run: Any, **changes: Any) -> Feed:
    return Feed(run.root, **{"wait": QUICK, **changes})


def read_round(feed: Feed) -> None:
    """Take batches up to the end of a round."""
    while not next(feed).last_of_round:
        pass


def test_round_ended_is_true_once_per_round_on_every_rank(make_run: MakeRun) -> None:
    run = make_run(2)
    for rank in range(2):
        feed = feed_of(run, rank=rank, world_size=2)
        assert [feed.round_ended for _ in feed] == [False, False, True] * 2


def test_report_every_marks_only_the_rounds_that_are_reported(make_run: MakeRun) -> None:
    feed = feed_of(make_run(4, report_every=2))
    ended = [(batch.round, feed.round_ended) for batch in feed if batch.last_of_round]
    assert ended == [(0, False), (1, True), (2, False), (3, True)]


def test_a_report_is_written_with_everything_a_mixer_needs(make_run: MakeRun) -> None:
    run = make_run(3)
    feed = feed_of(run, name="t-1")
    read_round(feed)
    read_round(feed)
    outcome = feed.report(
        {"add": np.float32(0.5), "count": None, "read": 2},
        step=5,
        eval_tokens={"add": np.int64(70), "read": 3},
        arm_losses={"a": 1.5},
        signals={"speed": {"b": 0.25}},
    )
    assert outcome == "recorded"
    data = (run.root / "feedback/000001.json").read_bytes()
    value = json.loads(data)
    assert value == {
        "format": "prereq.feedback/1",
        "round": 1,
        "step": 6,  # global batches trained on
        "tokens_seen": run.tokens[0] + run.tokens[1],
        "losses": {"add": 0.5, "count": None, "read": 2},
        "eval_tokens": {"add": 70, "read": 3},
        "arm_losses": {"a": 1.5},
        "signals": {"speed": {"b": 0.25}},
        "reporter": "t-1",
    }
    assert data == json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def test_after_a_report_the_round_is_no_longer_open(make_run: MakeRun) -> None:
    feed = feed_of(make_run(2))
    read_round(feed)
    assert (feed.round_ended, feed.unreported, feed.state_dict()["unreported"]) == (True, 0, 0)
    feed.report({"add": 1.0})
    assert (feed.round_ended, feed.unreported, feed.state_dict()["unreported"]) == (False, None, None)


def test_a_second_report_is_noticed_and_changes_nothing(make_run: MakeRun, caplog: pytest.LogCaptureFixture) -> None:
    run = make_run(1)
    feed = feed_of(run)
    read_round(feed)
    assert feed.report({"add": 1.0}) == "recorded"
    first = (run.root / "feedback/000000.json").read_bytes()
    assert feed.report({"add": 9.0}) == "already recorded"
    assert (run.root / "feedback/000000.json").read_bytes() == first
    assert "round 0 was reported before; the first report stands" in caplog.text


def test_a_report_that_a_committed_round_has_passed_over_is_late(make_run: MakeRun) -> None:
    run = make_run(3, uses_feedback=True, policy="reuse")
    feed = feed_of(run)
    read_round(feed)
    assert feed.report({"add": 1.0}, step=2) == "late"
    assert [p.name for p in (run.root / "feedback").iterdir()] == ["000000.late.json"]
    assert feed.unreported is None


def test_only_rank_0_writes_and_every_rank_moves_on(make_run: MakeRun) -> None:
    run = make_run(1)
    feed = feed_of(run, rank=1, world_size=2)
    read_round(feed)
    assert feed.report({"add": 1.0}) is None
    assert feed.report_initial({"add": 1.0}) is None
    feed.checkpointed()
    assert not feed.round_ended
    assert not (run.root / "feedback").exists()
    assert not (run.root / "readers").exists()


def test_an_open_round_survives_a_load_and_stays_open_until_it_is_reported(make_run: MakeRun) -> None:
    """The usual loop looks at round_ended behind the first batch only: the report must not be lost by then."""
    run = make_run(3)
    feed = feed_of(run)
    read_round(feed)
    again = feed_of(run)
    again.load_state_dict(feed.state_dict())
    assert again.round_ended
    next(again)
    assert again.round_ended
    assert again.report({"add": 1.0}) == "recorded"
    assert (run.root / "feedback/000000.json").exists()
    next(again)
    assert not again.round_ended
    next(again)
    assert (again.round_ended, again.unreported) == (True, 1)


def test_a_reported_round_is_closed_in_the_state(make_run: MakeRun) -> None:
    run = make_run(2)
    feed = feed_of(run)
    read_round(feed)
    feed.report({"add": 1.0})
    again = feed_of(run)
    again.load_state_dict(feed.state_dict())
    assert not again.round_ended
    read_round(again)
    again.report({"add": 0.5}, step=5)
    seen = [json.loads((run.root / f"feedback/{n:06d}.json").read_bytes())["tokens_seen"] for n in range(2)]
    assert seen == [run.tokens[0], run.tokens[0] + run.tokens[1]]


def test_an_earlier_round_can_be_reported_later_by_number(make_run: MakeRun) -> None:
    run = make_run(4)
    feed = feed_of(run)
    for _ in range(3):
        read_round(feed)
    next(feed)
    assert feed.report({"add": 1.0}, round=0, step=2) == "recorded"
    assert json.loads((run.root / "feedback/000000.json").read_bytes())["tokens_seen"] == run.tokens[0]
    assert feed.unreported == 2


@pytest.mark.parametrize("number", [None, 0, 5, -1])
def test_a_round_that_has_not_ended_cannot_be_reported(make_run: MakeRun, number: int | None) -> None:
    run = make_run(1)
    feed = feed_of(run)
    next(feed)
    with pytest.raises(FeedbackError, match=r"report where feed\.round_ended is true"):
        feed.report({"add": 1.0}, round=number)
    assert not (run.root / "feedback").exists()


@pytest.mark.parametrize(
    ("losses", "message"),
    [
        ({"add": math.nan}, "nan"),
        ({"add": -0.1}, "-0.1"),
        ({"add": math.inf}, "inf"),
        ({"add": "low"}, "'low'"),
        ({"add": True}, "True"),
        ({"ad": 1.0}, "unknown skill 'ad'; nearest known: 'add'"),
        ({"add": None}, "no loss was measured"),
        ([1.0], "expected a mapping"),
    ],
)
def test_a_malformed_report_raises_and_the_round_stays_open(make_run: MakeRun, losses: Any, message: str) -> None:
    run = make_run(1)
    feed = feed_of(run)
    read_round(feed)
    with pytest.raises(FeedbackError, match=message):
        feed.report(losses)
    assert feed.round_ended
    assert not (run.root / "feedback/000000.json").exists()


def test_the_initial_report_is_written_before_round_0(make_run: MakeRun) -> None:
    run = make_run(0, done=False, uses_feedback=True)
    feed = feed_of(run)
    assert feed.report_initial({"add": 5.5}, eval_tokens={"add": 10}) == "recorded"
    value = json.loads((run.root / "feedback/initial.json").read_bytes())
    assert (value["round"], value["step"], value["tokens_seen"], value["losses"]) == ("initial", 0, 0, {"add": 5.5})
    assert feed.report_initial({"add": 5.5}) == "already recorded"


def test_checkpointed_says_which_round_a_reader_still_needs(make_run: MakeRun) -> None:
    run = make_run(2)
    feed = feed_of(run, name="gpu.7")
    path = run.root / "readers/gpu.7.json"
    next(feed)
    early = feed.state_dict()
    feed.checkpointed()
    assert json.loads(path.read_bytes())["round"] == 0
    read_round(feed)
    feed.checkpointed()
    value = json.loads(path.read_bytes())
    assert (value["format"], value["name"], value["round"]) == ("prereq.reader/1", "gpu.7", 1)
    assert value["state"] == feed.state_dict()
    feed.checkpointed(early)
    assert json.loads(path.read_bytes())["round"] == 0


def test_holdout_gives_the_documents_of_a_split(make_run: MakeRun, tmp_path: Path) -> None:
    folder = tmp_path / "pool" / "holdout"
    folder.mkdir(parents=True)
    rows = [
        {"id": "h1", "text": "één", "skills": ["add", "read"], "split": "control"},
        {"id": "h2", "text": "two", "skills": [], "split": "report"},
    ]
    schema = pa.schema(
        [("id", pa.string()), ("text", pa.large_string()), ("skills", pa.list_(pa.string())), ("split", pa.string())]
    )
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), folder / "part-00000-x.parquet")
    sha256 = hashlib.sha256((folder / "part-00000-x.parquet").read_bytes()).hexdigest()
    manifest = {"format": "prereq.pool/1", "config": "c", "seed": 0, "documents": 0, "tokens": 0, "arms": []}
    (folder.parent / "manifest.json").write_text(json.dumps({**manifest, "skills": ["add"], "holdout": sha256}))
    run = make_run(1, pool_path=str(folder.parent))
    documents = feed_of(run).holdout("control")
    assert [(d.id, d.text, d.skills) for d in documents] == [("h1", "één", ("add", "read"))]
    assert [d.id for d in feed_of(run, pool=folder.parent).holdout("report")] == ["h2"]
    with pytest.raises(ManifestError, match="'test' is not one of control, report"):
        feed_of(run).holdout("test")
