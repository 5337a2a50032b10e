"""Masks of rows of tokens against loops over every token."""

import numpy as np
import pytest

from prereq.graph.errors import ConfigError
from prereq.selector.feed.token_rows import TokenRows, pad_rows

ROWS = TokenRows(
    np.arange(24, dtype=np.int32).reshape(3, 8),
    [np.array([3, 4], np.int32), np.array([8], np.int32), np.array([1, 1, 2], np.int32)],
    [np.array([0, 5], np.int32), np.array([16], np.int32), np.array([0, 0, 0], np.int32)],
)


def test_segments_positions_and_losses_by_hand() -> None:
    assert ROWS.segments().tolist() == [[1, 1, 1, 2, 2, 2, 2, 0], [1] * 8, [1, 2, 3, 3, 0, 0, 0, 0]]
    assert ROWS.positions().tolist() == [[0, 1, 2, 0, 1, 2, 3, 0], list(range(8)), [0, 0, 0, 1, 0, 0, 0, 0]]
    assert ROWS.positions(in_document=True).tolist()[:2] == [[0, 1, 2, 5, 6, 7, 8, 0], list(range(16, 24))]
    inside = [[0, 1, 1, 0, 1, 1, 1, 0], [0] + [1] * 7, [0, 0, 0, 1, 0, 0, 0, 0]]
    across = [[0, 1, 1, 1, 1, 1, 1, 0], [0] + [1] * 7, [0, 1, 1, 1, 0, 0, 0, 0]]
    assert ROWS.loss_mask().astype(int).tolist() == inside
    assert ROWS.loss_mask(across=True).astype(int).tolist() == across
    assert ROWS.borders().tolist() == [0, 3, 7, 8, 16, 17, 18, 20, 24]


def test_attention_stays_inside_documents_and_looks_back() -> None:
    mask, segments = ROWS.attention_mask(), ROWS.segments()
    for r, i, j in np.ndindex(*mask.shape):
        seen = i == j or (j <= i and segments[r, i] == segments[r, j] != 0)
        assert mask[r, i, j] == seen


def test_documents_as_rows_of_equal_width() -> None:
    rows = [np.array([7, 8, 9], np.int32), np.array([5], np.int32)]
    padded = pad_rows(rows, 1, None)
    assert padded.input_ids.tolist() == [[7, 8, 9], [5, 1, 1]]
    assert padded.loss_mask().tolist() == [[False, True, True], [False, False, False]]
    assert pad_rows(rows, 0, 2).input_ids.tolist() == [[7, 8], [5, 0]]
    assert pad_rows([], 0, None).segments().shape == (0, 0)
    with pytest.raises(ConfigError, match="rows of 0 tokens"):
        pad_rows(rows, 0, 0)
