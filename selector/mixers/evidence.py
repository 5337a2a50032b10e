"""What a run says about influence: a Bayesian linear model of relative drops in loss, kept as a few rows per round.

Under the dynamics L_j(t) = L_j(t-1) (1 - (A' x)_j) a drop y_j = 1 - L_j(t) / L_j(t-1) is kappa_t x . A_j + noise, with
x the shares of tokens per skill and kappa_t one scalar per round (learning slows down). A_j has the prior

    own_j e_j + trust * declared_j + level * (1 - e_j) + r + N(0, V),    trust ~ N(1, .), level ~ N(0, .), r ~ N(0, R)

so that a graph that explains nothing loses its weight as a whole (trust), and what a row does for all columns is known
(r, the same for every j: a skill that helps many shows in the sum of all drops) before single entries are (V). The
posterior is held in its dual form: mean A_j = prior_j + V F' c_j with F the observed kappa_t x_t `(h, k)`. Nothing of
size k x m or k x k is ever formed; within the rows that are remembered the result is exact. Pure functions, no threads.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from prereq.selector.mixers.simplex import FloatArray, IntArray

_RIDGE = 0.001  # pulls the first look at level and trust to the declared graph, in mean squares of the features
_LEAST_SCALE = 0.1  # kappa of a round is at least this share of the kappa of all rounds


@dataclass(frozen=True, slots=True, kw_only=True)
class Beliefs:
    """The prior and the noise.

    Attributes:
        variance: V `(k,)`, of an entry of A in a row; 0 for a row that is known to be the declared one.
        own_row: int64 `(m,)`, the row of A of the same id as a column; -1 where there is none.
        own: `(m,)`, declared influence of a skill on itself; 0 where there is no such row.
        known: `(k,)`, 1.0 for rows that `level` applies to, else 0.0.
        level_sd, trust_sd: Standard deviations; without any own entry both are fixed, as only kappa can be told then.
        noise: Relative standard deviation of a loss measured over one token.
        forgetting: Weight of a drop, per round of age, in (0, 1].
        smoothing: Weight of a neighbouring round in kappa_t, per round of distance, in [0, 1).
    """

    variance: FloatArray
    own_row: IntArray
    own: FloatArray
    known: FloatArray
    row_sd: float
    level_sd: float
    trust_sd: float
    noise: float
    forgetting: float
    smoothing: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """What is remembered of h rounds, oldest first, and of the h + 1 reports around them.

    Attributes:
        losses: `(h + 1, m)`, nats per token; 0 where not measured.
        tokens: `(h + 1, m)`, tokens behind each loss; 0 where not measured.
        shares: x `(h, k)`, shares of the tokens drawn between two reports.
        declared: `(h, m)`, x . A0_j of the declared influence.
    """

    losses: FloatArray
    tokens: FloatArray
    shares: FloatArray
    declared: FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class _Group:
    """Columns that were measured in the same reports with about the same number of tokens."""

    columns: IntArray  # (g,)
    spans: FloatArray  # (n, h), 1.0 where a round lies between two of their reports
    last: IntArray  # (n,), the last round of each span
    drops: FloatArray  # (n, g)
    noise: FloatArray  # (n, n), covariance of the drops around their means


@dataclass(frozen=True, slots=True, kw_only=True)
class Posterior:
    """The model after the rows; see `Beliefs` for the words.

    Attributes:
        trust, level: Posterior means of the two scalars.
        scale: kappa per round `(h,)`.
        features: F = kappa_t x_t `(h, k)`.
        coefficients: c `(h, m)`.
        rows: Posterior mean of r `(k,)`.
        rows_variance: And its variance `(k,)`.
        precision: Per group of columns: the columns, their spans `(n, h)` and inverse covariance of drops `(n, n)`.
    """

    trust: float
    level: float
    scale: FloatArray
    features: FloatArray
    coefficients: FloatArray
    rows: FloatArray
    rows_variance: FloatArray
    precision: tuple[tuple[IntArray, FloatArray, FloatArray], ...]


def posterior(rows: Rows, beliefs: Beliefs, weight: float) -> Posterior | None:
    """Fit kappa, trust, level and the entries of A to the rows.

    Args:
        rows: The memory.
        beliefs: Prior and noise.
        weight: Of the observations; 2 counts each twice, 0 none.

    Returns:
        The posterior; None when there is nothing to learn from: weight 0, no skill measured twice, or losses that do
        not fall at all, so that kappa is not positive.

    Source:
        Gaussian process regression in its dual form with two global coefficients (Rasmussen & Williams 2006, eqs.
        2.41-2.42); the dynamics are those of Chen et al. 2023, arXiv:2307.14430. Two consecutive drops share a
        measurement, so their noises are correlated; ignoring that wastes most of what slow trends tell.
    """
    groups = tuple(_groups(rows, beliefs, weight)) if weight > 0 else ()
    if not groups:
        return None
    own, level = own_features(rows.shares, beliefs)
    rest = rows.declared - own
    scale = _scales(groups, _expected(groups, (own, level, rest), beliefs), beliefs.smoothing)
    return None if scale is None else _fit(groups, rows.shares * scale[:, None], scale, (own, level, rest), beliefs)


def _expected(
    groups: tuple[_Group, ...], parts: tuple[FloatArray, FloatArray, FloatArray], beliefs: Beliefs
) -> FloatArray:
    """A first look at the drops `(h, m)` up to kappa: least squares on own, level and declared features together.

    With kappa from the declared graph alone, a graph that claims too much would pass for slow learning.
    """
    own, level, rest = parts
    gram, moment = np.zeros((3, 3)), np.zeros(3)
    for group in groups:
        sides = [np.einsum("nt,tg->ng", group.spans, part[:, group.columns]) for part in parts]
        moment += [(side * group.drops).sum() for side in sides]
        gram += [[(one * other).sum() for other in sides] for one in sides]
    pull = np.array([[1.0, 0.0, -1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 1.0]])  # level to 0, trust to kappa
    size = float(np.trace(gram)) / 3.0
    if not (beliefs.own != 0.0).any() or size <= 0.0:
        return own + rest
    by_own, by_level, by_rest = np.linalg.solve(gram + size * (_RIDGE * pull + 1e-12 * np.eye(3)), moment).tolist()
    if by_own <= 0.0:
        return own + rest
    return own + max(by_level / by_own, 0.0) * level + min(max(by_rest / by_own, -1.0), 1.0) * rest


def own_features(shares: FloatArray, beliefs: Beliefs) -> tuple[FloatArray, FloatArray]:
    """Per column: drop that its own row explains, and shares of all other rows; both `(h, m)`."""
    same = np.where(beliefs.own_row >= 0, shares[:, beliefs.own_row], 0.0)
    everything = (shares * beliefs.known).sum(axis=1)
    return same * beliefs.own, everything[:, None] - same


def _groups(rows: Rows, beliefs: Beliefs, weight: float) -> Iterator[_Group]:
    # a loss of 0 ends a span, by a drop of 1, and begins none; tokens count to the nearest power of two, which keeps
    # the groups few. A kind is twice that power, plus 1 where the loss is 0; -1 where nothing was measured
    sizes = np.round(np.log2(np.maximum(rows.tokens, 1.0))).astype(np.int64)
    pattern = np.where(rows.tokens > 0, 2 * np.minimum(sizes, 62) + (rows.losses <= 0), -1).astype(np.int8).T
    count = len(rows.shares)
    whole = np.ascontiguousarray(pattern).view(f"V{count + 1}").reshape(-1)  # bytes compare faster than rows
    _, first, member = np.unique(whole, return_index=True, return_inverse=True)
    rounds = np.arange(count)
    for index, kind in enumerate(pattern[first].astype(np.int64)):
        reports = np.flatnonzero(kind >= 0)
        begins = kind[reports[:-1]] % 2 == 0
        start, stop = reports[:-1][begins], reports[1:][begins]
        if not start.size:
            continue
        columns = np.flatnonzero(member == index)
        spans = ((rounds >= start[:, None]) & (rounds < stop[:, None])).astype(np.float64)
        before, after = rows.losses[np.ix_(start, columns)], rows.losses[np.ix_(stop, columns)]
        drops = np.clip(1.0 - after / before, -1.0, 1.0)  # a spike must not outweigh everything else
        variance = beliefs.noise**2 / 2.0 ** (kind // 2) / weight  # of each report, where it measured
        ends = np.arange(count + 1)
        jumps = (ends == stop[:, None]).astype(np.float64) - (ends == start[:, None])
        noise = np.einsum("nr,mr->nm", jumps * variance, jumps)
        age = beliefs.forgetting ** (-0.5 * (count - stop))
        yield _Group(columns=columns, spans=spans, last=stop - 1, drops=drops, noise=noise * np.outer(age, age))


def _scales(groups: tuple[_Group, ...], expected: FloatArray, smoothing: float) -> FloatArray | None:
    """kappa per round `(h,)` by least squares of the drops on what is expected `(h, m)`, smoothed over rounds."""
    count = len(expected)
    products, squares = np.zeros(count), np.zeros(count)
    for group in groups:
        per_span = np.einsum("nt,tg->ng", group.spans, expected[:, group.columns])
        products[group.last] += (per_span * group.drops).sum(axis=1)
        squares[group.last] += (per_span * per_span).sum(axis=1)
    if not products.sum() > 0 or not squares.sum() > 0:
        return None
    overall = products.sum() / squares.sum()
    rounds = np.arange(count)
    weights = float(smoothing) ** np.abs(rounds[:, None] - rounds)
    near, total = (weights * products).sum(axis=1), (weights * squares).sum(axis=1)
    local = np.divide(near, total, out=np.full(count, overall), where=total > 0)
    return np.maximum(local, _LEAST_SCALE * overall)


def _fit(
    groups: tuple[_Group, ...],
    features: FloatArray,
    scale: FloatArray,
    parts: tuple[FloatArray, FloatArray, FloatArray],
    beliefs: Beliefs,
) -> Posterior:
    """The posterior given kappa; `parts` are own, level and declared features `(h, m)` before kappa."""
    kernel = np.einsum("tk,sk->ts", features * beliefs.variance, features)
    tell = bool((beliefs.own != 0.0).any())
    gram, moment = np.zeros((2, 2)), np.zeros(2)
    solved = []
    for group in groups:
        shared = np.einsum("ns,ms->nm", np.einsum("nt,ts->ns", group.spans, kernel), group.spans)
        inverse = np.linalg.inv(shared + group.noise)
        own, level, rest = (np.einsum("nt,tg->ng", group.spans * scale, part[:, group.columns]) for part in parts)
        left = group.drops - own
        for row, side in enumerate((level, rest)):
            weighted = np.einsum("nm,mg->ng", inverse, side)
            moment[row] += (weighted * left).sum()
            gram[row] += [(weighted * level).sum(), (weighted * rest).sum()]
        solved.append((group, inverse, left, level, rest))
    level_mean, trust = _two_scalars(gram, moment, beliefs) if tell else (0.0, 1.0)
    rests = [left - level_mean * level - trust * rest for _, _, left, level, rest in solved]
    rows, rows_variance = _rows_effect(
        [(group, inverse, rest) for (group, inverse, *_), rest in zip(solved, rests, strict=True)], features, beliefs
    )
    coefficients = np.zeros_like(parts[0])
    per_round = (features * rows).sum(axis=1)  # (h,)
    for (group, inverse, *_), rest in zip(solved, rests, strict=True):
        left = rest - (group.spans * per_round).sum(axis=1)[:, None]
        dual = np.einsum("nm,mg->ng", inverse, left)
        coefficients[:, group.columns] = np.einsum("nt,ng->tg", group.spans, dual)
    return Posterior(
        trust=trust,
        level=level_mean,
        scale=scale,
        features=features,
        coefficients=coefficients,
        rows=rows,
        rows_variance=rows_variance,
        precision=tuple((group.columns, group.spans, inverse) for group, inverse, *_ in solved),
    )


def _rows_effect(
    solved: list[tuple[_Group, FloatArray, FloatArray]], features: FloatArray, beliefs: Beliefs
) -> tuple[FloatArray, FloatArray]:
    """Posterior mean and variance of r `(k,)` given the other scalars: a regression of the mean drop of all columns.

    The columns of a group have the same covariance C given r, so what they say about r is in their sum. With
    r = R F' c the normal equations are (I + S R F F') c = sum of spans' C^-1 y, S = sum of columns * spans' C^-1 spans.
    """
    prior = beliefs.row_sd**2 * beliefs.known
    count = len(features)
    information, moment = np.zeros((count, count)), np.zeros(count)
    for group, inverse, rest in solved:
        weighted = np.einsum("nt,nm->tm", group.spans, inverse)
        information += len(group.columns) * np.einsum("tm,ms->ts", weighted, group.spans)
        moment += np.einsum("tm,m->t", weighted, rest.sum(axis=1))
    gram = np.einsum("tk,sk->ts", features * prior, features)
    system = np.eye(count) + np.einsum("ts,su->tu", information, gram)
    mean = prior * (features * np.linalg.solve(system, moment)[:, None]).sum(axis=0)
    reduced = np.linalg.solve(system, information)
    variance = prior - prior**2 * (features * np.einsum("ts,sk->tk", reduced, features)).sum(axis=0)
    return mean, np.maximum(variance, 0.0)


def _two_scalars(gram: FloatArray, moment: FloatArray, beliefs: Beliefs) -> tuple[float, float]:
    """Level >= 0 and trust in [-1, 1] of largest posterior density: a box, so the best corner or edge is checked.

    Below 0 the declared edges help less than what nobody declared, as in a graph that is the wrong way round.
    """
    gram = gram + np.diag([1.0 / beliefs.level_sd**2, 1.0 / beliefs.trust_sd**2])
    moment = moment + np.array([0.0, 1.0 / beliefs.trust_sd**2])
    determinant = gram[0, 0] * gram[1, 1] - gram[0, 1] * gram[1, 0]
    level = (moment[0] * gram[1, 1] - gram[0, 1] * moment[1]) / determinant
    trust = (gram[0, 0] * moment[1] - gram[1, 0] * moment[0]) / determinant
    if level >= 0.0 and -1.0 <= trust <= 1.0:
        return float(level), float(trust)
    edges = [(max((moment[0] - gram[0, 1] * fixed) / gram[0, 0], 0.0), fixed) for fixed in (-1.0, 1.0)]
    edges.append((0.0, min(max(moment[1] / gram[1, 1], -1.0), 1.0)))
    return min(((float(a), float(b)) for a, b in edges), key=lambda point: _energy(gram, moment, point))


def _energy(gram: FloatArray, moment: FloatArray, point: tuple[float, float]) -> float:
    at = np.array(point)
    return float(0.5 * (at * (gram * at).sum(axis=1)).sum() - (moment * at).sum())


def mean_times(fitted: Posterior, declared: FloatArray, losses: FloatArray, beliefs: Beliefs) -> FloatArray:
    """Posterior mean of A, times l: `(k,)`.

    Args:
        fitted: The posterior.
        declared: A0 l `(k,)` of the declared influence.
        losses: l `(m,)`.
        beliefs: Prior and noise.
    """
    own = np.flatnonzero(beliefs.own_row >= 0)
    on_own, own_loss = np.zeros_like(declared), np.zeros_like(declared)
    on_own[beliefs.own_row[own]] = beliefs.own[own] * losses[own]
    own_loss[beliefs.own_row[own]] = losses[own]
    prior = on_own + fitted.trust * (declared - on_own) + fitted.level * beliefs.known * (losses.sum() - own_loss)
    dual = (fitted.coefficients * losses).sum(axis=1)  # (h,)
    prior = prior + fitted.rows * losses.sum()
    return prior + beliefs.variance * (fitted.features * dual[:, None]).sum(axis=0)


def deviation_times(fitted: Posterior | None, losses: FloatArray, beliefs: Beliefs) -> FloatArray:
    """Posterior standard deviation of A l `(k,)`, columns independent: what is still uncertain about a row's effect."""
    common = beliefs.row_sd**2 * beliefs.known if fitted is None else fitted.rows_variance
    variance = beliefs.variance * (losses**2).sum()
    for columns, spans, inverse in fitted.precision if fitted is not None else ():
        seen = np.einsum("nt,tk->nk", spans, fitted.features if fitted is not None else spans)
        explained = (seen * np.einsum("nm,mk->nk", inverse, seen)).sum(axis=0)
        variance = variance - (losses[columns] ** 2).sum() * beliefs.variance**2 * explained
    return np.sqrt(np.maximum(variance, 0.0) + common * losses.sum() ** 2)
