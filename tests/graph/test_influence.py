"""The influence matrix: from graphs, from files, always by id."""

import itertools
import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as stnp

from prereq.graph.errors import ConfigError, GraphError
from prereq.graph.influence import (
    Influence,
    influence_from_graph,
    influence_from_table,
    influence_table,
    load_influence,
    read_matrix_csv,
    save_influence,
)
from prereq.graph.skill import Edge, Skill
from prereq.graph.skill_graph import SkillGraph

few = settings(max_examples=50, deadline=None)


def graph_of(ids, *edges, kind="prerequisite"):
    found = [Edge(prerequisite=text[0], target=text[1], weight=weight) for text, weight in edges]
    return SkillGraph(kind, [Skill(id=name) for name in ids], found)


def test_a_graph_becomes_identity_plus_weighted_edges():
    graph = graph_of("cab", ("ab", 1.0), ("bc", 0.4))
    influence = influence_from_graph(graph)
    assert influence.train == influence.eval == ("c", "a", "b")
    # 0.5 * 0.4 is exact enough to compare as floats are: both sides do the same product
    np.testing.assert_array_equal(influence.matrix, [[1, 0, 0], [0, 1, 0.5], [0.5 * 0.4, 0, 1]])


def test_the_published_lego_matrix_is_the_declared_graph():
    """Skill-It's LEGO graph: skill 1 helps skills 0, 2 and 3 (ALGORITHMS 1.6)."""
    graph = graph_of("01234", ("10", 1.0), ("12", 1.0), ("13", 1.0))
    expected = np.eye(5)
    expected[1, [0, 2, 3]] = 0.5
    np.testing.assert_array_equal(influence_from_graph(graph).matrix, expected)


def test_diagonal_and_edge_scale():
    matrix = influence_from_graph(graph_of("ab", ("ab", 2.0)), diagonal=0.0, edge=0.25).matrix
    np.testing.assert_array_equal(matrix, [[0, 0.5], [0, 0]])


def test_similarity_counts_both_ways_and_influence_keeps_signs_and_cycles():
    np.testing.assert_array_equal(
        influence_from_graph(graph_of("ab", ("ab", 0.5), kind="similarity")).matrix, [[1, 0.25], [0.25, 1]]
    )
    graph = graph_of("ab", ("ab", -0.5), ("ba", 2.0), kind="influence")
    np.testing.assert_array_equal(influence_from_graph(graph, edge=1.0).matrix, [[1, -0.5], [2, 1]])


def test_decay_reaches_along_the_strongest_path_and_leaves_direct_edges_alone():
    graph = graph_of("abcd", ("ab", 1.0), ("bc", 0.5), ("cd", 1.0), ("ac", 0.1))
    matrix = influence_from_graph(graph, decay=0.5).matrix
    by_id = {(a, b): matrix["abcd".index(a), "abcd".index(b)] for a, b in itertools.product("abcd", repeat=2)}
    assert by_id["a", "b"] == 0.5
    assert by_id["a", "c"] == pytest.approx(0.5 * 0.1)  # its own edge, although a -> b -> c would give more
    assert by_id["b", "d"] == pytest.approx(0.5 * 0.5 * 0.5 * 1.0)
    # a -> b -> c -> d: 0.5 * 0.5^2 * (1 * 0.5 * 1) beats a -> c -> d: 0.5 * 0.5 * (0.1 * 1)
    assert by_id["a", "d"] == pytest.approx(0.5 * 0.25 * 0.5)
    assert by_id["d", "a"] == 0.0


@st.composite
def weighted_dags(draw):
    pairs = [(a, b) for a, b in itertools.product("abcdef", repeat=2) if a < b]
    edges = draw(st.lists(st.sampled_from(pairs), unique=True, max_size=12))
    weights = [draw(st.sampled_from([0.0, 0.25, 0.5, 1.0, 2.0])) for _ in edges]
    return graph_of("fbdace", *((pair, weight) for pair, weight in zip(edges, weights, strict=True)))


@few
@given(weighted_dags(), st.sampled_from([0.25, 0.5, 1.0]))
def test_decay_equals_the_best_over_all_enumerated_paths(graph, decay):
    weight = {(edge.prerequisite, edge.target): edge.weight for edge in graph.edges}
    best = dict(weight)
    paths = [([a, b], w) for (a, b), w in weight.items()]
    for path, product in paths:
        for target in graph.targets(path[-1]):
            longer = decay * product * weight[path[-1], target]
            paths.append(([*path, target], longer))
            if (path[0], target) not in weight:
                best[path[0], target] = max(best.get((path[0], target), 0.0), longer)
    matrix = influence_from_graph(graph, decay=decay, diagonal=0.0, edge=1.0).matrix
    expected = [[best.get((a, b), 0.0) for b in graph.ids] for a in graph.ids]
    # powers of two throughout: exact
    np.testing.assert_array_equal(matrix, expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"decay": -0.1}, "decay is -0.1, expected 0"),
        ({"decay": 1.5}, "decay is 1.5, expected 0"),
        ({"decay": math.nan}, "decay is nan, expected a finite number"),
        ({"edge": math.inf}, "edge is inf"),
        ({"diagonal": math.nan}, "diagonal is nan"),
    ],
)
def test_parameters_out_of_range(options, message):
    with pytest.raises(ConfigError, match=message):
        influence_from_graph(graph_of("ab", ("ab", 1.0)), **options)


