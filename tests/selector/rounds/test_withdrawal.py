"""Withdrawn documents are never drawn from the next round on, the others all are, and the run is replayed exactly."""

import pyarrow.parquet as pq
import pytest

from prereq.graph.errors import ConfigError, ManifestError
from prereq.selector.rounds.manifest import read_chain
from prereq.selector.rounds.pool import Pool
from prereq.selector.rounds.withdrawal import withdraw


def ids_of(run, number):
    shards = sorted((run.folder / f"rounds/{number:06d}").glob("shard-*"))
    return [name for shard in shards for name in pq.read_table(shard, columns=["id"])["id"].to_pylist()]


def drawn(run, first=0):
    return [name for m in read_chain(run.run)[first:] for name in ids_of(run, m.round)]


def test_withdrawn_documents_leave_and_the_rest_is_drawn_once_an_epoch(make_driver):
    """205 documents, 8 a round, twice each: nothing is lost and nothing repeated around the withdrawal."""
    run = make_driver(mixer="proportional", rounds=100, batches_per_round=1, max_epochs=2)
    answers = iter([False] * 10 + [True])
    run.sampler().run(stop=lambda: next(answers))
    gone = [f"a/{row}" for row in range(0, 60, 2)] + [f"d/{row}" for row in range(20)]
    assert withdraw(run.run, Pool(run.pool.folder.name), gone) == ("withdrawn/000000.json", 50)
    before = drawn(run)
    run.sampler().run()
    chain = read_chain(run.run)
    assert [m.withdrawn is not None for m in chain] == [n == 10 for n in range(len(chain))]
    assert not set(drawn(run, first=10)) & set(gone)
    kept = [name for name in drawn(run) if name not in gone]
    assert len(before) == 80
    counts = {name: kept.count(name) for name in kept}
    assert max(counts.values()) == 2
    assert len(counts) == 155
    assert sum(counts.values()) > 2 * 155 - 8, "the rest that fills no round stays"


def test_a_run_with_withdrawals_goes_on_after_a_stop_at_every_round_and_repairs(make_driver):
    whole, pieces = (make_driver(name, rounds=6) for name in ("whole", "pieces"))

    def to_round(run, last):
        while len(run.manifests()) < last:
            run.report("initial")
            for manifest in read_chain(run.run):
                run.report(manifest.round)
            answers = iter([False] * (last - len(run.manifests())) + [True] * 5)
            run.sampler().run(stop=lambda left=answers: next(left), patient=False)

    for run, stops in ((whole, [2, 4]), (pieces, [1, 2, 3, 4, 5])):
        for stop in stops:
            to_round(run, stop)
            if stop in (2, 4):
                withdraw(run.run, Pool(run.pool.folder.name), [f"b/{stop}", f"c/{stop}"])
        run.finish()
    assert whole.manifests() == pieces.manifests()
    assert [m.withdrawn is not None for m in read_chain(whole.run)] == [False, False, True, False, True, False]
    for number in range(6):
        for shard in (whole.folder / f"rounds/{number:06d}").glob("shard-*"):
            shard.unlink()
        assert whole.sampler().repair(number) == 1


def test_a_source_can_be_withdrawn_whole_and_then_the_pool_is_exhausted(make_driver):
    run = make_driver(mixer="uniform", rounds=9)
    answers = iter([False, True])
    run.sampler().run(stop=lambda: next(answers))
    assert withdraw(run.run, Pool(run.pool.folder.name), [], ["made"])[1] == 205
    assert run.sampler().run().reason == "pool exhausted"


def test_unknown_names_and_changed_lists_are_refused(make_driver):
    run = make_driver(mixer="uniform", rounds=6)
    pool = Pool(run.pool.folder.name)
    with pytest.raises(ConfigError, match=r"has no id 'a/99', 'zz'; nothing was withdrawn"):
        withdraw(run.run, pool, ["zz", "a/1", "a/99"])
    with pytest.raises(ConfigError, match="has no source 'elsewhere'"):
        withdraw(run.run, pool, [], ["elsewhere"])
    answers = iter([False, True])
    withdraw(run.run, pool, ["a/1"])
    run.sampler().run(stop=lambda: next(answers))
    path = run.folder / "withdrawn/000000.json"
    path.write_bytes(path.read_bytes().replace(b"a/1", b"a/2"))
    with pytest.raises(ManifestError, match=r"000000.json: is sha256 .* restore the file"):
        run.sampler().run()
    path.unlink()
    with pytest.raises(ManifestError, match=r"000000.json: is missing"):
        run.sampler().run()
