"""Words of many texts as numbers of a vocabulary: what `split_words` and a dictionary give, in numpy.

ASCII is split and hashed a chunk of texts at a time; runs of letters that hold anything else, and texts with a word of
over 40 letters or digits, go through `split_words`. Words are told apart by a 64-bit hash of their bytes: among a
vocabulary of 50,000 and 10**9 other words one is mistaken with chance 3e-6.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from prereq.graph.errors import TableError
from prereq.selector.corpus.shingles import chunks, distinct, hash_words
from prereq.selector.corpus.words import split_words

IntArray = npt.NDArray[np.int64]

_LONGEST = 40  # characters of a word, as `split_words` cuts them
# from a character outside ASCII to the next ASCII one that is in no word
_FOREIGN = re.compile(r"[^\x00-\x7f][^\x00-/:-@\[-`{-\x7f]*")
_ASCII = bytes(range(128))
_SPARE_BITS = 3  # slots of the hash table per word, as a power of two
_OTHER, _LOWER, _UPPER, _DIGIT = range(4)
_CLASS = bytearray(256)
_CLASS[ord("a") : ord("z") + 1] = bytes([_LOWER]) * 26
_CLASS[ord("A") : ord("Z") + 1] = bytes([_UPPER]) * 26
_CLASS[ord("0") : ord("9") + 1] = bytes([_DIGIT]) * 10
_NOTHING, _BEGINS, _MAY_BEGIN, _STOPS = range(4)
# what a character is to words, by 4 times the class before it plus its own; _MAY_BEGIN: before a lower-case letter
_EVENT = bytearray(256)
for _before in (_OTHER, _LOWER, _UPPER, _DIGIT):
    for _own in (_LOWER, _UPPER, _DIGIT):
        _EVENT[4 * _before + _own] = _NOTHING if _before == _own or (_before, _own) == (_UPPER, _LOWER) else _BEGINS
    _EVENT[4 * _before + _OTHER] = _NOTHING if _before == _OTHER else _STOPS
_EVENT[4 * _UPPER + _UPPER] = _MAY_BEGIN


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
        if len(distinct(self._hashes)) < len(words):
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
        found, counts = [np.zeros(0, dtype=np.int64)], [np.zeros(1, dtype=np.int64)]
        for chunk in chunks([text[:max_characters] for text in texts]):
            numbers, number = self._find(chunk, max_characters)
            found.append(numbers)
            counts.append(number)
        return np.concatenate(found), np.cumsum(np.concatenate(counts))

    def _find(self, texts: Sequence[str], max_characters: int) -> tuple[IntArray, IntArray]:
        """Numbers of a chunk's known words, text by text, and how many of them each text has."""
        plain, slow = list(texts), dict[int, str]()
        for row, text in enumerate(texts):
            if not text.isascii() and _may_hold_words(text):
                plain[row], slow[row] = _apart(text)
        data = "\0".join(plain)
        if data.count("\0") >= len(plain):
            data = "\0".join([text.replace("\0", " ") for text in plain])
        words = _split(data.encode("ascii", "replace"))  # signs become "?"
        numbers = self._look_up(words)
        if len(long := np.flatnonzero(words.sizes > _LONGEST)):
            for row in distinct(np.searchsorted(words.borders, long, side="right") - 1).tolist():
                numbers[words.borders[row] : words.borders[row + 1]] = -1
                slow[row] = texts[row]
        known = np.flatnonzero(numbers >= 0)
        numbers, counts = numbers[known], np.diff(np.searchsorted(known, words.borders))
        return self._add(numbers, counts, slow, max_characters) if slow else (numbers, counts)

    def _add(
        self, numbers: IntArray, counts: IntArray, slow: Mapping[int, str], max_characters: int
    ) -> tuple[IntArray, IntArray]:
        """Numbers and counts with the known words of some texts behind those that the texts have already."""
        pairs = [
            (number, row)
            for row, text in slow.items()
            for word in split_words(text, max_characters)
            if (number := self._numbers.get(word, -1)) >= 0
        ]
        more = np.array(pairs, dtype=np.int64).reshape(-1, 2)
        owner = np.concatenate([np.repeat(np.arange(len(counts)), counts), more[:, 1]])
        counts = counts + np.bincount(more[:, 1], minlength=len(counts))
        return np.concatenate([numbers, more[:, 0]])[np.argsort(owner, kind="stable")], counts

    def _look_up(self, words: "_Words") -> IntArray:
        """`(n,)` numbers of words; -1 where unknown."""
        numbers = np.full(len(words.starts), -1, dtype=np.int64)
        if not len(self._hashes) or not len(numbers):
            return numbers
        hashes = hash_words(words.lower, words.starts, words.sizes)
        slots = (hashes >> self._bits).view(np.int64)
        left: IntArray | None = None  # words that no table so far holds; None: all
        for table in self._tables:
            found = table[slots if left is None else slots[left]]
            hit = self._hashes[found] == (hashes if left is None else hashes[left])
            hit &= found >= 0
            rows = np.flatnonzero(hit)
            numbers[rows if left is None else left[rows]] = found[rows]
            # a word whose slot is empty is in no later table either
            rest = np.flatnonzero(~hit & (found >= 0))
            left = rest if left is None else left[rest]
        digits = np.flatnonzero(words.classes == _DIGIT)
        numbers[digits] = self._digits[np.minimum(words.sizes[digits], 4)]
        return numbers


