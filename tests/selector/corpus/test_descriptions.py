"""Nearest descriptions: cosines, skills that say nothing known, and the threshold."""

import numpy as np
import pytest

from prereq.graph.errors import ConfigError
from prereq.graph.skill import Skill
from prereq.selector.corpus.descriptions import describe, description_vectors, nearness_threshold, similarities
from prereq.selector.corpus.embedding import EmbeddingConfig, fit
from prereq.selector.corpus.tagging import TaggingConfig

CONFIG = TaggingConfig(methods=("labels", "descriptions"))


def test_a_skill_is_described_by_all_of_its_words() -> None:
    skill = Skill(id="x", name="Loops", description="again and again", aliases=("for", "while"))
    assert describe(skill).split("\n") == ["Loops", "again and again", "for", "while"]


def test_descriptions_lie_near_the_documents_that_use_their_words() -> None:
    texts = ["flour dough oven bread"] * 20 + ["anchor tide keel harbour"] * 20
    model = fit(texts, EmbeddingConfig(method="tfidf", dim=4, min_count=1), seed=0)
    skills = [Skill(id="sailing", description="keel and tide"), Skill(id="baking", aliases=("dough",)), Skill(id="zzz")]
    descriptions = description_vectors(skills, model, 1000)
    assert not descriptions[2].any()
    documents, _ = model.embed(texts, 1000)
    near = similarities(documents, descriptions)
    np.testing.assert_allclose(near, documents.astype(float) @ descriptions.astype(float).T, atol=1e-12)
    assert (near[:20].argmax(axis=1) == 1).all()
    assert (near[20:].argmax(axis=1) == 0).all()
    threshold = nearness_threshold(documents, [frozenset({1})] * 20 + [frozenset({0})] * 20, descriptions, CONFIG)
    assert threshold is not None
    assert near[:20, 0].max() < threshold < near[:20, 1].min()


def test_no_threshold_where_descriptions_mislead() -> None:
    vectors = np.eye(2, dtype=np.float32)
    strict = TaggingConfig(methods=("labels", "descriptions"), classifier_precision=0.9)
    assert nearness_threshold(vectors, [frozenset({1}), frozenset({0})], vectors, strict) is None
    assert nearness_threshold(vectors[:0], [], vectors, CONFIG) is None
    given = TaggingConfig(methods=("descriptions",), descriptions_threshold=0.4)
    assert nearness_threshold(vectors, [frozenset({1}), frozenset({0})], vectors, given) == 0.4


def test_configuration() -> None:
    with pytest.raises(ConfigError, match="descriptions alone have no labels"):
        TaggingConfig(methods=("descriptions",))
    with pytest.raises(ConfigError, match="nothing to learn from"):
        TaggingConfig(methods=("classifier", "descriptions"))
    with pytest.raises(ConfigError, match="between -1 and 1"):
        TaggingConfig(descriptions_threshold=1.5)
