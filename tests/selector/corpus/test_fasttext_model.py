"""fastText: the same bytes in every process, and numpy that agrees with fastText's own predictions."""

import os
import subprocess
import sys

import numpy as np
import pytest

from prereq.graph.errors import ConfigError, TableError
from prereq.selector.corpus.fasttext_model import (
    END,
    ClassifierModel,
    VectorModel,
    mean_rows,
    train_classifier,
    train_vectors,
    usable_min_count,
)

TRAIN_ONCE = """
import sys
import numpy as np
junk = [np.full(1 << 14, np.nan) for _ in range(int(sys.argv[1]))]
del junk
from prereq.graph.canonical import sha256_hex
from prereq.selector.corpus.fasttext_model import train_classifier, train_vectors
rng = np.random.default_rng(5)
lines = [" ".join(f"w{n}" for n in rng.zipf(1.4, 20).clip(0, 2000)) for _ in range(1500)]
vectors = train_vectors(lines, dim=24, epochs=1, min_count=1, seed=3).files()
classifier = train_classifier([([str(i % 3)], line) for i, line in enumerate(lines)], dim=24, epochs=1, seed=3).files()
print(sha256_hex(b"".join([*vectors.values(), *classifier.values()])))
"""


def digest_in_fresh_process(index: int) -> str:
    environment = {**os.environ, "MALLOC_PERTURB_": str(index * 37 % 256)}  # glibc fills new memory with this byte
    command = [sys.executable, "-c", TRAIN_ONCE, str(index * 100)]
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout


def topic_lines(topics: int, lines: int, seed: int) -> list[tuple[str, str]]:
    """(topic, line): each topic has its own 30 words; a third of every line is common to all."""
    rng = np.random.default_rng(seed)
    made = []
    for index in range(lines):
        topic = index % topics
        own = [f"t{topic}w{n}" for n in rng.integers(0, 30, 12)]
        common = [f"common{n}" for n in rng.integers(0, 30, 6)]
        made.append((f"topic {topic}", " ".join(rng.permutation(own + common))))
    return made


@pytest.mark.slow
def test_twelve_fresh_processes_train_the_same_bytes() -> None:
    assert len({digest_in_fresh_process(index) for index in range(12)}) == 1


def test_every_row_is_set_before_training() -> None:
    """With no subsampled step able to reach it, a row is still our start value and never zero."""
    model = train_vectors(["a b c d e f"] * 3, dim=8, epochs=1, min_count=1, learning_rate=1e-9)
    assert len(model.words) == 6
    assert (np.abs(model.matrix).sum(axis=1) > 0.01).all()
    assert np.abs(model.matrix).max() <= 1 / 8


def test_seed_changes_the_vectors_and_nothing_else_does() -> None:
    lines = [line for _, line in topic_lines(3, 100, seed=1)]
    first, again, other = (train_vectors(lines, dim=8, epochs=1, seed=s) for s in (1, 1, 2))
    assert first.files() == again.files()
    assert first.words == other.words
    assert not np.allclose(first.matrix, other.matrix)


@pytest.mark.parametrize("model", ["cbow", "skipgram"])
def test_words_of_a_topic_lie_near_each_other(model: str) -> None:
    trained = train_vectors([line for _, line in topic_lines(4, 1200, seed=2)], dim=16, epochs=30, model=model)
    unit = trained.matrix / np.linalg.norm(trained.matrix, axis=1, keepdims=True)
    topic = np.array([word.split("w")[0] if word.startswith("t") else "" for word in trained.words])
    same = (topic[:, None] == topic) & (topic != "")[:, None]
    different = (topic[:, None] != topic) & (topic != "")[:, None] & (topic != "")
    similarity = unit @ unit.T
    assert similarity[same].mean() > similarity[different].mean() + 0.3


def test_vocabulary_is_counted_and_sorted_as_stated() -> None:
    lines = ["b b a", "c b a", "lonely"]
    model = train_vectors(lines, dim=4, epochs=1, min_count=2)
    assert model.words == ["b", "a", "c", "lonely"], "under 100 words min_count falls to 1"
    assert model.counts.tolist() == [3, 2, 1, 1]
    capped = train_vectors(lines, dim=4, epochs=1, min_count=1, max_words=2)
    assert capped.words == ["b", "a"]


def test_usable_min_count_keeps_the_asked_one_where_words_are_plenty() -> None:
    assert usable_min_count({f"w{n}": 7 for n in range(100)}, 5) == 5
    assert usable_min_count({f"w{n}": 3 for n in range(100)}, 5) == 3
    assert usable_min_count({"a": 9}, 5) == 1


