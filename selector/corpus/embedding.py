"""Documents to unit vectors: a word model fitted on a sample of the corpus, then a weighted mean of word vectors.

Both methods end in the same model, a vector per word with the word's weight folded in, so that applying one is one
sparse product. A document's vector depends on its text and the model only, never on its neighbours or its part.
"""

import io
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy import sparse
from threadpoolctl import threadpool_limits

from prereq.graph.canonical import canonical_json
from prereq.graph.errors import ConfigError, TableError
from prereq.selector.corpus.fasttext_model import array_bytes, train_vectors, usable_min_count
from prereq.selector.corpus.given_vectors import VectorsConfig
from prereq.selector.corpus.keys import KeyArray, id_keys, seeded_order
from prereq.selector.corpus.word_ids import WordIndex
from prereq.selector.corpus.words import split_words

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]

WORD_METHODS = ("fasttext", "tfidf")  # those that fit a vector per word
MODEL_METHODS = ("sentence_transformers", "onnx")
METHODS = (*WORD_METHODS, "column", *MODEL_METHODS)
_NOT_WORDS = ("vectors", "model_path", "batch_size", "max_tokens")  # keys that no fit of words reads
_SAMPLE = "embedding sample"  # purpose of the seeded order
_SVD = 0x73766400  # purpose of the random numbers of the truncated SVD
_SHORTEST = 1e-6  # a mean shorter than this is rounding, not direction


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingConfig:
    """How documents become vectors."""

    # tfidf: TF-IDF and a truncated SVD; column: your own vectors; sentence_transformers, onnx: a local model
    method: Literal["fasttext", "tfidf", "column", "sentence_transformers", "onnx"] = "tfidf"
    vectors: VectorsConfig | None = None  # column: where the vectors are
    # sentence_transformers, onnx: the model's folder; onnx: holds model.onnx and tokenizer.json
    model_path: str | None = None
    batch_size: int = 32  # sentence_transformers, onnx: documents that go through the model at a time
    max_tokens: int = (
        512  # sentence_transformers, onnx: tokens of a document that the model reads; fewer where it says so
    )
    dim: int = 64  # fasttext, tfidf: length of a vector
    sample_mib: float = 16.0  # MiB of text that the model is fitted on, drawn by document
    max_characters: int = 20_000  # characters of a document that are read
    min_count: int = 5  # occurrences in the sample below which a word is unknown; fewer where words are few
    max_words: int = 50_000  # words in the model, the most frequent ones; tfidf: as many pairs besides
    pairs: bool = True  # tfidf: pairs of neighbouring known words count as words too
    idf_power: float = 1.5  # tfidf: power of the inverse document frequency in a word's weight, 0 to 3
    model: Literal["cbow", "skipgram"] = "cbow"  # fasttext: skipgram is a little better and several times slower
    epochs: int = 10  # fasttext: passes over the sample
    window: int = 10  # fasttext: words to each side that count as near

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ConfigError(f"embedding.method is {self.method!r}; expected one of {', '.join(METHODS)}")
        if (self.method == "column") != (self.vectors is not None):
            raise ConfigError("embedding.vectors: goes with embedding.method: column, which needs it")
        if (self.method in MODEL_METHODS) != (self.model_path is not None):
            raise ConfigError(
                f"embedding.model_path: goes with embedding.method: {' or '.join(MODEL_METHODS)}, which needs it"
            )
        if self.model not in ("cbow", "skipgram"):
            raise ConfigError(f"embedding.model is {self.model!r}; expected cbow or skipgram")
        if self.dim < 2:
            raise ConfigError(f"embedding.dim must be at least 2, got {self.dim}")
        if not 0 < self.sample_mib <= 4096:
            raise ConfigError(f"embedding.sample_mib must be above 0 and at most 4096, got {self.sample_mib}")
        if not 0 <= self.idf_power <= 3:
            raise ConfigError(f"embedding.idf_power must be from 0 to 3, got {self.idf_power}")
        for name in ("max_characters", "min_count", "max_words", "epochs", "window", "batch_size", "max_tokens"):
            if getattr(self, name) < 1:
                raise ConfigError(f"embedding.{name} must be at least 1, got {getattr(self, name)}")

    def settings(self) -> dict[str, Any]:
        """Plain values that decide a fit of words."""
        return {key: value for key, value in asdict(self).items() if key not in _NOT_WORDS}


