"""Signing is the same however the texts are batched, and agrees with the content digest used elsewhere."""

import random

import numpy as np

from prereq.selector.corpus.duplicates import DuplicatesConfig
from prereq.selector.corpus.normalise import content_digest, normalise
from prereq.selector.corpus.signing import sign


def texts():
    rng = random.Random(5)
    made = [
        " ".join(rng.choices(["Ärger", "ﬁne", "x", "\u00a0", "\n", "日本語"], k=rng.randrange(40))) for _ in range(70)
    ]
    return [*made, "", "\ud800 lone", "İstanbul STRASSE straße"]


def test_content_and_length_are_those_of_the_normal_form():
    signed = sign([texts()], DuplicatesConfig())
    assert [row.tobytes() for row in signed.content] == [content_digest(text) for text in texts()]
    assert signed.lengths.tolist() == [len(normalise(text)) for text in texts()]


def test_batches_change_nothing():
    whole = sign([texts()], DuplicatesConfig())
    cut = sign([texts()[:1], [], texts()[1:40], texts()[40:]], DuplicatesConfig())
    for name in ("content", "lengths", "bands", "sketches"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(cut, name))
    assert whole.bands.shape == (DuplicatesConfig().banding()[0], len(texts()))


def test_without_near_duplicates_there_is_nothing_to_hash():
    signed = sign([texts()], DuplicatesConfig(near=False))
    assert (signed.bands.shape, signed.sketches.shape) == ((0, len(texts())), (len(texts()), 0))
    assert sign([], DuplicatesConfig()).content.shape == (0, 16)
