"""A small reference model for excess losses where no reference run is given: interpolated byte trigrams. numpy only."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from prereq.jobs.train.windows import IGNORE, SEPARATOR, VOCABULARY, IntArray, Windows, encode

FloatArray = npt.NDArray[np.float64]


class Trigrams:
    """Bytes by the two before them, each order backed by the next lower one.

    p(c | a b) = (n(abc) + t(ab) p(c | b)) / (n(ab) + t(ab)), t the number of different bytes seen behind a context; the
    lowest order is uniform over the vocabulary, so every byte has a probability.

    Source:
        Witten & Bell 1991, "The zero-frequency problem", method C, interpolated.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        """Count the bytes of texts, each between separators."""
        edge = np.array([SEPARATOR], dtype=np.int64)
        stream = np.concatenate([edge, edge, *(part for text in texts for part in (encode(text), edge))])
        codes = [stream[2:], stream[1:-1] * VOCABULARY + stream[2:]]
        codes.append(stream[:-2] * VOCABULARY**2 + codes[1])
        self._orders = [_Order(code) for code in codes]

    def losses(self, windows: Windows) -> FloatArray:
        """Nats of every target `(windows, seq_len)`, 0 where it is padding; a first byte sees one before it."""
        inputs, targets = windows
        real = targets != IGNORE
        last = np.where(real, targets, SEPARATOR)
        before = np.concatenate([np.full((len(inputs), 1), SEPARATOR), inputs[:, :-1]], axis=1)
        codes = [last, inputs * VOCABULARY + last]
        codes.append(before * VOCABULARY**2 + codes[1])
        chance = np.full(targets.shape, 1.0 / VOCABULARY)
        for order, code in zip(self._orders, codes, strict=True):
            chance = order.interpolate(code, chance)
        return np.where(real, -np.log(chance), 0.0)


class _Order:
    """Counts of one order: n-grams, and per context its total and how many different bytes follow."""

    def __init__(self, codes: IntArray) -> None:
        self._grams, self._counts = np.unique(codes, return_counts=True)
        contexts, first = np.unique(self._grams // VOCABULARY, return_index=True)
        self._contexts = contexts
        self._kinds = np.diff(np.append(first, len(self._grams)))
        self._totals = np.add.reduceat(self._counts, first)

    def interpolate(self, codes: IntArray, lower: FloatArray) -> FloatArray:
        """Chance of each n-gram's last byte, given that of the order below."""
        count = _looked_up(self._grams, self._counts, codes)
        total = _looked_up(self._contexts, self._totals, codes // VOCABULARY)
        kinds = _looked_up(self._contexts, self._kinds, codes // VOCABULARY)
        seen = total > 0
        mixed: FloatArray = (count + kinds * lower) / np.where(seen, total + kinds, 1)
        return np.where(seen, mixed, lower)


def _looked_up(keys: IntArray, values: IntArray, wanted: IntArray) -> IntArray:
    """The value of each key, 0 for one that is not there."""
    places = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[places] == wanted, values[places], 0)
