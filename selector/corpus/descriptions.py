"""Skills of documents by nearness: a skill's own words and a document, both in the corpus's embedding space.

Says something of skills that no document is labelled with and no term finds. Weaker than what is learned from
examples, so it fills gaps only. Arrays only; `jobs.stages.tagger` reads and writes.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from prereq.graph.skill import Skill
from prereq.selector.corpus.embedding import EmbeddingModel
from prereq.selector.corpus.tagging import TaggingConfig, choose_threshold

Vectors = npt.NDArray[np.float32]


def describe(skill: Skill) -> str:
    """What a skill says of itself in words: name, description, aliases."""
    return "\n".join([skill.name, skill.description, *skill.aliases])


def description_vectors(skills: Sequence[Skill], model: EmbeddingModel, max_characters: int) -> Vectors:
    """Unit vectors of the skills' descriptions, `(k, dim)`; zeros for one without a known word, near to nothing."""
    vectors, missing = model.embed([describe(skill) for skill in skills], max_characters)
    return np.where(missing[:, None], np.float32(0), vectors)


def similarities(vectors: Vectors, descriptions: Vectors) -> npt.NDArray[np.float64]:
    """Cosines `(n, k)` of unit vectors `(n, dim)` and `(k, dim)`; a row does not depend on the other rows."""
    return np.einsum("nd,kd->nk", vectors.astype(np.float64), descriptions.astype(np.float64))


def nearness_threshold(
    vectors: Vectors, own: Sequence[frozenset[int]], descriptions: Vectors, config: TaggingConfig
) -> float | None:
    """The least cosine at which a description tags, by the documents' known skills: as for the classifier.

    Args:
        vectors: Of documents whose skills are known, `(n, dim)`.
        own: Their skills.
        descriptions: `(k, dim)`.
        config: A configured threshold is returned as it is; else `classifier_precision` and `classifier_beta` count.

    Returns:
        None where no threshold is precise enough: descriptions then tag nothing.
    """
    if config.descriptions_threshold is not None:
        return config.descriptions_threshold
    if not len(vectors):
        return None
    near = similarities(vectors, descriptions)
    top = np.argsort(-near, axis=1, kind="stable")[:, : config.max_skills]
    right = np.array([[int(skill) in skills for skill in row] for row, skills in zip(top, own, strict=True)])
    labels = sum(len(skills) for skills in own)
    values = np.take_along_axis(near, top, axis=1).ravel()
    return choose_threshold(values, right.ravel(), labels, config.classifier_precision, config.classifier_beta)
