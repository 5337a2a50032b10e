"""Whole runs over files: lookahead, policies, restarts at every point, rivals, damage, repair, retention."""

import json
import threading
import time

import pytest

from prereq.graph.errors import ConfigError, FeedbackError, ManifestError
from prereq.selector.rounds.manifest import read_chain, read_manifest
from prereq.selector.rounds.run import read_done


def test_rounds_up_to_lookahead_need_only_the_initial_report(make_driver):
    run = make_driver(lookahead=1)
    assert run.sampler().run(patient=False) is None
    assert run.manifests() == [], "round 0 waits for the untrained model's losses"
    run.report("initial")
    run.sampler().run(patient=False)
    chain = read_chain(run.run)
    assert len(chain) == 2, "rounds 0 and 1, then the report of round 0 is needed"
    assert [e["round"] for e in chain[0].feedback] == ["initial"]
    assert chain[1].feedback == []
    run.report(0)
    run.sampler().run(patient=False)
    assert [e["round"] for e in read_chain(run.run)[2].feedback] == [0]


def test_losses_move_the_mixture_and_the_budget_ends_the_run(make_driver):
    run = make_driver(lookahead=0, rounds=4)
    manifests = run.finish()
    assert len(manifests) == 4
    done = read_done(run.run)
    assert (done.rounds, done.reason) == (4, "budget")
    chain = read_chain(run.run)
    assert done.last == chain[-1].sha256
    assert chain[1].mixture["requested"] != chain[3].mixture["requested"]
    assert chain[1].mixture["skills"].keys() >= set(run.pool.skills)


def test_a_token_budget_ends_with_the_round_that_reaches_it(make_driver):
    run = make_driver("tokens", mixer="uniform", rounds=None, tokens=9000)
    run.finish()
    chain = read_chain(run.run)
    assert sum(m.tokens for m in chain) >= 9000 > sum(m.tokens for m in chain[:-1])


def test_report_every_second_round_waits_for_those_only(make_driver):
    run = make_driver(report_every=2, lookahead=0, rounds=5)
    run.finish()
    assert [[e["round"] for e in m.feedback] for m in read_chain(run.run)] == [["initial"], [], [1], [], [3]]


def test_a_mixer_without_feedback_never_waits_and_exhausts_the_pool(make_driver):
    run = make_driver(mixer="proportional", rounds=1000, max_epochs=1)
    done = run.sampler().run()
    assert done.reason == "pool exhausted"
    assert done.rounds == 205 // 32


def test_stopping_after_every_round_changes_nothing(make_driver):
    straight = make_driver("straight").finish()
    piecewise = make_driver("piecewise")
    for _ in range(60):
        seen = []
        finished = piecewise.sampler(lambda kind, facts, seen=seen: seen.append(kind)).run(
            stop=lambda seen=seen: bool(seen)
        )
        if finished:
            break
        piecewise.report("initial")
        for manifest in read_chain(piecewise.run):
            piecewise.report(manifest.round)
    assert piecewise.manifests() == straight


def test_a_kill_before_the_manifest_leaves_a_round_that_is_drawn_again_with_the_same_bytes(make_driver):
    run = make_driver()
    expected = run.finish()
    for last in range(6):
        twin = run.copy(f"killed-{last}")
        for number in range(last, 6):
            (twin.folder / f"rounds/{number:06d}/manifest.json").unlink()
        (twin.folder / "done.json").unlink()
        (twin.folder / f"rounds/{last:06d}/.tmp-1-dead").write_bytes(b"half a shard")
        (twin.folder / f"rounds/{last:06d}/shard-00000-000000000000.parquet").write_bytes(b"of other content")
        assert twin.finish() == expected
        names = {p.name for p in (twin.folder / f"rounds/{last:06d}").iterdir()}
        assert names == {p.name for p in (run.folder / f"rounds/{last:06d}").iterdir()}, "orphans were swept"


