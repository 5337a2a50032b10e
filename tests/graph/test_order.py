"""Orders of a graph against brute force over reachability, and against networkx where it is installed."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prereq.graph import order

NODES = "abcdefg"
few = settings(max_examples=50, deadline=None)


@st.composite
def graphs(draw, acyclic=False):
    pairs = [(a, b) for a, b in itertools.product(NODES, NODES) if not acyclic or a < b]
    edges = draw(st.sets(st.sampled_from(pairs), max_size=14))
    return {node: sorted(b for a, b in edges if a == node) for node in NODES}


def paths_of_at_least_one_step(targets):
    """Warshall's closure, the slow and obvious way."""
    reach = {(a, b) for a in targets for b in targets[a]}
    for middle, a, b in itertools.product(targets, repeat=3):
        if (a, middle) in reach and (middle, b) in reach:
            reach.add((a, b))
    return reach


@few
@given(graphs())
def test_strong_components_are_the_classes_of_mutual_reachability(targets):
    reach = paths_of_at_least_one_step(targets)
    expected = sorted({tuple(sorted({a, *(b for b in targets if {(a, b), (b, a)} <= reach)})) for a in targets})
    assert [tuple(group) for group in order.strong_components(targets)] == expected


@few
@given(graphs())
def test_find_cycle_returns_a_closed_walk_over_real_edges_exactly_when_there_is_one(targets):
    cycle = order.find_cycle(targets)
    cyclic = sorted(a for a, b in paths_of_at_least_one_step(targets) if a == b)
    if cycle is None:
        assert cyclic == []
        return
    assert cycle[0] == cycle[-1] == cyclic[0]
    assert len(set(cycle)) == len(cycle) - 1
    assert all(b in targets[a] for a, b in itertools.pairwise(cycle))


def test_find_cycle_takes_the_shortest_way_round():
    targets = {"a": ["b", "c"], "b": ["c"], "c": ["d"], "d": ["a"]}
    assert order.find_cycle(targets) == ["a", "c", "d", "a"]
    assert order.find_cycle({"x": ["x"]}) == ["x", "x"]


@few
@given(graphs(acyclic=True))
def test_layers_are_one_past_the_deepest_prerequisite(targets):
    stage = {node: index for index, layer in enumerate(order.layers(targets)) for node in layer}
    before = order.reverse(targets)
    assert stage == {node: max((stage[other] + 1 for other in before[node]), default=0) for node in targets}
    assert all(layer == sorted(layer) for layer in order.layers(targets))


@few
@given(graphs(acyclic=True))
def test_longest_chain_is_the_first_of_the_longest_paths(targets):
    paths = [[node] for node in NODES]
    for path in paths:
        paths.extend([*path, target] for target in targets[path[-1]])
    longest = max(map(len, paths))
    assert order.longest_chain(targets) == min(path for path in paths if len(path) == longest)


@few
@given(graphs(acyclic=True))
def test_implied_edges_are_those_whose_removal_changes_no_reachability(targets):
    reach = paths_of_at_least_one_step(targets)
    for a in targets:
        for b in targets[a]:
            without = {node: [t for t in found if (node, t) != (a, b)] for node, found in targets.items()}
            still = (a, b) in paths_of_at_least_one_step(without)
            assert ((a, b) in order.implied_edges(targets)) == still
    assert reach == {(a, b) for a in targets for b in order.reachable(targets, [a])}


@few
@given(graphs(), st.randoms(use_true_random=False))
def test_the_order_of_the_input_changes_nothing(targets, random):
    shuffled = {node: random.sample(targets[node], len(targets[node])) for node in random.sample(NODES, len(NODES))}
    assert order.strong_components(shuffled) == order.strong_components(targets)
    assert order.find_cycle(shuffled) == order.find_cycle(targets)


def test_layers_refuse_a_cycle_and_name_it():
    with pytest.raises(ValueError, match=r"\['a', 'b', 'a'\]"):
        order.layers({"a": ["b"], "b": ["a"]})


def test_a_chain_longer_than_the_recursion_limit_is_no_trouble():
    names = [f"{number:05d}" for number in range(20_000)]
    targets = {name: [following] for name, following in itertools.pairwise(names)} | {names[-1]: []}
    assert order.longest_chain(targets) == names
    assert len(order.strong_components(targets)) == len(names)
    targets[names[-1]] = [names[0]]
    assert order.strong_components(targets) == [names]
    assert order.find_cycle(targets) == [*names, names[0]]


def test_empty_graph():
    assert order.layers({}) == []
    assert order.longest_chain({}) == []
    assert order.find_cycle({}) is None
