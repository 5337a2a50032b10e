"""Log-odds of sibling skills: against dense formulas written a second way, and as files."""

import math

import numpy as np
import pytest

from prereq.graph.errors import TableError
from prereq.selector.corpus import bayes_model
from prereq.selector.corpus.bayes_model import BayesModel, logit, train

TEXTS = ["loop for range", "for each loop", "list append pop", "list of lists", "fn match arm", "match enum fn fn"]
LABELS = [["py/loop"], ["py/loop"], ["py/list"], ["py/list", "py/loop"], ["rs/match"], ["rs/enum"]]
SIBLINGS = {label: label.split("/")[0] for found in LABELS for label in found}


@pytest.fixture(scope="module")
def model() -> BayesModel:
    return train(TEXTS, LABELS, 100, SIBLINGS)


def test_scores_are_multinomial_plus_complement_within_siblings(model: BayesModel) -> None:
    table = model.table(TEXTS, 100).toarray()
    np.testing.assert_allclose((table**2).sum(axis=1), 1, rtol=1e-12)
    own = np.array([[label in found for label in model.labels] for found in LABELS], dtype=float)
    scores = model.odds.scores(model.table(TEXTS, 100))
    for group in (0, 1):
        columns = np.flatnonzero(model.group == group)
        mass = own[:, columns].T @ table
        smoothing = bayes_model._SMOOTHING / math.sqrt(own[:, columns].sum(axis=0).mean())
        inside, others = mass + smoothing, mass.sum(axis=0) - mass + smoothing
        weights = np.log(inside / inside.sum(axis=1, keepdims=True))
        weights -= np.log(others / others.sum(axis=1, keepdims=True))
        expected = table @ weights.T
        # what a feature adds to all siblings alike is left out of the model, so only differences are told
        found = scores[:, columns]
        np.testing.assert_allclose(found - found[:, [0]], expected - expected[:, [0]], atol=1e-9)


def test_shares_sum_to_one_and_find_the_skill(model: BayesModel) -> None:
    shares = np.exp(model.log_shares(model.table(TEXTS, 100)))
    np.testing.assert_allclose(shares.sum(axis=1), 1, rtol=1e-9)
    best = [model.labels[place] for place in shares.argmax(axis=1)]
    assert all(name in found for name, found in zip(best, LABELS, strict=True))


def test_a_text_without_known_features_gets_even_shares_and_rows_stand_alone(model: BayesModel) -> None:
    chances = model.predict(["", "\u20ac", *TEXTS], 100)
    np.testing.assert_allclose(chances[:2], [[0.25] * 4] * 2, rtol=1e-9)
    for place, text in enumerate(TEXTS, 2):
        np.testing.assert_array_equal(model.predict([text], 100)[0], chances[place])


def test_order_is_kept_where_shares_are_tiny() -> None:
    values = np.array([-700.0, -600.0, -50.0, -1.0, 0.0])
    assert (np.diff(logit(values)) > 0).all()
    np.testing.assert_allclose(logit(np.log([0.2, 0.5])), [math.log(0.25), 0], atol=1e-12)


def test_files_give_the_model_back_and_a_missing_one_is_named(model: BayesModel) -> None:
    files = model.files()
    again = BayesModel.from_files(files)
    assert again.files() == files == train(TEXTS, LABELS, 100, SIBLINGS).files()
    np.testing.assert_array_equal(again.predict(TEXTS, 100), model.predict(TEXTS, 100))
    with pytest.raises(TableError, match=r"odds_data\.npy is missing"):
        BayesModel.from_files({name: data for name, data in files.items() if name != "odds_data.npy"})
    with pytest.raises(TableError, match="do not fit"):
        BayesModel.from_files({**files, "odds_indptr.npy": files["hashes.npy"]})


def test_the_most_frequent_features_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bayes_model, "_MAX_FEATURES", 3)
    small = train(TEXTS, LABELS, 100, SIBLINGS)
    assert len(small.hashes) == 3
    assert (small.inverse_frequency <= math.log(7 / 3) + 1 + 1e-12).all()
