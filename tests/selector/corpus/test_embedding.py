"""Embeddings: planted topics are told apart, samples depend on ids alone, nothing is ever NaN."""

import itertools
import os
import subprocess
import sys

import numpy as np
import pytest

from prereq.graph.errors import ConfigError, TableError
from prereq.selector.corpus.embedding import (
    EmbeddingConfig,
    EmbeddingModel,
    choose_sample,
    count_words,
    fit,
    sample_order,
    with_pairs,
)

METHODS = ("fasttext", "tfidf")


def topic_texts(topics: int, documents: int, seed: int = 0, own: int = 12) -> tuple[list[str], np.ndarray]:
    """Documents `own` of whose 20 words are of one topic's 30 words, the rest common to all."""
    rng, letters = np.random.default_rng(seed), "abcdefghijklmnopqrst"
    vocabulary = ["".join(letters[i] for i in digits) for digits in itertools.product(range(20), repeat=3)]
    rng.shuffle(vocabulary)
    words = np.array(vocabulary[: 30 * (topics + 1)]).reshape(-1, 30)
    labels = np.arange(documents) % topics
    texts = [" ".join([*rng.choice(words[topic], own), *rng.choice(words[-1], 20 - own)]) for topic in labels]
    return texts, labels


def contrast(vectors: np.ndarray, labels: np.ndarray) -> float:
    """Mean cosine inside topics minus mean cosine across topics."""
    cosine, same = vectors @ vectors.T, labels[:, None] == labels
    return float(cosine[same].mean() - cosine[~same].mean())


@pytest.mark.parametrize("method", METHODS)
def test_documents_of_a_topic_lie_near_each_other(method: str) -> None:
    texts, labels = topic_texts(5, 600)
    config = EmbeddingConfig(method=method, dim=16)
    vectors, missing = fit(texts, config, seed=1).embed(texts, config.max_characters)
    assert vectors.dtype == np.float32
    assert not missing.any()
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert contrast(vectors, labels) > 0.7


