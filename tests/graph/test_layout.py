"""Geometry of the drawing, checked against what a reader would complain about."""

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prereq.graph.layout import _Drawing, _spread, arrange
from prereq.graph.skill import Edge, Skill
from prereq.graph.skill_graph import SkillGraph

NODE, LANE = 50.0, 10.0


def graph_of(count, edges, kind="prerequisite"):
    names = [f"n{number:02d}" for number in range(count)]
    found = [Edge(prerequisite=names[a], target=names[b]) for a, b in edges]
    return SkillGraph(kind, [Skill(id=name) for name in names], found)


@st.composite
def dags(draw):
    pairs = [(a, b) for a, b in itertools.product(range(9), repeat=2) if a < b]
    return graph_of(9, draw(st.lists(st.sampled_from(pairs), unique=True, max_size=16)))


@given(dags())
@settings(max_examples=40, deadline=None)
def test_columns_are_stages_nothing_overlaps_and_everything_is_inside(graph):
    layout = arrange(graph, node_distance=NODE, lane_distance=LANE)
    linked = {end for edge in graph.edges for end in (edge.prerequisite, edge.target)}
    stage = {node: index for index, nodes in enumerate(graph.stages()) for node in nodes}
    assert all(layout.column[node] == stage[node] for node in linked)
    assert {str(edge) for edge in graph.edges} == {f"{route.source} -> {route.target}" for route in layout.routes}
    # 1e-6: heights are sums of means
    for a, b in itertools.combinations(graph.ids, 2):
        if layout.column[a] == layout.column[b]:
            assert abs(layout.y[a] - layout.y[b]) >= NODE - 1e-6
    for node in graph.ids:
        assert NODE / 2 - 1e-6 <= layout.y[node] <= layout.height - NODE / 2 + 1e-6
        assert 0 <= layout.column[node] < layout.columns
        assert (layout.y[node] > layout.linked_height) == (node not in linked)
    for route in layout.routes:
        crossed = list(range(layout.column[route.source] + 1, layout.column[route.target]))
        assert route.implied or [column for column, _ in route.stops] == crossed
        for column, lane in route.stops:
            nodes = [node for node in linked if layout.column[node] == column]
            assert all(abs(layout.y[node] - lane) >= (NODE + LANE) / 2 - 1e-6 for node in nodes)


def test_an_edge_that_a_longer_path_makes_is_marked():
    layout = arrange(graph_of(3, [(0, 1), (1, 2), (0, 2)]), node_distance=NODE, lane_distance=LANE)
    assert {(route.source, route.target): route.implied for route in layout.routes} == {
        ("n00", "n01"): False,
        ("n01", "n02"): False,
        ("n00", "n02"): True,
    }


def test_skills_of_a_cycle_share_a_column():
    layout = arrange(graph_of(4, [(0, 1), (1, 2), (2, 1), (2, 3)], "influence"), node_distance=NODE, lane_distance=LANE)
    assert layout.column == {"n00": 0, "n01": 1, "n02": 1, "n03": 2}
    assert [route.cyclic for route in layout.routes] == [False, True, True, False]


def test_a_planar_pair_of_chains_is_drawn_without_crossings():
    """Two binary trees, their edges given in an order that starts out tangled."""
    edges = [(0, 5), (1, 4), (0, 3), (1, 2), (5, 9), (2, 6), (4, 8), (3, 7)]
    drawing = _Drawing(graph_of(10, edges))
    drawing.cross_less()
    assert drawing.crossings() == 0


def test_crossings_are_counted_as_brute_force_counts_them():
    rng = random.Random(7)
    for _ in range(30):
        pairs = [(a, b) for a, b in itertools.product(range(8), repeat=2) if a < b]
        drawing = _Drawing(graph_of(8, rng.sample(pairs, 12)))
        expected = 0
        for column, following in itertools.pairwise(drawing.order):
            place = {item: index for index, item in enumerate(following)}
            pieces = [(index, place[b]) for index, a in enumerate(column) for b in drawing.right[a]]
            expected += sum((a - c) * (b - d) < 0 for (a, b), (c, d) in itertools.combinations(pieces, 2))
        assert drawing.crossings() == expected


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=6), st.integers(0, 2**32))
@settings(max_examples=40, deadline=None)
def test_spread_is_the_closest_that_keeps_its_distances(wanted, seed):
    rng = random.Random(seed)
    gaps = [rng.choice([5.0, 10.0]) for _ in wanted[1:]]
    found = _spread(wanted, gaps)
    assert all(b - a >= gap - 1e-9 for (a, b), gap in zip(itertools.pairwise(found), gaps, strict=True))
    cost = sum((a - b) ** 2 for a, b in zip(found, wanted, strict=True))
    for _ in range(20):  # no other feasible point is closer
        other = [found[0] + rng.uniform(-5, 5)]
        for (a, b), gap in zip(itertools.pairwise(found), gaps, strict=True):
            other.append(other[-1] + max(gap, b - a + rng.uniform(-5, 5)))
        assert sum((a - b) ** 2 for a, b in zip(other, wanted, strict=True)) >= cost - 1e-6


@pytest.mark.parametrize("count", [1, 3, 20])
def test_skills_without_an_edge_stand_in_a_grid(count):
    layout = arrange(graph_of(count, []), node_distance=NODE, lane_distance=LANE)
    assert layout.columns == min(count, 8)
    assert len({(layout.column[node], layout.y[node]) for node in layout.y}) == count
    assert layout.linked_height == 0
