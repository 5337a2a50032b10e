"""Texts to what a linear classifier reads of them: hashes of words, numbers and signs, and of each two in a row.

Unlike `words.split_words` it keeps punctuation and whether a blank stands between two tokens, which tell code from
prose, one operator from another, and one book's way of writing units from another's. All of it in numpy.
"""

import unicodedata
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from prereq.selector.corpus.shingles import mix

HashArray = npt.NDArray[np.uint64]
IntArray = npt.NDArray[np.int64]

_SIGN, _BLANK, _LOWER, _UPPER, _DIGIT, _SINGLE = range(6)
_POINTS = 0x30000  # code points with a class of their own; the private and special ones beyond are signs
# written without blanks, so each character is a token: kana, Han and its extension A, compatibility Han
_SINGLES = ((0x3040, 0x30FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF))
_SALT = np.uint64(0x9E3779B97F4A7C15)
_BASE = 0xD6E8FEB86659FD93  # odd, so it has an inverse modulo 2**64
_FIRST, _GLUED = np.uint64(0xC4CEB9FE1A85EC53), np.uint64(0xA0761D6478BD642F)
_DIGITS_SHOWN = 4  # a number counts by its length: 1, 2, 3, 4 or more digits
_CHUNK = 1 << 19  # characters at a time, about


def text_features(texts: Sequence[str], max_characters: int) -> tuple[HashArray, IntArray]:
    """Hashes of the tokens and of the pairs of neighbouring tokens of each text, repeats included.

    A token is a run of letters in lower case (cut at camel case: `parseHTTPHeader` is three), a number by its length,
    or one other character; Chinese and Japanese characters stand alone. A pair also says whether a blank stood between.

    Args:
        texts: Any texts.
        max_characters: What lies behind in a text is not read.

    Returns:
        Hashes `(m,)`, text by text but in no further order, and the text of each `(m,)`. A feature of a text does not
        depend on the other texts. Two features share a hash with chance 2**-64; both then count as one.
    """
    hashes, owners = [np.zeros(0, dtype=np.uint64)], [np.zeros(0, dtype=np.int64)]
    start = 0
    cut = [text[:max_characters] for text in texts]
    while start < len(cut):
        stop, size = start, 0
        while stop < len(cut) and (stop == start or size + len(cut[stop]) <= _CHUNK):
            size += len(cut[stop])
            stop += 1
        found, owner = _features(cut[start:stop])
        hashes.append(found)
        owners.append(owner + start)
        start = stop
    return np.concatenate(hashes), np.concatenate(owners)


def _features(texts: Sequence[str]) -> tuple[HashArray, IntArray]:
    """As `text_features`, of one chunk."""
    joined = "\n".join([*texts, ""])  # a line feed behind each text ends its last token
    points = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), dtype="<u4")
    classes, lower = _tables()
    known = np.minimum(points, _POINTS)
    kind = classes[known]
    starts, ends, glued = _tokens(kind)
    values = np.where(points < _POINTS, lower[known], points)
    tokens = _hash_runs(values.astype(np.uint64), starts, ends)
    digits = kind[starts] == _DIGIT
    sizes = np.minimum(ends - starts, _DIGITS_SHOWN)
    tokens[digits] = mix(sizes[digits].astype(np.uint64) + _GLUED)
    borders = np.cumsum([len(text) + 1 for text in texts])
    owner = np.searchsorted(borders, starts, side="right").astype(np.int64)
    together = owner[1:] == owner[:-1]
    pairs = mix(tokens[:-1] * _FIRST + tokens[1:] + np.where(glued[1:], _GLUED, _SALT))[together]
    every, owners = np.concatenate([tokens, pairs]), np.concatenate([owner, owner[:-1][together]])
    order = np.argsort(owners, kind="stable")
    return every[order], owners[order]


def _tokens(kind: npt.NDArray[np.uint8]) -> tuple[IntArray, IntArray, npt.NDArray[np.bool_]]:
    """Start and end of each token by the classes of all characters, and whether it touches the token before it."""
    before = np.concatenate([[_BLANK], kind[:-1]]).astype(np.uint8)
    behind = np.concatenate([kind[1:], [_BLANK]]).astype(np.uint8)
    begins = (kind != before) & (kind != _BLANK) & ~((kind == _LOWER) & (before == _UPPER))
    begins |= (kind == _SIGN) | (kind == _SINGLE)
    begins |= (kind == _UPPER) & (before == _UPPER) & (behind == _LOWER)
    starts = np.flatnonzero(begins)
    stops = np.flatnonzero(begins | ((kind == _BLANK) & (before != _BLANK)))
    ends = np.concatenate([stops, [len(kind)]])[np.searchsorted(stops, starts, side="right")]
    return starts, ends, before[starts] != _BLANK


def _hash_runs(values: HashArray, starts: IntArray, ends: IntArray) -> HashArray:
    """Hashes of runs `values[start:end]`, `(n,)`: sums of mixed values times powers of a base, all modulo 2**64.

    Of a prefix sum S, (S[end] - S[start]) / base**start depends on the run's values only.
    """
    powers, inverses = _powers(1 << max(10, len(values).bit_length()))
    summed = np.concatenate([np.zeros(1, dtype=np.uint64), np.cumsum(mix(values + _SALT) * powers[: len(values)])])
    return mix((summed[ends] - summed[starts]) * inverses[starts] + (ends - starts).astype(np.uint64))


@lru_cache(maxsize=2)
def _powers(number: int) -> tuple[HashArray, HashArray]:
    """The first powers of the base and of its inverse modulo 2**64."""
    found = []
    for base in (_BASE, pow(_BASE, -1, 1 << 64)):
        factors = np.full(number, base, dtype=np.uint64)
        factors[0] = 1
        found.append(np.cumprod(factors))
    return found[0], found[1]


@lru_cache(maxsize=1)
def _tables() -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint32]]:
    """Class and lower case of each code point below `_POINTS`; one more entry stands for all others."""
    classes = np.full(_POINTS + 1, _SIGN, dtype=np.uint8)
    lower = np.arange(_POINTS + 1, dtype=np.uint32)
    for point in range(_POINTS):
        character = chr(point)
        category = unicodedata.category(character)
        if category[0] in "LM":
            classes[point] = _UPPER if category in ("Lu", "Lt") else _LOWER
            small = character.lower()
            lower[point] = ord(small) if len(small) == 1 else point
        elif category == "Nd":
            classes[point] = _DIGIT
        elif category[0] == "Z" or character.isspace() or category == "Cc":
            classes[point] = _BLANK
    for first, last in _SINGLES:
        classes[first : last + 1] = _SINGLE
    return classes, lower
