"""The trigram reference against counts by hand, and that its chances sum to one."""

import numpy as np
import pytest

from prereq.jobs.train.ngram import Trigrams
from prereq.jobs.train.windows import IGNORE, SEPARATOR, VOCABULARY, Windows, training_windows


def test_chances_are_those_counted_by_hand():
    # the stream is |  | a b a |, in which a and b and the separator are counted as targets: a 2, b 1, | 1
    losses = Trigrams(["aba"]).losses(training_windows(["ab"], 8))
    lowest = 1 / VOCABULARY
    single = {"a": (2 + 3 * lowest) / (4 + 3), "b": (1 + 3 * lowest) / 7}
    after_edge = (1 + 1 * single["a"]) / 2  # the separator was followed by a, once
    first = (1 + 1 * after_edge) / 2  # and so were two of them
    b_after_a = (1 + 2 * single["b"]) / (2 + 2)  # a was followed by b and by the separator
    second = (1 + 1 * b_after_a) / 2
    np.testing.assert_allclose(losses[0, :2], -np.log([first, second]))


def test_chances_of_all_bytes_sum_to_one_in_every_context():
    model = Trigrams(["the cat", "the hat", "cat"])
    for before in ([116, 104], [97, 116], [SEPARATOR, 116], [5, 6]):
        inputs = np.tile(np.array(before), (VOCABULARY, 1))
        targets = np.stack([np.full(VOCABULARY, IGNORE), np.arange(VOCABULARY)], axis=1)
        losses = model.losses(Windows(inputs, targets))
        assert np.exp(-losses[:, 1]).sum() == pytest.approx(1.0)
        assert not losses[:, 0].any()


def test_more_of_the_same_text_is_better_known():
    windows = training_windows(["what was said before"], 32)
    few, many = (Trigrams(["what was said before"] * n + ["other words"]).losses(windows).sum() for n in (1, 20))
    assert many < few
