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
from prereq.selector.rounds.groups import digest_ranges
from prereq.selector.rounds.manifest import Shard, round_folder, same_shard
from prereq.selector.rounds.order import IntArray, arm_order
from prereq.selector.rounds.plan import Cursor, Draw, LastLooks
from prereq.selector.rounds.pool import Pool
from prereq.selector.storage import Folder

_TOKENS_LEAF = "input_ids.list.element"
_ONE_PAGE = 2**30  # bytes; larger than any row group's tokens


class PoolStock:
    """A pool in the order of one run's seed; keeps 16 bytes a document of the epochs in use, and 24 bytes an arm."""

    def __init__(self, pool: Pool, seed: int) -> None:
        self._pool, self._seed = pool, seed
        self._epochs: dict[int, dict[int, tuple[IntArray, IntArray]]] = {}
        self._last = LastLooks(len(pool.layouts))
        self._gone: dict[int, np.ndarray] = {}  # per arm: bool (stored rows,), withdrawn

    def all_rows(self) -> IntArray:
        """Documents of every arm in one epoch, `(n,)`."""
        rows = np.array([layout.rows for layout in self._pool.layouts], dtype=np.int64)
        for arm, gone in self._gone.items():
            rows[arm] -= int(gone.sum())
        return rows

    def all_tokens(self) -> IntArray:
        """Tokens of every arm in one epoch, `(n,)`."""
        tokens = np.array([layout.tokens for layout in self._pool.layouts], dtype=np.int64)
        for arm, gone in self._gone.items():
            tokens[arm] -= int(self._pool.tokens(arm)[gone].sum())
        return tokens

    def withdraw(self, arm: int, gone: np.ndarray, cursor: Cursor) -> Cursor:
        """Take documents out of an arm's order, in every epoch; where the arm goes on in the order that is left.

        Args:
            arm: The arm.
            gone: bool `(rows,)` by stored row.
            cursor: Where it stood.
        """
        if not gone.any():
            return cursor
        before = int(gone[self._epoch(arm, cursor.epoch)[0][: cursor.position]].sum())
        self._gone[arm] = self._gone.get(arm, np.zeros(len(gone), dtype=np.bool_)) | gone
        self._epochs.pop(arm, None)
        self._last = LastLooks(len(self._pool.layouts))
        position = cursor.position - before
        ended = position > 0 and position >= self.rows(arm)
        return Cursor(cursor.epoch + 1, 0) if ended else Cursor(cursor.epoch, position)

    def tokens_at(self, arms: IntArray, epochs: IntArray, positions: IntArray) -> IntArray:
        """Tokens of one document of each of these arms, at its position in the order of its epoch; all `(k,)`."""
        return self._last.tokens_at(arms, epochs, positions, self.epoch_tokens)

    def rows(self, arm: int) -> int:
        """Documents of an arm in one epoch."""
        rows = self._pool.layouts[arm].rows
        return rows - int(self._gone[arm].sum()) if arm in self._gone else rows

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
            if arm in self._gone:
                order = order[~self._gone[arm][order]]
            kept[epoch] = (order, self._pool.tokens(arm)[order])
            for old in [e for e in kept if e < epoch - 1]:
                del kept[old]
        return kept[epoch]


@dataclass(frozen=True, slots=True)
class DrawnRound:
    """A round's rows, in order, and the digest of that order."""

    table: pa.Table
    order: str
    documents: int
    tokens: int  # of the documents themselves
    packing: dict[str, int] | None = None  # of packed rows: seq_len, pieces, special, padding


def encode_shards(drawn: DrawnRound, config: SamplerConfig) -> Iterator[tuple[Shard, bytes]]:
    """The shard files of a round, one at a time, each with its manifest entry."""
    rows = config.batches_per_shard * config.global_batch
    for index, start in enumerate(range(0, drawn.table.num_rows, rows)):
        part = drawn.table.slice(start, rows)
        data = _encode(part, config.group_rows)
        digest = sha256_hex(data)
        name = f"shard-{index:05d}-{digest[:12]}.parquet"
        groups, footer = digest_ranges(data)
        documents, tokens = count_part(part)
        yield (
            Shard(
                path=name,
                samples=len(part),
                documents=documents,
                tokens=tokens,
                bytes=len(data),
                sha256=digest,
                groups=groups,
                footer=footer,
            ),
            data,
        )


def count_part(part: pa.Table) -> tuple[int, int]:
    """Documents and their own tokens in a table of rows; a document that was cut counts where it begins."""
    if "starts" not in part.schema.names:
        return len(part), int(pc.sum(part["n_tokens"]).as_py() or 0)
    starts, tokens = pc.list_flatten(part["starts"]), pc.list_flatten(part["n_tokens"])
    return int(pc.sum(pc.equal(starts, 0)).as_py() or 0), int(pc.sum(tokens).as_py() or 0)


def _encode(part: pa.Table, group_rows: int) -> bytes:
    # text has no useful minimum; statistics would copy whole documents into the footer
    sink, options = pa.BufferOutputStream(), {"row_group_size": group_rows, "write_statistics": False}
    if "input_ids" not in part.schema.names:
        pq.write_table(part, sink, compression="zstd", **options)
    else:
        # tokens are used where they lie in the file: plain, uncompressed, one page to a row group
        others = [leaf for field in part.schema if (leaf := _leaf(field)) != _TOKENS_LEAF]
        compression = {**dict.fromkeys(others, "zstd"), _TOKENS_LEAF: "none"}
        pq.write_table(part, sink, compression=compression, use_dictionary=others, data_page_size=_ONE_PAGE, **options)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def _leaf(field: pa.Field) -> str:
    """The path that Parquet gives to the values of a field of strings, numbers or lists of them."""
    path, kind = field.name, field.type
    while pa.types.is_list(kind):
        path, kind = f"{path}.list.element", kind.value_type
    return str(path)


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
        if not same_shard(found, wanted):
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
