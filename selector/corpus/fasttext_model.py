"""fastText whose result is a function of its input: training here, everything afterwards in plain numpy.

Training takes lines of words, returns words and matrices. Nothing else of fastText is used, so a worker that only
applies a model never imports it; its Python `predict` is not to be trusted here (0.9.2 with numpy 2: a single string
raises, and a list with k > 1 repeats the first probability k times). This file knows no paths: models travel as
`{file name: bytes}`.

Why the bytes are the same each time:

- One thread. With more, threads write the shared matrices without a lock.
- Every row of the input matrix is set here. fastText fills its input matrix in ten blocks, one for each of ten threads,
  so with one thread nine tenths of the rows keep what the allocator gave (facebookresearch/fastText #1061). Rows are
  therefore handed over as seeded `pretrainedVectors` for exactly the words that training will keep, and there are no
  buckets (no subwords, no word n-grams), whose rows could not be handed over.
- Measured with fasttext-wheel 0.9.2 on a corpus of 80,000 words, learning rate 0: 2,700 of 3,001 rows left by
  fastText's own start are zero whatever the heap held before (glibc's MALLOC_PERTURB_ at 0, 7, 85, 170 and 255), so
  this wheel would be reproducible without our vectors too, but from a start that is nine tenths zero; other builds
  (0.9.3, fasttext-numpy2-wheel) find garbage there. Through this module 50 trainings in 50 fresh processes, each with
  another MALLOC_PERTURB_ and another amount of freed memory, gave one digest for vectors and one for the classifier
  (`tests/selector/corpus/test_fasttext_model.py` repeats it).
- The seed enters through the rows; fastText's own seed (negative sampling, window sizes) stays 0.
"""

import io
import json
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from prereq.graph.canonical import canonical_json
from prereq.graph.errors import ConfigError, TableError
from prereq.selector.corpus.words import split_words as split_words  # what both models' callers split lines with

FloatArray = npt.NDArray[np.float32]

END = "</s>"  # fastText's word for the end of a line; it is part of every bag of words that the classifier sees
_LABEL = "__label__"
_GRID = 1000  # start values lie on a grid of 2 * _GRID + 1 steps, which keeps their text short and exact


@dataclass(frozen=True, slots=True)
class VectorModel:
    """Word vectors as fastText left them.

    Args:
        words: In the order of the rows: by count, largest first.
        counts: `(n,)` int64, how often each word occurred in the training lines.
        matrix: `(n, dim)` float32.
    """

    words: list[str]
    counts: npt.NDArray[np.int64]
    matrix: FloatArray

    def files(self) -> dict[str, bytes]:
        """The model as files by name; equal models give equal bytes."""
        return {
            "words.json": canonical_json(self.words),
            "counts.npy": array_bytes(self.counts),
            "vectors.npy": array_bytes(self.matrix),
        }

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> "VectorModel":
        """The model that `files()` wrote; TableError when a file is missing or the shapes do not agree."""
        words, (counts, matrix) = _words(files, "words.json"), _arrays(files, "counts.npy", "vectors.npy")
        _check(counts.shape == (len(words),) and matrix.ndim == 2 and len(matrix) == len(words), "vectors.npy", matrix)
        return cls(words, counts, matrix)


@dataclass(frozen=True, slots=True)
class ClassifierModel:
    """A linear classifier over the mean of word vectors.

    Args:
        words: In the order of the rows of `inputs`; `</s>`, which ends every line, is one of them.
        labels: In the order of the rows of `outputs`: as given to `train_classifier`.
        inputs: `(n_words, dim)` float32.
        outputs: `(n_labels, dim)` float32.
        loss: `softmax` (one label is right: probabilities sum to 1) or `ova` (each label by itself).
    """

    words: list[str]
    labels: list[str]
    inputs: FloatArray
    outputs: FloatArray
    loss: str

    def predict(self, lines: Sequence[str]) -> FloatArray:
        """Probability of each label for each line, `(n_lines, n_labels)` float32.

        Args:
            lines: Words joined by spaces, split as the training lines were. Unknown words count for nothing.
        """
        lookup = {word: row for row, word in enumerate(self.words)}
        bags = [[lookup[w] for w in (*line.split(), END) if w in lookup] for line in lines]
        # hidden: (n_lines, dim), the mean over the words of a line
        scores = mean_rows(bags, self.inputs) @ self.outputs.astype(np.float64).T
        if self.loss == "ova":
            return (0.5 * (1 + np.tanh(0.5 * scores))).astype(np.float32)  # the sigmoid, without overflow
        scores = np.exp(scores - scores.max(axis=1, keepdims=True)) if scores.size else scores
        return (scores / scores.sum(axis=1, keepdims=True)).astype(np.float32) if scores.size else scores.astype("f4")

    def files(self) -> dict[str, bytes]:
        """The model as files by name; equal models give equal bytes."""
        return {
            "classifier.json": canonical_json({"labels": self.labels, "loss": self.loss, "words": self.words}),
            "inputs.npy": array_bytes(self.inputs),
            "outputs.npy": array_bytes(self.outputs),
        }

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> "ClassifierModel":
        """The model that `files()` wrote; TableError when a file is missing or the shapes do not agree."""
        head, (inputs, outputs) = _json(files, "classifier.json"), _arrays(files, "inputs.npy", "outputs.npy")
        _check(inputs.ndim == 2 and len(inputs) == len(head["words"]), "inputs.npy", inputs)
        _check(outputs.ndim == 2 and len(outputs) == len(head["labels"]), "outputs.npy", outputs)
        return cls(head["words"], head["labels"], inputs, outputs, head["loss"])


