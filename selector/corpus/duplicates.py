"""Exact and near duplicates of a corpus: who is dropped, for whom, and which documents belong together.

The rules, for documents in survivor order (`DuplicatesConfig.keep`):

- Exact: texts of equal normal form (`normalise`). The first one stays.
- Near: a document is kept unless a kept one before it has a Jaccard similarity (of shingle sets) at or above the
  threshold. The most similar kept one, the first of equals, is named as its survivor; so no chain drops a document that
  no kept one resembles. Similarities are measured on the shingle sets; MinHash bands only choose what is compared.
- Component: documents connected by exact equality or by compared pairs at or above the threshold, kept or dropped.
  It is named by its smallest row. With `near` off only exact duplicates belong together.

Documents are rows here, numbered through the whole corpus, so that part borders change nothing.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from prereq.graph.errors import ConfigError
from prereq.selector.corpus.candidates import PairFinder, shared
from prereq.selector.corpus.minhash import SketchArray, choose_bands
from prereq.selector.corpus.shingles import HashArray, IntArray, Unit, distinct
from prereq.selector.corpus.spilled import SpilledSets
from prereq.selector.corpus.verdict import FloatArray, Verdict

BoolArray = npt.NDArray[np.bool_]

SCANNED_AT_ONCE = 2  # bands read together of all documents: 8 bytes per document each
BANDS_AT_ONCE = 6  # bands read together of the candidates; a large bucket is split by the next of them
BATCH_CHARACTERS = 1 << 24  # text whose shingle sets are in memory together, unless one group of candidates is larger


@dataclass(frozen=True, slots=True, kw_only=True)
class DuplicatesConfig:
    """Which documents count as duplicates, and which of them stays."""

    enabled: bool = True  # False keeps every document; components are found all the same, for the holdout
    exact: bool = True  # drop texts of equal normal form
    near: bool = True  # drop texts whose shingle sets are similar; needs `exact`
    threshold: float = 0.8  # Jaccard similarity in (0, 1] from which on two texts are near duplicates
    num_perm: int = 128  # MinHash permutations
    bands: int | None = None  # LSH bands; default: with `rows`, what minimises the error weighed by `weights`
    rows: int | None = None  # signature values per band; set both or none
    # weight of false positives, of false negatives; candidates are verified, so a false positive only costs time:
    # at the defaults 18 bands of 7 rows, which finds 98.6 % of the pairs at .8 and 99.9 % of those at .85
    weights: tuple[float, float] = (0.01, 0.99)
    ngram: int = 5  # units per shingle
    unit: Unit = "word"  # word (between white space) or character
    seed: int = 1  # of the permutations; datasketch's default, not pool.seed, so that pools can share signatures
    # longest normal form, then smallest id; first in the corpus; or highest score, then as longest
    keep: Literal["longest", "first", "score"] = "longest"
    score: str | None = None  # metadata column that holds a number, with keep: score; without a number comes last
    # cosine of two embedding vectors, in (0, 1], from which on documents of one cluster are duplicates too; none: off
    semantic: float | None = None

    def __post_init__(self) -> None:
        if self.near and not self.exact:
            raise ConfigError("dedup.near needs dedup.exact: texts of equal normal form are near duplicates; set both")
        if not 0 < self.threshold <= 1:
            raise ConfigError(f"dedup.threshold must be above 0 and at most 1, got {self.threshold}")
        if self.num_perm < 1 or self.ngram < 1:
            raise ConfigError(f"dedup.num_perm and dedup.ngram must be at least 1, got {self.num_perm}, {self.ngram}")
        if self.unit not in ("word", "character"):
            raise ConfigError(f"dedup.unit must be word or character, got {self.unit!r}")
        if self.keep not in ("longest", "first", "score"):
            raise ConfigError(f"dedup.keep must be longest, first or score, got {self.keep!r}")
        if (self.keep == "score") != (self.score is not None):
            raise ConfigError(f"dedup.score and dedup.keep: score go together, got {self.score!r} and {self.keep!r}")
        if not 0 <= self.seed < 2**32:
            raise ConfigError(f"dedup.seed must be 0 to 2**32 - 1, got {self.seed}")
        if min(self.weights) < 0 or abs(sum(self.weights) - 1) > 1e-9:
            raise ConfigError(f"dedup.weights must be two shares that sum to 1, got {self.weights}")
        if self.semantic is not None and not (self.enabled and 0 < self.semantic <= 1):
            raise ConfigError(
                f"dedup.semantic must be above 0 and at most 1 and needs dedup.enabled, got {self.semantic} and "
                f"dedup.enabled {self.enabled}"
            )
        self._check_bands()

    def _check_bands(self) -> None:
        if (self.bands is None) != (self.rows is None):
            raise ConfigError(
                f"dedup.bands and dedup.rows go together, got {self.bands} and {self.rows}; set both or none"
            )
        bands, rows = self.bands or 0, self.rows or 0
        if self.bands is not None and not (bands > 0 and rows > 0 and bands * rows <= self.num_perm):
            raise ConfigError(
                f"dedup.bands x dedup.rows must fit in dedup.num_perm {self.num_perm}, got {bands} x {rows}"
            )

    def banding(self) -> tuple[int, int]:
        """(bands, rows): as set, or chosen by datasketch's rule."""
        if self.bands is not None and self.rows is not None:
            return self.bands, self.rows
        return choose_bands(self.threshold, self.num_perm, self.weights)


