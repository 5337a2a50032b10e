"""The torch dataset against the real loaders: order, states under prefetch, ranks, refusals."""

import json
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from torch.utils.data import DataLoader
from torchdata.stateful_dataloader import StatefulDataLoader

from prereq.graph.errors import ConfigError, FeedbackError
from prereq.selector.feed import Batch, Feed, WaitConfig
from prereq.selector.feed.torch_data import FeedDataset
from prereq.selector.feed.torch_loader import FeedLoader

QUICK = WaitConfig(first_s=0.005, most_s=0.02, timeout_s=10.0, start_timeout_s=10.0)
MakeRun = Callable[..., Any]
SLOW = pytest.mark.slow  # starting a loader worker takes a moment, and these add cases rather than ideas
torchdata_warns = pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")


def dataset_of(run: Any, **changes: Any) -> FeedDataset:
    return FeedDataset(run.root, **{"wait": QUICK, **changes})


def loader_of(dataset: FeedDataset, workers: int, **more: Any) -> Any:
    return DataLoader(dataset, batch_size=None, num_workers=workers, **more)


def ids_in(batch: Batch) -> list[str]:
    return list(batch.ids)


def ids_of(batches: Any) -> list[str]:
    return [i for batch in batches for i in batch.ids]


@pytest.mark.filterwarnings("ignore:This DataLoader will create 3 worker processes")
@pytest.mark.parametrize("workers", [0, 2, pytest.param(1, marks=SLOW), pytest.param(3, marks=SLOW)])
def test_every_number_of_workers_sees_the_same_batches(make_run: MakeRun, workers: int) -> None:
    run = make_run(3)
    plain = list(Feed(run.root, wait=QUICK))
    batches = list(loader_of(dataset_of(run), workers))
    assert ids_of(batches) == run.ids
    assert [(b.step, b.round, b.last_of_round, b.texts) for b in batches] == [
        (b.step, b.round, b.last_of_round, b.texts) for b in plain
    ]


@SLOW
def test_two_ranks_with_workers_count_every_id_once(make_run: MakeRun) -> None:
    run = make_run(3)
    seen = [ids_of(loader_of(dataset_of(run, rank=rank, world_size=2), 2)) for rank in range(2)]
    assert sorted(seen[0] + seen[1]) == sorted(run.ids)
    assert not set(seen[0]) & set(seen[1])


def test_the_state_is_that_of_the_batch_in_hand_however_much_was_fetched(make_run: MakeRun) -> None:
    run = make_run(3)
    states = [batch.state for batch in Feed(run.root, wait=QUICK)]
    dataset = dataset_of(run)
    for step, batch in enumerate(dataset.follow(loader_of(dataset, 2, prefetch_factor=3))):
        assert batch.step == step
        expected = dict(states[step] or {})
        assert dataset.feed.round_ended == batch.last_of_round == (step % 3 == 2)
        assert dataset.feed.state_dict() == {**expected, "unreported": step // 3 if step % 3 == 2 else None}
        if dataset.feed.round_ended:
            dataset.feed.report({"add": 1.0})


@pytest.mark.parametrize("after", [4, *(pytest.param(n, marks=SLOW) for n in (0, 1, 6, 8, 9))])
def test_a_state_restores_at_other_worker_counts_and_world_sizes(make_run: MakeRun, after: int) -> None:
    run = make_run(3)
    dataset = dataset_of(run)
    for _ in islice(dataset.follow(loader_of(dataset, 2)), after):
        pass
    state = json.loads(json.dumps(dataset.feed.state_dict()))
    ranks = []
    for rank in range(2):
        part = dataset_of(run, rank=rank, world_size=2)
        part.feed.load_state_dict(state)
        ranks.append([b.ids for b in part.follow(loader_of(part, rank))])
    assert [i for step in zip(*ranks, strict=True) for ids in step for i in ids] == run.ids[after * 12 :]


def test_a_second_iteration_goes_on_where_the_loop_stopped(make_run: MakeRun) -> None:
    run = make_run(2)
    dataset = dataset_of(run)
    loader = loader_of(dataset, 2)
    first = ids_of(islice(dataset.follow(loader), 4))
    assert first + ids_of(dataset.follow(loader)) == run.ids
    assert ids_of(dataset.follow(loader)) == []


@torchdata_warns
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("after", [5, *(pytest.param(n, marks=SLOW) for n in (0, 1, 8))])
def test_stateful_loader_restores_exactly(make_run: MakeRun, workers: int, after: int) -> None:
    run = make_run(3)

    def loader() -> Any:
        return StatefulDataLoader(dataset_of(run), batch_size=None, num_workers=workers)

    before = loader()
    iterator = iter(before)
    seen = ids_of(islice(iterator, after))
    state = pickle.loads(pickle.dumps(before.state_dict()))
    again = loader()
    again.load_state_dict(state)
    assert seen == run.ids[: after * 12]
    assert ids_of(again) == run.ids[after * 12 :]


@torchdata_warns
def test_stateful_loader_and_feed_of_one_checkpoint_go_on_together(make_run: MakeRun) -> None:
    run = make_run(2)
    dataset = dataset_of(run)
    loader = StatefulDataLoader(dataset, batch_size=None, num_workers=2)
    list(islice(dataset.follow(loader), 3))
    loader_state, feed_state = loader.state_dict(), dataset.feed.state_dict()

    other = dataset_of(run)
    again = StatefulDataLoader(other, batch_size=None, num_workers=2)
    again.load_state_dict(loader_state)
    with pytest.raises(ConfigError, match="the loader gave step 3, the feed is before step 0"):
        next(iter(other.follow(again)))
    other.feed.load_state_dict(feed_state)
    again.load_state_dict(loader_state)
    assert other.feed.round_ended, "the round was not reported before the checkpoint"
    assert ids_of(other.follow(again)) == run.ids[36:]


def test_workers_refuse_lookahead_0_and_a_bare_loader_does_not(make_run: MakeRun) -> None:
    run = make_run(1, lookahead=0, uses_feedback=True)
    with pytest.raises(ConfigError, match="a DataLoader with workers fetches batches before the loop asks"):
        next(iter(loader_of(dataset_of(run), 1)))
    assert len(list(loader_of(dataset_of(run), 0))) == 3


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=SLOW)])
@pytest.mark.parametrize("framework", [False, True])
def test_a_round_that_a_loader_waits_for_is_a_wait_of_the_loops_feed(
    make_run: MakeRun, workers: int, framework: bool
) -> None:
    run = make_run(1, done=False)
    dataset = dataset_of(run)
    loader = (
        FeedLoader(dataset, ids_in, None, "test", num_workers=workers) if framework else loader_of(dataset, workers)
    )
    items = iter(loader) if framework else dataset.follow(loader)
    for _ in range(3):
        next(items)
    assert dataset.feed.waits == 0
    asked, look = threading.Event(), dataset.feed._run.exists
    dataset.feed._run.exists = lambda name: [look(name), asked.set()][0]

    def sampler() -> None:
        asked.wait(10)
        time.sleep(0.3)
        run.add_round()
        run.finish()

    thread = threading.Thread(target=sampler)
    thread.start()
    assert len(list(items)) == 3
    thread.join()
    assert dataset.feed.waits == 1
    assert 0.1 < dataset.feed.waited_s < 10


