"""Every token of a batch is a target exactly once."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prereq.jobs.train.windows import IGNORE, SEPARATOR, split_evenly, training_windows


@given(
    texts=st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=30), min_size=1, max_size=8),
    seq_len=st.integers(1, 40),
)
@settings(max_examples=60, deadline=None)
def test_targets_are_the_texts_and_their_separators_once(texts: list[str], seq_len: int) -> None:
    windows = training_windows(texts, seq_len)
    expected = [token for text in texts for token in [*text.encode(), SEPARATOR]]
    targets = windows.targets.ravel()
    assert targets[targets != IGNORE].tolist() == expected
    inputs = windows.inputs.ravel()[: len(expected)]
    assert inputs.tolist() == [SEPARATOR, *expected[:-1]]
    assert windows.inputs.shape == windows.targets.shape == (-(-len(expected) // seq_len), seq_len)
    assert np.all(targets[len(expected) :] == IGNORE)


@pytest.mark.parametrize(
    ("count", "at_most", "sizes"), [(1, 16, [1]), (16, 16, [16]), (17, 16, [8, 9]), (50, 16, [12, 13, 12, 13])]
)
def test_pieces_are_of_nearly_equal_size(count: int, at_most: int, sizes: list[int]) -> None:
    pieces = split_evenly(count, at_most)
    assert [stop - start for start, stop in pieces] == sizes
    assert pieces[0][0] == 0
    assert pieces[-1][1] == count