def test_two_samplers_one_wins_each_round_and_the_other_says_so(make_driver):
    run = make_driver(mixer="uniform", rounds=40, batches_per_round=1)
    outcomes = []

    def go():
        sampler = run.sampler()
        start.wait()
        try:
            outcomes.append(sampler.run())
        except ManifestError as error:
            outcomes.append(error)

    start = threading.Barrier(2)
    threads = [threading.Thread(target=go) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    errors = [o for o in outcomes if isinstance(o, ManifestError)]
    assert len(errors) <= 1
    assert all("another sampler wrote round" in str(e) for e in errors)
    assert len(read_chain(run.run)) == 40
    for manifest in read_chain(run.run):
        names = {p.name for p in (run.folder / f"rounds/{manifest.round:06d}").iterdir()}
        assert names == {"manifest.json", *(s.path for s in manifest.shards)}


def test_another_configuration_or_pool_is_refused_by_name(make_driver):
    make_driver(seed=3).finish()
    with pytest.raises(ConfigError, match="seed was 3, is 4"):
        make_driver(seed=4).info()
    with pytest.raises(ConfigError, match="lookahead was 1, is 2"):
        make_driver(lookahead=2).info()
    assert make_driver(rounds=9).info().seed == 3, "the budget may change"


def test_a_changed_report_or_manifest_is_found_at_the_next_start(make_driver):
    run = make_driver()
    run.finish()
    twin = run.copy("changed-report")
    path = twin.folder / "feedback/000001.json"
    path.write_bytes(path.read_bytes().replace(b'"step":8', b'"step":9'))
    (twin.folder / "done.json").unlink()
    with pytest.raises(FeedbackError, match="report of round 1 is sha256"):
        twin.sampler().run()
    twin = run.copy("changed-manifest")
    path = twin.folder / "rounds/000002/manifest.json"
    value = json.loads(path.read_bytes())
    value["tokens"] += 1
    path.write_bytes(json.dumps(value, sort_keys=True, separators=(",", ":")).encode())
    with pytest.raises(ManifestError, match=r"parent is .* a manifest was changed"):
        read_chain(twin.run)
    twin = run.copy("missing-manifest")
    (twin.folder / "rounds/000002/manifest.json").unlink()
    with pytest.raises(ManifestError, match="is missing, but round 000003 is there"):
        read_chain(twin.run)


def test_repair_draws_the_same_bytes_again(make_driver):
    run = make_driver()
    run.finish()
    for number in (0, 3, 5):
        shard = read_manifest(run.run, number).shards[0]
        path = run.folder / f"rounds/{number:06d}/{shard.path}"
        before = path.read_bytes()
        damaged = bytearray(before)
        damaged[len(damaged) // 2] ^= 1
        path.write_bytes(bytes(damaged))
        assert run.sampler().repair(number) == 1
        assert path.read_bytes() == before
        path.unlink()
        assert run.sampler().repair(number) == 1
        assert path.read_bytes() == before
        assert run.sampler().repair(number) == 0
    with pytest.raises(ManifestError, match="round 6 is not committed"):
        run.sampler().repair(6)


def test_reuse_goes_on_after_the_timeout_and_the_late_report_is_never_applied(make_driver):
    run = make_driver(policy="reuse", feedback_timeout_s=0.05, rounds=4)
    assert run.sampler().run().reason == "budget"
    assert [m.feedback for m in read_chain(run.run)] == [[]] * 4
    assert run.report(0) == "late"
    assert (run.folder / "feedback/000000.late.json").is_file()
    assert not (run.folder / "feedback/000000.json").exists()
    assert run.report(0) == "already recorded"
    assert run.report(3) == "recorded", "nothing has passed the last rounds over"


def test_stop_ends_the_run_after_the_timeout(make_driver):
    run = make_driver(policy="stop", feedback_timeout_s=0.05)
    assert run.sampler().run().reason == "stopped"
    assert read_done(run.run).rounds == 0


def test_ahead_holds_the_sampler_back_until_readers_follow(make_driver):
    run = make_driver(mixer="uniform", rounds=6, ahead=2)
    run.sampler().run(patient=False)
    assert len(run.manifests()) == 3, "without readers: two past the first unreported round"
    (run.folder / "readers").mkdir()
    (run.folder / "readers/trainer.json").write_text('{"round": 2}')
    (run.folder / "readers/slow.json").write_text('{"round": 1}')
    run.sampler().run(patient=False)
    assert len(run.manifests()) == 4
    (run.folder / "readers/slow.json").write_text("nonsense")
    with pytest.raises(ManifestError, match=r"slow.json: not a reader's state"):
        run.sampler().run(patient=False)


def test_retention_deletes_shards_behind_every_reader_and_says_so(make_driver):
    run = make_driver(mixer="uniform", rounds=6, keep_rounds=1)
    (run.folder / "readers").mkdir(parents=True)
    (run.folder / "readers/trainer.json").write_text('{"round": 3}')
    run.sampler().run()
    for number, kept in enumerate([False, False, True, True, True, True]):
        folder = run.folder / f"rounds/{number:06d}"
        assert (folder / "manifest.json").is_file()
        assert any(folder.glob("shard-*")) == kept
        assert (folder / "deleted.json").is_file() != kept
    assert run.sampler().repair(0) == 1


def test_a_report_is_applied_within_half_a_second(make_driver):
    run = make_driver(lookahead=0, rounds=2)
    run.report("initial")
    thread = threading.Thread(target=run.sampler().run)
    thread.start()
    while read_manifest(run.run, 0) is None:
        time.sleep(0.01)
    run.report(0)
    thread.join(timeout=20)
    assert not thread.is_alive()
    assert len(run.manifests()) == 2