class Corpus(Protocol):
    """What the search reads of a corpus of `documents` rows; `rows` arguments ascend."""

    documents: int

    def content(self) -> HashArray:
        """`(2, n)`: the content digests as two integers each."""
        ...

    def lengths(self) -> IntArray:
        """`(n,)` characters of the normal forms."""
        ...

    def scores(self) -> FloatArray:
        """`(n,)` what `keep: score` orders by; -inf where there is none."""
        ...

    def bands(self, first: int, stop: int, rows: IntArray | None = None) -> HashArray:
        """`(stop - first, len(rows))` band keys of some rows, or of all."""
        ...

    def sketches(self, rows: IntArray) -> SketchArray:
        """`(len(rows), num_perm)`."""
        ...

    def ids(self, rows: IntArray) -> pa.Array:
        """The ids of rows, strings."""
        ...

    def shingle_sets(self, rows: IntArray) -> Iterator[HashArray]:
        """The shingle set of each row, in order."""
        ...


@dataclass(frozen=True, slots=True)
class Duplicates:
    """What happens to each of `n` documents.

    Args:
        survivor: `(n,)` row of the kept document that stands for it; its own row where it is kept.
        component: `(n,)` smallest row of its component.
        similarity: `(n,)` exact Jaccard similarity to the survivor; 1 where it is kept or an exact duplicate.
        exact: `(n,)` whether it is dropped because its normal form equals its survivor's.
    """

    survivor: IntArray
    component: IntArray
    similarity: FloatArray
    exact: BoolArray

    @property
    def dropped(self) -> IntArray:
        """Rows that are dropped, ascending."""
        return np.flatnonzero(self.survivor != np.arange(len(self.survivor)))


def find_duplicates(corpus: Corpus, config: DuplicatesConfig, scratch: str | None = None) -> Duplicates:
    """Apply the rules of this module to a corpus.

    Memory: about 90 bytes per document (digests and their order, keys of `SCANNED_AT_ONCE` bands, fates), `num_perm` +
    48 bytes and the id per document that shares a band, 24 bytes per pair, the shingle sets of one batch of candidates.

    Args:
        corpus: Read column by column; each text that is compared is read once.
        config: The rules.
        scratch: Folder for a nameless file of the compared documents' shingles, 8 bytes each; default: the system's.
    """
    lengths = corpus.lengths()
    leader = _exact_leaders(corpus, lengths, config)
    survivor, component = leader.copy(), leader.copy()
    similarity = np.ones(corpus.documents)
    if config.near:
        near = _near_duplicates(corpus, lengths, leader, config, scratch)
        survivor[near.rows] = near.rows[near.survivor]
        similarity[near.rows] = near.similarity
        component[near.rows] = near.rows[near.component]
        # an exact duplicate shares the fate of its leader: same shingles, same similarities
        survivor, component, similarity = survivor[leader], component[leader], similarity[leader]
    exact = (survivor == leader) & (leader != np.arange(corpus.documents))
    # the component's name: its smallest row, which need not be a leader
    smallest = np.arange(corpus.documents)
    np.minimum.at(smallest, component, np.arange(corpus.documents))
    component = smallest[component]
    if not (config.enabled and config.exact):
        survivor, similarity = np.arange(corpus.documents), np.ones(corpus.documents)
        exact = np.zeros(corpus.documents, dtype=np.bool_)
    return Duplicates(survivor, component, similarity, exact)


def survivor_order(lengths: IntArray, ids: pa.Array, keep: str, scores: FloatArray | None = None) -> IntArray:
    """The order in which documents are considered: positions `(n,)`, the first to be kept first."""
    if keep == "first":
        return np.arange(len(lengths))
    columns, keys = {"length": pa.array(lengths), "id": ids}, [("length", "descending"), ("id", "ascending")]
    if scores is not None:
        columns, keys = columns | {"score": pa.array(scores)}, [("score", "descending"), *keys]
    order = pc.sort_indices(pa.table(columns), sort_keys=keys)
    return order.to_numpy().astype(np.int64)


