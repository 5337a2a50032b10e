"""Which skills a document keeps, how much each of them says of it, and the sample that a classifier learns from.

Arrays and lists only. What a text holds is found by `selector.corpus.weak_labels`, what it resembles by
`selector.corpus.skill_classifier`; `jobs.stages.tag` reads and writes the files.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from prereq.graph.errors import ConfigError
from prereq.graph.skill import nearest
from prereq.selector.corpus.endpoint import EndpointConfig

Method = Literal["labels", "patterns", "classifier", "descriptions"]
FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class TaggingConfig:
    """How documents get their skills.

    Raises:
        ConfigError: A value is out of range, or the methods leave a classifier nothing to learn from.
    """

    # labels: what the data itself states; patterns: aliases and patterns of the graph; classifier: learned from both;
    # descriptions: nearest skills by name, description and aliases in the embedding space, for what is still untagged
    methods: tuple[Method, ...] = ("labels", "patterns", "classifier")
    unknown_labels: Literal["error", "ignore"] = "error"  # what a stated skill that the graph does not have gets
    match_names: bool = False  # look for the skills' names as if they were aliases
    min_hits: int = 1  # hits of a skill's aliases and patterns in a document from which on it counts
    max_skills: int = 6  # skills per document, at most; stated skills are never cut
    max_characters: int = 100_000  # characters of a document in which aliases and patterns are looked for
    pattern_timeout_s: float = 60.0  # seconds that one document's patterns may take, beyond it is an error; 0: no limit
    classifier_for: Literal["untagged", "all"] = "untagged"  # documents to which the classifier may add skills
    classifier_documents: int = 6_000  # documents to learn from, about, shared evenly among the skills
    classifier_min_documents: int = 8  # a skill found in fewer of them is not learned
    classifier_characters: int = 8_000  # characters of a document that the classifier reads
    # bayes: log-odds of words, signs and pairs, its scores calibrated chances; fasttext: mean of learned word vectors,
    # faster where documents are many and their words tell enough
    classifier: Literal["fasttext", "bayes"] = "bayes"
    classifier_negatives: Literal["siblings", "all"] = "siblings"  # bayes: learn against skills of the same id prefix
    classifier_threshold: float | None = None  # least probability (0 to 1); None: best F, see classifier_precision
    classifier_precision: float = (
        0.5  # share of its tags on held-back weak labels that must be right, else none is made
    )
    classifier_beta: float = 1.0  # the threshold's F-measure: above 1 recall weighs more, below 1 precision
    descriptions_threshold: float | None = None  # least cosine (-1 to 1) of a description; None: as for the classifier
    endpoint: EndpointConfig | None = None  # ask a language model about a sample, for the classifier to learn from
    labelled: str | None = None  # JSON Lines or Parquet of `text, skills`, told by people: chooses threshold and scale
    classifier_dim: int = 48  # length of its word vectors
    classifier_epochs: int | None = None  # passes over its documents; None: 100 for few documents to 5 for many

    def __post_init__(self) -> None:
        object.__setattr__(self, "methods", tuple(self.methods))
        _check_methods(self.methods, asked=self.endpoint is not None)
        _check_choice("unknown_labels", self.unknown_labels, ("error", "ignore"))
        _check_choice("classifier_for", self.classifier_for, ("untagged", "all"))
        for name in ("min_hits", "max_skills", "max_characters", "classifier_documents", "classifier_min_documents"):
            _check_positive(name, getattr(self, name))
        for name in ("classifier_characters", "classifier_dim"):
            _check_positive(name, getattr(self, name))
        if self.classifier_epochs is not None:
            _check_positive("classifier_epochs", self.classifier_epochs)
        _check_choice("classifier", self.classifier, ("fasttext", "bayes"))
        _check_choice("classifier_negatives", self.classifier_negatives, ("siblings", "all"))
        if not (math.isfinite(self.classifier_beta) and self.classifier_beta > 0):
            raise ConfigError(f"tagging.classifier_beta must be above 0, got {self.classifier_beta}")
        if not (math.isfinite(self.pattern_timeout_s) and self.pattern_timeout_s >= 0):
            raise ConfigError(f"tagging.pattern_timeout_s must be 0 or more seconds, got {self.pattern_timeout_s}")
        near = self.descriptions_threshold
        if near is not None and not -1 <= near <= 1:
            raise ConfigError(f"tagging.descriptions_threshold must lie between -1 and 1, got {near}")
        if self.methods == ("descriptions",) and near is None and self.labelled is None:
            raise ConfigError(
                "tagging.methods: descriptions alone have no labels to find their threshold with; set "
                "tagging.descriptions_threshold or tagging.labelled, or add labels or patterns"
            )
        for name in ("classifier_threshold", "classifier_precision"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise ConfigError(f"tagging.{name} must lie between 0 and 1, got {value}")

    def uses(self, method: Method) -> bool:
        """Whether a method is among those asked for."""
        return method in self.methods


def _check_methods(methods: Sequence[str], *, asked: bool) -> None:
    known = get_args(Method)
    for method in methods:
        _check_choice("methods", method, known)
    if not methods or len(set(methods)) != len(methods):
        raise ConfigError(
            f"tagging.methods must name each of {', '.join(known)} at most once and one of them, got {methods}"
        )
    if "classifier" in methods and not {"labels", "patterns"} & set(methods) and not asked:
        raise ConfigError("tagging.methods: classifier alone has nothing to learn from; add labels or patterns")
    if asked and "classifier" not in methods:
        raise ConfigError("tagging.endpoint: its answers teach the classifier; add classifier to tagging.methods")


def _check_choice(name: str, value: object, known: Sequence[str]) -> None:
    if value not in known:
        raise ConfigError(f"tagging.{name}: {value!r} is not one of {', '.join(known)}{nearest(str(value), known)}")


def _check_positive(name: str, value: int) -> None:
    if value < 1:
        raise ConfigError(f"tagging.{name} must be at least 1, got {value}")


def specificity(frequency: IntArray, documents: int) -> FloatArray:
    """How much finding a skill says: ln(1 + documents / frequency), `(k,)`, above 0 even for a skill found everywhere.

    Args:
        frequency: Documents in which each skill was found, `(k,)`; a skill found in none counts as found in one.
        documents: All documents.
    """
    return np.log1p(documents / np.maximum(frequency, 1))


def hit_weight(hits: int) -> float:
    """1 + ln(hits), 0 without any: the tenth occurrence of a term says less than the first.

    With plain counts a function full of comparisons would lose its one metaclass, the rarer and more telling skill.
    """
    return 1.0 + math.log(hits) if hits > 0 else 0.0


def choose_skills(
    weights: Mapping[int, float], stated: frozenset[int], specific: Sequence[float], max_skills: int
) -> tuple[list[int], list[float]]:
    """The skills that a document keeps and their scores, in graph order.

    score = weight x specificity. Stated skills are kept whatever their score and take the first places; the best of
    the others fill up to `max_skills`, ties by graph order.

    Args:
        weights: Skill -> `hit_weight`, or the classifier's probability (below 1, so weaker than one hit).
        stated: Skills that the data itself states; all are in `weights`.
        specific: From `specificity`, by skill.
        max_skills: Skills to keep; exceeded only where more are stated.
    """
    scores = {skill: weight * specific[skill] for skill, weight in weights.items()}
    kept, most = list(scores), max(max_skills, len(stated))
    if len(kept) > most:
        kept = sorted(kept, key=lambda skill: (skill not in stated, -scores[skill], skill))[:most]
    kept.sort()
    return kept, [scores[skill] for skill in kept]


def choose_sample(keys: npt.NDArray[np.uint64], rows: IntArray, skills: IntArray, limit: int) -> IntArray:
    """Rows to learn from: of each skill the documents with the smallest keys, as many for each as fit into `limit`.

    A skill with few documents gives them all and its share is not passed on, so the sample may be smaller than the
    limit. It depends on the documents and not on their order.

    Args:
        keys: A seeded random number per document, `(n,)`.
        rows: Document of each (document, skill) pair, `(p,)`.
        skills: Skill of each pair, `(p,)`.
        limit: Documents wanted in all; at least one per skill is taken.

    Returns:
        Distinct rows in order of their keys.
    """
    if not len(rows):
        return np.zeros(0, dtype=np.int64)
    share = max(1, limit // len(np.unique(skills)))
    order = np.lexsort((rows, keys[rows], skills))  # by skill, then key, then row
    sorted_skills = skills[order]
    starts = np.flatnonzero(np.r_[True, sorted_skills[1:] != sorted_skills[:-1]])
    # rank: (p,) place of a pair among those of its skill
    rank = np.arange(len(order)) - np.repeat(starts, np.diff(np.r_[starts, len(order)]))
    chosen = np.unique(rows[order[rank < share]])
    return chosen[np.lexsort((chosen, keys[chosen]))]


def choose_threshold(
    probabilities: FloatArray, right: npt.NDArray[np.bool_], labels: int, precision: float, beta: float = 1.0
) -> float | None:
    """The threshold of the best F-measure among those that are precise enough.

    Not the least that is precise enough: with skills that are told apart perfectly, that one lets wrong tags in until
    they are as many as the wanted precision allows.

    Args:
        probabilities: Of each possible tag, `(p,)`.
        right: Whether the tag is one of the document's weak labels, `(p,)`.
        labels: Weak labels in all, found among the possible tags or not.
        precision: Share of right ones that the tags at or above the threshold must reach.
        beta: Recall weighs beta times as much as precision: F = (1 + beta^2) PR / (beta^2 P + R).

    Returns:
        Midway between the last probability that is let in and the next lower one; None where no threshold is precise
        enough.
    """
    order = np.argsort(-probabilities, kind="stable")
    ranked = probabilities[order]
    hits = np.cumsum(right[order])
    made = np.arange(1, len(order) + 1)
    last_of_tie = np.r_[ranked[1:] != ranked[:-1], True] if len(order) else np.zeros(0, dtype=bool)
    usable = np.flatnonzero(last_of_tie & (hits >= precision * made) & (hits > 0))
    if not len(usable):
        return None
    best = int(usable[np.argmax((1 + beta**2) * hits[usable] / (made[usable] + beta**2 * labels))])
    below = ranked[best + 1] if best + 1 < len(ranked) else 0.0
    return float((ranked[best] + below) / 2)
