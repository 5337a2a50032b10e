"""A quality classifier: how much more a text is like given examples than like others, as log-odds of naive Bayes.

Reads what the tagger's classifier reads (`bayes_model`) and is calibrated in the same way. The usual recipe of the
field: a linear model over words, trained on curated texts against the corpus itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prereq.graph.errors import TableError
from prereq.selector.corpus.bayes_classifier import fit_bayes
from prereq.selector.corpus.bayes_model import BayesModel, logit
from prereq.selector.corpus.keys import id_keys, seeded_order
from prereq.selector.corpus.skill_classifier import Example
from prereq.selector.corpus.tagging import TaggingConfig

FloatArray = NDArray[np.float64]

_BAD, _GOOD = 0, 1  # labels
_LEAST = 10  # examples of each kind: fewer leave nothing to judge by
_ROWS = 512  # texts whose features are dense at a time


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """How a classifier did on the fifth of the examples that it did not see: how many there were, how many right."""

    held_back: int
    right: int


def fit_quality(good: Sequence[str], bad: Sequence[str], characters: int, seed: int) -> tuple[BayesModel, Judged]:
    """Learn to tell examples of what is wanted from others.

    Four fifths teach, one chooses the scale of the log-odds; the model that is returned has learned from all.

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
    pairs = [*((text, _GOOD) for text in good), *((text, _BAD) for text in bad)]
    keys = seeded_order(id_keys(f"{label} {text}" for text, label in pairs), seed, "quality examples")
    order = np.argsort(keys, kind="stable").tolist()
    examples = [Example(pairs[place][0], frozenset({pairs[place][1]})) for place in order]
    config = TaggingConfig(classifier_min_documents=1, classifier_characters=characters, classifier_negatives="all")
    fitted = fit_bayes(examples, config, ["", ""])
    if fitted is None:  # cannot be: both kinds have examples
        raise TableError("quality: the examples are all of one kind")
    model, judgement = fitted
    return model, Judged(held_back=judgement.documents, right=round(judgement.top_1 * judgement.documents))


def quality_scores(model: BayesModel, texts: Sequence[str], characters: int) -> FloatArray:
    """Log-odds (nats) that each text is of the wanted kind `(n,)`: 0 is even, 2.2 a chance of .9.

    A text's score does not depend on the others. Log-odds, not chances, because those of most texts round to 0 or 1.
    """
    place, (slope, offset) = model.labels.index(str(_GOOD)), model.calibration
    found = [np.zeros(0)]
    for start in range(0, len(texts), _ROWS):
        shares = model.log_shares(model.table(texts[start : start + _ROWS], characters))[:, place]
        found.append(slope * logit(shares) + offset)
    return np.concatenate(found)
