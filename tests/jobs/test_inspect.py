"""Inspect: what it says of runs and pools, that a fault anywhere is found and named, and following a run."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from prereq.graph.errors import ManifestError
from prereq.jobs.cli import main
from prereq.jobs.inspect import describe_run, follow, kind_of, pool_facts, run_facts
from prereq.jobs.verify import verify_pool, verify_run
from prereq.selector.feed import Feed

MakeDriver = Callable[..., Any]


@pytest.fixture
def run(make_driver: MakeDriver) -> Path:
    """A finished run of six rounds, with reports of the untrained model and rounds 0 to 3."""
    driver = make_driver()
    driver.finish()
    return Path(driver.folder)


def flip(path: Path, at: int = -20) -> None:
    """Change one bit of a file."""
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(bytes(data))


def test_kind_of_a_folder(run: Path) -> None:
    assert kind_of(str(run)) == "run"
    assert kind_of(str(run.parent / "pool")) == "pool"
    assert kind_of(str(run / "feedback")) is None


def test_facts_of_a_run(run: Path, make_driver: MakeDriver) -> None:
    (run / "readers").mkdir()
    (run / "readers/trainer.json").write_text('{"round":4}')
    facts = run_facts(str(run))
    assert (facts["rounds"], facts["done"], facts["mixer"]) == (6, "budget", "skill_it")
    assert facts["reports"]["initial"]
    assert facts["reports"]["rounds"] == [0, 1, 2, 3]
    assert (facts["last_applied"], facts["staleness"]) == (3, 2)
    assert facts["readers"] == {"trainer": 4}
    manifests = [json.loads(path.read_text()) for path in sorted(run.glob("rounds/*/manifest.json"))]
    assert facts["tokens"] == sum(manifest["tokens"] for manifest in manifests)
    assert facts["mixture"] == manifests[-1]["mixture"]["skills"]


def test_what_was_drawn_is_beside_what_was_stated(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    facts = run_facts(str(run))
    manifests = [json.loads(path.read_text()) for path in sorted(run.glob("rounds/*/manifest.json"))]
    total = sum(manifest["tokens"] for manifest in manifests)
    for arm in facts["arms"]:
        stated = sum(m["mixture"]["arms"][arm["id"]] * m["tokens"] for m in manifests) / total
        assert arm["stated"] == pytest.approx(stated, rel=1e-12)
        assert arm["realised"] == sum(m["realised"].get(arm["id"], 0) for m in manifests) / total
    gaps = [abs(arm["stated"] - arm["realised"]) for arm in facts["arms"]]
    assert facts["off"] == pytest.approx(sum(gaps) / 2, rel=1e-12)
    assert 0 < facts["off"] < 0.02, "documents are whole, shares are of tokens"
    counted: dict[str, float] = {}
    for batch in Feed(run):
        if batch.round == 5:
            for skills, tokens in zip(batch.skills, batch.n_tokens, strict=True):
                for skill in skills:
                    counted[skill] = counted.get(skill, 0) + tokens / len(skills)
    shares = {skill: tokens / manifests[5]["tokens"] for skill, tokens in counted.items()}
    assert facts["realised"] == pytest.approx(shares)
    assert main(["inspect", str(run)]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"^mixture .*\n^drawn ", shown, re.M)
    assert "of the tokens so far went to other arms than the rounds stated" in shown
    (run / "rounds/000005/deleted.json").write_text("{}")
    assert "the newest round's shards are gone" in "\n".join(describe_run(run_facts(str(run))))


def test_facts_of_a_pool(make_pool: Callable[..., Path]) -> None:
    pool = make_pool([("a", [10, 20], ["x"]), ("b", [30], ["x", "y"])], skills=["x", "y", "z"])
    facts = pool_facts(str(pool))
    assert (facts["documents"], facts["tokens"]) == (3, 60)
    assert [(s["id"], s["documents"], s["control"]) for s in facts["skills"]] == [("x", 3, 2), ("y", 1, 2), ("z", 0, 2)]
    assert [(a["id"], a["documents"], a["tokens"]) for a in facts["arms"]] == [("a", 2, 30), ("b", 1, 30)]


def test_whole_run_and_pool_hold(run: Path) -> None:
    findings = verify_run(str(run))
    assert (findings.failures, findings.unchecked) == ([], [])
    assert findings.checked > 6 * 4
    assert verify_pool(str(run.parent / "pool")).failures == []


TAMPERED: dict[str, tuple[Callable[[Path], None], str]] = {
    "shard": (lambda run: flip(next(run.glob("rounds/000002/shard-*"))), "rounds/000002/shard-.*sha256 is"),
    "shard cut": (
        lambda run: next(run.glob("rounds/000001/shard-*")).write_bytes(b"PAR1"),
        "has 4 bytes, the manifest says .* --repair 1",
    ),
    "shard gone": (lambda run: next(run.glob("rounds/000003/shard-*")).unlink(), "is missing; .* --repair 3"),
    "manifest": (
        lambda run: edit(run / "rounds/000004/manifest.json", '"tokens":', '"tokens":1'),
        "000005/manifest.json: parent is",
    ),
    "manifest gone": (lambda run: (run / "rounds/000002/manifest.json").unlink(), "000002/manifest.json: is missing"),
    "report": (
        lambda run: edit(run / "feedback/000001.json", '"tokens_seen":0', '"tokens_seen":1'),
        "feedback/000001.json: sha256 is .* round 3 applied",
    ),
    "report gone": (lambda run: (run / "feedback/initial.json").unlink(), "initial.json: sha256 is missing"),
    "report not JSON": (lambda run: (run / "feedback/000002.json").write_text("{"), "000002.json: not JSON"),
    "drawing keys": (lambda run: edit(run / "run.json", '"lookahead":1', '"lookahead":2'), "run.json: the sha256"),
    "run.json gone": (lambda run: (run / "run.json").unlink(), "no run"),
    "done": (lambda run: edit(run / "done.json", '"rounds":6', '"rounds":7'), "done.json: says 7 rounds"),
    "graph": (lambda run: (run / "graph.json").write_text("[]"), "graph.json"),
    "pool": (lambda run: edit(run.parent / "pool/manifest.json", '"seed":0', '"seed":1'), "the run began with"),
}


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize("what", TAMPERED)
def test_whatever_was_changed_in_a_run_is_found_and_named(what: str, run: Path) -> None:
    tamper, message = TAMPERED[what]
    tamper(run)
    findings = verify_run(str(run))
    assert len(findings.failures) >= 1
    assert all("\n" not in line for line in findings.failures)
    assert any(re.search(message, line) for line in findings.failures), findings.failures


def test_shard_that_was_replaced_with_its_manifest_breaks_the_chain(run: Path) -> None:
    """Someone who rewrites a shard and its manifest still cannot rewrite what the next manifest says."""
    first = json.loads((run / "rounds/000000/manifest.json").read_text())
    first["order"] = "0" * 64
    (run / "rounds/000000/manifest.json").write_text(json.dumps(first, sort_keys=True, separators=(",", ":")))
    failures = verify_run(str(run)).failures
    assert any("000001/manifest.json: parent is" in line for line in failures)
    assert any("the order of its documents" in line for line in failures)


def test_every_fault_is_listed_not_only_the_first(run: Path) -> None:
    for number in (0, 2, 5):
        flip(next(run.glob(f"rounds/{number:06d}/shard-*")))
    (run / "feedback/000000.json").unlink()
    assert len(verify_run(str(run)).failures) == 4


def test_deleted_shards_and_an_absent_pool_are_no_faults(run: Path) -> None:
    for shard in run.glob("rounds/000001/shard-*"):
        shard.unlink()
    (run / "rounds/000001/deleted.json").write_text("{}")
    shutil.move(run.parent / "pool", run.parent / "elsewhere")
    findings = verify_run(str(run))
    assert findings.failures == []
    assert len(findings.unchecked) == 2


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("part-*.parquet", "its name says"),
        ("holdout/part-*.parquet", "its name says"),
        ("manifest.json", "not JSON"),
        ("arms.parquet", "arms.parquet"),
    ],
)
def test_whatever_was_changed_in_a_pool_is_found(file: str, message: str, make_pool: Callable[..., Path]) -> None:
    pool = make_pool()
    path = next(pool.glob(file))
    if file in ("manifest.json", "arms.parquet"):
        path.write_bytes(path.read_bytes()[:-9])
    else:
        flip(path, at=40)
    failures = verify_pool(str(pool)).failures
    assert any(message in line for line in failures), failures


def test_holdout_part_that_was_added_is_found(make_pool: Callable[..., Path]) -> None:
    pool = make_pool()
    part = next((pool / "holdout").iterdir())
    shutil.copy(part, part.with_name(part.name.replace("part-00000", "part-00001")))
    assert any("holdout: sha256 of its parts" in line for line in verify_pool(str(pool)).failures)


def test_verb_says_what_is_there_and_exits_by_what_holds(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(run)]) == 0
    out = capsys.readouterr().out
    assert "done (budget)" in out
    assert "staleness  2 rounds" in out
    assert main(["inspect", str(run), "--verify"]) == 0
    assert "all hold" in capsys.readouterr().out
    flip(next(run.glob("rounds/000000/shard-*")))
    assert main(["inspect", str(run), "--verify"]) == 2
    out = capsys.readouterr().out
    assert len([line for line in out.splitlines() if line.startswith("FAILED ")]) == 1
    assert "1 failed" in out


def test_verb_prints_json(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(run.parent / "pool"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["kind"] == "pool"
    flip(next(run.glob("rounds/000000/shard-*")))
    assert main(["inspect", str(run), "--json", "--verify"]) == 2
    facts = json.loads(capsys.readouterr().out)
    assert len(facts["verified"]["failures"]) == 1


def test_verb_refuses_what_makes_no_sense(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(run / "feedback")]) == 2
    assert "holds neither a run" in capsys.readouterr().err
    assert main(["inspect", str(run), "--set", "seed=1"]) == 2
    assert "is a folder, not a configuration" in capsys.readouterr().err
    assert main(["inspect", str(run.parent / "pool"), "--follow"]) == 2
    assert "there are no rounds to follow" in capsys.readouterr().err


def test_verb_takes_a_configuration_and_looks_at_run_and_pool(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pool, other = tmp_path / "pool", tmp_path / "absent"
    settings = [f"run_dir={run}", f"pool_dir={pool}"]
    assert main(["inspect", "quickstart", *(word for item in settings for word in ("--set", item))]) == 0
    out = capsys.readouterr().out
    assert f"run        {run}" in out
    assert f"pool       {pool}\nholds" in out
    assert main(["inspect", "quickstart", "--set", f"run_dir={other}", "--set", f"pool_dir={other}"]) == 2
    assert "neither a run" in capsys.readouterr().err


def test_following_tells_each_round_and_report_once_until_the_end(make_driver: MakeDriver) -> None:
    driver = make_driver(rounds=4)
    driver.info()
    steps = iter(
        [
            lambda: driver.report("initial"),
            lambda: driver.sampler().run(patient=False),
            lambda: driver.report(0),
            lambda: driver.finish(),
        ]
    )
    lines = list(follow(str(driver.folder), sleep=lambda seconds: next(steps)() and None))
    told = [line.split(":")[0] for line in lines]
    rounds = [line for line in told if line.startswith("round")]
    assert rounds == [f"round {number}" for number in range(4)]
    reports = [line for line in told if line.startswith("report")]
    on_disk = sorted(int(path.stem) for path in driver.folder.glob("feedback/0*.json"))
    assert reports == ["report of the untrained model", *(f"report of round {number}" for number in on_disk)]
    assert lines[-1] == "done: 4 rounds (budget)"
    assert told.index("report of round 0") == told.index("round 1") + 2, "behind the pace of that look"
    paces = [line for line in lines if line.startswith("pace: sampler")]
    assert re.fullmatch(r"pace: sampler 2 rounds written, [\d,]+ tokens/s, waited 0.0 s \(0.0%, 0 stalls\)", paces[0])
    assert "(no report yet)" in lines[1]
    assert any(line.startswith("round 3:") and "(2 rounds old)" in line for line in lines)


def test_the_pace_of_readers_is_told(run: Path) -> None:
    assert len(list(Feed(str(run), name="gpu"))) == 24
    facts = run_facts(str(run))["pace"]
    assert facts["readers"]["gpu"]["round"] == facts["sampler"]["round"] == 6
    assert facts["readers"]["gpu"]["stall_share"] == 0.0
    assert "gpu at round 6" in "\n".join(describe_run(run_facts(str(run))))


def test_following_needs_a_run(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="no run to follow"):
        next(follow(str(tmp_path)))
