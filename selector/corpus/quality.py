"""A quality classifier: how much more a text is like given examples than like others, as log-odds of naive Bayes.

Reads what the tagger's classifier reads (`bayes_model`). The usual recipe of the field: a linear model over words,
trained on curated texts against the corpus itself.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prereq.graph.canonical import canonical_json
from prereq.graph.errors import TableError
from prereq.selector.corpus.bayes_classifier import logistic
from prereq.selector.corpus.bayes_model import BayesModel, train
from prereq.selector.corpus.keys import id_keys, seeded_order

FloatArray = NDArray[np.float64]

_GOOD, _BAD = "good", "other"  # labels
_LEAST = 10  # examples of each kind: fewer leave nothing to judge by
_HELD_BACK = 5  # one example in five judges what the others taught
_ROWS = 512  # texts whose features are dense at a time
_FILE = "quality.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """How a classifier did on the fifth of the examples that it did not see: how many there were, how many right."""

    held_back: int
    right: int


@dataclass(frozen=True, slots=True)
class QualityModel:
    """A trained classifier: log-odds = slope * (score of one kind - score of the other) + offset."""

    bayes: BayesModel
    slope: float
    offset: float

    def files(self) -> dict[str, bytes]:
        """The model as files by name; equal models give equal bytes."""
        return {**self.bayes.files(), _FILE: canonical_json({"offset": self.offset, "slope": self.slope})}

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> "QualityModel":
        """The model that `files()` wrote; TableError when a file is missing."""
        if _FILE not in files:
            raise TableError(f"model file {_FILE} is missing among {sorted(files)}; build the stage again")
        told = json.loads(files[_FILE])
        return cls(BayesModel.from_files(files), told["slope"], told["offset"])


def fit_quality(good: Sequence[str], bad: Sequence[str], characters: int, seed: int) -> tuple[QualityModel, Judged]:
    """Learn to tell examples of what is wanted from others.

    Four fifths teach and the rest gives slope and offset (Platt's method, both kinds as if equally frequent); the model
    that is returned has learned from all.

    Args:
        good: Texts that are wanted.
        bad: Texts that are not, or any.
        characters: Of each text that are read.
        seed: Of the order that says which texts are held back; that of the arguments does not matter.

    Raises:
        TableError: Fewer than ten of one kind.

    Source:
        Brown et al. 2020, arXiv:2005.14165, appendix A, and Li et al. 2024, "DataComp-LM", arXiv:2406.11794, section
        4.4, for a linear classifier of curated texts against the corpus (theirs are logistic regression and fastText).
    """
    if min(len(good), len(bad)) < _LEAST:
        raise TableError(
            f"quality: {len(good)} examples of what is wanted and {len(bad)} of what is not; give {_LEAST} or more of "
            "each"
        )
    kinds = {label: _ordered(texts, label, seed) for label, texts in ((_GOOD, good), (_BAD, bad))}
    taught = [
        (text, k) for k, texts in kinds.items() for i, text in enumerate(texts) if i % _HELD_BACK < _HELD_BACK - 1
    ]
    held = [(text, k) for k, texts in kinds.items() for text in texts[_HELD_BACK - 1 :: _HELD_BACK]]
    first = _train(taught, characters)
    x = _differences(first, [text for text, _ in held], characters)
    wanted = np.array([label == _GOOD for _, label in held])
    yes, no = int(wanted.sum()), int((~wanted).sum())
    # Platt's softened targets: examples that are told apart perfectly do not make every chance 0 or 1
    slope, offset = logistic(x, np.where(wanted, (yes + 1) / (yes + 2), 1 / (no + 2)))
    if slope <= 0:  # it learned nothing: a score by what held-back examples deny would be upside down
        slope, offset = 1.0, float(np.log(yes / no))
    offset = float(f"{offset - np.log(yes / no):.9g}")
    right = int(((slope * x + offset > 0) == wanted).sum())
    every = _train([(text, label) for label, texts in kinds.items() for text in texts], characters)
    return QualityModel(every, slope, offset), Judged(held_back=len(held), right=right)


def quality_scores(model: QualityModel, texts: Sequence[str], characters: int) -> FloatArray:
    """Log-odds (nats) that each text is of the wanted kind `(n,)`: 0 is even, 2.2 a chance of .9.

    A text's score does not depend on the others. Log-odds, not chances, because those of most texts round to 0 or 1.
    """
    return model.slope * _differences(model.bayes, texts, characters) + model.offset


def _ordered(texts: Sequence[str], label: str, seed: int) -> list[str]:
    keys = seeded_order(id_keys(texts), seed, f"quality {label}")
    return [texts[place] for place in np.argsort(keys, kind="stable").tolist()]


def _train(pairs: Sequence[tuple[str, str]], characters: int) -> BayesModel:
    texts, labels = [text for text, _ in pairs], [[label] for _, label in pairs]
    return train(texts, labels, characters, {_GOOD: "", _BAD: ""})


def _differences(model: BayesModel, texts: Sequence[str], characters: int) -> FloatArray:
    """Score of the wanted kind less that of the other `(n,)`."""
    good, bad = model.labels.index(_GOOD), model.labels.index(_BAD)
    found = [np.zeros(0)]
    for start in range(0, len(texts), _ROWS):
        scores = model.odds.scores(model.table(texts[start : start + _ROWS], characters))
        found.append(scores[:, good] - scores[:, bad])
    return np.concatenate(found)
