"""A feed on an S3-compatible store: the batches of a disk, also in loader workers, and the way back."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.fs as pafs
import pytest
from torch.utils.data import DataLoader

from prereq.graph.errors import ManifestError
from prereq.selector.feed import Feed
from prereq.selector.feed.torch_data import FeedDataset
from prereq.selector.storage import Folder


def upload(folder: Path, url: str) -> Folder:
    filesystem = pafs.FileSystem.from_uri(url)[0]
    pafs.copy_files(str(folder), f"{url.removeprefix('s3://')}/run", destination_filesystem=filesystem)
    return Folder(f"{url}/run")


def test_two_ranks_read_report_and_resume_on_a_store(make_run: Callable[..., Any], s3: str):
    run = make_run(3, uses_feedback=True, lookahead=2)
    store = upload(run.root, s3)
    feeds = [Feed(f"{s3}/run", rank=rank, world_size=2) for rank in (0, 1)]
    ids: list[str] = []
    for first, second in zip(*feeds, strict=True):
        ids += [*first.ids, *second.ids]
        if feeds[0].round_ended:
            for feed in feeds:
                feed.report(dict.fromkeys(feed.skills, 1.0))
        if first.step == 3:
            feeds[0].checkpointed()
            state = first.state
    assert ids == run.ids
    assert store.names("feedback") == ["000000.json", "000001.json", "000002.json"]
    assert json.loads(store.read("readers/trainer.json"))["round"] == 1
    again = Feed(f"{s3}/run")
    again.load_state_dict(state)
    assert [name for batch in again for name in batch.ids] == run.ids[48:]


def test_a_damaged_shard_on_a_store_is_named(make_run: Callable[..., Any], s3: str):
    store = upload(make_run(1).root, s3)
    (shard, *_) = [name for name in store.names("rounds/000000") if name.startswith("shard-")]
    data = store.read(f"rounds/000000/{shard}")
    store.replace(f"rounds/000000/{shard}", data[:20] + b"?" + data[21:])
    with pytest.raises(ManifestError, match=f"{s3}/run/rounds/000000/{shard}: "):
        next(Feed(f"{s3}/run"))
    store.delete(f"rounds/000000/{shard}")
    with pytest.raises(ManifestError, match=f"{s3}/run/rounds/000000/{shard}: is missing"):
        next(Feed(f"{s3}/run"))


@pytest.mark.slow
def test_forked_loader_workers_read_from_a_store(make_run: Callable[..., Any], s3: str):
    run = make_run(3)
    upload(run.root, s3)
    dataset = FeedDataset(f"{s3}/run")
    loader = DataLoader(dataset, batch_size=None, num_workers=2, multiprocessing_context="fork", timeout=120)
    assert [name for batch in dataset.follow(loader) for name in batch.ids] == run.ids
