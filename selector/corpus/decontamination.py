"""Which documents hold text of a reference set (evaluation data that must not be trained on).

Texts are compared as runs of `ngram` words: letters and digits of the normal form (`normalise`), so that punctuation,
case and spacing hide nothing. The overlap of a document with a reference is the share of the reference's distinct
n-grams that the document holds: it is 1 where a page of any length quotes the reference whole.

A reference of fewer than `ngram` but at least `min_words` words is looked for as one run of its own length. A shorter
one is found only where a document consists of it: its words alone prove nothing.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from prereq.graph.errors import ConfigError
from prereq.selector.corpus.normalise import normalise
from prereq.selector.corpus.shingles import HashArray, IntArray, chunks, distinct, shingle

_WORD = re.compile(r"[^\W_]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class DecontaminationConfig:
    """Documents that hold text of evaluation data; off where there are no paths."""

    paths: tuple[
        str, ...
    ] = ()  # reference set: files, folders, globs or URLs, as for sources; none: nothing is compared
    text_field: str = "text"  # field of a reference's text; dotted for a field inside a field
    id_field: str = "id"  # field of a reference's id; a row without one is named by its file and line
    ngram: int = 13  # words that must follow one another in both
    min_words: int = 8  # words of a shorter reference from which on it is looked for inside documents
    # share of a reference's n-grams, from 0 to below 1: a document that holds more is contaminated (0: one is enough)
    max_overlap: float = 0.0
    action: Literal["drop", "list"] = "drop"  # contaminated documents are listed, and with drop left out of the pool

    def __post_init__(self) -> None:
        if isinstance(self.paths, str) or not all(isinstance(path, str) and path for path in self.paths):
            raise ConfigError(f"decontaminate.paths: must be a list of non-empty strings, got {self.paths!r}")
        if not self.text_field or not self.id_field:
            raise ConfigError("decontaminate.text_field and decontaminate.id_field: must not be empty")
        if not 1 <= self.min_words <= self.ngram:
            raise ConfigError(
                f"decontaminate.min_words: must be 1 to decontaminate.ngram, got {self.min_words} and {self.ngram}"
            )
        if not 0 <= self.max_overlap < 1:
            raise ConfigError(f"decontaminate.max_overlap: must be 0 or more and below 1, got {self.max_overlap}")
        if self.action not in ("drop", "list"):
            raise ConfigError(f"decontaminate.action: must be drop or list, got {self.action!r}")


class References(NamedTuple):
    """The n-grams of all references of one n-gram length, sorted by hash, then reference."""

    ngram: int
    hashes: HashArray  # (p,) one per reference and distinct n-gram
    reference: IntArray  # (p,) whose it is: a number in the order in which references were given
    sizes: IntArray  # (references,) distinct n-grams of each reference; 0 for those of another length


class Matches(NamedTuple):
    """For each of `d` documents the reference that it overlaps most."""

    reference: IntArray  # (d,) its number, the smallest of equals; -1 for none
    overlap: npt.NDArray[np.float64]  # (d,) share of the reference's n-grams
    shared: IntArray  # (d,) n-grams in common


def words_of(text: str) -> str:
    """What is compared of a text: its words, one space between them."""
    return " ".join(_WORD.findall(normalise(text)))


def index_references(texts: Sequence[str], config: DecontaminationConfig) -> list[References]:
    """Index a reference set by the n-gram lengths that it needs, ascending.

    Args:
        texts: `(r,)` of the references; one without a word is in no index.
    """
    plain = [words_of(text) for text in texts]
    counts = np.array([len(text.split()) for text in plain], dtype=np.int64)
    inside = (counts >= config.min_words) & (counts < config.ngram)
    lengths = np.where(inside, counts, config.ngram)
    lengths[counts == 0] = 0
    return [
        _index(plain, np.flatnonzero(lengths == length), length) for length in distinct(lengths[lengths > 0]).tolist()
    ]


def _index(texts: Sequence[str], numbers: IntArray, ngram: int) -> References:
    sizes = np.zeros(len(texts), dtype=np.int64)
    hashes, owners = [np.empty(0, dtype=np.uint64)], [np.empty(0, dtype=np.int64)]
    for number in numbers.tolist():
        own = distinct(shingle([texts[number]], ngram)[0])
        sizes[number] = len(own)
        hashes.append(own)
        owners.append(np.full(len(own), number))
    flat, owner = np.concatenate(hashes), np.concatenate(owners)
    order = np.lexsort((owner, flat))
    return References(ngram, flat[order], owner[order], sizes)


def find_matches(texts: Sequence[str], indexes: Sequence[References]) -> Matches:
    """Compare documents with a reference set; memory beyond the texts is that of one chunk of them.

    Args:
        texts: `(d,)` documents as they are.
        indexes: From `index_references`.
    """
    plain = [words_of(text) for text in texts]
    reference, overlap, shared = np.full(len(plain), -1), np.zeros(len(plain)), np.zeros(len(plain), dtype=np.int64)
    for index in indexes:
        start = 0
        for chunk in chunks(plain):
            found = _overlaps(chunk, index)
            rows, own = found.reference >= 0, slice(start, start + len(chunk))
            # of equal overlaps the smallest number wins, also between lengths
            better = rows & (
                (found.overlap > overlap[own]) | ((found.overlap == overlap[own]) & (found.reference < reference[own]))
            )
            for whole, part in ((reference, found.reference), (overlap, found.overlap), (shared, found.shared)):
                whole[own][better] = part[better]
            start += len(chunk)
    return Matches(reference, overlap, shared)


def _overlaps(texts: Sequence[str], index: References) -> Matches:
    hashes, offsets = shingle(texts, index.ngram)
    first = np.searchsorted(index.hashes, hashes, side="left")
    hits = np.flatnonzero(index.hashes[np.minimum(first, len(index.hashes) - 1)] == hashes)
    document = np.searchsorted(offsets, hits, side="right") - 1
    # a document's n-gram counts once, however often it is there
    order = np.lexsort((hashes[hits], document))
    hits, document = hits[order], document[order]
    fresh = np.ones(len(hits), dtype=np.bool_)
    fresh[1:] = (document[1:] != document[:-1]) | (hashes[hits][1:] != hashes[hits][:-1])
    hits, document = hits[fresh], document[fresh]
    # owners: every reference that has the n-gram of a hit, one row per (document, n-gram, reference)
    last = np.searchsorted(index.hashes, hashes[hits], side="right")
    many = last - first[hits]
    within = np.arange(int(many.sum())) - np.repeat(np.cumsum(many) - many, many)
    owner = index.reference[np.repeat(first[hits], many) + within]
    pairs, shared = np.unique(np.repeat(document, many) * len(index.sizes) + owner, return_counts=True)
    document, owner = np.divmod(pairs, len(index.sizes))
    overlap = shared / index.sizes[owner]
    best = np.lexsort((owner, -overlap, document))
    best = best[np.concatenate([[True], document[best][1:] != document[best][:-1]])] if len(best) else best
    result = Matches(np.full(len(texts), -1), np.zeros(len(texts)), np.zeros(len(texts), dtype=np.int64))
    result.reference[document[best]] = owner[best]
    result.overlap[document[best]] = overlap[best]
    result.shared[document[best]] = shared[best]
    return result
