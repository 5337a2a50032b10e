"""A linear classifier of texts by log-odds against sibling skills: naive Bayes over TF-IDF, trained in one pass.

A skill's siblings are the skills with the same id up to its last "/" (`python/loops`, `python/lists`), all skills
where ids have no "/". What tells a skill from its siblings is learned within each group, what tells the groups apart
over all. Nothing here is random and nothing iterates, so a model is a function of its examples alone. This file knows
no paths: models travel as `{file name: bytes}`.
"""

import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.special import expit

from prereq.graph.canonical import canonical_json
from prereq.graph.errors import TableError
from prereq.selector.corpus.fasttext_model import array_bytes
from prereq.selector.corpus.text_features import HashArray, IntArray, text_features

FloatArray = npt.NDArray[np.float64]

_MAX_FEATURES = 400_000  # kept: those in most texts; a model has about 12 bytes per feature and skill that has it
_FEW_FEATURES = 1_000  # with fewer features in two texts or more, those in a single text are kept as well
# Added to each count, divided by the root of a skill's texts. 0.15 stands in the middle of a plateau: 0.05 to 0.6 move
# openstax's top-1 by .003 and exercism's by .003.
_SMOOTHING = 0.15
_START_SHARPNESS = 20.0  # of the probabilities, where nothing was held back to fit it
_ROWS = 512  # texts whose scores are dense at a time


@dataclass(frozen=True, slots=True)
class Odds:
    """Log-odds of `k` classes: score = sum over features of value * weights + (sum of values) * rest.

    Args:
        weights: `(n_features, k)`, only where a class's examples hold the feature.
        rest: `(k,)`, what a feature weighs that none of a class's examples holds.
    """

    weights: sparse.csr_matrix
    rest: FloatArray

    def scores(self, table: sparse.csr_matrix) -> FloatArray:
        """`(n, k)` of rows of TF-IDF `(n, n_features)`; a row's result does not depend on the other rows."""
        sums = np.asarray(table.sum(axis=1)).ravel()
        return np.asarray((table @ self.weights).toarray()) + sums[:, None] * self.rest


@dataclass(frozen=True, slots=True)
class BayesModel:
    """A trained model.

    Args:
        hashes: `(n_features,)` uint64, sorted.
        inverse_frequency: `(n_features,)` float64.
        labels: Of the classes.
        group: `(n_labels,)`, the group of siblings that each label belongs to.
        odds: Of each label against its siblings.
        groups: Of each group against the other groups.
        sharpness: What scores are multiplied with before they become probabilities.
        calibration: a, b of 1 / (1 + exp(-(a logit(p) + b))), the chance that a tag of probability p is right.
    """

    hashes: HashArray
    inverse_frequency: FloatArray
    labels: list[str]
    group: IntArray
    odds: Odds
    groups: Odds
    sharpness: float
    calibration: tuple[float, float]

    def table(self, texts: Sequence[str], max_characters: int) -> sparse.csr_matrix:
        """TF-IDF of unit length, `(n, n_features)`: (1 + ln count) * inverse frequency."""
        return _weigh(_count(texts, self.hashes, max_characters), self.inverse_frequency)

    def predict(self, texts: Sequence[str], max_characters: int) -> FloatArray:
        """Calibrated chance that each label is right for each text, `(n, n_labels)`."""
        found = [np.zeros((0, len(self.labels)))]
        for start in range(0, len(texts), _ROWS):
            table = self.table(texts[start : start + _ROWS], max_characters)
            found.append(self.calibrated(self.log_shares(table)))
        return np.concatenate(found)

    def log_shares(self, table: sparse.csr_matrix) -> FloatArray:
        """Log share of each label in a text, `(n, n_labels)`; shares sum to 1: group times among siblings."""
        scores, of_groups = self.odds.scores(table), _log_softmax(self.groups.scores(table) * self.sharpness)
        found = np.empty_like(scores)
        for group in range(of_groups.shape[1]):
            own = np.flatnonzero(self.group == group)
            found[:, own] = _log_softmax(scores[:, own] * self.sharpness) + of_groups[:, [group]]
        return found

    def calibrated(self, log_shares: FloatArray) -> FloatArray:
        """Shares to chances; order is kept, far below 1e-16 too."""
        a, b = self.calibration
        return np.asarray(expit(a * logit(log_shares) + b))

    def files(self) -> dict[str, bytes]:
        """The model as files by name; equal models give equal bytes."""
        head = {
            "calibration": list(self.calibration),
            "groups": self.group.tolist(),
            "labels": self.labels,
            "sharpness": self.sharpness,
        }
        arrays = {"hashes": self.hashes, "inverse_frequency": self.inverse_frequency}
        for name, odds in (("odds", self.odds), ("groups", self.groups)):
            weights = odds.weights
            parts = {"data": weights.data, "indices": weights.indices, "indptr": weights.indptr, "rest": odds.rest}
            arrays |= {f"{name}_{part}": array for part, array in parts.items()}
        return {"bayes.json": canonical_json(head)} | {f"{n}.npy": array_bytes(array) for n, array in arrays.items()}

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> "BayesModel":
        """The model that `files()` wrote; TableError when a file is missing or the shapes do not agree."""
        head = json.loads(_file(files, "bayes.json"))
        hashes, inverse = _array(files, "hashes"), _array(files, "inverse_frequency")
        group = np.asarray(head["groups"], dtype=np.int64)
        classes = {"odds": len(head["labels"]), "groups": int(group.max()) + 1}
        found = {}
        for name, number in classes.items():
            data, indices, pointers, rest = (
                _array(files, f"{name}_{part}") for part in ("data", "indices", "indptr", "rest")
            )
            if len(pointers) != len(hashes) + 1 or rest.shape != (number,) or inverse.shape != hashes.shape:
                raise TableError(f"model files {name}_*.npy do not fit the other files; build the stage again")
            found[name] = Odds(sparse.csr_matrix((data, indices, pointers), shape=(len(hashes), number)), rest)
        a, b = head["calibration"]
        return cls(hashes, inverse, head["labels"], group, found["odds"], found["groups"], head["sharpness"], (a, b))