@dataclass(frozen=True, slots=True)
class EmbeddingModel:
    """What a fit leaves.

    Args:
        words: The known words, in the order of the rows; behind them, pairs of known words, `one two`.
        rows: `(n_words, dim)` float32, each word's vector times its weight (inverse document frequency).
        centre: `(dim,)` float32, the mean vector of the sample, taken off every document: it is what all documents
            share (function words, the language), and only hides what tells them apart.
    """

    words: list[str]
    rows: FloatArray
    centre: FloatArray

    @property
    def fallback(self) -> FloatArray:
        """The vector of a document that holds no known word, or nothing but what all share: the first unit vector."""
        return np.eye(1, self.rows.shape[1], dtype=np.float32)[0]

    def embed(self, texts: Iterable[str], max_characters: int) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
        """Unit vectors of documents.

        unit(unit(sum over words of (1 + log count) * row) - centre); `fallback` where there is nothing to scale.
        A pair counts where its words follow each other in what `WordIndex` finds: unknown words are left out there.

        Args:
            texts: The documents.
            max_characters: What lies behind is not read.

        Returns:
            `(n, dim)` float32, each of length 1; `(n,)` bool, where the fallback was used.
        """
        found = with_pairs(*WordIndex(self.words).find(list(texts), max_characters), self.words)
        counts = damped_counts(*found, len(self.words))
        # vectors: (n, dim); a row of a sparse product is summed by itself, in the order of its words
        vectors, known = _unit(counts @ self.rows.astype(np.float64))
        vectors, apart = _unit(vectors - self.centre)
        missing = ~(known & apart)
        vectors[missing] = self.fallback
        return vectors.astype(np.float32), missing

    def files(self) -> dict[str, bytes]:
        """The model as files by name; equal models give equal bytes."""
        return {
            "words.json": canonical_json(self.words),
            "vectors.npy": array_bytes(self.rows),
            "centre.npy": array_bytes(self.centre),
        }

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> "EmbeddingModel":
        """The model that `files()` wrote; TableError when a file is missing or the shapes do not agree."""
        missing = sorted({"words.json", "vectors.npy", "centre.npy"} - set(files))
        if missing:
            raise TableError(
                f"embedding model: {', '.join(missing)} missing; delete the stage's folder and build again"
            )
        words = json.loads(files["words.json"])
        rows, centre = (np.load(io.BytesIO(files[f"{n}.npy"]), allow_pickle=False) for n in ("vectors", "centre"))
        if rows.ndim != 2 or len(rows) != len(words) or centre.shape != rows.shape[1:]:
            raise TableError(
                f"embedding model: {len(words)} words, vectors of shape {rows.shape} and a centre of shape "
                f"{centre.shape} do not fit; delete the stage's folder and build again"
            )
        return cls(words, rows, centre)


def sample_order(ids: Sequence[str], seed: int) -> KeyArray:
    """The order in which documents are taken into the fit's sample, `(n,)` uint64; from id and seed alone."""
    return seeded_order(id_keys(ids), seed, _SAMPLE)


def choose_sample(
    order: KeyArray, ids: Sequence[str], sizes: npt.NDArray[np.int64], budget: int
) -> npt.NDArray[np.int64]:
    """Rows of the sample: documents in `order` (ties by id) until their bytes reach the budget; at least one.

    A prefix of an order: what it takes of a part is a prefix of that part's own choice, so choosing per part first
    and among the parts' choices then gives the same sample as choosing at once.

    Args:
        order: `(n,)`, from `sample_order`.
        ids: `(n,)`.
        sizes: `(n,)`, bytes.
        budget: Bytes.

    Returns:
        Row numbers in the order of the sample.
    """
    ranked = np.lexsort((np.asarray(ids, dtype=object), order)) if len(order) else np.zeros(0, dtype=np.int64)
    before = np.cumsum(sizes[ranked]) - sizes[ranked]
    return ranked[before < max(1, budget)].astype(np.int64)


