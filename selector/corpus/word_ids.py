"""Words of many texts as numbers of a vocabulary: what `split_words` and a dictionary give, in numpy.

ASCII is split and hashed a chunk of texts at a time; runs of letters that hold anything else, and texts with a word of
over 40 letters or digits, go through `split_words`. Words are told apart by a 64-bit hash of their bytes: among a
vocabulary of 50,000 and 10**9 other words one is mistaken with chance 3e-6.
"""

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from prereq.graph.errors import TableError
from prereq.selector.corpus.shingles import chunks, distinct, hash_words
from prereq.selector.corpus.words import split_words

IntArray = npt.NDArray[np.int64]

_LONGEST = 40  # characters of a word, as `split_words` cuts them
# what lies between ASCII characters that are in no word, where it is not all ASCII
_FOREIGN = re.compile(r"(?<![A-Za-z0-9])[A-Za-z0-9]*+[^\x00-\x7f][^\x00-/:-@\[-`{-\x7f]*")
_OUTSIDE = re.compile(r"[^\x00-\x7f]+")
_SPARE_BITS = 3  # slots of the hash table per word, as a power of two
_OTHER, _LOWER, _UPPER, _DIGIT = range(4)
_CLASS = np.zeros(256, dtype=np.uint8)
_CLASS[ord("a") : ord("z") + 1] = _LOWER
_CLASS[ord("A") : ord("Z") + 1] = _UPPER
_CLASS[ord("0") : ord("9") + 1] = _DIGIT


class WordIndex:
    """Finds the words of a vocabulary in texts.

    Args:
        words: As `split_words` gives them; a word's number is its place.

    Raises:
        TableError: Two words have one hash, or one word stands twice.
    """

    def __init__(self, words: Sequence[str]) -> None:
        self._numbers = {word: number for number, word in enumerate(words)}
        self._hashes = _hashes(words)
        if len(np.unique(self._hashes)) < len(words):
            raise TableError("two words of a model have one hash or stand twice in it; build the stage again")
        self._bits = np.uint64(64 - (max(1, len(words)).bit_length() + _SPARE_BITS))
        self._tables = _tables(self._hashes >> self._bits, 1 << (64 - int(self._bits)))
        # digits: what a number of 1, 2, 3, and 4 or more digits counts as; -1 where the vocabulary lacks it
        self._digits = np.array([-1, *(self._numbers.get(f"#{size}", -1) for size in (1, 2, 3, 4))])

    def find(self, texts: Sequence[str], max_characters: int) -> tuple[IntArray, IntArray]:
        """The known words of each text in their order, but words with signs outside ASCII behind the others.

        Args:
            texts: Any texts.
            max_characters: What lies behind in a text is not read.

        Returns:
            Numbers `(m,)` of all texts one after the other, and offsets `(len(texts) + 1,)`.
        """
        found, owners, done = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.int64)], 0
        for chunk in chunks([text[:max_characters] for text in texts]):
            numbers, owner = self._find(chunk, max_characters)
            found.append(numbers)
            owners.append(owner + done)
            done += len(chunk)
        owner = np.concatenate(owners)
        counts = np.bincount(owner, minlength=len(texts))
        order = np.argsort(owner, kind="stable")
        return np.concatenate(found)[order], np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(counts)])

    def _find(self, texts: Sequence[str], max_characters: int) -> tuple[IntArray, IntArray]:
        """Numbers of a chunk's known words and the text of each."""
        foreign = {row: text for row, text in enumerate(texts) if _may_hold_words(text)}
        plain = [_FOREIGN.sub(" ", text) if row in foreign else text for row, text in enumerate(texts)]
        data = "\0".join(text.replace("\0", " ") for text in plain).encode("ascii", "replace")  # signs become "?"
        starts, sizes, owner, classes = _split(data)
        numbers = self._look_up(data.lower(), starts, sizes, classes)
        keep = numbers >= 0
        slow = {row: " ".join(_FOREIGN.findall(text)) for row, text in foreign.items()}
        if len(long := distinct(owner[sizes > _LONGEST])):
            keep[np.isin(owner, long)] = False
            slow |= {row: texts[row] for row in long.tolist()}
        pairs = [
            (number, row)
            for row, text in slow.items()
            for word in split_words(text, max_characters)
            if (number := self._numbers.get(word, -1)) >= 0
        ]
        more = np.array(pairs, dtype=np.int64).reshape(-1, 2)
        return np.concatenate([numbers[keep], more[:, 0]]), np.concatenate([owner[keep], more[:, 1]])

    def _look_up(self, data: bytes, starts: IntArray, sizes: IntArray, classes: npt.NDArray[np.uint8]) -> IntArray:
        """`(n,)` numbers of words given by their place in lower-case bytes; -1 where unknown."""
        numbers = np.full(len(starts), -1, dtype=np.int64)
        if not len(self._hashes) or not len(starts):
            return numbers
        hashes = hash_words(data, starts, sizes)
        slots = (hashes >> self._bits).astype(np.int64)
        rows: IntArray | slice = slice(None)
        for table in self._tables:
            found = table[slots[rows]]
            used = np.flatnonzero(found >= 0)
            found, rows = found[used], used if isinstance(rows, slice) else rows[used]
            hit = self._hashes[found] == hashes[rows]
            numbers[rows[hit]] = found[hit]
        digits = classes == _DIGIT
        numbers[digits] = self._digits[np.minimum(sizes[digits], 4)]
        return numbers


