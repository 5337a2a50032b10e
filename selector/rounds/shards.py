"""A round's documents as Parquet shards, named by their content.

    RUN/rounds/000007/shard-00000-<first 12 of its sha256>.parquet

Shards are never renamed or overwritten, and only the manifest commits them: a sampler that was killed draws the round
again, gets the same bytes and finds the names taken by itself.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from prereq.graph.canonical import sha256_hex
from prereq.graph.errors import PrereqError
from prereq.selector.rounds.config import SamplerConfig
from prereq.selector.rounds.manifest import Shard, round_folder
from prereq.selector.rounds.order import IntArray, arm_order, stratified_order
from prereq.selector.rounds.plan import Draw, LastLooks, Plan
from prereq.selector.rounds.pool import Pool
from prereq.selector.storage import Folder

_FIRST_COLUMNS = ("id", "text", "n_tokens", "arm", "skills", "source")


class PoolStock:
    """A pool in the order of one run's seed; keeps 16 bytes a document of the epochs in use, and 24 bytes an arm."""

    def __init__(self, pool: Pool, seed: int) -> None:
        self._pool, self._seed = pool, seed
        self._epochs: dict[int, dict[int, tuple[IntArray, IntArray]]] = {}
        self._last = LastLooks(len(pool.layouts))

    def all_rows(self) -> IntArray:
        """Documents of every arm in one epoch, `(n,)`."""
        return np.array([layout.rows for layout in self._pool.layouts], dtype=np.int64)

    def tokens_at(self, arms: IntArray, epochs: IntArray, positions: IntArray) -> IntArray:
        """Tokens of one document of each of these arms, at its position in the order of its epoch; all `(k,)`."""
        return self._last.tokens_at(arms, epochs, positions, self.epoch_tokens)

    def rows(self, arm: int) -> int:
        """Documents of an arm in one epoch."""
        return self._pool.layouts[arm].rows

    def epoch_tokens(self, arm: int, epoch: int) -> IntArray:
        """Tokens of an arm's documents in the order of an epoch, `(rows,)`."""
        return self._epoch(arm, epoch)[1]

    def stored_rows(self, arm: int, draw: Draw) -> IntArray:
        """Stored rows of a range of an arm's order."""
        return self._epoch(arm, draw.epoch)[0][draw.start : draw.stop]

    def _epoch(self, arm: int, epoch: int) -> tuple[IntArray, IntArray]:
        kept = self._epochs.setdefault(arm, {})
        if epoch not in kept:
            order = arm_order(self._seed, self._pool.layouts[arm].id, epoch, self._pool.group_rows(arm))
            kept[epoch] = (order, self._pool.tokens(arm)[order])
            for old in [e for e in kept if e < epoch - 1]:
                del kept[old]
        return kept[epoch]


@dataclass(frozen=True, slots=True)
class DrawnRound:
    """A round's rows, in order, and the digest of that order."""

    table: pa.Table
    order: str

    @property
    def tokens(self) -> int:
        """Tokens of all rows."""
        return int(pc.sum(self.table["n_tokens"]).as_py())


def draw_round(pool: Pool, stock: PoolStock, plan: Plan, config: SamplerConfig, number: int) -> DrawnRound:
    """Read the documents of a plan and bring them into the round's order."""
    tables, tokens = [], []
    for arm, draws in enumerate(plan.draws):
        if draws:
            rows = np.concatenate([stock.stored_rows(arm, draw) for draw in draws])
            tables.append(pool.read_rows(arm, rows))
            tokens.append(pool.tokens(arm)[rows])
    order = stratified_order(tokens, config.global_batch, config.seed, number)
    table = pa.concat_tables(tables)
    names = [*_FIRST_COLUMNS, *(name for name in table.column_names if name not in _FIRST_COLUMNS)]
    table = table.select(names).take(pa.array(order)).combine_chunks()
    return DrawnRound(table, sha256_hex("\n".join(table["id"].to_pylist()).encode()))


def encode_shards(drawn: DrawnRound, config: SamplerConfig) -> Iterator[tuple[Shard, bytes]]:
    """The shard files of a round, one at a time, each with its manifest entry."""
    rows = config.batches_per_shard * config.global_batch
    for index, start in enumerate(range(0, drawn.table.num_rows, rows)):
        part = drawn.table.slice(start, rows)
        sink = pa.BufferOutputStream()
        # text has no useful minimum; statistics would copy whole documents into the footer
        pq.write_table(part, sink, row_group_size=config.group_rows, compression="zstd", write_statistics=False)
        data = sink.getvalue().to_pybytes()
        digest = sha256_hex(data)
        tokens = int(pc.sum(part["n_tokens"]).as_py())
        name = f"shard-{index:05d}-{digest[:12]}.parquet"
        yield (
            Shard(path=name, samples=len(part), documents=len(part), tokens=tokens, bytes=len(data), sha256=digest),
            data,
        )


def write_shards(run: Folder, number: int, drawn: DrawnRound, config: SamplerConfig) -> tuple[Shard, ...]:
    """Write a round's shards; a file that is already there under its content's name and size is kept."""
    shards = []
    for shard, data in encode_shards(drawn, config):
        put_shard(run, number, shard, data)
        shards.append(shard)
    return tuple(shards)


def put_shard(run: Folder, number: int, shard: Shard, data: bytes) -> None:
    """Write one shard under its content's name unless a file of that name and size is there."""
    name = f"{round_folder(number)}/{shard.path}"
    if not (run.exists(name) and run.size(name) == shard.bytes):
        run.replace(name, data)


def repair_shards(run: Folder, number: int, drawn: DrawnRound, config: SamplerConfig, shards: Sequence[Shard]) -> int:
    """Put back the shards of a committed round that are missing or damaged; return how many.

    Raises:
        PrereqError: What is drawn now is not what the manifest says: the pool or a library changed.
    """
    mended = 0
    for wanted, (found, data) in zip(shards, encode_shards(drawn, config), strict=True):
        if found != wanted:
            raise PrereqError(
                f"round {number}: {wanted.path} drawn again has sha256 {found.sha256}, "
                f"the manifest says {wanted.sha256}; "
                "install the library versions named in run.json and repair again"
            )
        name = f"{round_folder(number)}/{wanted.path}"
        if not run.exists(name) or sha256_hex(run.read(name)) != wanted.sha256:
            run.replace(name, data)
            mended += 1
    return mended