def train(
    texts: Sequence[str], labels: Sequence[Sequence[str]], max_characters: int, siblings: Mapping[str, str]
) -> BayesModel:
    """Learn from texts and their labels.

    weight of feature t for class c = log P(t | c) - log P(t | c's siblings but c), each from summed TF-IDF with
    additive smoothing: multinomial and complement naive Bayes added up. The first alone is better where skills have
    many documents, the second where they have few (openstax .768 and .741, exercism .313 and .332; both: .768, .328).

    Args:
        texts: One per example.
        labels: Of each; at least two distinct ones in all.
        max_characters: Of each text that are read.
        siblings: Label -> the name of its group.

    Source:
        Rennie et al. 2003, "Tackling the poor assumptions of naive Bayes text classifiers", for the complement and the
        damped, normalised counts; Decorte et al. 2022, arXiv:2209.05987, for negatives from sibling skills.
    """
    names = sorted({label for found in labels for label in found})
    place = {name: number for number, name in enumerate(names)}
    group_names = sorted({siblings[name] for name in names})
    group = np.array([group_names.index(siblings[name]) for name in names], dtype=np.int64)
    pairs = [(row, place[label]) for row, found in enumerate(labels) for label in sorted(set(found))]
    rows, columns = np.array([r for r, _ in pairs]), np.array([c for _, c in pairs])
    hashes, frequency = _vocabulary(texts, max_characters)
    inverse = np.log((1 + len(texts)) / (1 + frequency)) + 1
    table = _weigh(_count(texts, hashes, max_characters), inverse)
    odds = _odds(table, rows, columns, group)
    in_group = np.unique(np.stack([rows, group[columns]]), axis=1)
    of_groups = _odds(table, in_group[0], in_group[1], np.zeros(len(group_names), np.int64))
    return BayesModel(hashes, inverse, names, group, odds, of_groups, _START_SHARPNESS, (1.0, 0.0))


