"""Shingle sets of texts: hashed n-grams of words or characters, a batch of documents at a time, in numpy.

A shingle is a 64-bit hash; a document's set is what Jaccard similarity is measured on. Nothing here knows of MinHash.
All arithmetic wraps modulo 2**64 on purpose, so it is the same on every machine; `tests` repeat it in Python integers.
"""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt

from prereq.graph.errors import ConfigError

HashArray = npt.NDArray[np.uint64]
IntArray = npt.NDArray[np.int64]
Unit = Literal["word", "character"]
Integer = TypeVar("Integer", bound=np.integer[Any])

CHUNK_CHARACTERS = 1 << 18  # text hashed in one go: its token arrays then fit a core's second-level cache
LONG_WORD = 64  # bytes; a longer word is hashed with blake2b instead of 8 bytes per vectorised step

# odd 64-bit constants: any would do, these are the golden ratio and the multipliers of splitmix64 and MurmurHash3
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_SPLIT_1, _SPLIT_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_FOLD = np.uint64(0xC4CEB9FE1A85EC53)
# _LOW_BYTES[k] keeps the first k of 8 little-endian bytes
_LOW_BYTES = np.array([(1 << (8 * k)) - 1 for k in range(9)], dtype=np.uint64)


def shingle(texts: Sequence[str], ngram: int = 5, unit: Unit = "word") -> tuple[HashArray, IntArray]:
    """Hash the shingles of normalised texts.

    A text of at least `ngram` units has one shingle per window of `ngram` consecutive units, repeats included. A
    shorter one, the empty text too, has exactly one: all of its units.

    Args:
        texts: `(d,)` texts in normal form (`normalise`): a space is the only white space, so it separates words.
        ngram: Units per shingle, at least 1.
        unit: `word`, or `character` (a code point, spaces included).

    Returns:
        Hashes `(s,)` of all documents one after the other, and offsets `(d + 1,)`: document i holds
        `hashes[offsets[i]:offsets[i + 1]]`, at least one.

    Raises:
        ConfigError: `ngram` is below 1 or the unit is unknown.
    """
    if ngram < 1:
        raise ConfigError(f"dedup.ngram must be at least 1, got {ngram}")
    if unit not in ("word", "character"):
        raise ConfigError(f"dedup.unit must be word or character, got {unit!r}")
    if not texts:
        return np.empty(0, dtype=np.uint64), np.zeros(1, dtype=np.int64)
    tokens, counts = _words(texts) if unit == "word" else _characters(texts)
    return _windows(tokens, counts, ngram)


def shingle_sets(texts: Sequence[str], ngram: int = 5, unit: Unit = "word") -> Iterator[HashArray]:
    """The shingle set of each normalised text, in order: sorted, without repeats; arguments as in `shingle`."""
    for chunk in chunks(texts):
        hashes, offsets = shingle(chunk, ngram, unit)
        for lo, hi in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True):
            yield distinct(hashes[lo:hi])