def test_decay_is_for_prerequisite_graphs_only():
    with pytest.raises(ConfigError, match=r"decay is 0\.5 with a graph of kind influence"):
        influence_from_graph(graph_of("ab", ("ab", 1.0), kind="influence"), decay=0.5)


def test_the_matrix_is_a_read_only_copy():
    source = np.eye(2)
    influence = Influence(("a", "b"), ("a", "b"), source)
    source[0, 0] = 7
    assert influence.matrix[0, 0] == 1
    with pytest.raises(ValueError, match="read-only"):
        influence.matrix[0, 0] = 7
    with pytest.raises(TypeError):
        hash(influence)


@pytest.mark.parametrize(
    ("train", "evaluated", "matrix", "message"),
    [
        (("a",), ("b", "c"), np.zeros((2, 1)), r"the matrix is \(2, 1\), 1 train and 2 eval ids need \(1, 2\)"),
        (("a", "a"), ("b",), np.zeros((2, 1)), "the ids of train must be at least one, none empty, none twice"),
        (("a",), ("",), np.zeros((1, 1)), "the ids of eval must be"),
        ((), ("a",), np.zeros((0, 1)), "the ids of train must be at least one"),
        ((3,), ("a",), np.zeros((1, 1)), "an id of train must be text, got 3"),
        (("a", "b"), ("c",), np.array([[0], [math.nan]]), "'b' on 'c' is nan, expected finite"),
        (("a",), ("b",), np.array([[-math.inf]]), "'a' on 'b' is -inf"),
    ],
)
def test_malformed_matrices(train, evaluated, matrix, message):
    with pytest.raises(GraphError, match=message):
        Influence(train, evaluated, matrix)


@pytest.fixture
def rectangle():
    return Influence(("a", "b", "c"), ("x", "y"), np.array([[1.0, -2], [3, 0], [5, 6]]))


def test_restricted_goes_by_id_in_the_order_asked_for(rectangle):
    part = rectangle.restricted(["c", "a"], ["y"])
    assert (part.train, part.eval) == (("c", "a"), ("y",))
    np.testing.assert_array_equal(part.matrix, [[6], [-2]])
    assert rectangle.restricted() == rectangle
    with pytest.raises(GraphError, match="no train id 'd'"):
        rectangle.restricted(["d"])
    with pytest.raises(GraphError, match="the eval ids asked for hold one twice"):
        rectangle.restricted(eval_ids=["x", "x"])


def test_permuted_refuses_to_lose_an_id(rectangle):
    turned = rectangle.permuted(["b", "c", "a"], ["y", "x"])
    np.testing.assert_array_equal(turned.matrix, [[0, 3], [6, 5], [-2, 1]])
    assert turned.permuted(rectangle.train, rectangle.eval) == rectangle
    assert turned != rectangle
    with pytest.raises(GraphError, match=r"the new order of train leaves out 'b'; use restricted\(\)"):
        rectangle.permuted(["a", "c"])


@few
@given(
    stnp.arrays(np.float64, (3, 2), elements=st.floats(allow_nan=False, allow_infinity=False)),
    st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), min_size=5, max_size=5, unique=True),
)
def test_any_matrix_survives_its_table(matrix, ids):
    influence = Influence(tuple(ids[:3]), tuple(ids[3:]), matrix)
    assert influence_from_table(influence_table(influence)) == influence


def test_the_file_has_the_documented_columns_and_no_zeros(tmp_path, rectangle):
    save_influence(rectangle, tmp_path / "influence.parquet")
    table = pq.read_table(tmp_path / "influence.parquet")
    assert table.schema.names == ["train", "eval", "weight"]
    assert table.schema.metadata[b"format"] == b"prereq.influence/1"
    assert table.num_rows == 5
    assert load_influence(tmp_path / "influence.parquet") == rectangle
    again = tmp_path / "again.parquet"
    save_influence(load_influence(tmp_path / "influence.parquet"), again)
    assert again.read_bytes() == (tmp_path / "influence.parquet").read_bytes()


def test_an_all_zero_matrix_keeps_its_ids(tmp_path):
    influence = Influence(("a",), ("x", "y"), np.zeros((1, 2)))
    save_influence(influence, tmp_path / "zero.parquet")
    assert load_influence(tmp_path / "zero.parquet") == influence