def _odds(table: sparse.csr_matrix, rows: IntArray, columns: IntArray, group: IntArray) -> Odds:
    """Log-odds of each class against the other classes of its group, from (row, class) pairs."""
    number = len(group)
    members = sparse.csr_matrix((np.ones(len(rows)), (columns, rows)), shape=(number, table.shape[0]))
    mass = sparse.coo_matrix(members @ table)  # (k, n_features): summed TF-IDF
    sums = np.asarray(mass.sum(axis=1)).ravel()
    sizes = np.bincount(columns, minlength=number)
    rest, data = np.zeros(number), np.zeros(len(mass.data))
    for one in range(int(group.max()) + 1):
        own = group == one
        smoothing = _SMOOTHING / math.sqrt(sizes[own].mean())
        inside = own[mass.row]
        values, features = mass.data[inside], mass.col[inside]
        together = np.bincount(features, weights=values, minlength=table.shape[1])
        others = np.maximum(together[features] - values, 0.0)  # no less than 0 but for rounding
        data[inside] = np.log((values + smoothing) / smoothing) - np.log(
            (others + smoothing) / (together[features] + smoothing)
        )
        # a feature without mass in the class: log(smoothing / Z) - log((together + smoothing) / Z of the others), of
        # which the part that depends on the feature alone is the same for all siblings and is left out
        width = smoothing * table.shape[1]
        rest[own] = math.log(smoothing) - np.log(sums[own] + width) + np.log(sums[own].sum() - sums[own] + width)
    weights = sparse.csr_matrix((data, (mass.col, mass.row)), shape=(table.shape[1], number))
    weights.sort_indices()
    return Odds(weights, rest)


def _vocabulary(texts: Sequence[str], max_characters: int) -> tuple[HashArray, FloatArray]:
    """Features kept, sorted, and the number of texts with each."""
    found = [np.zeros(0, dtype=np.uint64)]
    for start in range(0, len(texts), _ROWS):
        hashes, owner = text_features(texts[start : start + _ROWS], max_characters)
        order = np.lexsort((hashes, owner))
        hashes, owner = hashes[order], owner[order]
        first = np.ones(len(hashes), dtype=bool)
        first[1:] = (hashes[1:] != hashes[:-1]) | (owner[1:] != owner[:-1])
        found.append(hashes[first])
    every = np.sort(np.concatenate(found))
    starts = np.flatnonzero(np.concatenate([[True], every[1:] != every[:-1]])) if len(every) else np.zeros(0, np.int64)
    hashes, frequency = every[starts], np.diff(np.append(starts, len(every)))
    repeated = frequency >= 2
    if repeated.sum() >= _FEW_FEATURES:
        hashes, frequency = hashes[repeated], frequency[repeated]
    if len(hashes) > _MAX_FEATURES:
        kept = np.sort(np.lexsort((hashes, -frequency))[:_MAX_FEATURES])
        hashes, frequency = hashes[kept], frequency[kept]
    return hashes, frequency.astype(np.float64)


def _count(texts: Sequence[str], hashes: HashArray, max_characters: int) -> sparse.csr_matrix:
    """Counts of the known features, `(len(texts), len(hashes))`, columns in order."""
    found, owner = text_features(texts, max_characters)
    place = np.searchsorted(hashes, found)
    place[place == len(hashes)] = 0
    known = hashes[place] == found if len(hashes) else np.zeros(len(found), dtype=bool)
    # keys: one number per (text, feature), so that one sort counts them
    keys = np.sort(owner[known] * max(1, len(hashes)) + place[known])
    starts = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]])) if len(keys) else np.zeros(0, np.int64)
    counts = np.diff(np.append(starts, len(keys))).astype(np.float64)
    rows, columns = np.divmod(keys[starts], max(1, len(hashes)))
    pointers = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=len(texts)))])
    return sparse.csr_matrix((counts, columns, pointers), shape=(len(texts), len(hashes)))


def _weigh(counts: sparse.csr_matrix, inverse: FloatArray) -> sparse.csr_matrix:
    """(1 + ln count) * inverse frequency, rows of unit length; a row without features stays 0."""
    values = (1 + np.log(counts.data)) * inverse[counts.indices]
    row = np.repeat(np.arange(counts.shape[0]), np.diff(counts.indptr))
    lengths = np.sqrt(np.bincount(row, weights=values * values, minlength=counts.shape[0]))
    return sparse.csr_matrix((values / lengths[row], counts.indices, counts.indptr), shape=counts.shape)


def logit(log_shares: FloatArray) -> FloatArray:
    """log(p / (1 - p)) of log p, with p kept 1e-12 below 1."""
    kept = np.minimum(log_shares, -1e-12)
    return np.asarray(kept - np.log(-np.expm1(kept)))


def _log_softmax(scores: FloatArray) -> FloatArray:
    shifted = scores - scores.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))


def _file(files: Mapping[str, bytes], name: str) -> bytes:
    if name not in files:
        raise TableError(f"model file {name} is missing among {sorted(files)}; build the stage again")
    return files[name]


def _array(files: Mapping[str, bytes], name: str) -> npt.NDArray[Any]:
    return np.asarray(np.load(io.BytesIO(_file(files, f"{name}.npy")), allow_pickle=False))