def chunks(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    """Cut texts into runs of about `CHUNK_CHARACTERS`, one text at least."""
    start = size = 0
    for index, text in enumerate(texts):
        size += len(text)
        if size >= CHUNK_CHARACTERS:
            yield texts[start : index + 1]
            start, size = index + 1, 0
    if start < len(texts):
        yield texts[start:]


def distinct(values: npt.NDArray[Integer]) -> npt.NDArray[Integer]:
    """`np.unique` by sorting, for hot paths: numpy 2.3 and later build a hash table, up to 90 times slower."""
    ordered = np.sort(values, axis=None)
    first = np.ones(len(ordered), dtype=np.bool_)
    np.not_equal(ordered[1:], ordered[:-1], out=first[1:])
    return ordered[first]


def jaccard(a: HashArray, b: HashArray) -> float:
    """Jaccard similarity of two shingle sets (sorted, without repeats, not empty)."""
    both = np.concatenate([a, b])
    both.sort()
    common = int(np.count_nonzero(both[1:] == both[:-1]))
    return common / (len(both) - common)


def mix(values: HashArray) -> HashArray:
    """The finaliser of splitmix64, a bijection of 64-bit integers in which every bit of the input moves every other.

    Source:
        Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators" (the variant of Stafford's mix13).
    """
    values = values ^ (values >> np.uint64(30))
    values *= _SPLIT_1
    values ^= values >> np.uint64(27)
    values *= _SPLIT_2
    values ^= values >> np.uint64(31)
    return values


def _words(texts: Sequence[str]) -> tuple[HashArray, IntArray]:
    """Token hashes `(n,)` and the number of words of each text `(d,)`, at least 1: the empty text is one empty word."""
    data = "\n".join(texts).encode("utf-8", "surrogatepass")
    octets = np.frombuffer(data, dtype=np.uint8)
    # texts in normal form hold no line feed, so each one ends a text
    breaks = np.flatnonzero((octets == 0x20) | (octets == 0x0A))
    starts = np.concatenate([[0], breaks + 1])
    ends = np.concatenate([breaks, [len(octets)]])
    lines = np.flatnonzero(octets[breaks] == 0x0A)
    counts = np.diff(np.concatenate([[-1], lines, [len(breaks)]]))
    return hash_words(data, starts, ends - starts), counts.astype(np.int64)


def hash_words(data: bytes, starts: IntArray, sizes: IntArray) -> HashArray:
    """Hash words `data[start:start + size]` `(n,)`, eight bytes a step; equal bytes give equal hashes."""
    padded = data + bytes(8)
    # eight: (len(data) + 1,) the little-endian integer that starts at each byte
    eight: Any = np.ndarray((len(data) + 1,), dtype="<u8", buffer=padded, strides=(1,))
    # the first eight bytes of all words, then those of the words that go on
    hashes: HashArray = sizes.astype(np.uint64)
    hashes *= _GOLDEN
    hashes ^= eight[starts] & _LOW_BYTES[np.minimum(sizes, 8)]
    hashes = mix(hashes)
    long = sizes > LONG_WORD
    active = np.flatnonzero((sizes > 8) & ~long)
    position = 8
    while len(active):
        left = sizes[active] - position
        chunk = eight[starts[active] + position] & _LOW_BYTES[np.minimum(left, 8)]
        hashes[active] = mix(hashes[active] ^ chunk)
        position += 8
        active = active[left > 8]
    for index in np.flatnonzero(long).tolist():
        word = data[starts[index] : starts[index] + sizes[index]]
        hashes[index] = int.from_bytes(hashlib.blake2b(word, digest_size=8).digest(), "little")
    return hashes


def _characters(texts: Sequence[str]) -> tuple[HashArray, IntArray]:
    """Token hashes `(n,)` and the number of characters of each text `(d,)`, at least 1."""
    texts = [text or "\n" for text in texts]  # a line feed stands for "no character": it is in no other normal form
    points = np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), dtype="<u4")
    counts = np.fromiter((len(text) for text in texts), dtype=np.int64, count=len(texts))
    return mix(points.astype(np.uint64) + _GOLDEN), counts


def _windows(tokens: HashArray, counts: IntArray, ngram: int) -> tuple[HashArray, IntArray]:
    """Fold windows of tokens into shingles: h = mix((..(n K + t_0) K + t_1 ..) K + t_(n-1)), n tokens in the window."""
    ends = np.cumsum(counts)
    starts = ends - counts
    padded = np.concatenate([tokens, np.zeros(ngram - 1, dtype=np.uint64)])
    folded = _fold([padded[j : j + len(tokens)] for j in range(ngram)], len(tokens))
    # a window starts at every token that has ngram - 1 more of its own text behind it
    valid = np.ones(len(tokens), dtype=np.bool_)
    for back in range(1, ngram):
        valid[ends[counts >= back] - back] = False
    for size in range(1, ngram):
        first = starts[counts == size]
        folded[first] = _fold([tokens[first + j] for j in range(size)], len(first))
        valid[first] = True
    offsets = np.concatenate([[0], np.cumsum(np.maximum(counts - ngram + 1, 1))])
    return mix(folded[valid]), offsets


def _fold(columns: Sequence[HashArray], length: int) -> HashArray:
    folded = np.full(length, len(columns), dtype=np.uint64)
    for column in columns:
        folded *= _FOLD
        folded += column
    return folded
