"""A fork begins as the other run did and goes on by its own mixer; a checkpoint from before it goes on in it."""

import shutil

import pytest

from prereq.graph.errors import ConfigError, ManifestError
from prereq.jobs.verify import verify_run
from prereq.selector.feed import Feed
from prereq.selector.rounds.fork import copy_rounds, fork_entry
from prereq.selector.rounds.manifest import read_chain
from prereq.selector.storage import Folder


def forked(make_driver, name, parent, number, **settings):
    run = make_driver(name, **settings)
    entry = fork_entry(run.run, parent.run, number, run.drawing)
    run.drawing = {**run.drawing, "fork": entry}
    run.info()
    copy_rounds(run.run, parent.run, entry)
    return run


def test_a_fork_shares_the_first_rounds_and_is_drawn_by_its_own_mixer(make_driver):
    parent = make_driver("parent")
    whole = parent.finish()
    fork = forked(make_driver, "fork", parent, 3, mixer="skill_bandit")
    shutil.rmtree(parent.folder / "rounds")  # the fork stands on its own
    found = fork.finish()
    assert found[:3] == whole[:3]
    chain = read_chain(fork.run)
    assert [m.mixer["name"] for m in chain] == ["skill_it"] * 3 + ["skill_bandit"] * 3
    assert len({m.config for m in chain}) == 2
    assert verify_run(str(fork.folder)).failures == []
    assert fork.sampler().repair(1) == 0
    assert fork.sampler().repair(4) == 0
    assert len(list(Feed(fork.folder, pool=fork.pool.folder.name))) == 24


def test_a_fork_with_the_same_mixer_draws_what_the_parent_drew(make_driver):
    parent = make_driver("parent")
    parent.finish()
    fork = forked(make_driver, "fork", parent, 2)
    fork.finish()
    again = forked(make_driver, "again", fork, 4)
    again.finish()
    orders = [[m.order for m in read_chain(run.run)] for run in (parent, fork, again)]
    assert orders[0] == orders[1] == orders[2]
    assert len({m.config for m in read_chain(again.run)}) == 3, "a fork of a fork has three configurations"


def test_a_checkpoint_from_before_the_fork_goes_on_in_it_and_a_later_one_does_not(make_driver):
    parent = make_driver("parent")
    parent.finish()
    fork = forked(make_driver, "fork", parent, 3, mixer="skill_bandit")
    fork.finish()
    states = [batch.state for batch in Feed(parent.folder, name="old")]
    whole = [list(batch.ids) for batch in Feed(fork.folder)]
    for step in (0, 5, 11):
        feed = Feed(fork.folder)
        feed.load_state_dict(states[step])
        assert [list(batch.ids) for batch in feed] == whole[step + 1 :]
    with pytest.raises(ManifestError, match="belongs to the run with configuration"):
        Feed(fork.folder).load_state_dict(states[12])


def test_a_fork_that_cannot_be_is_refused_by_name(make_driver):
    parent = make_driver("parent", mixer="uniform")
    parent.sampler().run()
    run = make_driver("fork")
    for number in (0, 7):
        with pytest.raises(ConfigError, match=f"has 6 rounds and cannot be forked at round {number}; choose 1 to 6"):
            fork_entry(run.run, parent.run, number, run.drawing)
    other = make_driver("other", lookahead=0)
    with pytest.raises(ConfigError, match=r"fork: lookahead is 0, .* has 1; a fork shares all but"):
        fork_entry(other.run, parent.run, 3, other.drawing)


def test_a_copy_that_was_killed_goes_on_without_a_difference(make_driver):
    parent = make_driver("parent")
    parent.finish()
    fork = forked(make_driver, "fork", parent, 4)
    (fork.folder / "rounds/000003/manifest.json").unlink()
    shard = next((fork.folder / "rounds/000003").glob("shard-*"))
    shard.unlink()
    shard.write_bytes(b"torn")
    copy_rounds(fork.run, Folder(parent.folder), fork.drawing["fork"])
    assert verify_run(str(fork.folder)).failures == []
    assert fork_entry(fork.run, Folder(parent.folder / "gone"), 4, {}) == fork.drawing["fork"], "known from run.json"
