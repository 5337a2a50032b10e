"""A feed over packed rows: every world size, states, what is read, damage in the ranges that a rank reads."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prereq.graph.canonical import canonical_json, sha256_hex
from prereq.graph.errors import ConfigError, ManifestError
from prereq.selector.feed import Batch, Feed, shard_file
from prereq.selector.feed.window import Window
from prereq.selector.rounds.config import SamplerConfig
from prereq.selector.rounds.groups import digest_ranges, range_digest
from prereq.selector.rounds.manifest import RoundManifest, Shard, manifest_name, round_folder
from prereq.selector.rounds.samples import SamplesConfig
from prereq.selector.rounds.shards import DrawnRound, encode_shards
from prereq.selector.storage import Folder

WIDTH, ROWS = 16, 24


def packed_table(number: int) -> pa.Table:
    """Rows of two pieces and some padding; all values tell where they stand."""
    base = number * ROWS
    ids = [[f"d{base + r}a", f"d{base + r}b"] for r in range(ROWS)]
    lengths = [[3 + r % 5, 4] for r in range(ROWS)]
    columns: dict[str, Any] = {
        "input_ids": pa.array(
            [[(base + r) * 100 + t for t in range(WIDTH)] for r in range(ROWS)], pa.list_(pa.int32())
        ),
        "lengths": pa.array(lengths, pa.list_(pa.int32())),
        "ids": ids,
        "arms": [["x", "y"]] * ROWS,
        "skills": pa.array([[["add"], []]] * ROWS, pa.list_(pa.list_(pa.string()))),
        "n_tokens": pa.array(lengths, pa.list_(pa.int32())),
        "starts": pa.array([[0, 2 * (r % 2)] for r in range(ROWS)], pa.list_(pa.int32())),
    }
    return pa.table(columns)


@pytest.fixture
def packed_run(make_run: Callable[..., Any]) -> Path:
    """Two packed rounds of three batches of eight, in row groups of two, in the shards that a sampler writes."""
    run = make_run(0, done=False, global_batch=8, batches_per_round=3)
    config = SamplerConfig(
        rounds=2,
        global_batch=8,
        batches_per_round=3,
        batches_per_shard=2,
        rows_per_group=2,
        samples=SamplesConfig(kind="packed", seq_len=WIDTH),
    )
    folder, parent = Folder(run.root), None
    for number in range(2):
        facts = {"seq_len": WIDTH, "pieces": 48, "special": 0, "padding": 0}
        drawn = DrawnRound(packed_table(number), "0" * 64, 48, 0, facts)
        shards = []
        for shard, data in encode_shards(drawn, config):
            folder.replace(f"{round_folder(number)}/{shard.path}", data)
            shards.append(shard)
        manifest = manifest_of(run, number, parent, tuple(shards), facts)
        folder.commit(manifest_name(number), manifest.to_bytes())
        parent = manifest.sha256
    done = {"format": "prereq.done/1", "rounds": 2, "last": parent, "reason": "budget"}
    folder.commit("done.json", canonical_json(done))
    return Path(run.root)


def manifest_of(run: Any, number: int, parent: str | None, shards: tuple[Shard, ...], facts: Any) -> RoundManifest:
    return RoundManifest(
        round=number,
        parent=parent,
        config=run.config,
        pool=run.pool,
        seed=0,
        global_batch=8,
        feedback=[],
        mixer={"name": "uniform", "state": {}},
        mixture={"requested": {}, "arms": {}, "skills": {}},
        realised={},
        draws={},
        samples=ROWS,
        documents=48,
        tokens=0,
        bytes=sum(s.bytes for s in shards),
        order="0" * 64,
        shards=shards,
        packing=facts,
    )


def rows_of(batches: list[Batch]) -> list[tuple[Any, ...]]:
    found = []
    for batch in batches:
        assert isinstance(batch.input_ids, np.ndarray)
        assert batch.input_ids.dtype == np.int32
        assert batch.input_ids.flags.writeable, "the caller's own"
        for index, ids in enumerate(batch.ids):
            lengths, starts = (batch.lengths or [])[index], (batch.starts or [])[index]
            found.append((batch.input_ids[index].tolist(), ids, lengths.tolist(), starts.tolist(), batch.arms[index]))
    return found


EXPECTED = [
    (row["input_ids"], row["ids"], row["lengths"], row["starts"], row["arms"])
    for number in range(2)
    for row in packed_table(number).to_pylist()
]


@pytest.mark.parametrize("world", [1, 2, 4, 8])
@pytest.mark.parametrize("verify", ["sha256", "size"])
def test_the_global_batches_are_the_same_at_every_world_size(packed_run: Path, world: int, verify: Any) -> None:
    ranks = [list(Feed(packed_run, rank=rank, world_size=world, verify=verify)) for rank in range(world)]
    joined = [row for step in zip(*ranks, strict=True) for batch in step for row in rows_of([batch])]
    assert joined == EXPECTED
    assert ranks[0][0].skills[0] == [["add"], []]
    assert ranks[0][0].n_tokens[0] == 7


def test_a_state_goes_on_at_another_world_size(packed_run: Path) -> None:
    for steps in range(6):
        feed = Feed(packed_run)
        before = [next(feed) for _ in range(steps)]
        ranks = [Feed(packed_run, rank=rank, world_size=2) for rank in range(2)]
        for rank in ranks:
            rank.load_state_dict(feed.state_dict())
        after = [batch for step in zip(*ranks, strict=True) for batch in step]
        assert rows_of([*before, *after]) == EXPECTED


def test_reading_through_parquet_gives_the_same_tokens(packed_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[str] = []
    original = Window.column
    monkeypatch.setattr(Window, "column", lambda self, name: decoded.append(name) or original(self, name))
    fast = [batch.input_ids for batch in Feed(packed_run)]
    assert decoded == [], "nothing is decoded before it is looked at"
    monkeypatch.setattr("prereq.selector.feed.window._is_one_page", lambda *_: False)
    slow = [batch.input_ids for batch in Feed(packed_run)]
    assert set(decoded) == {"input_ids"}
    assert np.array_equal(np.concatenate(fast), np.concatenate(slow))


def test_ranks_read_their_row_groups_and_the_footers_only(packed_run: Path) -> None:
    shards = [path.stat().st_size for path in sorted(packed_run.glob("rounds/*/shard-*"))]
    paths = sorted(packed_run.glob("rounds/*/shard-*"))
    footers = sum(size - _footer_of(path.read_bytes()) for size, path in zip(shards, paths, strict=True))
    read = []
    for rank in range(4):
        feed = Feed(packed_run, rank=rank, world_size=4)
        list(feed)
        read.append(feed.bytes_read)
    assert sum(read) == sum(shards) - 4 * len(shards) + 3 * footers + 4 * 8 * len(shards)


def _footer_of(data: bytes) -> int:
    return len(data) - 8 - int.from_bytes(data[-8:-4], "little")


def test_damage_is_found_by_the_rank_that_reads_it_and_by_no_other(packed_run: Path) -> None:
    path = sorted(packed_run.glob("rounds/000000/shard-*"))[0]
    whole = path.read_bytes()
    meta = pq.ParquetFile(path).metadata
    tokens = next(c for c in range(meta.num_columns) if "input_ids" in meta.row_group(2).column(c).path_in_schema)
    chunk = meta.row_group(2).column(tokens)  # rows 4 and 5: of rank 1 of 2
    damaged = bytearray(whole)
    damaged[chunk.data_page_offset + chunk.total_compressed_size - 1] ^= 64
    path.write_bytes(bytes(damaged))
    assert len(list(Feed(packed_run, rank=0, world_size=2))) == 6
    with pytest.raises(ManifestError, match="sha256 of row group 2 begins with"):
        list(Feed(packed_run, rank=1, world_size=2))
    footer = bytearray(whole)
    footer[-30] ^= 1
    path.write_bytes(bytes(footer))
    with pytest.raises(ManifestError, match="sha256 of its footer begins with"):
        list(Feed(packed_run, rank=0, world_size=2))
    path.write_bytes(whole[:-1])
    with pytest.raises(ManifestError, match="bytes, the manifest says"):
        list(Feed(packed_run))


def test_digests_of_ranges_cover_all_but_the_magic_word(packed_run: Path) -> None:
    data = sorted(packed_run.glob("rounds/000000/shard-*"))[0].read_bytes()
    groups, footer = digest_ranges(data)
    assert len(groups) == 8
    assert footer == sha256_hex(data[_footer_of(data) :])[:32]
    for at in range(4, _footer_of(data), 97):
        changed = bytearray(data)
        changed[at] ^= 1
        assert digest_ranges(bytes(changed)) != (groups, footer)


def test_two_threads_hash_many_bytes_in_the_order_of_their_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    ranges = [memoryview(bytes([n]) * (10 + n)) for n in range(5)]
    expected = [range_digest(data) for data in ranges]
    assert shard_file._digests(ranges) == expected
    monkeypatch.setattr(shard_file, "_THREADED", 50)
    assert shard_file._digests(ranges) == expected
    assert shard_file._digests(ranges[:1]) == expected[:1]


def test_batches_as_rectangles_and_in_micro_batches(packed_run: Path) -> None:
    batch = next(Feed(packed_run, micro_batch=4))
    rows = batch.token_rows()
    assert rows.loss_mask().sum() == sum(int(n.sum()) - 2 for n in batch.lengths or [])
    assert rows_of(list(batch.micro_batches())) == rows_of([batch])
    with pytest.raises(ConfigError, match="packed to 16 tokens, not 8"):
        batch.token_rows(width=8)
    narrow = next(Feed(packed_run, columns=("input_ids",)))
    assert narrow.ids[0] == ["d0a", "d0b"]
    with pytest.raises(ConfigError, match="need the columns lengths and starts"):
        narrow.token_rows()
    with pytest.raises(ManifestError, match=r"has no columns \['text'\]"):
        next(Feed(packed_run, columns=("text",)))