def mean_rows(bags: Sequence[Sequence[int]], matrix: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Mean of the rows named by each bag, `(len(bags), dim)` float64; zeros for an empty bag.

    Each bag is summed by itself, in order, so that its result does not depend on the other bags.
    """
    result = np.zeros((len(bags), matrix.shape[1]), dtype=np.float64)
    for row, bag in enumerate(bags):
        if bag:
            result[row] = matrix[np.asarray(bag)].sum(axis=0, dtype=np.float64) / len(bag)
    return result


def train_vectors(
    lines: Iterable[str],
    *,
    dim: int = 64,
    epochs: int = 5,
    min_count: int = 5,
    seed: int = 0,
    model: str = "cbow",
    window: int = 5,
    negatives: int = 5,
    learning_rate: float = 0.05,
    max_words: int = 100_000,
) -> VectorModel:
    """Train word vectors without subwords.

    Args:
        lines: Words joined by spaces, one line per document; read once, in order.
        dim: Length of a vector.
        epochs: Passes over the lines.
        min_count: Rarer words get no vector; lowered to 1 where nothing else would be left (`usable_min_count`).
        seed: Chooses the start vectors.
        model: `cbow` (fast) or `skipgram` (several times slower).
        window: Words to each side, at most.
        negatives: Negative samples per word.
        learning_rate: Of the first step; falls linearly to 0.
        max_words: `min_count` is raised until at most this many words are left.

    Returns:
        The model; without words when the lines hold none.

    Raises:
        ConfigError: A parameter is out of range.

    Source:
        Bojanowski et al. 2017, "Enriching word vectors with subword information", with no subwords it is word2vec.
    """
    _check_parameters(dim=dim, epochs=epochs, min_count=min_count, window=window, negatives=negatives)
    if model not in ("cbow", "skipgram"):
        raise ConfigError(f"fastText model {model!r} is not known; expected cbow or skipgram")
    with tempfile.TemporaryDirectory(prefix="prereq-fasttext-") as folder:
        counts = _write_lines(Path(folder) / "lines.txt", ((_clean(line),) for line in lines))
        least = _least_count(counts, min_count, max_words)
        kept = _kept_words(counts, least)
        if not kept:
            return VectorModel([], np.zeros(0, dtype=np.int64), np.zeros((0, dim), dtype=np.float32))
        options = {"model": model, "epoch": epochs, "ws": window, "neg": negatives, "lr": learning_rate, "loss": "ns"}
        trained = _train(folder, kept, dim, seed, minCount=least, **options)
        rows = _rows(trained, kept)
    return VectorModel(kept, np.array([counts[w] for w in kept], dtype=np.int64), rows)


def train_classifier(
    examples: Iterable[tuple[Sequence[str], str]],
    *,
    dim: int = 64,
    epochs: int = 5,
    min_count: int = 1,
    seed: int = 0,
    loss: str = "ova",
    learning_rate: float = 0.5,
    max_words: int = 100_000,
) -> ClassifierModel:
    """Train a linear classifier over the mean of word vectors.

    fastText shows examples in the order given: put them in a seeded order, not sorted by label.

    Args:
        examples: (labels, words joined by spaces). An example without a label is left out. Word n-grams, if wanted,
            are words that the caller makes (`a_b`).
        dim: Length of a word vector.
        epochs: Passes over the examples.
        min_count: Rarer words are unknown; lowered to 1 where nothing else would be left (`usable_min_count`).
        seed: Chooses the start vectors.
        loss: `ova` where an example may have several labels, `softmax` where it has one.
        learning_rate: Of the first step; falls linearly to 0.
        max_words: `min_count` is raised until at most this many words are left.

    Returns:
        The model; its labels are sorted. Without examples it has no labels and predicts `(n, 0)`.

    Raises:
        ConfigError: A parameter is out of range.

    Source:
        Joulin et al. 2017, "Bag of tricks for efficient text classification".
    """
    _check_parameters(dim=dim, epochs=epochs, min_count=min_count)
    if loss not in ("ova", "softmax"):
        raise ConfigError(f"classifier loss {loss!r} is not known; expected ova or softmax")
    names: dict[str, int] = {}
    labelled = (
        (*(f"{_LABEL}{names.setdefault(name, len(names))}" for name in labels), _clean(line))
        for labels, line in examples
        if labels
    )
    with tempfile.TemporaryDirectory(prefix="prereq-fasttext-") as folder:
        counts = _write_lines(Path(folder) / "lines.txt", labelled)
        if not names:
            return ClassifierModel([END], [], np.zeros((1, dim), "f4"), np.zeros((0, dim), "f4"), loss)
        least = _least_count(counts, min_count, max_words)
        kept = [*_kept_words(counts, least), END]
        options = {"epoch": epochs, "lr": learning_rate, "loss": loss}
        trained = _train(folder, kept, dim, seed, minCount=least, **options)
        rows, output = _rows(trained, kept), trained.get_output_matrix()
        place = {label: row for row, label in enumerate(trained.get_labels())}
    labels = sorted(names)
    outputs = np.stack([output[place[f"{_LABEL}{names[label]}"]] for label in labels])
    return ClassifierModel(kept, labels, rows, np.ascontiguousarray(outputs, dtype=np.float32), loss)


def usable_min_count(counts: Mapping[str, int], min_count: int, least_words: int = 100) -> int:
    """`min_count`, or the largest smaller one that leaves `least_words` words, or 1: in a tiny corpus all are rare."""
    ranked = sorted(counts.values(), reverse=True)
    return max(1, min(min_count, ranked[least_words - 1] if len(ranked) >= least_words else 1))


def array_bytes(array: npt.NDArray[Any]) -> bytes:
    """An array in numpy's .npy format, which holds no clock time."""
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(array), allow_pickle=False)
    return buffer.getvalue()