def test_classifier_finds_planted_topics_and_probabilities_are_probabilities() -> None:
    examples = [([topic], line) for topic, line in topic_lines(4, 800, seed=3)]
    unseen = topic_lines(4, 200, seed=4)
    for loss in ("ova", "softmax"):
        model = train_classifier(examples, dim=16, epochs=5, loss=loss)
        chance = model.predict([line for _, line in unseen])
        assert chance.shape == (200, 4)
        assert chance.dtype == np.float32
        assert ((chance >= 0) & (chance <= 1)).all()
        found = [model.labels[i] for i in chance.argmax(axis=1)]
        assert np.mean([a == b for a, (b, _) in zip(found, unseen, strict=True)]) > 0.95
    np.testing.assert_allclose(chance.sum(axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize("loss", ["ova", "softmax"])
def test_predictions_agree_with_fasttext_itself(loss: str, tmp_path: object) -> None:
    """The reference: the same rows set into a fastText model."""
    import fasttext

    made = topic_lines(3, 90, seed=5)
    ours = train_classifier([([topic], line) for topic, line in made], dim=8, epochs=3, loss=loss)
    path = f"{tmp_path}/lines.txt"
    with open(path, "w") as file:
        file.writelines(f"__label__{topic.replace(' ', '_')} {line}\n" for topic, line in made)
    theirs = fasttext.train_supervised(path, dim=8, epoch=1, minCount=1, loss=loss, thread=1, verbose=0)
    rows = {word: row for word, row in zip(ours.words, ours.inputs, strict=True)}
    labels = {f"__label__{label.replace(' ', '_')}": row for label, row in zip(ours.labels, ours.outputs, strict=True)}
    inputs = np.stack([rows[word] for word in theirs.get_words()])
    theirs.set_matrices(inputs, np.stack([labels[label] for label in theirs.get_labels()]))
    lines = [line for _, line in made[:20]]
    # `theirs.predict(lines, k=3)` repeats the first probability three times with this wheel
    answers = [dict(map(reversed, theirs.f.predict(f"{line}\n", 3, 0.0, "strict"))) for line in lines]
    expected = [[answer[f"__label__{label.replace(' ', '_')}"] for label in ours.labels] for answer in answers]
    # fastText reads its sigmoid from a table of 512 steps over [-8, 8] and adds 1e-5 to probabilities
    np.testing.assert_allclose(ours.predict(lines), expected, atol=0.01 if loss == "ova" else 1e-4)


def test_text_cannot_become_a_label() -> None:
    """A document that holds fastText's own label mark or its end-of-line word teaches nothing by it."""
    hostile = "__label__0 __label__9 </s> \0 plain words"
    model = train_classifier([(["a label with spaces"], hostile), (["b"], "other words")] * 3, dim=4, epochs=1)
    assert model.labels == ["a label with spaces", "b"]
    assert model.words == ["words", "other", "plain", END]
    assert train_vectors([hostile] * 3, dim=4, epochs=1).words == ["plain", "words"]


def test_nothing_to_learn_from_gives_an_empty_model() -> None:
    vectors = train_vectors(["", "   "], dim=4)
    assert (vectors.words, vectors.matrix.shape) == ([], (0, 4))
    classifier = train_classifier([([], "words without a label")], dim=4)
    assert classifier.predict(["anything", ""]).shape == (2, 0)
    only_labels = train_classifier([(["a"], ""), (["b"], "")], dim=4)
    assert only_labels.predict(["anything"]).shape == (1, 2)


def test_models_survive_the_way_through_files() -> None:
    vectors = train_vectors(["é 漢 a"] * 3, dim=4, epochs=1)
    back = VectorModel.from_files(vectors.files())
    assert back.words == vectors.words
    assert back.matrix.tobytes() == vectors.matrix.tobytes()
    classifier = train_classifier([(["x"], "é a"), (["y"], "b")], dim=4, epochs=1)
    again = ClassifierModel.from_files(classifier.files())
    np.testing.assert_array_equal(again.predict(["é b"]), classifier.predict(["é b"]))


def test_damaged_model_files_are_named() -> None:
    files = train_vectors(["a b c"], dim=4, epochs=1).files()
    with pytest.raises(TableError, match=r"vectors\.npy is missing"):
        VectorModel.from_files({k: v for k, v in files.items() if k != "vectors.npy"})
    with pytest.raises(TableError, match=r"vectors\.npy: shape \(3, 4\)"):
        VectorModel.from_files({**files, "words.json": b'["a"]'})


def test_bad_parameters_are_refused() -> None:
    with pytest.raises(ConfigError, match="dim must be at least 1, got 0"):
        train_vectors(["a"], dim=0)
    with pytest.raises(ConfigError, match="'glove' is not known"):
        train_vectors(["a"], model="glove")
    with pytest.raises(ConfigError, match="'hinge' is not known"):
        train_classifier([(["a"], "b")], loss="hinge")


def test_training_is_silent(capfd: pytest.CaptureFixture[str]) -> None:
    train_vectors(["a b c"] * 5, dim=4, epochs=1)
    assert capfd.readouterr() == ("", "")


def test_mean_rows_does_not_depend_on_the_other_bags() -> None:
    matrix = np.random.default_rng(0).normal(size=(50, 7)).astype(np.float32)
    bags = [[1, 2, 3], [], [4] * 100, list(range(50))]
    together = mean_rows(bags, matrix)
    for bag, row in zip(bags, together, strict=True):
        np.testing.assert_array_equal(mean_rows([bag], matrix)[0], row)
    np.testing.assert_allclose(together[3], matrix.mean(axis=0), atol=1e-6)
