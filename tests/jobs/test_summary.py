"""Summaries: what they count, at every stage of a run and with parts of it missing."""

import json
import shutil
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prereq.graph.errors import ManifestError
from prereq.jobs.drawn import count_tokens
from prereq.jobs.facts import variation
from prereq.jobs.summary import summarise, table

MakeDriver = Callable[..., Any]
TWO_SKILLS = [("a", [40] * 30, ["read", "count"]), ("b", [60] * 30, ["count"]), ("c", [50] * 20, [])]


def counted_by_hand(run: Path) -> dict[str, float]:
    """Tokens per skill, row by row."""
    counts: dict[str, float] = defaultdict(float)
    for path in sorted(run.glob("rounds/*/shard-*.parquet")):
        for row in pq.read_table(path).to_pylist():
            for skill in row["skills"] or ["_none"]:
                counts[skill] += row["n_tokens"] / max(1, len(row["skills"]))
    return counts


@given(st.lists(st.tuples(st.integers(0, 50), st.none() | st.lists(st.sampled_from("xyz"), unique=True)), max_size=12))
def test_tokens_split_evenly_and_none_is_lost(rows: list[tuple[int, list[str] | None]]) -> None:
    columns = {
        "n_tokens": pa.array([n for n, _ in rows], pa.int64()),
        "skills": pa.array([skills for _, skills in rows], pa.list_(pa.string())),
    }
    counted = count_tokens(pa.table(columns))
    expected: dict[str, float] = defaultdict(float)
    for tokens, skills in rows:
        for skill in skills or ["_none"]:
            expected[skill] += tokens / len(skills or ["_none"])
    for skill in {*counted, *expected}:
        assert counted.get(skill, 0.0) == pytest.approx(expected.get(skill, 0.0))
    assert sum(counted.values()) == pytest.approx(sum(n for n, _ in rows))


def test_tokens_per_skill_are_those_in_the_shards(make_driver: MakeDriver) -> None:
    driver = make_driver()
    driver.finish()
    summary = summarise(driver.folder)
    by_hand = counted_by_hand(driver.folder)
    assert summary.exact
    assert {skill.id: skill.tokens for skill in summary.skills} == pytest.approx(by_hand)
    assert sum(skill.share for skill in summary.skills) == pytest.approx(1.0)
    assert summary.tokens == sum(by_hand.values())
    assert [arm.tokens for arm in summary.arms] == [pytest.approx(by_hand[f"skill-{arm.id}"]) for arm in summary.arms]


def test_deleted_shards_are_estimated_and_said_so(make_driver: MakeDriver) -> None:
    """Every arm of this pool holds one skill, so that the estimate by arms is exact."""
    driver = make_driver(mixer="uniform")
    driver.finish()
    before = summarise(driver.folder)
    for shard in driver.folder.glob("rounds/000001/shard-*"):
        shard.unlink()
    (driver.folder / "rounds/000001/deleted.json").write_text("{}")
    after = summarise(driver.folder)
    assert not after.exact
    assert [s.tokens for s in after.skills] == pytest.approx([s.tokens for s in before.skills])
    assert any("estimated" in line for line in after.warnings)
    assert "estimated per skill" in table(after)


def test_damaged_shard_is_a_warning_and_the_rest_is_counted(make_driver: MakeDriver) -> None:
    driver = make_driver(mixer="uniform")
    driver.finish()
    shard = next(driver.folder.glob("rounds/000002/shard-*"))
    shard.write_bytes(shard.read_bytes()[:100])
    summary = summarise(driver.folder)
    assert [entry.drawn.exact for entry in summary.rounds] == [True, True, False, True, True, True]
    assert any("round 2" in line and "prereq inspect --verify" in line for line in summary.warnings)


def test_losses_run_from_the_untrained_model_to_the_last_report(make_driver: MakeDriver) -> None:
    driver = make_driver()
    driver.finish()
    summary = summarise(driver.folder)
    first, last = driver.losses("initial"), driver.losses(3)
    for skill in summary.skills:
        assert skill.first_loss == first[skill.id]
        assert skill.last_loss == last[skill.id]
        assert skill.change == pytest.approx(last[skill.id] / first[skill.id] - 1)
    assert [report.round for report in summary.reports] == [None, 0, 1, 2, 3]
    assert summary.staleness == 2
    assert summary.rounds[0].applied == ("initial",)
    assert summary.done is not None
    assert summary.warnings == ()


