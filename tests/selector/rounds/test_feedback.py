"""Reports: refused where they are made, written once."""

import math

import pytest

from prereq.graph.errors import FeedbackError
from prereq.selector.rounds.feedback import read_feedback


@pytest.fixture
def run(make_driver):
    driver = make_driver()
    driver.report("initial")
    driver.sampler().run(patient=False)
    return driver


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"losses": {"skill-a": math.nan}}, "losses: 'skill-a' is nan"),
        ({"losses": {"skill-a": math.inf}}, "losses: 'skill-a' is inf"),
        ({"losses": {"skill-a": -0.1}}, "losses: 'skill-a' is -0.1"),
        ({"losses": {"skill-a": "1"}}, "losses: 'skill-a' is '1'"),
        ({"losses": {"skil-a": 1.0}}, "unknown skill 'skil-a'; nearest known: 'skill-a'"),
        ({"losses": {"skill-a": None}}, "no loss was measured"),
        ({"eval_tokens": {"skill-a": -1}}, "eval_tokens: 'skill-a' is -1"),
        ({"arm_losses": {"zz": 1.0}}, "unknown arm 'zz'"),
        ({"signals": {"reward": {"a": math.nan}}}, "signals.reward: 'a' is nan"),
        ({"step": -1}, "step -1"),
        ({"round": 9}, "report of round 9: .* is not written"),
    ],
)
def test_malformed_reports_raise_and_record_nothing(run, changes, message):
    before = sorted(p.name for p in (run.folder / "feedback").iterdir())
    with pytest.raises(FeedbackError, match=message):
        run.report(0, **changes)
    assert sorted(p.name for p in (run.folder / "feedback").iterdir()) == before


def test_the_first_report_stands(run):
    assert run.report(0) == "recorded"
    first = (run.folder / "feedback/000000.json").read_bytes()
    assert run.report(0, losses={"skill-a": 9.0}) == "already recorded"
    assert (run.folder / "feedback/000000.json").read_bytes() == first


def test_what_is_read_is_what_was_reported(run):
    run.report(0, arm_losses={"a": 1.5})
    found = read_feedback(run.run, 0)
    assert found.losses == run.losses(0)
    assert found.arm_losses == {"a": 1.5}
    assert read_feedback(run.run, 1) is None


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"format":"prereq.feedback/1"}'])
def test_a_damaged_report_on_disk_stops_the_sampler(run, damage):
    (run.folder / "feedback/000000.json").write_bytes(damage)
    with pytest.raises(FeedbackError, match=r"000000.json"):
        run.sampler().run(patient=False)
