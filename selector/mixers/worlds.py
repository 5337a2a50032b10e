"""Seeded worlds for the simulator: a true influence, and the graphs that a user might have declared for it.

World `seed` has k = (5, 20, 56)[seed mod 3] skills that are their own arms. Its skills are put in a random order; every
pair in that order is an edge with a probability drawn from 5 to 40 %, of a weight drawn from 0.25 to 0.75 (a world
without any edge gets one). With B = I + edges the truth is A = s B, with s such that the best mixture that never moves
takes 90 % off the mean loss in 50 rounds. What is declared is in units of B, without s: a user knows what helps what,
not how fast.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from prereq.graph.influence import Influence
from prereq.selector.mixers.protocol import Arms
from prereq.selector.mixers.simplex import FloatArray, softmax

Declared = Literal["right", "reversed", "shuffled", "complete", "empty"]
DECLARED: tuple[Declared, ...] = get_args(Declared)
"""How a declared graph may relate to the truth; all but the first are wrong."""

SIZES = (5, 20, 56)
ROUNDS = 50
REMAINS = 0.1
"""Share of the mean loss that the best fixed mixture leaves after ROUNDS rounds."""

EDGE = 0.5
"""Weight of every edge of the complete graph: the mean of the weights of true edges."""

_TRUTH, _SHUFFLE = 0, 1  # purposes of random numbers


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class World:
    """A world; see the module.

    Attributes:
        seed: It follows from this alone.
        structure: B `(k, k)`, row = trained on.
        speed: s.
        best_fixed: `(k,)`, the fixed mixture that leaves REMAINS of the loss.
        arms: The k skills.
    """

    seed: int
    structure: FloatArray
    speed: float
    best_fixed: FloatArray
    arms: Arms

    @property
    def truth(self) -> Influence:
        """A = s B."""
        return Influence(self.arms.ids, self.arms.ids, self.speed * self.structure)

    def declared(self, kind: Declared) -> Influence:
        """The influence that a mixer is told, diagonal 1.

        right is B; reversed turns every edge round; shuffled gives the edges to other skills by a random renaming;
        complete has an edge of weight EDGE between any two skills; empty has none.
        """
        k = len(self.structure)
        edges = self.structure - np.eye(k)
        if kind == "reversed":
            edges = edges.T
        elif kind == "shuffled":
            order = np.random.default_rng([self.seed, _SHUFFLE]).permutation(k)
            edges = edges[np.ix_(order, order)]
        elif kind == "complete":
            edges = EDGE * (1.0 - np.eye(k))
        elif kind == "empty":
            edges = np.zeros((k, k))
        return Influence(self.arms.ids, self.arms.ids, np.eye(k) + edges)


def make_world(seed: int) -> World:
    """The world of a seed >= 0, the same on every machine up to rounding."""
    rng = np.random.default_rng([seed, _TRUTH])
    k = SIZES[seed % len(SIZES)]
    density = rng.uniform(0.05, 0.40)
    order = rng.permutation(k)
    linked = np.triu(rng.random((k, k)) < density, 1)
    linked[0, 1] |= not linked.any()
    weights = np.where(linked, rng.uniform(0.25, 0.75, (k, k)), 0.0)
    structure = np.eye(k)
    structure[np.ix_(order, order)] += weights
    speed, best = _speed(structure)
    arms = Arms.of_skills([f"skill-{index:02d}" for index in range(k)])
    return World(seed=seed, structure=structure, speed=speed, best_fixed=best, arms=arms)


def remaining(structure: FloatArray, speed: float, mixture: FloatArray, rounds: int = ROUNDS) -> float:
    """Share of the mean loss that a fixed mixture leaves: mean_j max(1 - s (B' p)_j, 0)^rounds."""
    return float((np.maximum(1.0 - speed * (structure * mixture[:, None]).sum(axis=0), 0.0) ** rounds).mean())


def _speed(structure: FloatArray) -> tuple[float, FloatArray]:
    """s by bisection, and the best fixed mixture at it."""
    mixture = np.full(len(structure), 1.0 / len(structure))
    low, high = 0.0, 1.0
    while remaining(structure, high, _best_fixed(structure, high, mixture)) > REMAINS:
        low, high = high, 2.0 * high
    for _ in range(30):
        middle = 0.5 * (low + high)
        found = _best_fixed(structure, middle, mixture)
        if remaining(structure, middle, found) > REMAINS:
            low = middle
        else:
            high, mixture = middle, found
    return high, mixture


def _best_fixed(structure: FloatArray, speed: float, start: FloatArray, steps: int = 150) -> FloatArray:
    """Mirror descent on what remains, convex in the mixture; returns the best mixture on the way."""
    best, least, mixture = start, remaining(structure, speed, start), start
    for number in range(steps):
        left = np.maximum(1.0 - speed * (structure * mixture[:, None]).sum(axis=0), 0.0)
        gain = (structure * left ** (ROUNDS - 1)).sum(axis=1)
        gain = (gain - gain.mean()) / max(float(np.abs(gain - gain.mean()).max()), 1e-300)
        mixture = softmax(np.log(np.maximum(mixture, 1e-12)) + 0.3 / (1.0 + number / 10.0) * gain)
        now = remaining(structure, speed, mixture)
        if now < least:
            best, least = mixture, now
    return best
