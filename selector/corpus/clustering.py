"""Groups of similar documents: mini-batch k-means on unit vectors, fitted on a sample, and what to call each group."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from prereq.graph.errors import ConfigError
from prereq.selector.corpus.grouping import balancing_prices
from prereq.selector.corpus.keys import KeyArray, id_keys, seeded_order
from prereq.selector.corpus.words import split_words

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]

_SAMPLE = "clustering sample"  # purpose of the seeded order
_KMEANS = 0x6B6D6E73  # purpose of the random numbers of k-means
_ROWS = 1024  # rows of each product of vectors and centroids; fixed, so that a row's result is too
_SHORTEST_TERM = 3  # letters
_SAYS_NOTHING = frozenset(
    split_words(
        "about after all also and any are because been before but can could did does each few for from get had has "
        "have her here him his how into its just let like may more most much not now one only other our out over same "
        "she should some such than that the their them then there these they this those too two under use used using "
        "very was way were what when where which while who why will with would you your"
    )
)
_RARE = 0.02  # share elsewhere below which a term is as good as absent there


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusteringConfig:
    """How documents become clusters."""

    clusters: int | None = None  # number of clusters; None: the root of half the documents, from 2 to 256
    fine: int | None = None  # find this many small clusters first, then group them into `clusters` by their centroids
    balance: float | None = None  # largest (small) cluster in the sample, in mean sizes, 1 or more; None: no bound
    merge: float | None = None  # merge clusters whose unit centroids lie nearer than this, 0 to 2; None: do not
    min_documents: int = 1  # clusters with fewer documents are merged into the nearest one
    prune_column: str | None = None  # metadata column of numbers, a document's score; None: nothing is pruned
    prune_below: float = 0.0  # (small) clusters whose mean score is below leave the pool, with their documents
    sample: int = 100_000  # documents that the centroids are fitted on
    batch_size: int = 2048  # documents of the sample in one step of k-means
    max_iter: int = 50  # passes of mini-batches over the sample, at most
    n_init: int = 3  # fits from other starts, of which the one with the largest mean cosine counts
    polish: int = 20  # full passes over the sample after the mini-batches, at most; 0: none
    name_documents: int = 40  # documents of a cluster that its name is taken from
    name_characters: int = 2000  # characters of each of them
    name_terms: int = 3  # terms in a name

    def __post_init__(self) -> None:
        if self.clusters is not None and self.clusters < 1:
            raise ConfigError(f"clustering.clusters must be at least 1, or null for the rule, got {self.clusters}")
        for name in ("sample", "batch_size", "max_iter", "n_init", "name_documents", "name_characters", "name_terms"):
            if getattr(self, name) < 1:
                raise ConfigError(f"clustering.{name} must be at least 1, got {getattr(self, name)}")
        if self.polish < 0:
            raise ConfigError(f"clustering.polish must be 0 or more, got {self.polish}")
        self._check_grouping()

    def _check_grouping(self) -> None:
        if self.fine is not None and self.fine < max(2, self.clusters or 2):
            raise ConfigError(
                f"clustering.fine must be at least 2 and no less than clustering.clusters, got {self.fine}"
            )
        if self.balance is not None and not 1 <= self.balance < math.inf:
            raise ConfigError(f"clustering.balance must be 1 or more, or null for no bound, got {self.balance}")
        if self.merge is not None and not 0 < self.merge <= 2:
            raise ConfigError(f"clustering.merge must be above 0 and at most 2, or null, got {self.merge}")
        if self.min_documents < 1:
            raise ConfigError(f"clustering.min_documents must be at least 1, got {self.min_documents}")
        if self.prune_column == "" or not math.isfinite(self.prune_below):
            raise ConfigError(
                f"clustering.prune_column must be a name and prune_below a number, got {self.prune_column!r} and "
                f"{self.prune_below}"
            )

    @property
    def regroups(self) -> bool:
        """Whether the clusters that are fitted are grouped, merged or pruned afterwards."""
        further = (self.fine, self.merge, self.prune_column)
        return any(value is not None for value in further) or self.min_documents > 1


def number_of_clusters(documents: int, config: ClusteringConfig) -> int:
    """Clusters to look for: as configured, or round(sqrt(documents / 2)) from 2 to 256; never more than documents."""
    wanted = config.clusters or min(256, max(2, math.floor(math.sqrt(documents / 2) + 0.5)))
    return min(wanted, documents)


def number_to_fit(documents: int, config: ClusteringConfig) -> int:
    """Clusters that the fit looks for: the small ones where there are such, else the clusters themselves."""
    return number_of_clusters(documents, config) if config.fine is None else min(config.fine, documents)


def sample_order(ids: Iterable[str], seed: int) -> KeyArray:
    """The order in which documents are taken into samples, `(n,)` uint64; from id and seed alone."""
    return seeded_order(id_keys(ids), seed, _SAMPLE)


def fit_centroids(vectors: FloatArray, clusters: int, config: ClusteringConfig, seed: int) -> FloatArray:
    """Centroids of the sample's clusters.

    Mini-batch k-means (k-means++ starts), then full spherical k-means passes: each document to the centroid of largest
    cosine, each centroid to the direction of its documents' sum; `config.n_init` times, and the best fit counts.
    Centroids that end without a document are dropped.

    Args:
        vectors: `(n, d)`, unit length, n >= 1, in the order of the sample: the result depends on the order.
        clusters: Wanted; fewer where there are fewer distinct vectors.
        config: Steps of the fit.
        seed: Chooses starts and batches.

    Returns:
        `(k, d)` float32 of unit length, 1 <= k <= clusters, by documents of the sample, most first (ties by the
        centroids' values); each is the nearest centroid of at least one document of the sample.

    Source:
        Sculley 2010, "Web-scale k-means clustering"; Dhillon and Modha 2001 for the spherical passes.
    """
    from sklearn.cluster import MiniBatchKMeans

    wanted = min(clusters, _count_distinct(vectors, clusters))
    with threadpool_limits(1):  # after the import above: only libraries that are loaded by then are held to one thread
        fits = [_one_fit(MiniBatchKMeans, vectors, wanted, config, [seed, _KMEANS, n]) for n in range(config.n_init)]
        _, centroids = max(fits, key=lambda fit: fit[0])  # the first of equals
        return _without_empty(vectors, centroids)


def balance_centroids(
    vectors: FloatArray, centroids: FloatArray, config: ClusteringConfig
) -> tuple[FloatArray, FloatArray]:
    """Centroids whose clusters are bounded in size, and the price of each.

    Passes of `balancing_prices` and of moving centroids to the direction of their documents' sum, `config.polish` of
    them, at least one. The bound is `config.balance` mean sizes of this sample; over other documents of the same kind
    it holds as nearly as they are distributed alike.

    Args:
        vectors: `(n, d)`, unit length: the sample.
        centroids: `(k, d)`, from `fit_centroids`.
        config: `balance` is set.

    Returns:
        `(k, d)` and `(k,)` for `assign`.
    """
    bound = max(1, math.ceil(float(config.balance or math.inf) * len(vectors) / len(centroids)))
    with threadpool_limits(1):
        for _ in range(config.polish):
            prices = balancing_prices(_cosines(vectors, centroids), bound)
            centroids = _directions(vectors, assign(vectors, centroids, prices)[0], centroids)
        return centroids, balancing_prices(_cosines(vectors, centroids), bound)


def assign(
    vectors: FloatArray, centroids: FloatArray, prices: FloatArray | None = None
) -> tuple[npt.NDArray[np.int32], FloatArray]:
    """The nearest centroid of each vector, ties to the lower number, and the cosine to it.

    Products are taken `_ROWS` rows at a time, the last ones filled up with zeros, so that a row's product does not
    depend on how many rows come with it.

    Args:
        vectors: `(n, d)`, unit length.
        centroids: `(k, d)`, unit length.
        prices: `(k,)`, taken off the cosines before they are compared.

    Returns:
        `(n,)` int32 and `(n,)` float32 in [-1, 1].
    """
    found, cosine = np.zeros(len(vectors), dtype=np.int32), np.zeros(len(vectors), dtype=np.float32)
    for start, scores in _products(vectors, centroids):
        best = (scores if prices is None else scores - prices).argmax(axis=1)
        found[start : start + len(scores)] = best
        cosine[start : start + len(scores)] = np.clip(scores[np.arange(len(scores)), best], -1, 1)
    return found, cosine


def name_clusters(texts: Mapping[int, Sequence[str]], clusters: int, config: ClusteringConfig) -> list[str]:
    """A name for each cluster: the terms that are frequent in it and rare elsewhere, joined by ", ".

    A term weighs p log((p + 0.02) / (q + 0.02)), with p the share of the cluster's documents that hold it and q the
    mean share in the other clusters. Terms are words of at least three letters, English function words apart, that two
    documents of the cluster hold (one, where it has one document). Names that agree get further terms, then a number.

    Args:
        texts: Some documents of each cluster.
        clusters: How many there are.
        config: Terms per name, characters read.

    Source:
        After c-TF-IDF (Grootendorst 2022, "BERTopic", section 3.3), with shares of documents in place of counts of
        terms (one long document must not name a cluster), and a ratio that is 1 for what all clusters share.
    """
    shares: list[dict[str, float]] = []
    for cluster in range(clusters):
        held = texts.get(cluster, ())
        found = Counter(word for text in held for word in set(split_words(text, config.name_characters)))
        least = 2 if len(held) > 1 else 1
        shares.append({word: n / len(held) for word, n in found.items() if n >= least and _is_term(word)})
    total: Counter[str] = Counter()
    for share in shares:
        total.update(share)
    ranked = [_rank(share, total, clusters) for share in shares]
    return _distinct_names(ranked, config.name_terms)


def _rank(share: Mapping[str, float], total: Mapping[str, float], clusters: int) -> list[str]:
    """Terms of a cluster by weight, largest first; ties by the more frequent, then from a to z."""
    weight = {}
    for word, p in share.items():
        q = max(0.0, total[word] - p) / max(1, clusters - 1)
        weight[word] = round(
            p * math.log((p + _RARE) / (q + _RARE)), 9
        )  # rounded: sums of shares differ in the last bits
    return sorted(share, key=lambda word: (-weight[word], -share[word], word))


def _distinct_names(ranked: Sequence[Sequence[str]], terms: int) -> list[str]:
    names: list[str] = []
    for words in ranked:
        lengths = range(terms, max(terms, len(words)) + 1)
        longer = (", ".join(words[:length]) for length in lengths[: terms + 1])
        plain = ", ".join(words[:terms]) or "unnamed"
        numbered = (f"{plain} ({number})" for number in range(2, len(ranked) + 2))
        candidates = [name for name in longer if name] or [plain]
        names.append(next(name for name in (*candidates, *numbered) if name not in names))
    return names


def _is_term(word: str) -> bool:
    if len(word) == 1:
        return word > "\u2fff"  # a Chinese or Japanese character is a word of its own
    return len(word) >= _SHORTEST_TERM and word[0] != "#" and word not in _SAYS_NOTHING


def _count_distinct(vectors: FloatArray, limit: int) -> int:
    """Distinct rows, counted up to `limit`."""
    seen: set[bytes] = set()
    for row in vectors:
        seen.add(row.tobytes())
        if len(seen) >= limit:
            break
    return len(seen)


def _one_fit(
    kmeans: Callable[..., Any], vectors: FloatArray, clusters: int, config: ClusteringConfig, seed: list[int]
) -> tuple[float, FloatArray]:
    """Mini-batches from one start and full passes behind them: the mean cosine, and the centroids."""
    centroids = _mini_batches(kmeans, vectors, clusters, config, seed)
    assigned, cosine = assign(vectors, centroids)
    for _ in range(config.polish):
        centroids = _directions(vectors, assigned, centroids)
        before, (assigned, cosine) = assigned, assign(vectors, centroids)
        if np.array_equal(before, assigned):
            break
    return round(float(cosine.mean(dtype=np.float64)), 9), centroids


def _mini_batches(
    kmeans: Callable[..., Any], vectors: FloatArray, clusters: int, config: ClusteringConfig, seed: list[int]
) -> FloatArray:
    batch = min(config.batch_size, len(vectors))
    fitted = kmeans(
        n_clusters=clusters,
        init="k-means++",
        batch_size=batch,
        init_size=min(len(vectors), max(3 * batch, 3 * clusters)),
        max_iter=config.max_iter,
        n_init=3,  # starts of which the best goes on
        random_state=int(np.random.default_rng(seed).integers(2**31)),
        compute_labels=False,
    ).fit(vectors)
    return _unit_or(fitted.cluster_centers_, vectors[:1])


def _products(vectors: FloatArray, centroids: FloatArray) -> Iterator[tuple[int, FloatArray]]:
    """Cosines of `_ROWS` vectors at a time, with the number of the first."""
    filled = np.zeros((_ROWS, centroids.shape[1]), dtype=np.float32)
    columns = np.ascontiguousarray(centroids.T, dtype=np.float32)
    for start in range(0, len(vectors), _ROWS):
        rows = vectors[start : start + _ROWS]
        filled[: len(rows)], filled[len(rows) :] = rows, 0
        yield start, (filled @ columns)[: len(rows)]


def _cosines(vectors: FloatArray, centroids: FloatArray) -> FloatArray:
    return np.concatenate([scores for _, scores in _products(vectors, centroids)])


def _directions(vectors: FloatArray, assigned: npt.NDArray[np.int32], centroids: FloatArray) -> FloatArray:
    """The direction of each cluster's sum, `(k, d)`; a cluster without documents, or whose sum is zero, stays."""
    from scipy import sparse

    rows = np.arange(len(vectors))
    shape = (len(centroids), len(vectors))
    members = sparse.csr_matrix((np.ones(len(vectors)), (assigned, rows)), shape=shape)
    return _unit_or(members @ vectors.astype(np.float64), centroids)


def _unit_or(sums: npt.NDArray[np.floating], otherwise: FloatArray) -> FloatArray:
    lengths = np.sqrt((sums * sums).sum(axis=1, keepdims=True))
    return np.where(lengths > 1e-6, sums / np.maximum(lengths, 1e-6), otherwise).astype(np.float32)


def _without_empty(vectors: FloatArray, centroids: FloatArray) -> FloatArray:
    """Centroids that are nearest to at least one vector, most documents first."""
    while True:
        sizes = np.bincount(assign(vectors, centroids)[0], minlength=len(centroids))
        if (sizes > 0).all():
            # lexsort: its last key decides first
            return np.ascontiguousarray(centroids[np.lexsort((*centroids.T[::-1], -sizes))])
        centroids = centroids[sizes > 0]