def test_persistent_workers_are_refused_at_the_second_iteration(make_run: MakeRun) -> None:
    loader = loader_of(dataset_of(make_run(1)), 1, persistent_workers=True)
    assert len(list(loader)) == 3
    with pytest.raises(ConfigError, match="persistent workers"):
        list(loader)


@SLOW
def test_a_damaged_shard_in_a_worker_names_the_file(make_run: MakeRun) -> None:
    run = make_run(1)
    shard = run.shards(0)[1]
    data = bytearray(shard.read_bytes())
    data[40] ^= 1
    shard.write_bytes(data)
    with pytest.raises(Exception, match=f"{shard.name}: sha256 is"):
        list(loader_of(dataset_of(run), 2))


@pytest.mark.slow
def test_a_dataset_travels_to_a_spawned_worker_with_its_position(make_run: MakeRun) -> None:
    run = make_run(1)
    dataset = dataset_of(run)
    dataset.feed.skip()
    copy = pickle.loads(pickle.dumps(dataset))
    assert copy.feed.state_dict() == dataset.feed.state_dict()
    assert ids_of(copy) == run.ids[12:]


@SLOW
def test_spawned_workers_see_the_same_batches(make_run: MakeRun) -> None:
    run = make_run(2)
    assert ids_of(loader_of(dataset_of(run), 2, multiprocessing_context="spawn")) == run.ids


def test_a_worker_waits_for_a_round_that_needs_the_loops_report(make_run: MakeRun) -> None:
    """Workers fetch into round 2, which is written only when the loop has reported round 0."""
    run = make_run(2, done=False, uses_feedback=True, lookahead=1, initial_evaluation=False)
    dataset = dataset_of(run)
    seen = []
    for batch in dataset.follow(loader_of(dataset, 2, prefetch_factor=4)):
        seen += batch.ids
        if dataset.feed.round_ended:
            assert dataset.feed.report({"add": 1.0}) == "recorded"
            if batch.round < 2:
                run.add_round()
            if batch.round == 1:
                run.finish()
    assert len(seen) == 4 * 36
    assert seen == run.ids


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=SLOW)])
def test_a_loop_that_forgot_to_report_is_told_and_does_not_wait(make_run: MakeRun, workers: int) -> None:
    run = make_run(2, done=False, uses_feedback=True, lookahead=1, initial_evaluation=False)
    dataset = dataset_of(run)
    batches = dataset.follow(loader_of(dataset, workers))
    assert ids_of(islice(batches, 6)) == run.ids
    with pytest.raises(FeedbackError, match="round 2 waits for the report of round 0, which was not made"):
        next(batches)


def test_a_loop_without_an_initial_report_is_told_and_does_not_wait(make_run: MakeRun) -> None:
    dataset = dataset_of(make_run(0, done=False, uses_feedback=True))
    with pytest.raises(FeedbackError, match=r"round 0 waits for the evaluation of the untrained model"):
        next(dataset.follow(loader_of(dataset, 1)))


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().split(") ")[1][0] != "Z"
    except FileNotFoundError:
        return False


@SLOW
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_workers_that_wait_for_a_round_end_when_the_loop_is_killed(make_run: MakeRun) -> None:
    program = (
        "import sys, time\n"
        "from torch.utils.data import DataLoader\n"
        "from prereq.selector.feed.torch_data import FeedDataset\n"
        "loader = DataLoader(FeedDataset(sys.argv[1]), batch_size=None, num_workers=2)\n"
        "batches = iter(loader)\n"
        "next(batches)\n"
        "print(*(worker.pid for worker in batches._workers), flush=True)\n"
        "time.sleep(100)\n"
    )
    command = [sys.executable, "-c", program, str(make_run(1, done=False).root)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as loop:
        assert loop.stdout is not None
        workers = [int(number) for number in loop.stdout.readline().split()]
        time.sleep(1.0)  # they have read the round and wait for the next
        assert len(workers) == 2
        assert all(alive(worker) for worker in workers)
        loop.kill()
    deadline = time.monotonic() + 20
    while any(alive(worker) for worker in workers) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(alive(worker) for worker in workers)
