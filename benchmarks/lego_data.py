"""LEGO: chains of true and false variables as shuffled clauses; skill s asks for the s-th variable of the chain.

The first clause of a chain gives a value (`a = val 1`); every other one names the variable before it, as `b = val a`
where the two are equal and `b = not a` where they are not. The text ends with the question: `Output: b = val 1 ,`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from prereq.selector.mixers.simplex import FloatArray, IntArray

CHAIN = 5
LETTERS = "abcdefghijklmnopqrstuvwxyz"
SKILLS = tuple(f"skill-{place}" for place in range(1, CHAIN + 1))
FALSE, TRUE, SAME, NOT = range(4)
"""Kinds of clause: `= val 0`, `= val 1`, `= val PARENT`, `= not PARENT`."""

NO_PARENT = len(LETTERS)


@dataclass(frozen=True, slots=True, eq=False)
class Examples:
    """n chains.

    Attributes:
        clauses: int64 `(n, 5, 3)` in the order of the text: variable, kind, parent (NO_PARENT of a root).
        asked: int64 `(n,)`, the variable that is asked for.
        answers: int64 `(n,)`, 0 or 1.
    """

    clauses: IntArray
    asked: IntArray
    answers: IntArray

    @property
    def keys(self) -> IntArray:
        """One number for every text `(n,)`, below 2^63: two texts have the same one exactly when they are the same."""
        key = self.asked.copy()
        sizes = (len(LETTERS), 4, len(LETTERS) + 1) * CHAIN
        for size, digits in zip(sizes, self.clauses.reshape(len(key), -1).T, strict=True):
            key = key * size + digits
        return key


def make(rng: np.random.Generator, skills: IntArray) -> Examples:
    """One chain for each entry of `skills` `(n,)`, places 0 to 4.

    Source:
        Chen et al. 2023, arXiv:2307.14430, LEGO; the generator of its repository, as arrays.
    """
    rows = np.arange(len(skills))
    letters = rng.permuted(np.tile(np.arange(len(LETTERS)), (len(skills), 1)), axis=1)[:, :CHAIN]
    truth = rng.integers(0, 2, (len(skills), CHAIN))
    kinds = truth.copy()
    kinds[:, 1:] = np.where(truth[:, 1:] == truth[:, :-1], SAME, NOT)
    parents = np.concatenate([np.full((len(skills), 1), NO_PARENT), letters[:, :-1]], axis=1)
    chain = np.stack([letters, kinds, parents], axis=2)
    order = rng.permuted(np.tile(np.arange(CHAIN), (len(skills), 1)), axis=1)
    return Examples(chain[rows[:, None], order], letters[rows, skills], truth[rows, skills])


def make_distinct(rng: np.random.Generator, skills: IntArray, taken: IntArray) -> tuple[Examples, IntArray]:
    """As `make`, without a text twice and without those whose keys are `taken`; also all keys taken from now on."""
    found = make(rng, skills)
    while True:
        keys = found.keys
        first = np.zeros(len(keys), dtype=bool)
        first[np.unique(keys, return_index=True)[1]] = True
        again = np.flatnonzero(~first | np.isin(keys, taken))
        if not again.size:
            return found, np.concatenate([taken, keys])
        other = make(rng, skills[again])
        for part in ("clauses", "asked", "answers"):
            getattr(found, part)[again] = getattr(other, part)


def split(shares: FloatArray | Sequence[float], n: int) -> IntArray:
    """Samples of each skill: floor(share * n), and what is left of n to the last skill."""
    counts = np.floor(np.asarray(shares) * n + 1e-9).astype(np.int64)  # a third of 3 is 1, whatever its last bit
    counts[-1] += n - counts.sum()
    return counts


def text(examples: Examples, index: int) -> str:
    """The words of one example, answer included."""
    said = []
    for variable, kind, parent in examples.clauses[index].tolist():
        value = str(kind) if parent == NO_PARENT else LETTERS[parent]
        said.append(f"{LETTERS[variable]} = {'not' if kind == NOT else 'val'} {value} .")
    return f"Input: {' '.join(said)} Output: {LETTERS[examples.asked[index]]} = val {examples.answers[index]} ,"
