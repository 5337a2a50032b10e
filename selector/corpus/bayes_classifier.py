"""Skills by log-odds (`selector.corpus.bayes_model`), with scores that are chances and a threshold chosen on them.

Learns from the same examples as `selector.corpus.skill_classifier` and is judged the same way.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from prereq.selector.corpus.bayes_model import BayesModel, logit, train
from prereq.selector.corpus.skill_classifier import Example, Judgement, judge, learnable, likeliest, split_examples
from prereq.selector.corpus.tagging import TaggingConfig

FloatArray = npt.NDArray[np.float64]

_SHARPNESSES = 2.0 ** np.arange(0, 8.25, 0.25)  # of which the likeliest on held-back examples is taken
_STEPS = 50  # of Newton's method, which needs about ten


class BayesScorer:
    """A trained model, as what gives texts their likeliest skills."""

    def __init__(self, model: BayesModel, max_characters: int) -> None:
        self._model = model
        self._max_characters = max_characters
        self.skills = [int(label) for label in model.labels]

    def probabilities(self, lines: Sequence[str]) -> FloatArray:
        """Chance that each of `skills` is right for each text, `(n, len(skills))`."""
        return self._model.predict(lines, self._max_characters)

    def tags(self, lines: Sequence[str], threshold: float, max_skills: int) -> list[dict[int, float]]:
        """As `Scorer.tags`."""
        return likeliest(self.probabilities(lines), self.skills, threshold, max_skills)


def families(ids: Sequence[str], config: TaggingConfig) -> list[str]:
    """The group of siblings of each skill: what is before the last "/" of its id; one group for all where asked."""
    return [name.rpartition("/")[0] if config.classifier_negatives == "siblings" else "" for name in ids]


def fit_bayes(
    examples: Sequence[Example], config: TaggingConfig, groups: Sequence[str], labelled: Sequence[Example] = ()
) -> tuple[BayesModel, Judgement] | None:
    """Learn from four fifths, fit scale and threshold on the rest, then learn from all with these.

    Args:
        examples: In a seeded order that says nothing of their skills.
        config: Its `classifier_` fields.
        groups: From `families`, by skill.
        labelled: Where there are any, chances and threshold are fitted on them instead of on held-back examples.

    Returns:
        The model, whose labels are skill positions as text, and how it did; None where fewer than two skills have
        enough examples to learn from.
    """
    taught, held = split_examples(examples)
    first = _learn(taught, config, groups)
    last = _learn(examples, config, groups)
    if last is None:
        return None
    held = [example for example in held if example.skills]
    sharpness = fit_sharpness(first, held, config) if first is not None and held else last.sharpness
    last = replace(last, sharpness=sharpness)
    judged = last if labelled or first is None else replace(first, sharpness=sharpness)
    sample = list(labelled or held)
    judged = replace(judged, calibration=fit_calibration(judged, sample, config))
    scorer = BayesScorer(judged, config.classifier_characters)
    return replace(last, calibration=judged.calibration), judge(scorer, sample, config)


def fit_sharpness(model: BayesModel, examples: Sequence[Example], config: TaggingConfig) -> float:
    """The sharpness under which the examples' own skills are likeliest, a skill of several counting in part."""
    table = model.table([example.words for example in examples], config.classifier_characters)
    own = _targets(model, examples)
    own /= np.maximum(own.sum(axis=1, keepdims=True), 1)
    likelihood = [(own * replace(model, sharpness=float(value)).log_shares(table)).sum() for value in _SHARPNESSES]
    return float(_SHARPNESSES[int(np.argmax(likelihood))])


def fit_calibration(model: BayesModel, examples: Sequence[Example], config: TaggingConfig) -> tuple[float, float]:
    """a and b of the chance 1 / (1 + exp(-(a logit(share) + b))) that one of a text's likeliest tags is right.

    By maximum likelihood with Platt's softened targets, so that a few examples that are told apart perfectly do not
    make every chance 0 or 1.

    Returns:
        (1, 0), shares as they are, where all tags are right or all wrong, or where better ones are less often right.

    Source:
        Platt 1999, "Probabilistic outputs for support vector machines", section 2.2.
    """
    if not examples:
        return 1.0, 0.0
    table = model.table([example.words for example in examples], config.classifier_characters)
    shares, own = model.log_shares(table), _targets(model, examples)
    top = np.argsort(-shares, axis=1, kind="stable")[:, : config.max_skills]
    x = logit(np.take_along_axis(shares, top, axis=1)).ravel()
    right = np.take_along_axis(own, top, axis=1).ravel() > 0
    yes = int(right.sum())
    if yes in (0, len(right)):
        return 1.0, 0.0
    target = np.where(right, (yes + 1) / (yes + 2), 1 / (len(right) - yes + 2))
    a, b = logistic(x, target)
    return (a, b) if a > 0 else (1.0, 0.0)


def logistic(x: FloatArray, target: FloatArray) -> tuple[float, float]:
    """Maximum likelihood of target ~ 1 / (1 + exp(-(a x + b))) by Newton's method, halving steps that do not help."""
    design = np.stack([x, np.ones_like(x)], axis=1)
    value = np.array([0.0, float(np.log(target.mean() / (1 - target.mean())))])
    loss = _loss(design @ value, target)
    for _ in range(_STEPS):
        chance = 0.5 * (1 + np.tanh(0.5 * (design @ value)))
        curvature = (design * (chance * (1 - chance))[:, None]).T @ design + 1e-9 * np.eye(2)
        step = np.linalg.solve(curvature, design.T @ (target - chance))
        while (new := _loss(design @ (value + step), target)) > loss and np.abs(step).max() > 1e-9:
            step = step / 2
        if loss - new < 1e-9:
            break
        value, loss = value + step, new
    # nine digits: the same bytes whichever way the linear algebra library adds up
    return float(f"{value[0]:.9g}"), float(f"{value[1]:.9g}")


def _loss(z: FloatArray, target: FloatArray) -> float:
    return float((np.logaddexp(0, z) - target * z).sum())


def _targets(model: BayesModel, examples: Sequence[Example]) -> FloatArray:
    """1 where an example has a label, `(n, n_labels)`."""
    place = {int(label): column for column, label in enumerate(model.labels)}
    own = np.zeros((len(examples), len(place)))
    for row, example in enumerate(examples):
        own[row, [place[skill] for skill in example.skills if skill in place]] = 1
    return own


def _learn(examples: Sequence[Example], config: TaggingConfig, groups: Sequence[str]) -> BayesModel | None:
    learned = learnable(examples, config.classifier_min_documents)
    if len(learned) < 2:
        return None
    kept = [example for example in examples if example.skills & learned]
    labels = [[str(skill) for skill in sorted(example.skills & learned)] for example in kept]
    siblings = {str(skill): groups[skill] for skill in learned}
    return train([example.words for example in kept], labels, config.classifier_characters, siblings)