def _train(folder: str, kept: Sequence[str], dim: int, seed: int, **options: Any) -> Any:
    """Run fastText on `folder`/lines.txt from seeded vectors for `kept`, silently."""
    import fasttext

    _write_start(Path(folder) / "start.vec", dict.fromkeys([*kept, END]), dim, seed)
    train = fasttext.train_unsupervised if "model" in options else fasttext.train_supervised
    return train(
        f"{folder}/lines.txt",
        dim=dim,
        minn=0,
        maxn=0,
        wordNgrams=1,
        thread=1,
        verbose=0,
        pretrainedVectors=f"{folder}/start.vec",
        **options,
    )


def _write_lines(path: Path, lines: Iterable[Sequence[str]]) -> Counter[str]:
    counts: Counter[str] = Counter()
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        for line in lines:
            *labels, text = line
            counts.update(text.split(" ") if text else ())
            file.write(" ".join([*labels, text]) + "\n")
    return counts


def _clean(line: str) -> str:
    """Words as both Python and fastText split them; a word that fastText would take for a label is dropped."""
    words = [w for w in line.replace("\0", " ").split() if not w.startswith(_LABEL) and w != END]
    return " ".join(words)


def _least_count(counts: Mapping[str, int], min_count: int, max_words: int) -> int:
    """The threshold that fastText and `_kept_words` share: only by a count can both keep exactly the same words."""
    least, ranked = usable_min_count(counts, min_count), sorted(counts.values(), reverse=True)
    return max(least, ranked[max_words] + 1) if len(ranked) > max_words else least


def _kept_words(counts: Mapping[str, int], least: int) -> list[str]:
    return sorted((w for w, n in counts.items() if n >= least), key=lambda w: (-counts[w], w))


def _write_start(path: Path, words: Iterable[str], dim: int, seed: int) -> None:
    """Uniform start values in [-1/dim, 1/dim], as fastText's own, for every word: `(len(words), dim)` as text."""
    listed = list(words)
    steps = np.random.default_rng([seed, 0x66617374]).integers(0, 2 * _GRID + 1, size=(len(listed), dim))
    texts = [f"{(step - _GRID) / _GRID / dim:.6g}" for step in range(2 * _GRID + 1)]
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        file.write(f"{len(listed)} {dim}\n")
        for word, row in zip(listed, steps.tolist(), strict=True):
            file.write(f"{word} {' '.join([texts[step] for step in row])}\n")


def _rows(trained: Any, kept: Sequence[str]) -> FloatArray:
    """The trained rows of `kept`, in that order."""
    place = {word: row for row, word in enumerate(trained.get_words())}
    matrix = trained.get_input_matrix()[[place[word] for word in kept]]
    if not np.isfinite(matrix).all():
        raise ConfigError("fastText training diverged (NaN in the vectors); lower the learning rate")
    return np.ascontiguousarray(matrix, dtype=np.float32)


def _check_parameters(**values: int) -> None:
    for name, value in values.items():
        if value < 1:
            raise ConfigError(f"fastText {name} must be at least 1, got {value}")


def _check(holds: bool, name: str, array: npt.NDArray[Any]) -> None:
    if not holds:
        raise TableError(f"model file {name}: shape {array.shape} does not fit the other files; build the stage again")


def _read(files: Mapping[str, bytes], name: str) -> bytes:
    if name not in files:
        raise TableError(f"model file {name} is missing among {sorted(files)}; build the stage again")
    return files[name]


def _json(files: Mapping[str, bytes], name: str) -> Any:
    return json.loads(_read(files, name))


def _words(files: Mapping[str, bytes], name: str) -> list[str]:
    return [str(word) for word in _json(files, name)]


def _arrays(files: Mapping[str, bytes], *names: str) -> list[npt.NDArray[Any]]:
    return [np.load(io.BytesIO(_read(files, name)), allow_pickle=False) for name in names]