def _may_hold_words(text: str) -> bool:
    """Whether characters outside ASCII may be of a word, so more than dashes, quotes and other signs."""
    outside = text.encode("utf-8", "surrogatepass").translate(None, _ASCII).decode("utf-8", "surrogatepass")
    return any(c.isalnum() or "\u3040" <= c <= "\u30ff" for c in set(outside))


def _apart(text: str) -> tuple[str, str]:
    """A text without the runs of letters and digits that are not all ASCII, and these runs."""
    plain, runs, done = [], [], 0
    for match in _FOREIGN.finditer(text):
        start, end = match.span()
        while start > done and text[start - 1].isascii() and text[start - 1].isalnum():
            start -= 1
        plain.append(text[done:start])
        runs.append(text[start:end])
        done = end
    return " ".join([*plain, text[done:]]), " ".join(runs)


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


@dataclass(frozen=True, slots=True)
class _Words:
    """The words of a chunk of ASCII texts: `(n,)` each, but for the bytes and `borders`, `(texts + 1,)`."""

    lower: bytes  # the texts, joined by NUL, in lower case
    starts: IntArray
    sizes: IntArray
    classes: npt.NDArray[np.uint8]  # of a word's first character
    borders: IntArray  # words before each text, and all


def _split(data: bytes) -> _Words:
    """Words of ASCII texts joined by NUL.

    A word begins at a lower-case letter behind no letter, at a digit behind no digit, at an upper-case letter behind no
    upper-case letter or before a lower-case one; it ends where the next one begins or where no letter or digit follows.
    """
    # kind: (len(data) + 2,) classes, one blank before and behind
    kind = np.frombuffer(b"\0" + data.translate(_CLASS) + b"\0", dtype=np.uint8)
    events = np.frombuffer(bytearray((kind[:-1] << 2) | kind[1:]).translate(_EVENT), dtype=np.uint8)
    maybe = np.flatnonzero(events == _MAY_BEGIN)
    events[maybe[kind[maybe + 2] != _LOWER]] = _NOTHING
    places = np.flatnonzero(events != _NOTHING)
    found = events[places]
    begins = np.flatnonzero(found != _STOPS)
    # the character behind the last one is blank: every word has an event behind it
    starts, ends = places[begins], places[begins + 1]
    gaps = np.flatnonzero(np.frombuffer(data, dtype=np.uint8) == 0)
    borders = np.concatenate([[0], np.searchsorted(starts, gaps), [len(starts)]])
    return _Words(data.lower(), starts, ends - starts, kind[starts + 1], borders)
