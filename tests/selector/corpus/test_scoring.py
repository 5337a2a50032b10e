"""Which documents a filter keeps: thresholds, shares, draws."""

import numpy as np
import pytest

from prereq.selector.corpus.dsir import resample
from prereq.selector.corpus.keys import id_keys
from prereq.selector.corpus.scoring import ScoreConfig, as_text, kept_by

IDS = [f"d{number}" for number in range(400)]
KEYS = id_keys(IDS)
SCORES = np.random.default_rng(0).normal(size=400)


def dsir(**filters):
    return ScoreConfig(name="s", method="dsir", paths=("x",), **filters)


def test_a_threshold_keeps_what_reaches_it():
    assert kept_by(np.array([1.0, 2.0, 3.0]), KEYS[:3], dsir(drop_below=2.0), 0).tolist() == [False, True, True]


@pytest.mark.parametrize("filters", [{}, {"draw": "sample"}])
def test_a_share_keeps_so_many_whatever_their_order(filters):
    config = dsir(keep_share=0.3, **filters)
    kept = kept_by(SCORES, KEYS, config, 5)
    assert kept.sum() == 120
    order = np.random.default_rng(1).permutation(400)
    assert (kept_by(SCORES[order], KEYS[order], config, 5) == kept[order]).all()
    if not filters:
        assert SCORES[kept].min() > SCORES[~kept].max()


def test_ties_go_by_id_and_one_document_stays_at_least():
    config = dsir(keep_share=0.5)
    kept = kept_by(np.zeros(10), KEYS[:10], config, 0)
    assert kept.tolist() == (np.argsort(np.argsort(KEYS[:10])) < 5).tolist()
    assert kept_by(SCORES[:3], KEYS[:3], dsir(keep_share=0.01), 0).sum() == 1
    assert kept_by(np.zeros(0), KEYS[:0], config, 0).tolist() == []


def test_a_draw_follows_the_weights_and_another_seed_draws_others():
    weights = np.repeat([0.0, np.log(3.0)], 200)  # odds of 3 to 1
    draws = [kept_by(weights, KEYS, dsir(keep_share=0.05, draw="sample"), seed) for seed in range(200)]
    share = np.mean([draw[200:].sum() for draw in draws]) / 20
    # without replacement a little below 3/4; standard error .007
    assert share == pytest.approx(0.745, abs=0.025)
    assert (draws[0] != draws[1]).any()


def test_equal_weights_are_drawn_as_the_library_draws_them():
    chosen = resample(np.zeros(400), IDS, 20, 3)
    assert len(set(chosen.tolist())) == 20


@pytest.mark.parametrize(
    ("value", "text"), [(0.1 + 0.2, "0.3"), (-0.0, "0"), (1e-12, "1e-12"), (-12345.678912, "-12345.6789")]
)
def test_scores_are_written_with_nine_digits(value, text):
    assert as_text(value) == text