def fit(texts: Sequence[str], config: EmbeddingConfig, seed: int) -> EmbeddingModel:
    """Fit the word model of a configuration.

    Args:
        texts: The sample, in its order.
        config: Method and sizes.
        seed: Chooses start vectors (fasttext) or the SVD's random start (tfidf).

    Returns:
        The model; without words, hence with the fallback for every document, when the sample holds no word.
    """
    words, rows = (_fit_fasttext if config.method == "fasttext" else _fit_tfidf)(texts, config, seed)
    uncentred = EmbeddingModel(words, rows, np.zeros(config.dim, dtype=np.float32))
    vectors, missing = uncentred.embed(texts, config.max_characters)
    known = vectors[~missing].astype(np.float64)
    centre = known.mean(axis=0) if len(known) else np.zeros(config.dim)
    return EmbeddingModel(words, rows, centre.astype(np.float32))


def count_words(documents: Iterable[Sequence[str]], lookup: Mapping[str, int]) -> sparse.csr_matrix:
    """Damped counts of the known words, `(n_documents, len(lookup))` float64: 1 + log(count), 0 where absent."""
    known = [[lookup[word] for word in words if word in lookup] for words in documents]
    offsets = np.cumsum([0, *(len(own) for own in known)])
    return damped_counts(np.array([word for own in known for word in own], dtype=np.int64), offsets, len(lookup))


def damped_counts(words: npt.NDArray[np.int64], offsets: npt.NDArray[np.int64], vocabulary: int) -> sparse.csr_matrix:
    """`(n_documents, vocabulary)` float64: 1 + log(count) of each word of a document, 0 where absent.

    Args:
        words: Word numbers `(m,)` of all documents one after the other.
        offsets: `(n_documents + 1,)`, where each document's words begin.
        vocabulary: Word numbers are below it.
    """
    documents = len(offsets) - 1
    codes = np.sort(np.repeat(np.arange(documents), np.diff(offsets)) * max(1, vocabulary) + words)
    first = np.flatnonzero(np.concatenate([[True], codes[1:] != codes[:-1]])) if len(codes) else codes
    values = 1 + np.log(np.diff(np.concatenate([first, [len(codes)]])))
    row, column = np.divmod(codes[first], max(1, vocabulary))
    borders = np.searchsorted(row, np.arange(documents + 1))
    return sparse.csr_matrix((values, column, borders), shape=(documents, vocabulary))


def with_pairs(words: IntArray, offsets: IntArray, known: Sequence[str]) -> tuple[IntArray, IntArray]:
    """Word numbers with those of the known pairs among them, each document's words before its pairs.

    Args:
        words: `(m,)` numbers in `known` of the documents' words, one document after the other.
        offsets: `(n_documents + 1,)`, where each document's words begin.
        known: Single words, then pairs `one two` of them.

    Returns:
        The same, longer; as it came where no pair is known.
    """
    singles = next((number for number, word in enumerate(known) if " " in word), len(known))
    if singles == len(known) or len(words) < 2:
        return words, offsets
    place = {word: number for number, word in enumerate(known[:singles])}
    ends = np.array([[place[word] for word in pair.split(" ")] for pair in known[singles:]], dtype=np.int64)
    codes = ends[:, 0] * singles + ends[:, 1]
    order = np.argsort(codes)
    found, document = _pair_codes(words, offsets, singles)
    at = np.minimum(np.searchsorted(codes[order], found), len(codes) - 1)
    hit = codes[order][at] == found
    pairs, document = singles + order[at[hit]], document[hit]
    own = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    both = np.argsort(np.concatenate([own, document]), kind="stable")
    lengths = np.diff(offsets) + np.bincount(document, minlength=len(offsets) - 1)
    return np.concatenate([words, pairs])[both], np.concatenate([[0], np.cumsum(lengths)])