def _scores(corpus: Corpus, rows: IntArray, config: DuplicatesConfig) -> FloatArray | None:
    return corpus.scores()[rows] if config.keep == "score" else None


def _exact_leaders(corpus: Corpus, lengths: IntArray, config: DuplicatesConfig) -> IntArray:
    """`(n,)` the row that stays of each document's exact duplicates; its own row where it has none."""
    # order: rows by digest; begins: where a digest differs from the one before
    order, begins = _by_digest(corpus.content())
    several = ~begins
    several[:-1] |= ~begins[1:]
    members = np.flatnonzero(several)
    rows, group = order[members], np.cumsum(begins[members])
    leader = np.arange(corpus.documents)
    if len(rows):
        ascending = np.argsort(rows)
        rows, group = rows[ascending], group[ascending]
        by_rank = survivor_order(lengths[rows], corpus.ids(rows), config.keep, _scores(corpus, rows, config))
        groups, places = np.unique(group[by_rank], return_index=True)
        leader[rows] = rows[by_rank][places[np.searchsorted(groups, group)]]
    return leader


def _by_digest(content: HashArray) -> tuple[IntArray, BoolArray]:
    """The order `(n,)` that sorts digests `(2, n)`, and where a digest is not equal to the one before in that order."""
    order = np.lexsort((content[1], content[0]))
    begins = np.ones(len(order), dtype=np.bool_)
    if len(order):
        begins[1:] = False
    for half in content:
        ordered = half[order]
        begins[1:] |= ordered[1:] != ordered[:-1]
    return order, begins


@dataclass(frozen=True, slots=True)
class _Near:
    rows: IntArray  # (c,) candidates in survivor order; the other fields are positions in it
    survivor: IntArray
    component: IntArray
    similarity: FloatArray


def _near_duplicates(
    corpus: Corpus, lengths: IntArray, leader: IntArray, config: DuplicatesConfig, scratch: str | None
) -> _Near:
    bands, _ = config.banding()
    unique = leader == np.arange(corpus.documents)
    meets = np.zeros(corpus.documents, dtype=np.bool_)
    for first in range(0, bands, SCANNED_AT_ONCE):
        for keys in corpus.bands(first, min(bands, first + SCANNED_AT_ONCE)):
            meets[unique] |= shared(keys[unique])
    rows = np.flatnonzero(meets)
    order = survivor_order(lengths[rows], corpus.ids(rows), config.keep, _scores(corpus, rows, config))
    finder = PairFinder(corpus.sketches(rows)[order], config.threshold)
    for first in range(0, bands, BANDS_AT_ONCE):
        block = corpus.bands(first, min(bands, first + BANDS_AT_ONCE), rows)
        for index, keys in enumerate(block):
            finder.add(keys[order], block[(index + 1) % len(block)][order])
    rows = rows[order]
    pairs = finder.pairs()
    verdict = Verdict(len(rows), config.threshold)
    compared = np.sort(rows[distinct(pairs)])
    with SpilledSets(compared, corpus.shingle_sets(compared), scratch) as sets:
        # survivor order within a batch of connected candidates is all that a verdict depends on
        for members, batch in _batches(pairs, lengths[rows]):
            verdict.judge(batch, {int(member): sets.of(int(rows[member])) for member in members})
    return _Near(rows, *verdict.arrays())


def _batches(pairs: IntArray, sizes: IntArray) -> Iterator[tuple[IntArray, IntArray]]:
    """Cut pairs so that connected candidates stay together and a batch holds about `BATCH_CHARACTERS`.

    Yields:
        The members of a batch, ascending, and its pairs in the order given.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    if not len(pairs):
        return
    links = coo_array((np.ones(len(pairs), dtype=np.bool_), (pairs[:, 0], pairs[:, 1])), shape=(len(sizes), len(sizes)))
    _, group = connected_components(links, directed=False)
    members = distinct(pairs)
    weight = np.bincount(group[members], weights=sizes[members])
    # batch: (groups,) a group belongs to the batch in which its first character falls
    batch = ((np.cumsum(weight) - weight) // BATCH_CHARACTERS).astype(np.int64)
    for number in distinct(batch[group[members]]).tolist():
        yield members[batch[group[members]] == number], pairs[batch[group[pairs[:, 1]]] == number]


def gathered(values: Sequence[Sequence[str]], survivor: Sequence[int]) -> dict[int, list[str]]:
    """What each survivor gains: the sorted union over the documents dropped for it.

    Args:
        values: Labels (or sources) of each dropped document.
        survivor: Its survivor's row.
    """
    gained: dict[int, set[str]] = {}
    for own, row in zip(values, survivor, strict=True):
        if own:
            gained.setdefault(int(row), set()).update(own)
    return {row: sorted(gained[row]) for row in sorted(gained)}
