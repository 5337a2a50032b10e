"""T against its dense form, and the rows it refuses."""

import numpy as np
import pytest

from prereq.graph.errors import ManifestError
from prereq.selector.mixers.shares import NO_SKILL, SkillShares

ROWS = [{"a": 0.25, NO_SKILL: 0.75}, {"b": 1.0}, {NO_SKILL: 1.0}, {"b": 0.5, "a": 0.5}]


def test_products_agree_with_the_dense_matrix():
    shares = SkillShares.from_rows(ROWS, ["a", "b"])
    dense = np.array([[0.25, 0, 0.75], [0, 1, 0], [0, 0, 1], [0.5, 0.5, 0]])
    assert shares.to_dense().tolist() == dense.tolist()
    assert shares.shape == (4, 3)
    per_column, per_arm = np.array([2.0, 3.0, 5.0]), np.array([0.1, 0.2, 0.3, 0.4])
    np.testing.assert_allclose(shares.dot(per_column), dense @ per_column, rtol=1e-14)
    np.testing.assert_allclose(shares.transpose_dot(per_arm), dense.T @ per_arm, rtol=1e-14)


def test_the_order_of_a_row_does_not_show():
    one = SkillShares.from_rows([{"a": 0.5, "b": 0.5}], ["a", "b"])
    two = SkillShares.from_rows([{"b": 0.5, "a": 0.5}], ["a", "b"])
    assert one.column_index.tolist() == two.column_index.tolist() == [0, 1]


def test_rows_come_back_and_products_of_empty_columns_are_zero():
    shares = SkillShares.from_rows(ROWS, ["a", "b", "z"])
    assert [shares.row(arm) for arm in range(4)] == ROWS
    assert shares.transpose_dot(np.ones(4))[2] == 0.0


def test_the_identity_is_one_arm_per_skill():
    assert SkillShares.identity(["x", "y"]).to_dense().tolist() == [[1, 0, 0], [0, 1, 0]]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"c": 1.0}, "unknown skills"),
        ({"a": 0.5}, "sum to 1"),
        ({}, "sum to 1"),
        ({"a": 1.5, "b": -0.5}, r"in \[0, 1\]"),
        ({"a": float("nan")}, r"in \[0, 1\]"),
    ],
)
def test_a_malformed_row_is_refused_by_arm(row, message):
    with pytest.raises(ManifestError, match=f"arm 1: .*{message}"):
        SkillShares.from_rows([{"a": 1.0}, row], ["a", "b"])
    with pytest.raises(ManifestError, match=f"arm c9f: .*{message}"):
        SkillShares.from_rows([{"a": 1.0}, row], ["a", "b"], ["c00", "c9f"])


def test_shares_that_miss_one_by_a_rounding_are_taken_and_zeros_are_not_stored():
    shares = SkillShares.from_rows([{"a": 0.3333333, "b": 0.6666667, NO_SKILL: 0.0}], ["a", "b"])
    assert shares.values.tolist() == [0.3333333, 0.6666667]


@pytest.mark.parametrize("skills", [["a", NO_SKILL], ["a", "a"]])
def test_reserved_and_repeated_skill_ids_are_refused(skills):
    with pytest.raises(ManifestError, match="unique and '_none' is reserved"):
        SkillShares.from_rows([{"a": 1.0}], skills)


def test_vectors_of_another_length_are_refused():
    shares = SkillShares.identity(["x", "y"])
    with pytest.raises(ValueError, match=r"T\.dot: expected shape \(3,\)"):
        shares.dot(np.ones(2))
    with pytest.raises(ValueError, match=r"T\.transpose_dot: expected shape \(2,\)"):
        shares.transpose_dot(np.ones(3))