def _pair_codes(words: IntArray, offsets: IntArray, singles: int) -> tuple[IntArray, IntArray]:
    """left * singles + right of each two words that follow each other in a document, and the document's number."""
    own = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    same = own[1:] == own[:-1]
    return (words[:-1] * singles + words[1:])[same], own[1:][same]


def _frequent_pairs(words: IntArray, offsets: IntArray, known: Sequence[str], least: int, limit: int) -> list[str]:
    """The most frequent pairs (ties: of the more frequent first word, then second) that occur `least` times."""
    codes, counts = np.unique(_pair_codes(words, offsets, len(known))[0], return_counts=True)
    order = np.lexsort((codes, -counts))[:limit]
    left, right = np.divmod(codes[order[counts[order] >= least]], len(known))
    return [f"{known[a]} {known[b]}" for a, b in zip(left.tolist(), right.tolist(), strict=True)]


def _fit_fasttext(texts: Sequence[str], config: EmbeddingConfig, seed: int) -> tuple[list[str], FloatArray]:
    lines = [" ".join(split_words(text, config.max_characters)) for text in texts]
    model = train_vectors(
        lines,
        dim=config.dim,
        epochs=config.epochs,
        min_count=config.min_count,
        max_words=config.max_words,
        model=config.model,
        window=config.window,
        seed=seed,
    )
    unit, _ = _unit(model.matrix.astype(np.float64))
    rows = unit * _inverse_frequency(lines, model.words)[:, None]
    return model.words, rows.astype(np.float32)


def _fit_tfidf(texts: Sequence[str], config: EmbeddingConfig, seed: int) -> tuple[list[str], FloatArray]:
    """TF-IDF of unit length, then the leading right singular vectors; `dim` beyond the rank is filled with zeros."""
    from sklearn.utils.extmath import randomized_svd

    counts = Counter(word for text in texts for word in split_words(text, config.max_characters))
    least = usable_min_count(counts, config.min_count)
    words = sorted((w for w, n in counts.items() if n >= least), key=lambda w: (-counts[w], w))[: config.max_words]
    if not words:
        return words, np.zeros((0, config.dim), dtype=np.float32)
    numbers, offsets = WordIndex(words).find(list(texts), config.max_characters)
    if config.pairs:
        words += _frequent_pairs(numbers, offsets, words, max(2, least), config.max_words)
        numbers, offsets = with_pairs(numbers, offsets, words)
    table = damped_counts(numbers, offsets, len(words))
    frequency = np.maximum(1, np.bincount(table.indices, minlength=len(words)))
    weight = np.log((1 + len(texts)) / frequency) ** config.idf_power
    table = table @ sparse.diags(weight)
    lengths = np.sqrt(np.asarray(table.multiply(table).sum(axis=1)).ravel())
    table = sparse.diags(1 / np.maximum(lengths, _SHORTEST)) @ table
    rank = min(config.dim, *table.shape)
    start = int(np.random.default_rng([seed, _SVD]).integers(2**31))
    with threadpool_limits(1):  # after the import above: only libraries that are loaded by then are held to one thread
        _, _, right = randomized_svd(table, n_components=rank, n_iter=5, random_state=start)
    rows = np.zeros((len(words), config.dim))
    rows[:, :rank] = right.T * weight[:, None]
    return words, rows.astype(np.float32)


def _inverse_frequency(lines: Sequence[str], words: Sequence[str]) -> npt.NDArray[np.float64]:
    """log((1 + documents) / documents with the word), `(len(words),)`; always above 0."""
    found = Counter(word for line in lines for word in set(line.split(" ")))
    return np.log((1 + len(lines)) / np.array([max(1, found[word]) for word in words], dtype=np.float64))


def _unit(vectors: npt.NDArray[Any]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Rows scaled to length 1, and which rows had a length to speak of; the others stay as they are."""
    lengths = np.sqrt((vectors * vectors).sum(axis=1))
    long_enough = lengths > _SHORTEST
    return vectors / np.where(long_enough, lengths, 1.0)[:, None], long_enough
