"""Diversity of a selection: the Vendi score of any order, from a kernel or from a d x d statistic that workers merge.

The score is an effective number: n documents that have nothing in common score n, copies of one document score 1. The
vectors may be embeddings or, for a score by what documents teach, gradients (G-Vendi, arXiv:2505.20161).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

RELATIVE_ZERO = 1e-12
"""Eigenvalues below this share of the largest are rounding: at orders near 0 they would count as whole modes."""

UNIT_TOLERANCE = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Spread:
    """What a set of unit vectors looks like, in a form that adds up.

    Attributes:
        moments: `(d, d)`, sum of w x x' over the vectors.
        weight: Sum of the weights w, the number of vectors where they are 1.
    """

    moments: FloatArray
    weight: float

    @classmethod
    def empty(cls, dimensions: int) -> "Spread":
        """Of no vector."""
        return cls(moments=np.zeros((dimensions, dimensions)), weight=0.0)

    @classmethod
    def of(cls, vectors: FloatArray, weights: FloatArray | None = None) -> "Spread":
        """Of unit vectors `(n, d)`, each counted `weights (n,)` times, by default once.

        Raises:
            ValueError: A row that is not of length 1 (within 1e-6), or a negative weight.
        """
        rows = np.asarray(vectors, dtype=np.float64)
        times = np.ones(len(rows)) if weights is None else np.asarray(weights, dtype=np.float64)
        lengths = np.sqrt((rows**2).sum(axis=1))
        if rows.ndim != 2 or times.shape != (len(rows),) or (times < 0).any():
            raise ValueError(
                f"diversity: vectors {rows.shape} and weights {times.shape}; expected (n, d), n numbers >= 0"
            )
        wrong = np.flatnonzero(~(np.abs(lengths - 1.0) <= UNIT_TOLERANCE))
        if wrong.size:
            raise ValueError(f"diversity: vector {wrong[0]} has length {lengths[wrong[0]]}; expected unit vectors")
        return cls(moments=(rows * times[:, None]).T @ rows, weight=float(times.sum()))

    def __add__(self, other: "Spread") -> "Spread":
        """Of both sets together."""
        return Spread(moments=self.moments + other.moments, weight=self.weight + other.weight)

    def vendi_score(self, q: float = 1.0) -> float:
        """The effective number of different vectors, 1 to min(n, d); 0 for an empty set. See `vendi_score`."""
        if self.weight == 0.0:
            return 0.0
        return effective_number(np.asarray(np.linalg.eigvalsh(self.moments / self.weight), dtype=np.float64), q)

    def log_det(self) -> float:
        """log det(I + sum of w x x'), nats: grows with every vector, fastest with one that is new."""
        sign, value = np.linalg.slogdet(np.eye(len(self.moments)) + self.moments)
        assert sign > 0  # I + a positive semi-definite matrix
        return float(value)


def effective_number(eigenvalues: FloatArray, q: float = 1.0) -> float:
    """exp of the Renyi entropy of order q of eigenvalues that sum to 1.

    Args:
        eigenvalues: Any shape, >= 0 but for rounding.
        q: Order >= 0: 0 counts modes, 1 is Shannon's, 2 the inverse of their squares' sum, inf the inverse of the
            largest. The larger, the less a rare mode counts.

    Raises:
        ValueError: A negative order or NaN.
    """
    if not q >= 0:
        raise ValueError(f"diversity: order q is {q}; expected a number >= 0 or inf")
    values = np.asarray(eigenvalues, dtype=np.float64).ravel()
    values = values[values > RELATIVE_ZERO * values.max()]
    values = values / values.sum()
    if q == np.inf:
        return float(1.0 / values.max())
    if q == 1.0:
        return float(np.exp(-(values * np.log(values)).sum()))
    # powers of ratios to the largest, so that a large order does not underflow
    largest = values.max()
    log_sum = q * np.log(largest) + np.log(((values / largest) ** q).sum())
    return float(np.exp(log_sum / (1.0 - q)))


def vendi_score(kernel: FloatArray, q: float = 1.0, weights: FloatArray | None = None) -> float:
    """The Vendi score of a kernel matrix.

    Args:
        kernel: K `(n, n)`, positive semi-definite with ones on the diagonal: similarities of n items.
        q: Order, see `effective_number`.
        weights: Probabilities `(n,)` of the items; by default equal.

    Returns:
        Effective number of different items, 1 to n; 0 for no items.

    Raises:
        ValueError: A matrix that is not square and symmetric with a diagonal of ones, or weights that do not sum to 1.

    Source:
        Friedman & Dieng 2022, "The Vendi Score", arXiv:2210.02410; orders: Pasarkar & Dieng 2023, arXiv:2310.12952.
    """
    matrix = np.asarray(kernel, dtype=np.float64)
    n = len(matrix)
    if matrix.shape != (n, n) or not np.allclose(matrix, matrix.T) or not np.allclose(np.diag(matrix), 1.0):
        raise ValueError(f"diversity: kernel {matrix.shape} must be square and symmetric with ones on its diagonal")
    if n == 0:
        return 0.0
    shares = np.full(n, 1.0 / n) if weights is None else np.asarray(weights, dtype=np.float64)
    if shares.shape != (n,) or (shares < 0).any() or abs(float(shares.sum()) - 1.0) > 1e-9:
        raise ValueError(f"diversity: weights must be {n} numbers >= 0 that sum to 1")
    root = np.sqrt(shares)
    return effective_number(np.asarray(np.linalg.eigvalsh(root[:, None] * matrix * root), dtype=np.float64), q)


def g_optimal(vectors: FloatArray, count: int, ridge: float = 1.0) -> NDArray[np.int64]:
    """Choose vectors one by one, each time the one that those chosen so far say least about.

    The G-optimal design keeps the largest x' M^-1 x over all vectors small, M = ridge * I + sum of the chosen x x'. The
    greedy choice takes the vector that has this largest value, which is also the one that adds most to log det M, so
    the set is within 1 - 1/e of the best for log det.

    Args:
        vectors: `(n, d)`.
        count: At most n.
        ridge: > 0; the smaller, the more a new direction counts beside a long vector.

    Returns:
        int64 `(count,)`, in the order of choice; ties by index.

    Source:
        Kiefer & Wolfowitz 1960 for the equivalence of G- and D-optimal designs; Nemhauser et al. 1978 for the bound.
    """
    rows = np.asarray(vectors, dtype=np.float64)
    if rows.ndim != 2 or not 0 <= count <= len(rows) or not ridge > 0:
        raise ValueError(
            f"g_optimal: {count} of vectors {rows.shape} with ridge {ridge}; expected count <= n, ridge > 0"
        )
    spread = (rows**2).sum(axis=1) / ridge  # x' M^-1 x, (n,)
    inverse = np.eye(rows.shape[1]) / ridge
    open_rows = np.ones(len(rows), dtype=np.bool_)
    chosen: list[int] = []
    for _ in range(count):
        best = int(np.argmax(np.where(open_rows, spread, -np.inf)))
        chosen.append(best)
        open_rows[best] = False
        # Sherman-Morrison: M^-1 loses u u' / (1 + x' u) with u = M^-1 x
        direction = inverse @ rows[best]
        scale = 1.0 + float(rows[best] @ direction)
        spread = np.maximum(spread - (rows @ direction) ** 2 / scale, 0.0)
        inverse -= np.outer(direction, direction) / scale
    return np.array(chosen, dtype=np.int64)


def largest_spread(vectors: FloatArray, chosen: NDArray[np.int64], ridge: float = 1.0) -> float:
    """The G-criterion of a choice: the largest x' M^-1 x over all vectors; the smaller, the better they are covered."""
    rows = np.asarray(vectors, dtype=np.float64)
    picked = rows[chosen]
    moments = ridge * np.eye(rows.shape[1]) + picked.T @ picked
    return float((rows * np.linalg.solve(moments, rows.T).T).sum(axis=1).max())