def _may_hold_words(text: str) -> bool:
    """Whether characters outside ASCII may be of a word, so more than dashes, quotes and other signs."""
    return not text.isascii() and any(c.isalnum() or "\u3040" <= c <= "\u30ff" for c in "".join(_OUTSIDE.findall(text)))


def _tables(slots: npt.NDArray[np.uint64], size: int) -> list[npt.NDArray[np.int32]]:
    """Hash tables `(size,)` of word numbers, -1 where empty: the first holds a word of each slot, the next another."""
    order = np.argsort(slots, kind="stable")
    ordered = slots[order]
    rank = np.arange(len(order)) - np.searchsorted(ordered, ordered)
    tables = []
    for level in range(int(rank.max()) + 1 if len(rank) else 0):
        table = np.full(size, -1, dtype=np.int32)
        table[ordered[rank == level].astype(np.int64)] = order[rank == level]
        tables.append(table)
    return tables


def _hashes(words: Sequence[str]) -> npt.NDArray[np.uint64]:
    coded = [word.encode("utf-8", "surrogatepass") for word in words]
    sizes = np.array([len(word) for word in coded], dtype=np.int64)
    return hash_words(b"".join(coded), np.cumsum(sizes) - sizes, sizes)


def _split(data: bytes) -> tuple[IntArray, IntArray, IntArray, npt.NDArray[np.uint8]]:
    """Words of ASCII texts joined by NUL: start, size, text and class of the last character of each.

    A word begins at a lower-case letter behind no letter, at a digit behind no digit, at an upper-case letter behind no
    upper-case letter or before a lower-case one.
    """
    octets = np.frombuffer(data, dtype=np.uint8)
    kind = _CLASS[octets]
    before = np.concatenate([[_OTHER], kind[:-1]]).astype(np.uint8)
    behind = np.concatenate([kind[1:], [_OTHER]]).astype(np.uint8)
    upper, lower = kind == _UPPER, kind == _LOWER
    begins = (kind != before) & (kind != _OTHER) & ~(lower & (before == _UPPER))
    begins |= upper & (before == _UPPER) & (behind == _LOWER)
    starts = np.flatnonzero(begins)
    # a run of characters that are not _OTHER ends where the class turns to it; a word ends there or at the next start
    stops = np.flatnonzero(begins | ((kind == _OTHER) & (before != _OTHER)))
    after = np.concatenate([stops, [len(octets)]])[np.flatnonzero(begins[stops]) + 1]
    borders = np.concatenate([[0], np.searchsorted(starts, np.flatnonzero(octets == 0)), [len(starts)]])
    owner = np.repeat(np.arange(len(borders) - 1), np.diff(borders))
    return starts, after - starts, owner, kind[starts]