def tampered(influence, *, metadata=None, **columns):
    table = influence_table(influence)
    for name, values in columns.items():
        table = table.set_column(table.schema.get_field_index(name), name, values)
    changed = {key.encode(): value for key, value in (metadata or {}).items()}
    return table.replace_schema_metadata({**table.schema.metadata, **changed})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"metadata": {"format": "prereq.influence/2"}},
            "format is 'prereq.influence/2', expected 'prereq.influence/1'",
        ),
        ({"metadata": {"train": "not json"}}, "the schema's metadata has no list of train ids"),
        ({"metadata": {"eval": '{"x": 1}'}}, "the eval ids in the schema's metadata are .*, expected a list"),
        ({"metadata": {"train": '["a", "b"]'}}, "no train id 'c'"),
        ({"metadata": {"eval": '["x", "x", "y"]'}}, "the ids of eval must be at least one, none empty, none twice"),
        ({"train": pa.array(["a", "a", "a", "b", "c"])}, "'a' on 'x' appears twice"),
        ({"weight": pa.array([1.0, None, 1, 1, 1])}, "needs a column 'weight' of double without nulls"),
        ({"weight": pa.array([1, 1, 1, 1, 1])}, "needs a column 'weight' of double"),
        ({"weight": pa.array([1.0, math.nan, 1, 1, 1])}, "'a' on 'y' is nan"),
    ],
)
def test_tampered_tables_are_refused(rectangle, changes, message):
    with pytest.raises(GraphError, match=message):
        influence_from_table(tampered(rectangle, **changes))


def test_files_that_are_not_influence(tmp_path, rectangle):
    with pytest.raises(GraphError, match=r"none\.parquet: cannot be read as Parquet"):
        load_influence(tmp_path / "none.parquet")
    path = tmp_path / "x.parquet"
    path.write_bytes(b"not parquet at all")
    with pytest.raises(GraphError, match=r"x\.parquet: cannot be read as Parquet"):
        load_influence(path)
    pq.write_table(pa.table({"train": ["a"]}), path)
    with pytest.raises(GraphError, match=r"x\.parquet: influence: format is ''"):
        load_influence(path)
    save_influence(rectangle, path)
    data = bytearray(path.read_bytes())
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(GraphError, match=r"x\.parquet: cannot be read as Parquet"):
        load_influence(path)
    with pytest.raises(GraphError, match="cannot be written"):
        save_influence(rectangle, tmp_path / "no" / "x.parquet")


def test_bare_matrices_get_ids_that_sort_like_their_numbers(tmp_path):
    path = tmp_path / "m.csv"
    path.write_text("\n".join(",".join("1" if i == j else "0" for j in range(11)) for i in range(11)) + "\n")
    square = read_matrix_csv(path)
    assert square.train == square.eval
    assert square.train[:3] == ("00", "01", "02")
    assert list(square.train) == sorted(square.train)
    path.write_text("1,1,0\n1,1,1\n")
    wide = read_matrix_csv(path)
    assert (wide.train, wide.eval) == (("0", "1"), ("eval-0", "eval-1", "eval-2"))


def test_ones_off_the_diagonal_can_be_replaced_where_the_ids_differ(tmp_path):
    path = tmp_path / "m.csv"
    path.write_text("1,1\n1,0.3\n1,1\n")
    influence = read_matrix_csv(path, train=["a", "b", "c"], eval=["c", "a"], off_diagonal_one=0.5)
    np.testing.assert_array_equal(influence.matrix, [[0.5, 1], [0.5, 0.3], [1, 0.5]])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no rows"),
        ("a,b\n1,2\n", "line 1: could not convert string to float: 'a'; expected a matrix of numbers without a header"),
        ("1,2\n3\n", "line 2: 1 numbers, the first line has 2"),
        ("1,2\n\n", "line 2: 0 numbers"),
        ("1,nan\n2,3\n", "is nan, expected finite"),
    ],
)
def test_damaged_matrices_name_file_and_line(tmp_path, text, message):
    path = tmp_path / "m.csv"
    path.write_text(text)
    with pytest.raises(GraphError, match=f"m.csv.*{message}"):
        read_matrix_csv(path)


def test_ids_given_for_a_matrix_must_fit(tmp_path):
    path = tmp_path / "m.csv"
    path.write_text("1,2\n3,4\n")
    with pytest.raises(GraphError, match=r"m\.csv: influence: the matrix is \(2, 2\), 1 train"):
        read_matrix_csv(path, train=["a"])


@pytest.mark.data
def test_the_published_matrices(data_dir):
    folder = data_dir / "skillit_graphs"
    lego = read_matrix_csv(folder / "lego_5.csv", off_diagonal_one=0.5)
    np.testing.assert_array_equal(lego.matrix.sum(axis=1), [1, 2.5, 1, 1, 1])
    shapes = {path.stem: read_matrix_csv(path).matrix.shape for path in sorted(folder.glob("*.csv"))}
    assert shapes == {
        "addition_3": (3, 3),
        "lego_5": (5, 5),
        "ni_ood_59x12": (59, 12),
        "ni_pretrain_23": (23, 23),
        "spanish_qg": (4, 4),
        "stance_detection": (2, 2),
    }
    pretrain = read_matrix_csv(folder / "ni_pretrain_23.csv").matrix
    assert np.all(np.diag(pretrain) == 0)
    # range as stated in ALGORITHMS 1.6, to the printed digits
    np.testing.assert_allclose([pretrain.min(), pretrain.max()], [-1.772, 0.915], atol=5e-4)
