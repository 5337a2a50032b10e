"""The classifier on planted topics: it learns them, judges itself honestly, and does not depend on batches."""

import gzip
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from prereq.graph.errors import ConfigError
from prereq.graph.skill import Skill
from prereq.selector.corpus.patterns import SkillMatcher
from prereq.selector.corpus.skill_classifier import (
    Example,
    SkillScorer,
    TextScorer,
    common_words,
    document_words,
    fit,
    judge,
    learn,
)
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
    judgement = judge(SkillScorer(model), examples(40), TaggingConfig(classifier_threshold=0.25))
    assert judgement.threshold == 0.25
    assert judge(SkillScorer(model), [], TaggingConfig(classifier_threshold=0.25)).documents == 0


@pytest.mark.parametrize("rows", [[], examples(4), [Example(words, frozenset({0})) for words in ["a b"] * 100]])
def test_too_little_to_learn_from_is_no_classifier(rows: list[Example]) -> None:
    assert fit(rows, TaggingConfig(), seed=0) is None


def test_common_words_are_those_that_tell_no_skill_apart() -> None:
    two = [Example("the flour", frozenset({0})), Example("the anchor", frozenset({1}))] * 30
    assert common_words(two) == {"the"}


def test_documents_are_read_without_the_terms_that_tagged_them() -> None:
    matcher = SkillMatcher([Skill(id="s", aliases=("dough",))])
    assert document_words("Knead Dough, bakeBread!", matcher, 100) == "knead bake bread"
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


@pytest.mark.data
@pytest.mark.slow
def test_exercises_get_the_concepts_that_they_teach(data_dir: Path) -> None:
    """The protocol of the data's README: taught on concept pages, judged on exercises, candidates of the same track.

    Measured: top-1 .224 to .236, top-5 .461 to .463 over three seeds; plain TF-IDF has .172 and .336.
    """
    taught, judged = [], []
    with gzip.open(data_dir / "exercism" / "documents.jsonl.gz", "rt", encoding="utf-8") as file:
        for entry in map(json.loads, file):
            labels, kind = entry["labels"], entry["labels"]["kind"]
            skills = set(labels["taught"] + labels.get("practices", []))
            if kind in ("concept_about", "concept_introduction"):
                taught.append((entry["text"], skills))
            elif kind != "tests" and skills:
                judged.append((entry["text"], skills))
    ids = sorted(set().union(*(skills for _, skills in taught)))
    rows = [Example(document_words(t, None, 8000), frozenset(ids.index(s) for s in skills)) for t, skills in taught]
    random.Random(0).shuffle(rows)
    model = learn(rows, TaggingConfig(classifier_min_documents=1), seed=0)
    assert model is not None
    assert len(judged) == 1166
    scorer = SkillScorer(model)
    track = np.array([ids[skill].split("/")[0] for skill in scorer.skills])
    first = top_5 = 0
    for row, (_, skills) in zip(
        scorer.probabilities([document_words(t, None, 8000) for t, _ in judged]), judged, strict=True
    ):
        ranked = np.argsort(-np.where(track == min(skills).split("/")[0], row, -1), kind="stable")[:5]
        best = [ids[scorer.skills[place]] for place in ranked]
        first += best[0] in skills
        top_5 += bool(set(best) & skills)
    assert first / len(judged) > 0.172
    assert top_5 / len(judged) > 0.336


def test_texts_are_scored_as_their_words_are() -> None:
    fitted = fit(examples(200), TaggingConfig(), 0)
    assert fitted is not None
    texts = ["Knead the Dough, bakeBread 12 times!", "", "sail_harbour\0tide", "Qualität of dough — tide", "x" * 50]
    lines = [document_words(text, None, 30) for text in texts]
    by_words = SkillScorer(fitted[0]).probabilities(lines)
    np.testing.assert_allclose(TextScorer(fitted[0], 30).probabilities(texts), by_words, rtol=1e-12)
    alone = np.concatenate([TextScorer(fitted[0], 30).probabilities([text]) for text in texts])
    np.testing.assert_array_equal(TextScorer(fitted[0], 30).probabilities(texts), alone)