def test_a_skill_that_was_measured_once_has_no_change(make_driver: MakeDriver) -> None:
    driver = make_driver(mixer="uniform")
    driver.sampler().run()
    driver.report("initial")
    driver.report(0, losses={**driver.losses(0), "skill-b": None})
    found = {skill.id: skill for skill in summarise(driver.folder).skills}
    assert found["skill-b"].first_loss == driver.losses("initial")["skill-b"]
    assert (found["skill-b"].last_loss, found["skill-b"].change) == (None, None)
    assert found["skill-a"].last_loss == driver.losses(0)["skill-a"]


def test_mixture_moves_as_the_manifests_say(make_driver: MakeDriver) -> None:
    driver = make_driver()
    driver.finish()
    rounds = summarise(driver.folder).rounds
    manifests = [json.loads(data) for data in driver.manifests()]
    assert rounds[0].moved is None
    for before, now, manifest in zip(rounds, rounds[1:], manifests[1:], strict=False):
        old, new = before.requested, now.requested
        assert new == manifest["mixture"]["requested"]
        assert now.moved == pytest.approx(sum(abs(new[a] - old[a]) for a in new) / 2)
        assert now.realised == {a: manifest["realised"].get(a, 0) / manifest["tokens"] for a in new}
        assert 0 <= now.off < 0.2


def test_variation_is_a_distance() -> None:
    left, right = {"a": 0.5, "b": 0.5}, {"b": 0.25, "c": 0.75}
    assert variation(left, right) == variation(right, left) == 0.75
    assert variation(left, left) == 0
    assert variation({"a": 1.0}, {"b": 1.0}) == 1


def test_run_before_its_first_round(make_driver: MakeDriver) -> None:
    driver = make_driver()
    driver.info()
    summary = summarise(driver.folder)
    assert (summary.rounds, summary.tokens, summary.staleness) == ((), 0, None)
    assert "no round is committed yet" in summary.warnings
    assert "0 documents and 0 tokens drawn" in table(summary)


def test_run_without_its_pool_tells_what_it_can(make_driver: MakeDriver) -> None:
    driver = make_driver()
    driver.finish()
    with_pool = summarise(driver.folder)
    shutil.rmtree(driver.folder.parent / "pool")
    summary = summarise(driver.folder)
    assert [skill.tokens for skill in summary.skills] == [skill.tokens for skill in with_pool.skills]
    assert {skill.documents for skill in summary.skills} == {None}
    assert any("the pool cannot be read" in line for line in summary.warnings)
    assert "?" in table(summary)


def test_pool_that_was_built_again_is_not_taken_for_the_run_s(make_driver: MakeDriver) -> None:
    driver = make_driver()
    driver.finish()
    manifest = driver.folder.parent / "pool/manifest.json"
    manifest.write_text(manifest.read_text().replace('"seed":0', '"seed":1'))
    summary = summarise(driver.folder)
    assert any("is not the pool of this run any more" in line for line in summary.warnings)
    assert {skill.documents for skill in summary.skills} == {None}


def test_pool_counts_documents_per_skill(drive: MakeDriver, make_pool: Callable[..., Path]) -> None:
    pool = make_pool(TWO_SKILLS, skills=["count", "read", "write"], holdout=1)
    held = next((pool / "holdout").iterdir())
    pq.write_table(pq.read_table(held).slice(0, 1), held)  # of the control split: count alone
    driver = drive(pool, mixer="uniform")
    driver.finish()
    summary = summarise(driver.folder)
    assert [(s.id, s.documents, s.held) for s in summary.skills] == [("count", 60, 1), ("read", 30, 0), ("write", 0, 0)]
    total = 30 * 40 + 30 * 60 + 20 * 50
    assert [s.pool_share for s in summary.skills] == pytest.approx([(600 + 1800) / total, 600 / total, 0])
    assert summary.untagged == pytest.approx(counted_by_hand(driver.folder)["_none"])
    assert any(line.startswith("1 skill without a document in the pool: write") for line in summary.warnings)
    assert any(line.startswith("2 skills without a document in the control split") for line in summary.warnings)
    assert "(no skill)" in table(summary)


