"""How a pool is laid out: which arm a document belongs to, what an arm is called, which part it lies in.

Arrays and tables only; the stage that reads and writes them is `jobs.stages.layout`.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from prereq.graph.errors import ConfigError
from prereq.selector.corpus.holdout import IntArray, Tags
from prereq.selector.corpus.keys import KeyArray

ArmsBy = Literal["cluster", "skill", "source"]
FloatArray = NDArray[np.float64]

UNTAGGED = "_none"
STORED_ORDER = "stored order"  # purpose of the keys that sort an arm's documents
_ID_LENGTH = 12  # hex digits of an arm id, more where two would be the same
POOL_COLUMNS = ("id", "text", "n_tokens", "arm", "skills", "source")  # then metadata, sorted by name
HOLDOUT_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("text", pa.large_string()),
        ("skills", pa.list_(pa.string())),
        ("split", pa.string()),
        ("n_tokens", pa.int64()),
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LayoutConfig:
    """What an arm is and how large the pool's pieces are."""

    arms: ArmsBy = "cluster"  # an arm is a cluster, a skill (a document goes to its rarest) or a source
    rows_per_group: int = 256  # documents in a Parquet row group, all of one arm, at most
    part_mib: int = 64  # MiB of text in a part of the pool, about

    def __post_init__(self) -> None:
        if self.arms not in ("cluster", "skill", "source"):
            raise ConfigError(f"layout.arms: {self.arms!r} is not one of cluster, skill, source")
        for name in ("rows_per_group", "part_mib"):
            if getattr(self, name) < 1:
                raise ConfigError(f"layout.{name}: must be 1 or more, got {getattr(self, name)}")


def rarest_skills(tags: Tags, counts: IntArray) -> IntArray:
    """Each document's skill with the fewest documents, ties in graph order, `(n,)`; `tags.skills` where it has none.

    Args:
        tags: Skills of the documents.
        counts: `(k,)` documents per skill.
    """
    rank = np.empty(tags.skills, dtype=np.int64)
    rank[np.argsort(counts, kind="stable")] = np.arange(tags.skills)
    best = np.full(len(tags.offsets) - 1, tags.skills, dtype=np.int64)
    np.minimum.at(best, tags.rows, rank[tags.values])
    return np.append(np.argsort(rank, kind="stable"), tags.skills)[best]


def vector_sums(arms: IntArray, vectors: NDArray[np.float32], count: int) -> FloatArray:
    """Sum of the vectors of each arm, `(count, d)`; rows whose arm is negative add nothing.

    Args:
        arms: `(n,)` arm of each document.
        vectors: `(n, d)`.
        count: Number of arms.
    """
    sums = np.zeros((count, vectors.shape[1]))
    rows = np.flatnonzero(arms >= 0)
    rows = rows[np.argsort(arms[rows], kind="stable")]
    if len(rows):
        present, starts = np.unique(arms[rows], return_index=True)
        sums[present] = np.add.reduceat(vectors[rows].astype(np.float64), starts, axis=0)
    return sums


def unit_rows(sums: FloatArray) -> FloatArray:
    """Rows scaled to length 1, `(n, d)`; a row of zeros (vectors that cancel out) becomes the first axis."""
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    units = np.divide(sums, lengths, out=np.zeros_like(sums), where=lengths > 0)
    units[lengths[:, 0] == 0, 0] = 1.0
    return units


def cosines(arms: IntArray, vectors: NDArray[np.float32], centroids: FloatArray) -> FloatArray:
    """Cosine of each unit vector to its arm's unit centroid, `(n,)`; -inf where the arm is negative."""
    result = np.einsum("nd,nd->n", vectors.astype(np.float64), centroids[np.maximum(arms, 0)])
    return np.where(arms >= 0, result, -np.inf)


