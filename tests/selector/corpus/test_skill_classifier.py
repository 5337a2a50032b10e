"""The classifier on planted topics: it learns them, judges itself honestly, and does not depend on batches."""

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from prereq.graph.errors import ConfigError
from prereq.graph.skill import Skill
from prereq.selector.corpus.patterns import SkillMatcher
from prereq.selector.corpus.skill_classifier import Example, SkillScorer, common_words, document_words, fit, judge
from prereq.selector.corpus.tagging import TaggingConfig

TOPICS = ("flour oven dough bake crust", "sail harbour anchor tide keel", "violin chord melody tempo choir")


def planted(topic: int, rng: random.Random) -> str:
    words = rng.choices(TOPICS[topic].split(), k=6) + rng.choices(["the", "of", "and", "with", "one"], k=12)
    rng.shuffle(words)
    return " ".join(words)


def examples(number: int, label: Callable[[int, random.Random], int] = lambda t, _: t) -> list[Example]:
    rng = random.Random(1)
    topics = [rng.randrange(len(TOPICS)) for _ in range(number)]
    return [Example(planted(topic, rng), frozenset({label(topic, rng)})) for topic in topics]


@pytest.fixture(scope="module")
def fitted() -> tuple:  # type: ignore[type-arg]
    result = fit(examples(300), TaggingConfig(), seed=3)
    assert result is not None
    return result


def test_learns_planted_topics(fitted: tuple) -> None:  # type: ignore[type-arg]
    model, judgement = fitted
    assert judgement.documents == 60
    assert judgement.top_1 > 0.95
    assert judgement.precision >= 0.5
    assert judgement.recall > 0.95
    rng = random.Random(77)
    lines = [planted(topic, rng) for topic in (0, 1, 2)]
    tags = SkillScorer(model).tags(lines, 0.5, 6)
    assert [list(found) for found in tags] == [[0], [1], [2]]


def test_probabilities_do_not_depend_on_the_batch(fitted: tuple) -> None:  # type: ignore[type-arg]
    scorer = SkillScorer(fitted[0])
    rng = random.Random(8)
    lines = [planted(n % 3, rng) for n in range(50)]
    together = scorer.probabilities(lines)
    for n, line in enumerate(lines):
        np.testing.assert_array_equal(scorer.probabilities([line])[0], together[n])
    np.testing.assert_array_equal(scorer.probabilities(lines[7:20]), together[7:20])


def test_same_model_for_same_examples(fitted: tuple) -> None:  # type: ignore[type-arg]
    again = fit(examples(300), TaggingConfig(), seed=3)
    assert again is not None
    assert again[0].files() == fitted[0].files()
    assert again[1] == fitted[1]


def test_wrong_labels_leave_no_threshold() -> None:
    """Where labels have nothing to do with the words, no threshold is precise, and nothing is tagged."""
    rows = examples(400, lambda _topic, rng: rng.randrange(12))
    result = fit(rows, TaggingConfig(classifier_precision=0.9), seed=0)
    assert result is not None
    assert result[1].threshold is None
    assert result[1].precision == result[1].recall == 0
    assert result[1].top_1 < 0.4


def test_a_configured_threshold_is_kept(fitted: tuple) -> None:  # type: ignore[type-arg]
    model, _ = fitted
    judgement = judge(model, examples(40), TaggingConfig(classifier_threshold=0.25))
    assert judgement.threshold == 0.25
    assert judge(model, [], TaggingConfig(classifier_threshold=0.25)).documents == 0


@pytest.mark.parametrize("rows", [[], examples(4), [Example(words, frozenset({0})) for words in ["a b"] * 100]])
def test_too_little_to_learn_from_is_no_classifier(rows: list[Example]) -> None:
    assert fit(rows, TaggingConfig(), seed=0) is None


def test_common_words_are_those_that_tell_no_skill_apart() -> None:
    two = [Example("the flour", frozenset({0})), Example("the anchor", frozenset({1}))] * 30
    assert common_words(two) == {"the"}


def test_documents_are_read_without_the_terms_that_tagged_them() -> None:
    matcher = SkillMatcher([Skill(id="s", aliases=("dough",))])
    assert document_words("Knead Dough, bakeBread!", matcher.without_matches, 100) == "knead bake bread"
    assert document_words("Knead Dough, bakeBread!", None, 11) == "knead dough"


def test_training_that_diverges_is_repeated_with_a_lower_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    from prereq.selector.corpus import skill_classifier

    rates: list[float] = []
    train = skill_classifier.train_classifier

    def diverging(labelled: Any, *, learning_rate: float, **options: Any) -> Any:
        rates.append(learning_rate)
        if learning_rate > 0.2:
            raise RuntimeError("Encountered NaN.")
        return train(labelled, learning_rate=learning_rate, **options)

    monkeypatch.setattr(skill_classifier, "train_classifier", diverging)
    assert fit(examples(100), TaggingConfig(), seed=0) is not None
    assert rates == [0.5, 0.25, 0.125]
    monkeypatch.setattr(skill_classifier, "_LEARNING_RATES", (0.5, 0.25))
    with pytest.raises(ConfigError, match=r"diverges on 80 documents.*classifier_epochs \(now 100\)"):
        fit(examples(100), TaggingConfig(), seed=0)
