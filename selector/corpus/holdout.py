"""Choosing the holdout: documents of each skill that are never drawn, in a control and a report split.

Works on arrays only. Whole groups move: documents cut from one source document, and near duplicates of each other, lie
on the same side.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prereq.graph.errors import ConfigError
from prereq.selector.corpus.keys import KeyArray, seeded_order

IntArray = NDArray[np.int64]
SplitArray = NDArray[np.int8]

POOL, CONTROL, REPORT, DROPPED = 0, 1, 2, 3  # DROPPED: reads like a held-out document, so it is in neither
SPLITS = {CONTROL: "control", REPORT: "report"}


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldoutConfig:
    """How many documents are set aside before anything is drawn."""

    documents_per_skill: int = 8  # documents of each skill in the control split, which steers the mixer
    report_per_skill: int = 8  # documents of each skill in the report split, which only judges
    max_share: float = 0.2  # share of a skill's documents in both splits together, at most
    min_documents: int = 10  # a skill with fewer documents has no holdout
    path: str | None = None  # evaluation set of your own (JSONL or Parquet: id, text, skills[, split]), used instead

    def __post_init__(self) -> None:
        for name in ("documents_per_skill", "report_per_skill", "min_documents"):
            if getattr(self, name) < 0:
                raise ConfigError(f"holdout.{name}: must be 0 or more documents, got {getattr(self, name)}")
        if not 0 < self.max_share < 1:
            raise ConfigError(f"holdout.max_share: must be above 0 and below 1, got {self.max_share}")


@dataclass(frozen=True, slots=True)
class Tags:
    """Skills of documents as one flat list.

    Attributes:
        offsets: `(n + 1,)`; document i has the skills `values[offsets[i]:offsets[i + 1]]`.
        values: Indices of skills, each at most once per document.
        skills: Number of skills `k`.
    """

    offsets: IntArray
    values: IntArray
    skills: int

    @property
    def rows(self) -> IntArray:
        """The document of each value, like `values`."""
        return np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))

    def counts(self, keep: NDArray[np.bool_] | None = None) -> IntArray:
        """Documents per skill `(k,)`, of all documents or of those that a mask `(n,)` keeps."""
        values = self.values if keep is None else self.values[keep[self.rows]]
        return np.bincount(values, minlength=self.skills).astype(np.int64)


def join_groups(parents: NDArray[np.generic], components: IntArray) -> IntArray:
    """Number the groups of documents that share a source document or a component, also through others, `(n,)`.

    Args:
        parents: `(n,)`, equal for documents cut from the same source document.
        components: `(n,)`, equal for near duplicates.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    if not len(components):
        return np.zeros(0, dtype=np.int64)
    _, left = np.unique(parents, return_inverse=True)
    _, right = np.unique(components, return_inverse=True)
    a, b = int(left.max()) + 1, int(right.max()) + 1
    # a document is an edge between its source document (node p) and its component (node a + c)
    links = coo_matrix((np.ones(len(left), dtype=np.int8), (left, a + right)), shape=(a + b, a + b))
    _, labels = connected_components(links, directed=False)
    return np.asarray(labels[left], dtype=np.int64)


def choose_holdout(keys: KeyArray, groups: IntArray, tags: Tags, config: HoldoutConfig, seed: int) -> SplitArray:
    """Set documents aside, `(n,)` of POOL, CONTROL and REPORT.

    Skills are served from the rarest to the commonest, ties in graph order. A skill takes groups in a seeded order
    until both its splits are full; a group is passed over when any of its skills would lose more than `max_share` of
    its documents. A document counts for each of its skills, so a common skill may hold more than it asked for.

    Args:
        keys: `id_keys` of the documents.
        groups: Number of each document's group, from `join_groups`.
        tags: Skills of the documents.
        config: Sizes.
        seed: `pool.seed`.
    """
    splits = np.full(len(keys), POOL, dtype=np.int8)
    if not len(keys):
        return splits
    totals = tags.counts()
    wanted, limit = _quotas(totals, config)
    pairs = _pair_groups(keys, groups, tags, seed)
    held = np.zeros((2, tags.skills), dtype=np.int64)  # documents per split and skill
    placed = np.full(len(pairs.starts) - 1, POOL, dtype=np.int8)
    for skill in np.argsort(totals, kind="stable"):
        if wanted[:, skill].any():
            _serve(int(skill), pairs, wanted, limit, held, placed)
    return placed[pairs.rank_of_group[groups]]