def test_exhausted_arms_are_named(make_driver: MakeDriver) -> None:
    driver = make_driver(mixer="uniform", max_epochs=1, rounds=50)
    driver.finish()
    summary = summarise(driver.folder)
    assert summary.done is not None
    assert summary.done.reason == "pool exhausted"
    spent = [line for line in summary.warnings if "exhausted" in line]
    assert len(spent) == 1
    assert [arm.epochs for arm in summary.arms if arm.id in spent[0]] != []


def test_reports_that_came_late_or_never_are_said(make_driver: MakeDriver) -> None:
    driver = make_driver(policy="reuse", feedback_timeout_s=0.01)
    driver.report("initial")
    driver.sampler().run()
    assert driver.report(0) == "late"
    warnings = summarise(driver.folder).warnings
    assert any("came too late" in line and "000000.late.json" in line for line in warnings)
    assert any(line.startswith("4 rounds were drawn without the report they wait for: 2, 3, 4, 5") for line in warnings)


def test_report_split_is_shown_where_it_was_judged(make_driver: MakeDriver) -> None:
    driver = make_driver(mixer="uniform")
    driver.finish()
    skills = driver.pool.skills
    final = {
        "format": "prereq.final/1",
        "initial": {"losses": dict.fromkeys(skills, 4.0), "eval_tokens": {}},
        "final": {"losses": {**dict.fromkeys(skills, 2.0), skills[0]: None}, "eval_tokens": {}},
    }
    (driver.folder / "train").mkdir()
    (driver.folder / "train/final.json").write_text(json.dumps(final))
    summary = summarise(driver.folder)
    assert [skill.last_report_loss for skill in summary.skills] == [None, 2.0, 2.0, 2.0]
    line = next(line for line in table(summary).splitlines() if line.startswith("mean, report split"))
    assert line.split()[-3:] == ["4.0000", "2.0000", "-50.0%"]
    (driver.folder / "train/final.json").write_text('{"format": "other"}')
    with pytest.raises(ManifestError, match=r"final\.json: format is 'other'"):
        summarise(driver.folder)


def test_table_has_a_line_per_skill_in_graph_order_and_means(make_driver: MakeDriver) -> None:
    driver = make_driver()
    driver.finish()
    lines = table(summarise(driver.folder)).splitlines()
    assert [line.split()[0] for line in lines[1:5]] == list(driver.pool.skills)
    first = np.mean(list(driver.losses("initial").values()))
    last = np.mean(list(driver.losses(3).values()))
    mean = next(line for line in lines if line.startswith("mean"))
    assert mean.split()[1:] == [f"{first:.4f}", f"{last:.4f}", f"{last / first - 1:+.1%}"]
    assert any(line.startswith("worst: skill-a") for line in lines)
    assert max(map(len, lines)) < 120


def test_table_holds_no_escape_sequence_and_keeps_its_columns(
    drive: MakeDriver, make_pool: Callable[..., Path]
) -> None:
    hostile = ["\x1b[31mred\x07", "汉字" * 20, "plain"]
    pool = make_pool([("a", [30] * 40, hostile)], skills=hostile)
    driver = drive(pool, mixer="uniform", rounds=2)
    driver.finish()
    text = table(summarise(driver.folder))
    assert "\x1b" not in text
    assert "\x07" not in text
    rows = text.splitlines()[1:4]
    assert rows[0].startswith("\N{REPLACEMENT CHARACTER}[31mred")
    assert "…" in rows[1]
    wide = sum(2 if ord(character) > 0x2E80 and character != "�" else 1 for character in rows[1])
    assert wide == len(rows[2])


def test_folder_without_a_run_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="no run"):
        summarise(tmp_path)
