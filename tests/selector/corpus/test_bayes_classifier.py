"""Chances that are calibrated, a scale that is likeliest, siblings as negatives, and a labelled sample that decides."""

import math
import random

import numpy as np

from prereq.selector.corpus.bayes_classifier import (
    BayesScorer,
    families,
    fit_bayes,
    fit_calibration,
    fit_sharpness,
    logistic,
)
from prereq.selector.corpus.bayes_model import train
from prereq.selector.corpus.skill_classifier import Example
from prereq.selector.corpus.tagging import TaggingConfig

TOPICS = ("flour oven dough bake crust", "sail harbour anchor tide keel", "violin chord melody tempo choir")
CONFIG = TaggingConfig(classifier="bayes")


def planted(topic: int, rng: random.Random, own: int = 6) -> str:
    words = rng.choices(TOPICS[topic].split(), k=own) + rng.choices(["the", "of", "and", "with", "one"], k=12)
    rng.shuffle(words)
    return " ".join(words)


def examples(number: int, seed: int = 1, own: int = 6, wrong: float = 0.0) -> list[Example]:
    rng = random.Random(seed)
    rows = []
    for _ in range(number):
        topic = rng.randrange(3)
        label = rng.randrange(3) if rng.random() < wrong else topic
        rows.append(Example(planted(topic, rng, own), frozenset({label})))
    return rows


def test_learns_planted_topics_and_judges_itself() -> None:
    fitted = fit_bayes(examples(300), CONFIG, [""] * 3)
    assert fitted is not None
    model, judgement = fitted
    assert judgement.documents == 60
    assert judgement.top_1 > 0.95
    assert judgement.threshold is not None
    rng = random.Random(7)
    tags = BayesScorer(model, 8000).tags([planted(topic, rng) for topic in range(3)], judgement.threshold, 6)
    assert [list(found) for found in tags] == [[0], [1], [2]]
    again = fit_bayes(examples(300), CONFIG, [""] * 3)
    assert again is not None
    assert again[0].files() == model.files()


def test_chances_are_calibrated_on_noisy_labels() -> None:
    """With 30 % random labels, what is said to be right with chance p is right in about p of fresh documents."""
    fitted = fit_bayes(examples(2000, wrong=0.3), CONFIG, [""] * 3)
    assert fitted is not None
    fresh = examples(1500, seed=5, wrong=0.3)
    chances = BayesScorer(fitted[0], 8000).probabilities([example.words for example in fresh])
    right = np.array([[skill in example.skills for skill in range(3)] for example in fresh])
    sure = chances > 0.5
    assert abs(chances[sure].mean() - right[sure].mean()) < 0.05
    assert abs(right[sure].mean() - 0.8) < 0.05
    assert abs(chances[~sure].mean() - right[~sure].mean()) < 0.05


def test_the_scale_is_the_likeliest_one() -> None:
    rows = examples(200, own=2)
    model = train(
        [row.words for row in rows], [[str(s) for s in row.skills] for row in rows], 100, dict.fromkeys("012", "")
    )
    held = examples(100, seed=9, own=2)
    table = model.table([row.words for row in held], 100)
    own = np.array([[int(label) in row.skills for label in model.labels] for row in held])
    scores = model.odds.scores(table)
    losses = {}
    for sharpness in 2.0 ** np.arange(0, 8.25, 0.25):
        shares = np.exp(sharpness * (scores - scores.max(axis=1, keepdims=True)))
        losses[float(sharpness)] = -np.log((shares / shares.sum(axis=1, keepdims=True))[own]).sum()
    assert fit_sharpness(model, held, CONFIG) == min(losses, key=lambda value: losses[value])


def test_logistic_fit_meets_its_closed_form() -> None:
    """With one x per class of outcomes the fit passes through the logits of the two rates."""
    x = np.repeat([0.0, 2.0], 100)
    target = np.concatenate([np.arange(100) < 20, np.arange(100) < 80]).astype(float)
    a, b = logistic(x, target)
    np.testing.assert_allclose([b, 2 * a + b], [math.log(0.25), math.log(4)], rtol=1e-6)


def test_calibration_is_left_alone_where_it_cannot_be_told() -> None:
    rows = examples(60)
    model = train(
        [row.words for row in rows], [[str(s) for s in row.skills] for row in rows], 100, dict.fromkeys("012", "")
    )
    wrong = [Example(row.words, frozenset({7})) for row in rows]
    assert fit_calibration(model, wrong, CONFIG) == (1.0, 0.0)
    assert fit_calibration(model, [], CONFIG) == (1.0, 0.0)


def test_siblings_are_the_skills_of_one_prefix() -> None:
    ids = ["python/loops", "python/lists", "go/loops", "maths"]
    assert families(ids, CONFIG) == ["python", "python", "go", ""]
    assert families(ids, TaggingConfig(classifier_negatives="all")) == [""] * 4


def test_negatives_from_siblings_tell_twins_apart() -> None:
    """Two families use one word each in all of their texts; it must not tell siblings apart."""
    rng = random.Random(3)
    rows = []
    for n in range(200):
        family, skill = n % 2, (n // 2) % 2
        text = " ".join([*["alpha", "omega"][family : family + 1] * 5, ["one", "two"][skill], rng.choice("uvwxyz")])
        rows.append(Example(text, frozenset({2 * family + skill})))
    fitted = fit_bayes(rows, CONFIG, ["a", "a", "b", "b"])
    assert fitted is not None
    assert fitted[1].top_1 == 1
    model = fitted[0]
    alpha = model.table(["alpha"], 99)
    scores = model.odds.scores(alpha)[0]
    places = {label: n for n, label in enumerate(model.labels)}
    assert abs(scores[places["0"]] - scores[places["1"]]) < 0.2
    shares = np.exp(model.log_shares(alpha))[0]
    assert shares[places["0"]] + shares[places["1"]] > 0.9


def test_a_labelled_sample_decides_chances_and_threshold() -> None:
    """People say of half of the documents that they lack the skill: a tag is right half of the time, and is not made
    where nine in ten must be right."""
    rows = examples(400, own=3)
    config = TaggingConfig(classifier="bayes", classifier_precision=0.9)
    plain = fit_bayes(rows, config, [""] * 3)
    rng = random.Random(11)
    sample = [Example(planted(n % 3, rng), frozenset({n % 3} if n % 2 else {9})) for n in range(80)]
    told = fit_bayes(rows, config, [""] * 3, sample)
    assert plain is not None
    assert told is not None
    assert plain[1].threshold is not None
    assert (told[1].threshold, told[1].documents) == (None, 80)
    texts = [planted(n % 3, rng) for n in range(60)]
    best = [BayesScorer(model, 8000).probabilities(texts).max(axis=1).mean() for model in (plain[0], told[0])]
    assert best[0] > 0.9
    assert abs(best[1] - 0.5) < 0.1


def test_too_little_to_learn_from_is_no_classifier() -> None:
    assert fit_bayes([], CONFIG, []) is None
    assert fit_bayes(examples(4), CONFIG, [""] * 3) is None
