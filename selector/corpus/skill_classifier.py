"""A classifier that tags what no label and no pattern reaches, learned from the documents that they do reach.

fastText over words, one output per skill (`ova`: a document has several). The terms by which a document was found
are cut out of what it reads, in training as later: a document that needs the classifier is one without those terms.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
from scipy import sparse

from prereq.graph.errors import ConfigError
from prereq.selector.corpus.fasttext_model import END, ClassifierModel, mean_rows, train_classifier
from prereq.selector.corpus.patterns import SkillMatcher
from prereq.selector.corpus.tagging import TaggingConfig, choose_threshold
from prereq.selector.corpus.word_ids import WordIndex
from prereq.selector.corpus.words import split_words

FloatArray = npt.NDArray[np.float64]
_HELD_BACK = 5  # one document in five judges what the others taught
# Halved as often as training diverges. At 1.0 it does so without a sign: 4,500 functions of the standard library, 82
# skills, top-1 .32 where .5 gives .63 and .25 gives .64 (more passes needed).
_LEARNING_RATES = (0.5, 0.25, 0.125, 0.0625)
_SHOWN = 40_000  # documents shown in training, repeats counted: fastText starts near zero and needs so many steps
# A word in more than _COMMON of the documents is dropped, since it drowns the others in the mean (exercism's concepts:
# top-1 .12 -> .24), unless some skill's documents hold it more often than the other documents by _TELLING: of two
# skills, half the documents may rightly share a word.
_COMMON = 0.2
_TELLING = 0.5


@dataclass(frozen=True, slots=True)
class Example:
    """A document to learn from or to be judged by."""

    words: str  # as `document_words` or `document_text` gives them
    skills: frozenset[int]  # weak labels


@dataclass(frozen=True, slots=True)
class Judgement:
    """How the classifier does on weak labels that it has not seen."""

    threshold: float | None  # probability from which on it tags; None: it does not tag
    documents: int  # held back
    top_1: float  # share of them whose likeliest skill is a weak label
    precision: float  # share of right ones among its tags
    recall: float  # share of weak labels among its tags


class Scorer(Protocol):
    """What gives texts their likeliest skills."""

    def tags(self, lines: Sequence[str], threshold: float, max_skills: int) -> list[dict[int, float]]:
        """Skill -> probability of the likeliest skills at or above the threshold, per line; ties by graph order."""


class SkillScorer:
    """A trained model that gives each text the same probabilities whatever it is predicted together with."""

    def __init__(self, model: ClassifierModel) -> None:
        self._rows = {word: row for row, word in enumerate(model.words)}
        self._inputs = model.inputs
        self._outputs = model.outputs.astype(np.float64)
        self.skills = [int(label) for label in model.labels]

    def probabilities(self, lines: Sequence[str]) -> FloatArray:
        """Probability of each of `skills` for each line of words, `(n, len(skills))`."""
        bags = [[self._rows[w] for w in (*line.split(), END) if w in self._rows] for line in lines]
        return self._from_means(mean_rows(bags, self._inputs))

    def _from_means(self, hidden: FloatArray) -> FloatArray:
        # einsum and not @: a BLAS product may round a row differently with the number of rows beside it
        scores = np.einsum("nd,kd->nk", hidden, self._outputs)
        return np.asarray(0.5 * (1.0 + np.tanh(0.5 * scores)))

    def tags(self, lines: Sequence[str], threshold: float, max_skills: int) -> list[dict[int, float]]:
        """Skill -> probability of the likeliest skills at or above the threshold, per line; ties by graph order."""
        return likeliest(self.probabilities(lines), self.skills, threshold, max_skills)


class TextScorer(SkillScorer):
    """`SkillScorer` for texts that are not yet split into words: a batch is split and summed in numpy.

    Args:
        model: The model.
        max_characters: What lies behind in a text is not read.
    """

    def __init__(self, model: ClassifierModel, max_characters: int) -> None:
        super().__init__(model)
        self._index, self._max_characters = WordIndex(model.words), max_characters
        self._wide = model.inputs.astype(np.float64)
        end = self._rows.get(END)
        self._end = (np.zeros(model.inputs.shape[1]), 0) if end is None else (self._wide[end], 1)

    def probabilities(self, lines: Sequence[str]) -> FloatArray:
        """Probability of each of `skills` for each text, `(n, len(skills))`."""
        words, offsets = self._index.find(lines, self._max_characters)
        table = sparse.csr_matrix((np.ones(len(words)), words, offsets), shape=(len(lines), len(self._wide)))
        row, count = self._end
        # a row of a sparse product is summed by itself, in the order of its words
        return self._from_means((table @ self._wide + row) / np.maximum(np.diff(offsets) + count, 1)[:, np.newaxis])


def likeliest(
    probabilities: FloatArray, skills: Sequence[int], threshold: float, max_skills: int
) -> list[dict[int, float]]:
    """Skill -> probability of the likeliest skills at or above the threshold, per row; ties by graph order.

    Args:
        probabilities: `(n, len(skills))`.
        skills: Position of each column in the graph.
        threshold: Least probability.
        max_skills: Skills per row, at most.
    """
    order = np.argsort(skills, kind="stable")
    places, ranked = np.asarray(skills)[order], -probabilities[:, order]
    top = np.argsort(ranked, axis=1, kind="stable")[:, :max_skills]
    values, chosen = -np.take_along_axis(ranked, top, axis=1), places[top]
    kept = (values >= threshold).sum(axis=1).tolist()
    rows = zip(chosen.tolist(), values.tolist(), kept, strict=True)
    return [dict(zip(names[:number], row[:number], strict=True)) for names, row, number in rows]


def document_words(text: str, matcher: SkillMatcher | None, max_characters: int) -> str:
    """What the classifier reads of a document: the words of its beginning.

    Args:
        text: The document.
        matcher: Finds the terms that are cut out, those which made the labels; None: nothing is.
        max_characters: Length of the beginning, before anything is cut out.
    """
    start = text[:max_characters]
    return " ".join(split_words(matcher.without_matches(start) if matcher else start, max_characters))


def document_text(text: str, matcher: SkillMatcher | None, max_characters: int) -> str:
    """The beginning of a document, signs and all, for the classifier that reads them; arguments as in
    `document_words`."""
    start = text[:max_characters]
    return matcher.without_matches(start) if matcher else start


def split_examples(examples: Sequence[Example]) -> tuple[list[Example], list[Example]]:
    """Four fifths to learn from and one to judge by."""
    held = [example for place, example in enumerate(examples) if place % _HELD_BACK == _HELD_BACK - 1]
    return [example for place, example in enumerate(examples) if place % _HELD_BACK != _HELD_BACK - 1], held


def learnable(examples: Sequence[Example], least: int) -> set[int]:
    """The skills that enough examples have."""
    seen = Counter(skill for example in examples for skill in example.skills)
    return {skill for skill, number in seen.items() if number >= least}


def fit(
    examples: Sequence[Example], config: TaggingConfig, seed: int, labelled: Sequence[Example] = ()
) -> tuple[ClassifierModel, Judgement] | None:
    """Learn from four fifths of the examples, find the threshold on the rest.

    Args:
        examples: In a seeded order that says nothing of their skills.
        config: Its `classifier_` fields.
        seed: Of the start vectors.
        labelled: Where there are any, the threshold is found on them instead.

    Returns:
        The model, whose labels are skill positions as text, and how it did; None where fewer than two skills have
        enough examples to learn from.
    """
    taught, held = split_examples(examples)
    model = learn(taught, config, seed)
    return None if model is None else (model, judge(SkillScorer(model), labelled or held, config))


def learn(examples: Sequence[Example], config: TaggingConfig, seed: int) -> ClassifierModel | None:
    """Train on all of the examples; arguments and result as in `fit`."""
    learned = learnable(examples, config.classifier_min_documents)
    if len(learned) < 2:
        return None
    dropped = common_words(examples)
    words = [" ".join(word for word in example.words.split() if word not in dropped) for example in examples]
    labels = [[str(skill) for skill in sorted(example.skills & learned)] for example in examples]
    return _train(list(zip(labels, words, strict=True)), config, seed)


def _train(labelled: Sequence[tuple[list[str], str]], config: TaggingConfig, seed: int) -> ClassifierModel:
    """Train, with half the learning rate each time that the vectors run away to NaN.

    Raises:
        ConfigError: They do so at the lowest rate as well.
    """
    epochs = config.classifier_epochs or max(5, min(100, round(_SHOWN / len(labelled))))
    for rate in _LEARNING_RATES:
        try:
            return train_classifier(
                labelled, dim=config.classifier_dim, epochs=epochs, min_count=2, learning_rate=rate, seed=seed
            )
        except (RuntimeError, ConfigError) as error:  # fastText's own check, and the one of its last vectors
            if "NaN" not in str(error):
                raise
    raise ConfigError(
        f"the skill classifier diverges on {len(labelled)} documents even at learning rate {_LEARNING_RATES[-1]}; "
        f"lower tagging.classifier_epochs (now {epochs}), or leave classifier out of tagging.methods"
    )


def common_words(examples: Sequence[Example]) -> frozenset[str]:
    """Words that most kinds of documents hold, and that therefore tell nothing of a skill.

    Rates are smoothed, (count + 1) / (documents + 2), so that a skill with three documents makes no word telling.
    """
    sets = [set(example.words.split()) for example in examples]
    everywhere = Counter(word for words in sets for word in words)
    total = Counter(skill for example in examples for skill in example.skills)
    common = {word for word, number in everywhere.items() if number > _COMMON * len(examples)}
    together = Counter(
        (word, skill) for words, e in zip(sets, examples, strict=True) for word in words & common for skill in e.skills
    )
    telling = {
        word
        for (word, skill), number in together.items()
        if (number + 1) / (total[skill] + 2) - (everywhere[word] - number + 1) / (len(examples) - total[skill] + 2)
        >= _TELLING
    }
    return frozenset(common - telling)


def judge(scorer: Scorer, held: Sequence[Example], config: TaggingConfig) -> Judgement:
    """Find the threshold on held-back examples, or take the configured one, and say how the tags do there."""
    wanted = [example for example in held if example.skills]
    if not wanted:
        return Judgement(config.classifier_threshold, 0, 0.0, 0.0, 0.0)
    likeliest = scorer.tags([example.words for example in wanted], 0.0, config.max_skills)
    pairs = [(p, s in e.skills) for e, tags in zip(wanted, likeliest, strict=True) for s, p in tags.items()]
    probabilities = np.array([p for p, _ in pairs])
    right = np.array([hit for _, hit in pairs], dtype=bool)
    labels = sum(len(example.skills) for example in wanted)
    threshold = config.classifier_threshold
    if threshold is None:
        threshold = choose_threshold(probabilities, right, labels, config.classifier_precision, config.classifier_beta)
    made = probabilities >= threshold if threshold is not None else np.zeros(len(pairs), dtype=bool)
    top_1 = sum(next(iter(tags)) in e.skills for e, tags in zip(wanted, likeliest, strict=True))
    return Judgement(
        threshold=threshold,
        documents=len(wanted),
        top_1=top_1 / len(wanted),
        precision=float(right[made].mean()) if made.any() else 0.0,
        recall=float(right[made].sum()) / labels,
    )
