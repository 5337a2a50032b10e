"""Shingle sets on the disk."""

import numpy as np

from prereq.selector.corpus.spilled import SpilledSets


def test_any_row_gives_its_own_set_and_nothing_stays_behind(tmp_path) -> None:
    sets = {row: np.arange(row * 3, row * 3 + size, dtype=np.uint64) for row, size in ((2, 5), (7, 1), (40, 300))}
    with SpilledSets(np.array(sorted(sets)), (sets[row] for row in sorted(sets)), str(tmp_path)) as spilled:
        for row in (40, 2, 7, 2):
            np.testing.assert_array_equal(spilled.of(row), sets[row])
    assert not list(tmp_path.iterdir())
