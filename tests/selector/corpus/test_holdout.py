"""The holdout: quotas, limits, whole groups, and nothing outside it that reads like it."""

from collections.abc import Sequence

import numpy as np
import pytest

from prereq.graph.errors import ConfigError
from prereq.selector.corpus.holdout import (
    CONTROL,
    DROPPED,
    POOL,
    REPORT,
    HoldoutConfig,
    Tags,
    choose_holdout,
    drop_equal,
    join_groups,
)
from prereq.selector.corpus.keys import id_keys


def make_tags(lists: Sequence[Sequence[int]], skills: int) -> Tags:
    """Tags from a list of skills per document."""
    offsets = np.cumsum([0, *map(len, lists)])
    return Tags(offsets, np.array([s for found in lists for s in found], dtype=np.int64), skills)


def random_corpus(seed: int, documents: int = 600, skills: int = 7) -> tuple[np.ndarray, np.ndarray, Tags]:
    """Keys, groups of one to three documents, and skewed tags."""
    rng = np.random.default_rng([seed, 1])
    weights = 1 / np.arange(1, skills + 1) ** 1.5
    lists = [
        sorted(rng.choice(skills, size=rng.integers(0, 4), replace=False, p=weights / weights.sum()).tolist())
        for _ in range(documents)
    ]
    return (
        id_keys(map(str, range(documents))),
        np.sort(rng.integers(0, documents // 2, documents)),
        make_tags(lists, skills),
    )


@pytest.mark.parametrize("seed", range(5))
def test_limits_hold_and_groups_stay_whole(seed: int) -> None:
    keys, groups, tags = random_corpus(seed)
    config = HoldoutConfig(documents_per_skill=5, report_per_skill=3, max_share=0.25, min_documents=12)
    splits = choose_holdout(keys, groups, tags, config, seed)
    assert all(len(set(splits[groups == group])) == 1 for group in np.unique(groups))
    totals, held = tags.counts(), tags.counts(splits != POOL)
    assert (held <= np.floor(0.25 * totals)).all()
    assert (held[totals < 12] == 0).all()
    assert not splits[np.diff(tags.offsets) == 0][np.bincount(groups)[groups[np.diff(tags.offsets) == 0]] == 1].any()


def test_every_skill_with_enough_documents_fills_both_splits() -> None:
    lists = [[i % 4] for i in range(400)]
    tags = make_tags(lists, 4)
    splits = choose_holdout(id_keys(map(str, range(400))), np.arange(400), tags, HoldoutConfig(), 0)
    assert tags.counts(splits == CONTROL).tolist() == [8] * 4
    assert tags.counts(splits == REPORT).tolist() == [8] * 4


def test_a_small_skill_gets_what_its_share_allows_divided_between_the_splits() -> None:
    tags = make_tags([[0]] * 25, 1)
    splits = choose_holdout(id_keys(map(str, range(25))), np.arange(25), tags, HoldoutConfig(), 3)
    assert (splits == CONTROL).sum() == 3
    assert (splits == REPORT).sum() == 2


@pytest.mark.parametrize("documents", [0, 1, 4, 9])
def test_too_few_documents_give_no_holdout(documents: int) -> None:
    tags = make_tags([[0]] * documents, 1)
    keys = id_keys(map(str, range(documents)))
    splits = choose_holdout(keys, np.arange(documents), tags, HoldoutConfig(min_documents=0), 0)
    assert (splits == POOL).all()


def test_one_split_alone_can_be_asked_for() -> None:
    tags = make_tags([[0]] * 100, 1)
    config = HoldoutConfig(documents_per_skill=0, report_per_skill=6)
    splits = choose_holdout(id_keys(map(str, range(100))), np.arange(100), tags, config, 0)
    assert ((splits == REPORT).sum(), (splits == CONTROL).sum()) == (6, 0)


def test_a_group_larger_than_the_limit_is_passed_over() -> None:
    groups = np.array([0] * 30 + list(range(1, 71)))
    tags = make_tags([[0]] * 100, 1)
    for seed in range(20):
        splits = choose_holdout(id_keys(map(str, range(100))), groups, tags, HoldoutConfig(), seed)
        assert (splits[:30] == POOL).all()
        assert (splits != POOL).sum() == 16


def test_documents_that_carry_a_scarce_skill_are_spared() -> None:
    """Skill 1 has too few documents, and every one of them also has skill 0."""
    tags = make_tags([[0, 1]] * 5 + [[0]] * 200, 2)
    splits = choose_holdout(id_keys(map(str, range(205))), np.arange(205), tags, HoldoutConfig(), 0)
    assert (splits[:5] == POOL).all()
    assert (splits == CONTROL).sum() == 8


def test_the_choice_does_not_depend_on_the_order_of_documents() -> None:
    keys, groups, tags = random_corpus(9)
    lists = [tags.values[a:b].tolist() for a, b in zip(tags.offsets, tags.offsets[1:], strict=False)]
    order = np.random.default_rng(0).permutation(len(keys))
    # group numbers may differ too: only who is together counts
    renamed = np.random.default_rng(1).permutation(groups.max() + 1)[groups]
    splits = choose_holdout(keys, groups, tags, HoldoutConfig(), 4)
    moved = choose_holdout(
        keys[order], renamed[order], make_tags([lists[i] for i in order], tags.skills), HoldoutConfig(), 4
    )
    assert (moved == splits[order]).all()


def test_the_seed_moves_the_choice() -> None:
    keys, groups, tags = random_corpus(2)
    first, second = (choose_holdout(keys, groups, tags, HoldoutConfig(), seed) for seed in (0, 1))
    assert (first != second).any()


def test_a_groups_chance_does_not_grow_with_its_size() -> None:
    """Half the groups hold 5 documents, half hold 1; first in line should be a large one in about half of all seeds."""
    groups = np.concatenate([np.repeat(np.arange(40), 5), np.arange(40, 80)])
    tags = make_tags([[0]] * len(groups), 1)
    config = HoldoutConfig(documents_per_skill=1, report_per_skill=0)
    keys = id_keys(map(str, range(len(groups))))
    large = [bool((choose_holdout(keys, groups, tags, config, seed)[:200] != POOL).any()) for seed in range(300)]
    assert 0.4 < np.mean(large) < 0.6  # sd of the mean is .029


def test_groups_join_through_parents_and_components() -> None:
    parents = np.array([7, 7, 8, 9, 9, 10], dtype=np.uint64)
    components = np.array([1, 2, 2, 3, 4, 5])
    groups = join_groups(parents, components)
    assert len({groups[0], groups[1], groups[2]}) == 1
    assert groups[3] == groups[4]
    assert len(set(groups.tolist())) == 3
    assert join_groups(np.zeros(0, dtype=np.uint64), np.zeros(0, dtype=np.int64)).shape == (0,)


def test_documents_that_read_like_the_holdout_are_dropped() -> None:
    contents = np.array([b"a", b"a", b"b", b"c", b"b\0c"], dtype="S16")
    splits = np.array([CONTROL, POOL, POOL, REPORT, POOL], dtype=np.int8)
    foreign = np.array([b"b"], dtype="S16")
    assert drop_equal(splits, contents, foreign).tolist() == [CONTROL, DROPPED, DROPPED, REPORT, POOL]


@pytest.mark.parametrize(
    "key", [{"documents_per_skill": -1}, {"max_share": 0.0}, {"max_share": 1.0}, {"min_documents": -2}]
)
def test_bad_sizes_are_refused(key: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=f"holdout.{next(iter(key))}"):
        HoldoutConfig(**key)  # type: ignore[arg-type]
