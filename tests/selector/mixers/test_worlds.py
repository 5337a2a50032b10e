"""The seeded worlds: what they promise, and what is declared in them."""

import numpy as np
import pytest

from prereq.selector.mixers.worlds import DECLARED, REMAINS, SIZES, make_world, remaining

WORLDS = [make_world(seed) for seed in range(1000, 1003)]


@pytest.mark.parametrize("world", WORLDS, ids=lambda world: str(world.seed))
def test_a_world_is_a_unit_diagonal_and_a_sparse_dag(world):
    k = SIZES[world.seed % 3]
    assert world.structure.shape == (k, k)
    assert np.diag(world.structure).tolist() == [1.0] * k
    edges = world.structure - np.eye(k)
    present = edges[edges > 0]
    assert 1 <= present.size <= 0.6 * k * (k - 1) / 2
    assert 0.25 <= present.min() <= present.max() <= 0.75
    assert not np.linalg.matrix_power((edges > 0).astype(float), k).any(), "a power of a DAG's matrix vanishes"
    np.testing.assert_allclose(world.truth.matrix, world.speed * world.structure, rtol=1e-15)


@pytest.mark.parametrize("world", WORLDS, ids=lambda world: str(world.seed))
def test_the_best_fixed_mixture_takes_nine_tenths_and_no_other_takes_more(world):
    best = remaining(world.structure, world.speed, world.best_fixed)
    assert best == pytest.approx(REMAINS, rel=1e-4)
    rng = np.random.default_rng(1)
    k = len(world.structure)
    for blend in (0.02, 0.3, 1.0):
        for other in [*np.eye(k)[:10], *rng.dirichlet(np.ones(k), 30)]:
            mixture = (1 - blend) * world.best_fixed + blend * other
            assert remaining(world.structure, world.speed, mixture) > 0.999 * best  # the search stops at 0.1 %


def test_what_is_declared_is_as_its_name_says():
    world = WORLDS[2]
    right, reverse, shuffled, complete, empty = (world.declared(kind).matrix for kind in DECLARED)
    assert right.tolist() == world.structure.tolist()
    assert reverse.tolist() == right.T.tolist()
    assert sorted(shuffled.ravel()) == sorted(right.ravel())
    assert shuffled.tolist() != right.tolist()
    assert np.diag(shuffled).tolist() == [1.0] * len(right)
    assert np.unique(complete).tolist() == [0.5, 1.0]
    assert empty.tolist() == np.eye(len(right)).tolist()


def test_a_seed_gives_one_world():
    again = make_world(1001)
    assert again.structure.tobytes() == WORLDS[1].structure.tobytes()
    assert again.speed == WORLDS[1].speed
    assert make_world(1004).structure.tobytes() != again.structure.tobytes()


def test_remaining_is_the_closed_form():
    structure, mixture = np.array([[1.0, 0.5], [0.0, 1.0]]), np.array([0.25, 0.75])
    expected = ((1 - 0.2 * 0.25) ** 3 + (1 - 0.2 * 0.875) ** 3) / 2
    assert remaining(structure, 0.2, mixture, rounds=3) == pytest.approx(expected, rel=1e-14)
