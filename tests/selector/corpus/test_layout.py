"""Arms, their ids and shares, and the parts they lie in."""

import hashlib
from fractions import Fraction

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prereq.graph.errors import ConfigError
from prereq.selector.corpus.holdout import Tags
from prereq.selector.corpus.keys import id_keys, seeded_order
from prereq.selector.corpus.layout import (
    LayoutConfig,
    arm_ids,
    cosines,
    metadata_columns,
    plan_buckets,
    rarest_skills,
    row_groups,
    skill_shares,
    unit_rows,
    vector_sums,
)


def make_tags(lists: list[list[int]], skills: int) -> Tags:
    """Tags from a list of skills per document."""
    offsets = np.cumsum([0, *map(len, lists)])
    return Tags(offsets, np.array([s for found in lists for s in found], dtype=np.int64), skills)


def test_rarest_skill_wins_and_ties_go_to_graph_order() -> None:
    tags = make_tags([[0, 1], [1, 2], [], [2, 0], [0]], 3)
    counts = np.array([3, 2, 2])
    assert rarest_skills(tags, counts).tolist() == [1, 1, 3, 2, 0]


def test_skill_shares_split_each_documents_tokens_evenly() -> None:
    tags = make_tags([[0, 1], [1], [], [0]], 2)
    tokens = np.array([10, 4, 6, 100])
    arms = np.array([0, 0, 0, -1])
    found = skill_shares(arms, tokens, tags, 1)
    np.testing.assert_allclose(found, [[5 / 20, 9 / 20, 6 / 20]])


def test_skill_shares_sum_to_one_and_agree_with_a_plain_loop() -> None:
    rng = np.random.default_rng(5)
    lists = [sorted(rng.choice(4, size=rng.integers(0, 4), replace=False).tolist()) for _ in range(300)]
    tokens, arms = rng.integers(1, 50, 300), rng.integers(-1, 6, 300)
    expected = [[Fraction(0)] * 5 for _ in range(6)]
    for arm, count, skills in zip(arms, tokens, lists, strict=True):
        for skill in (skills or [4]) if arm >= 0 else []:
            expected[arm][skill] += Fraction(int(count), max(1, len(skills)))
    reference = [[float(x / sum(row)) for x in row] for row in expected]
    found = skill_shares(arms, tokens, make_tags(lists, 4), 6)
    np.testing.assert_allclose(found, reference, rtol=1e-12)
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-12)


def test_arm_ids_are_short_digests_of_the_central_text() -> None:
    texts = [hashlib.sha256(text).digest() for text in (b"one", b"two")]
    assert arm_ids(texts, ["x", "y"]) == [hashlib.sha256(text).hexdigest()[:12] for text in (b"one", b"two")]


def test_arm_ids_grow_until_they_differ() -> None:
    texts = [bytes(6) + b"\x01" + bytes(25), bytes(6) + b"\x02" + bytes(25)]
    assert arm_ids(texts, ["x", "y"]) == ["0" * 12 + "0100", "0" * 12 + "0200"]


def test_arms_with_the_same_central_text_still_differ() -> None:
    text = hashlib.sha256(b"same").digest()
    found = arm_ids([text, text], ["x", "y"])
    assert len(set(found)) == 2
    assert arm_ids([text, text], ["x", "y"]) == found


def test_sums_centroids_and_cosines() -> None:
    vectors = np.array([[1, 0], [0, 1], [1, 0], [-1, 0], [0, 1]], dtype=np.float32)
    arms = np.array([0, 0, 1, 1, -1])
    sums = vector_sums(arms, vectors, 3)
    np.testing.assert_array_equal(sums, [[1, 1], [0, 0], [0, 0]])
    centroids = unit_rows(sums)
    np.testing.assert_allclose(centroids, [[0.5**0.5, 0.5**0.5], [1, 0], [1, 0]])
    np.testing.assert_allclose(cosines(arms, vectors, centroids), [0.5**0.5, 0.5**0.5, 1, -1, -np.inf])


@given(st.lists(st.integers(0, 500), max_size=30), st.integers(1, 200))
def test_buckets_are_filled_in_order_and_never_beyond_a_part(sizes: list[int], part: int) -> None:
    plan = plan_buckets(np.array(sizes, dtype=np.int64), part)
    filled = np.zeros(plan.count + 1)
    for arm, size in enumerate(sizes):
        assert plan.first[arm] + plan.spread[arm] <= plan.count + (size == 0)
        filled[plan.first[arm] : plan.first[arm] + plan.spread[arm]] += size / plan.spread[arm]
    assert (filled <= part).all()
    assert (np.diff(plan.first) >= 0).all()


def test_a_large_arm_is_cut_by_ranges_of_the_order_key() -> None:
    keys = seeded_order(id_keys(map(str, range(5000))), 0, "stored order")
    plan = plan_buckets(np.array([10, 5000, 10]), 1000)
    arms = np.ones(5000, dtype=np.int64)
    buckets = plan.of(arms, keys)
    assert set(buckets.tolist()) == {1, 2, 3, 4, 5}
    by_key = buckets[np.argsort(keys)]
    assert (np.diff(by_key) >= 0).all()
    assert np.bincount(buckets).max() < 1200
    assert plan.of(np.array([-1, 0, 2]), keys[:3]).tolist() == [-1, 0, 6]


def test_row_groups_hold_one_arm_each() -> None:
    assert row_groups(np.array([0, 0, 0, 1, 2, 2]), 2) == [(0, 0, 2), (0, 2, 3), (1, 3, 4), (2, 4, 6)]
    assert row_groups(np.array([3]), 5) == [(3, 0, 1)]


def test_metadata_is_every_string_column_that_is_not_ours() -> None:
    schema = pa.schema([("id", pa.string()), ("track", pa.string()), ("area", pa.string()), ("n", pa.int64())])
    assert metadata_columns(schema, ["id", "text"]) == ["area", "track"]


@pytest.mark.parametrize("key", [{"arms": "topic"}, {"rows_per_group": 0}, {"part_mib": 0}])
def test_bad_layouts_are_refused(key: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=f"layout.{next(iter(key))}"):
        LayoutConfig(**key)  # type: ignore[arg-type]
