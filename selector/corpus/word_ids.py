"""Words of many texts as numbers of a vocabulary: what `split_words` and a dictionary give, in numpy.

Texts whose letters are all ASCII are split and hashed a chunk at a time; others, and those with a run of over 40
letters or digits, go through `split_words` one by one. Words are told apart by a 64-bit hash of their bytes: among a
vocabulary of 50,000 and 10**9 foreign words one is mistaken with chance 3e-6.
"""

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from prereq.graph.errors import TableError
from prereq.selector.corpus.shingles import chunks, hash_words
from prereq.selector.corpus.words import CJK, split_words

IntArray = npt.NDArray[np.int64]

_LONGEST = 40  # characters of a word, as `split_words` cuts them
_FOREIGN_LETTER = re.compile(rf"[^\W\x00-\x7f]|[{CJK}]")  # a character outside ASCII that makes or continues a word
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
        hashes = _hashes(words)
        self._order = np.argsort(hashes, kind="stable")
        self._sorted = hashes[self._order]
        if (self._sorted[1:] == self._sorted[:-1]).any():
            raise TableError("two words of a model have one hash or stand twice in it; build the stage again")
        # digits: what a number of 1, 2, 3, and 4 or more digits counts as; -1 where the vocabulary lacks it
        self._digits = np.array([-1, *(self._numbers.get(f"#{size}", -1) for size in (1, 2, 3, 4))])

    def find(self, texts: Sequence[str], max_characters: int) -> tuple[IntArray, IntArray]:
        """The known words of each text, in order.

        Args:
            texts: Any texts.
            max_characters: What lies behind in a text is not read.

        Returns:
            Numbers `(m,)` of all texts one after the other, and offsets `(len(texts) + 1,)`.
        """
        found, counts = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.int64)]
        for chunk in chunks([text[:max_characters] for text in texts]):
            numbers, sizes = self._find(chunk, max_characters)
            found.append(numbers)
            counts.append(sizes)
        return np.concatenate(found), np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(np.concatenate(counts))])

    def _find(self, texts: Sequence[str], max_characters: int) -> tuple[IntArray, IntArray]:
        """Numbers of a chunk's known words and how many each text has."""
        plain = [text.isascii() or not _FOREIGN_LETTER.search(text) for text in texts]
        easy = (text.replace("\0", " ") if own else "" for text, own in zip(texts, plain, strict=True))
        data = "\0".join(easy).encode("ascii", "replace")  # no letter is replaced
        starts, sizes, owner, classes = _split(data)
        numbers = self._look_up(data.lower(), starts, sizes, classes)
        hard = {row for row, own in enumerate(plain) if not own} | set(owner[sizes > _LONGEST].tolist())
        keep = numbers >= 0
        keep[np.isin(owner, list(hard))] = False
        owner, numbers = owner[keep], numbers[keep]
        counts = np.bincount(owner, minlength=len(texts))
        if not hard:
            return numbers, counts
        pieces = list(np.split(numbers, np.cumsum(counts)[:-1]))
        for row in hard:
            known = [self._numbers.get(word, -1) for word in split_words(texts[row], max_characters)]
            pieces[row] = np.array([number for number in known if number >= 0], dtype=np.int64)
        return np.concatenate(pieces), np.array([len(piece) for piece in pieces])

    def _look_up(self, data: bytes, starts: IntArray, sizes: IntArray, classes: npt.NDArray[np.uint8]) -> IntArray:
        """`(n,)` numbers of words given by their place in lower-case bytes; -1 where unknown."""
        if not len(self._sorted) or not len(starts):
            return np.full(len(starts), -1, dtype=np.int64)
        hashes = hash_words(data, starts, sizes)
        place = np.searchsorted(self._sorted, hashes)
        place[place == len(self._sorted)] = 0
        numbers = np.where(self._sorted[place] == hashes, self._order[place], -1)
        digits = classes == _DIGIT
        numbers[digits] = self._digits[np.minimum(sizes[digits], 4)]
        return numbers


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