@pytest.mark.slow
def test_threads_of_the_machine_change_no_byte() -> None:
    """The SVD's products change their last bits with the number of BLAS threads, so the fit holds it to one."""
    program = """
import numpy as np
from threadpoolctl import threadpool_limits
from prereq.graph.canonical import sha256_hex
from prereq.selector.corpus.embedding import EmbeddingConfig, fit
rng = np.random.default_rng(0)
words = np.array([f"{chr(97 + i % 26)}{chr(97 + i // 26 % 26)}{chr(97 + i // 676)}" for i in range(3000)])
texts = [" ".join(words[(rng.zipf(1.3, 100) - 1) % 3000]) for _ in range(3000)]
with threadpool_limits(1):  # as the executor does, before scikit-learn and its libraries are loaded
    model = fit(texts, EmbeddingConfig(method="tfidf"), 0)
print(sha256_hex(b"".join(model.files().values())))
"""
    digests = set()
    for threads in ("1", "4"):
        environment = {**os.environ, "OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads}
        command = [sys.executable, "-c", program]
        digests.add(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)
    assert len(digests) == 1


@pytest.mark.parametrize("method", METHODS)
def test_same_input_and_seed_give_the_same_bytes(method: str) -> None:
    texts, _ = topic_texts(3, 120)
    config = EmbeddingConfig(method=method, dim=8, epochs=2)
    first, again, other = (fit(texts, config, seed).files() for seed in (1, 1, 2))
    assert first == again
    assert method == "tfidf" or first["vectors.npy"] != other["vectors.npy"]


@pytest.mark.parametrize("method", METHODS)
def test_a_vector_does_not_depend_on_its_neighbours(method: str) -> None:
    texts, _ = topic_texts(3, 90)
    config = EmbeddingConfig(method=method, dim=8, epochs=1)
    model = fit(texts, config, seed=0)
    together, _ = model.embed(texts, 1000)
    for rows in (slice(0, 1), slice(7, 40), slice(89, 90)):
        apart, _ = model.embed(texts[rows], 1000)
        assert apart.tobytes() == together[rows].tobytes()


@pytest.mark.parametrize("method", METHODS)
def test_a_document_without_known_words_gets_the_fallback(method: str) -> None:
    texts, _ = topic_texts(3, 90)
    model = fit(texts, EmbeddingConfig(method=method, dim=8, epochs=1), seed=0)
    vectors, missing = model.embed(["", "+-*/ \0", "neverseenbefore", texts[0]], 1000)
    assert missing.tolist() == [True, True, True, False]
    np.testing.assert_array_equal(vectors[:3], np.eye(8, dtype=np.float32)[[0, 0, 0]])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("texts", [["one document of some words"], ["all the same"] * 30, ["?!"] * 5, ["a", "b"], [""]])
def test_degenerate_corpora_give_finite_unit_vectors(method: str, texts: list[str]) -> None:
    config = EmbeddingConfig(method=method, dim=8)
    vectors, _ = fit(texts, config, seed=0).embed(texts, config.max_characters)
    assert vectors.shape == (len(texts), 8)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_vector_is_the_stated_sum() -> None:
    """unit(unit(sum (1 + log n) row) - centre), by hand."""
    rows = np.array([[3, 0], [0, 2]], dtype=np.float32)
    model = EmbeddingModel(["one", "two"], rows, np.array([0.1, 0.2], dtype=np.float32))
    vectors, _ = model.embed(["one two two"], 100)
    raw = np.array([3, 2 * (1 + np.log(2))])
    expected = raw / np.linalg.norm(raw) - [0.1, 0.2]
    np.testing.assert_allclose(vectors[0], expected / np.linalg.norm(expected), atol=1e-6)


def test_count_words_damps_counts_and_forgets_unknown_words() -> None:
    counts = count_words([["a", "b", "a", "x"], [], ["b"]], {"a": 0, "b": 1}).toarray()
    np.testing.assert_allclose(counts, [[1 + np.log(2), 1], [0, 0], [0, 1]])


def test_centre_is_what_the_sample_shares() -> None:
    texts, _ = topic_texts(4, 200, own=4)
    model = fit(texts, EmbeddingConfig(dim=8, epochs=2), seed=0)
    uncentred = EmbeddingModel(model.words, model.rows, np.zeros(8, dtype=np.float32))
    vectors, _ = uncentred.embed(texts, 1000)
    np.testing.assert_allclose(model.centre, vectors.mean(axis=0), atol=1e-6)


def test_only_the_beginning_of_a_document_is_read() -> None:
    texts, _ = topic_texts(2, 60)
    model = fit(texts, EmbeddingConfig(dim=8, epochs=1), seed=0)
    first, _ = model.embed([texts[0]], 40)
    np.testing.assert_array_equal(first, model.embed([texts[0][:40] + texts[1]], 40)[0])


def test_sample_holds_the_budget_and_follows_the_order() -> None:
    ids = [f"doc {n}" for n in range(500)]
    sizes = np.full(500, 100)
    rows = choose_sample(sample_order(ids, 3), ids, sizes, budget=2000)
    assert len(rows) == 20
    assert (np.diff(sample_order(ids, 3)[rows].astype(float)) > 0).all()
    assert len(choose_sample(sample_order(ids, 3), ids, sizes, budget=0)) == 1
    assert len(choose_sample(sample_order(ids, 3), ids, sizes, budget=10**9)) == 500
    assert set(rows) != set(choose_sample(sample_order(ids, 4), ids, sizes, budget=2000))


def test_sample_of_parts_is_the_sample_of_the_whole() -> None:
    """Choose in each part, then among the chosen: the same documents in the same order, wherever the borders are."""
    rng = np.random.default_rng(0)
    ids = [f"{n}" for n in range(300)]
    sizes = rng.integers(1, 200, 300)
    order = sample_order(ids, 0)
    whole = [ids[row] for row in choose_sample(order, ids, sizes, 3000)]
    for borders in ([0, 300], [0, 10, 300], [0, 100, 200, 299, 300]):
        kept = []
        for start, end in itertools.pairwise(borders):
            part = choose_sample(order[start:end], ids[start:end], sizes[start:end], 3000)
            kept += [start + row for row in part]
        again = choose_sample(order[kept], [ids[row] for row in kept], sizes[kept], 3000)
        assert [ids[kept[row]] for row in again] == whole


def test_model_survives_the_way_through_files_and_damage_is_named() -> None:
    texts, _ = topic_texts(2, 40)
    model = fit(texts, EmbeddingConfig(dim=4, epochs=1), seed=0)
    back = EmbeddingModel.from_files(model.files())
    np.testing.assert_array_equal(back.embed(texts, 1000)[0], model.embed(texts, 1000)[0])
    with pytest.raises(TableError, match=r"centre\.npy, words\.json missing"):
        EmbeddingModel.from_files({"vectors.npy": b""})
    with pytest.raises(TableError, match="1 words, vectors of shape"):
        EmbeddingModel.from_files({**model.files(), "words.json": b'["x"]'})


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"method": "bert"}, "embedding.method is 'bert'"),
        ({"model": "glove"}, "embedding.model is 'glove'"),
        ({"method": "onnx"}, "embedding.model_path: goes with embedding.method: sentence_transformers or onnx"),
        ({"model_path": "m"}, "embedding.model_path: goes with"),
        ({"batch_size": 0}, "embedding.batch_size must be at least 1, got 0"),
        ({"dim": 1}, "embedding.dim must be at least 2, got 1"),
        ({"sample_mib": 0}, "embedding.sample_mib must be above 0"),
        ({"epochs": 0}, "embedding.epochs must be at least 1, got 0"),
    ],
)
def test_bad_configuration_is_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        EmbeddingConfig(**wrong)  # type: ignore[arg-type]


def test_pairs_of_known_words_are_counted_inside_a_document_only() -> None:
    known = ["new", "york", "big", "new york", "york big"]
    words, offsets = with_pairs(np.array([0, 1, 2, 0, 1, 1, 0, 1]), np.array([0, 3, 5, 5, 6, 8]), known)
    assert [sorted(words[a:b].tolist()) for a, b in itertools.pairwise(offsets)] == [
        [0, 1, 2, 3, 4],
        [0, 1, 3],
        [],
        [1],
        [0, 1, 3],
    ]


def test_pairs_tell_documents_apart_whose_words_agree() -> None:
    texts = ["red house green tree", "green house red tree"] * 40
    apart = {}
    for pairs in (False, True):
        config = EmbeddingConfig(method="tfidf", dim=4, pairs=pairs, min_count=1)
        vectors, _ = fit(texts, config, seed=0).embed(texts[:2], config.max_characters)
        apart[pairs] = 1 - float(vectors[0] @ vectors[1])
    assert apart[False] < 1e-6
    assert apart[True] > 1


def test_a_model_with_pairs_comes_back_from_its_files() -> None:
    texts, _ = topic_texts(3, 60)
    model = fit(texts, EmbeddingConfig(dim=8), seed=0)
    assert any(" " in word for word in model.words)
    again = EmbeddingModel.from_files(model.files())
    assert again.embed(texts, 1000)[0].tobytes() == model.embed(texts, 1000)[0].tobytes()