def arm_ids(texts: Sequence[bytes], names: Sequence[str]) -> list[str]:
    """Ids of arms: the first 12 hex digits of the sha256 of each one's most central text, more where two agree.

    Args:
        texts: sha256 of the most central document's text, per arm.
        names: Readable names, unique; part of the digest where two arms have the same central text.
    """
    doubled = {text for text in texts if texts.count(text) > 1} if len(set(texts)) < len(texts) else set()
    full = [
        hashlib.sha256(text + b"\0" + name.encode("utf-8", "surrogatepass")).hexdigest()
        if text in doubled
        else text.hex()
        for text, name in zip(texts, names, strict=True)
    ]
    length = _ID_LENGTH
    while len({digest[:length] for digest in full}) < len(full) and length < 64:
        length += 4
    return [digest[:length] for digest in full]


def skill_shares(arms: IntArray, tokens: IntArray, tags: Tags, count: int) -> FloatArray:
    """Share of each arm's tokens per skill, untagged last, `(count, k + 1)`; rows sum to 1.

    A document's tokens are split evenly over its skills. Rows whose arm is negative count nowhere.
    """
    skills = np.diff(tags.offsets)
    each = np.divide(tokens, skills, out=np.zeros(len(tokens)), where=skills > 0)
    columns = tags.skills + 1
    cells = np.concatenate([arms[tags.rows] * columns + tags.values, arms * columns + tags.skills])
    amounts = np.concatenate([each[tags.rows], np.where(skills > 0, 0.0, tokens.astype(np.float64))])
    kept = np.concatenate([arms[tags.rows] >= 0, arms >= 0])
    table = np.bincount(cells[kept], weights=amounts[kept], minlength=count * columns).reshape(count, columns)
    totals = table.sum(axis=1, keepdims=True)
    return np.divide(table, totals, out=np.zeros_like(table), where=totals > 0)


@dataclass(frozen=True, slots=True)
class Buckets:
    """Which part of the pool holds which arm: small arms share a part, a large arm takes several.

    Attributes:
        first: `(a,)` the first bucket of each arm.
        spread: `(a,)` in how many buckets the arm lies, by equal ranges of the order key.
        count: Buckets in all.
    """

    first: IntArray
    spread: IntArray
    count: int

    def of(self, arms: IntArray, order: KeyArray) -> IntArray:
        """Bucket of each document `(n,)`; -1 where its arm is negative."""
        if not len(self.first):
            return np.full(len(arms), -1, dtype=np.int64)
        spread = self.spread[np.maximum(arms, 0)]
        # the top 32 bits times the spread: ranges of the key, so that buckets end to end keep the stored order
        inside = ((order >> np.uint64(32)) * spread.astype(np.uint64)) >> np.uint64(32)
        return np.where(arms >= 0, self.first[np.maximum(arms, 0)] + inside.astype(np.int64), -1)


def plan_buckets(sizes: IntArray, part_bytes: int) -> Buckets:
    """Fill parts with arms in order until each holds about `part_bytes`.

    Args:
        sizes: `(a,)` bytes of text of each arm, in the order of ids.
        part_bytes: Wanted bytes of a part, 1 or more.
    """
    first = np.zeros(len(sizes), dtype=np.int64)
    spread = np.ones(len(sizes), dtype=np.int64)
    bucket, filled = 0, 0
    for arm, size in enumerate(sizes.tolist()):
        if filled and filled + size > part_bytes:
            bucket, filled = bucket + 1, 0
        first[arm], spread[arm] = bucket, max(1, -(-size // part_bytes))
        if spread[arm] > 1:
            bucket, filled = bucket + int(spread[arm]), 0
        else:
            filled += size
    return Buckets(first, spread, bucket + (1 if filled else 0))


def row_groups(arms: IntArray, rows_per_group: int) -> list[tuple[int, int, int]]:
    """Row groups (arm, start, stop) of documents sorted by arm `(n,)`: each of one arm and of at most so many rows."""
    borders = [0, *(np.flatnonzero(np.diff(arms)) + 1).tolist(), len(arms)]
    return [
        (int(arms[low]), start, min(start + rows_per_group, high))
        for low, high in pairwise(borders)
        for start in range(low, high, rows_per_group)
    ]


def metadata_columns(schema: pa.Schema, reserved: Sequence[str]) -> list[str]:
    """Names of the user's metadata columns in a documents part, sorted: every string column that is not ours."""
    return sorted(field.name for field in schema if field.name not in reserved and pa.types.is_string(field.type))