@dataclass(frozen=True, slots=True)
class _Pairs:
    """Groups in seeded order (their rank), and how many documents of which skill each holds."""

    rank_of_group: IntArray  # (g,)
    starts: IntArray  # (g + 1,) into skills and documents, by rank
    ranks: IntArray  # (p,) rank of each pair
    skills: IntArray  # (p,)
    documents: IntArray  # (p,)


def _pair_groups(keys: KeyArray, groups: IntArray, tags: Tags, seed: int) -> _Pairs:
    size = int(groups.max()) + 1
    smallest = np.full(size, np.iinfo(np.uint64).max, dtype=np.uint64)
    np.minimum.at(smallest, groups, keys)
    # mixed after taking the smallest: a group's chance must not grow with its size
    order = np.lexsort((smallest, seeded_order(smallest, seed, "holdout")))
    rank = np.empty(size, dtype=np.int64)
    rank[order] = np.arange(size)
    cells = rank[groups[tags.rows]] * tags.skills + tags.values
    cells, documents = np.unique(cells, return_counts=True)
    ranks, skills = np.divmod(cells, max(1, tags.skills))
    starts = np.searchsorted(ranks, np.arange(size + 1))
    return _Pairs(rank, starts.astype(np.int64), ranks, skills, documents.astype(np.int64))


def _quotas(totals: IntArray, config: HoldoutConfig) -> tuple[IntArray, IntArray]:
    """Documents wanted per split and skill `(2, k)`, and the most that a skill may lose `(k,)`."""
    asked = config.documents_per_skill + config.report_per_skill
    limit = np.where(totals >= config.min_documents, np.floor(config.max_share * totals), 0).astype(np.int64)
    budget = np.minimum(limit, asked)
    if config.documents_per_skill and config.report_per_skill:
        budget[budget < 2] = 0  # one document cannot fill two splits
    share = config.documents_per_skill / asked if asked else 0.0
    control = np.minimum(np.array([math.ceil(b * share) for b in budget], dtype=np.int64), config.documents_per_skill)
    return np.stack([control, budget - control]), limit


def _serve(skill: int, pairs: _Pairs, wanted: IntArray, limit: IntArray, held: IntArray, placed: SplitArray) -> None:
    """Fill both splits of one skill; changes `held` and `placed`."""
    exhausted = held.sum(axis=0) >= limit
    exhausted[skill] = False
    blocked = np.zeros(len(placed), dtype=bool)
    blocked[pairs.ranks[exhausted[pairs.skills]]] = True
    candidates = pairs.ranks[pairs.skills == skill]
    candidates = candidates[(placed[candidates] == POOL) & ~blocked[candidates]]
    for rank in candidates:
        lack = wanted[:, skill] - held[:, skill]
        if (lack <= 0).all():
            return
        cells = slice(pairs.starts[rank], pairs.starts[rank + 1])
        skills, documents = pairs.skills[cells], pairs.documents[cells]
        if (held[:, skills].sum(axis=0) + documents > limit[skills]).any():
            continue
        # the split that lacks the larger part of what it wants; control on a tie
        split = int(np.argmax(lack / np.maximum(wanted[:, skill], 1)))
        held[split, skills] += documents
        placed[rank] = (CONTROL, REPORT)[split]


def drop_equal(splits: SplitArray, contents: NDArray[np.bytes_], foreign: NDArray[np.bytes_]) -> SplitArray:
    """Mark pool documents that read like a held-out one as DROPPED, `(n,)`.

    Args:
        splits: From `choose_holdout`, or all POOL.
        contents: `content_digest` of every document, `(n,)` of `S16`.
        foreign: Digests of a user's evaluation set, `(m,)` of `S16`; maybe empty.
    """
    held = np.concatenate([contents[(splits == CONTROL) | (splits == REPORT)], foreign])
    result = splits.copy()
    result[(splits == POOL) & np.isin(contents, held)] = DROPPED
    return result
