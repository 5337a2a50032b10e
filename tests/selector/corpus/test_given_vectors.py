"""The user's own vectors: each document gets its own, from the row groups that hold one, and what is wrong is named."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prereq.graph.errors import ConfigError, TableError
from prereq.selector.corpus import given_vectors
from prereq.selector.corpus.given_vectors import (
    VectorsConfig,
    check_indexes,
    find_vectors,
    index_file,
    look_up,
    place_documents,
    read_vectors,
    vectors_digest,
)


def write(path: Path, ids: Sequence[Any], vectors: Any, kind: pa.DataType | None = None, **options: Any) -> Path:
    column = pa.array(vectors if isinstance(vectors, list) else vectors.tolist(), kind or pa.list_(pa.float32()))
    pq.write_table(
        pa.table({"id": pa.array(ids) if ids else pa.array([], pa.string()), "vector": column}), path, **options
    )
    return path


def gather(folder: Path, ids: Sequence[str], parents: Sequence[str] | None = None) -> tuple[np.ndarray, int]:
    """All the steps of a build in one."""
    config = VectorsConfig(paths=(str(folder),))
    files = find_vectors(config)
    indexes, lengths = zip(*(index_file(file, config) for file in files), strict=True)
    length = check_indexes(files, indexes, lengths, config.id_column)
    wanted, by_parent = place_documents(ids, parents or ids, indexes)
    vectors = np.full((len(ids), length), np.nan, dtype=np.float32)
    for file, own in zip(files, wanted, strict=True):
        for rows, found in read_vectors(file, own, ids, length, config):
            vectors[rows] = found
    return vectors, by_parent


@pytest.mark.parametrize("kind", [pa.list_(pa.float32()), pa.list_(pa.float64(), 3), pa.large_list(pa.float16())])
def test_every_document_gets_its_own_vector(tmp_path: Path, kind: pa.DataType) -> None:
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((500, 3)).astype(np.float16).astype(np.float64)
    names = [f"d{number}" for number in rng.permutation(500)]
    write(tmp_path / "a.parquet", names[:300], vectors[:300], kind, row_group_size=40)
    write(tmp_path / "b.parquet", names[300:], vectors[300:], kind)
    order = rng.permutation(500)[:200]
    found, by_parent = gather(tmp_path, [names[row] for row in order])
    expected = vectors[order] / np.linalg.norm(vectors[order], axis=1, keepdims=True)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert by_parent == 0


def test_a_split_document_takes_the_vector_of_the_whole(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", ["p", "q#00001", "q"], [[2.0, 0.0], [0.0, 3.0], [-1.0, 0.0]])
    found, by_parent = gather(tmp_path, ["p#00001", "q#00001", "p#00002", "q#00002"], ["p", "q", "p", "q"])
    np.testing.assert_array_equal(found, [[1, 0], [0, 1], [1, 0], [-1, 0]])
    assert by_parent == 3


def test_integers_are_ids_as_in_documents(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", [7, 12], [[1.0, 0.0], [0.0, 1.0]])
    np.testing.assert_array_equal(gather(tmp_path, ["12", "7"])[0], [[0, 1], [1, 0]])


def test_directions_survive_lengths_whose_square_is_out_of_range(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", ["a", "b"], [[3e200, 4e200], [3e-200, 4e-200]], pa.list_(pa.float64()))
    np.testing.assert_allclose(gather(tmp_path, ["a", "b"])[0], [[0.6, 0.8]] * 2, atol=1e-7)


def test_only_the_row_groups_that_hold_a_document_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(
        tmp_path / "a.parquet", [f"d{n}" for n in range(100)], [[1.0, float(n)] for n in range(100)], row_group_size=10
    )
    config = VectorsConfig(paths=(str(tmp_path),))
    (file,) = find_vectors(config)
    index, length = index_file(file, config)
    asked: list[int] = []
    whole = pq.ParquetFile.iter_batches

    def watched(self: pq.ParquetFile, *args: Any, **options: Any) -> Any:
        asked.extend(options["row_groups"])
        return whole(self, *args, **options)

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", watched)
    ids = ["d95", "d31", "d39", "d38"]
    (wanted,), _ = place_documents(ids, ids, [index])
    pairs = [
        (int(row), v)
        for rows, part in read_vectors(file, wanted, ids, length, config)
        for row, v in zip(rows, part, strict=True)
    ]
    assert asked == [3, 9]
    assert {row: round(float(v[1] / v[0])) for row, v in pairs} == {0: 95, 1: 31, 2: 39, 3: 38}


def test_half_a_digest_in_common_is_not_the_same_id(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ids whose first 64 bits agree: the second half tells them apart."""
    halves = {"a": (5, 1), "b": (5, 4), "c": (5, 9), "d": (5, 5), "e": (9, 1), "f": (1, 1)}
    monkeypatch.setattr(
        given_vectors, "id_digests", lambda names: np.array([halves[n] for n in names], dtype=np.uint64).reshape(-1, 2)
    )
    index = np.array([[5, 5, 5], [1, 4, 9], [2, 0, 1]], dtype=np.uint64)  # rows: b, c, a
    assert look_up(index, ["c", "d", "a", "e", "b", "f"]).tolist() == [1, -1, 2, -1, 0, -1]
    assert look_up(np.zeros((3, 0), dtype=np.uint64), ["a"]).tolist() == [-1]


@pytest.mark.parametrize(
    ("ids", "vectors", "message"),
    [
        (["a", "b"], [[1.0, 2.0], [1.0]], r"a\.parquet, row 2 \(document 'b'\): has 1 numbers, not 2"),
        (["a", "b"], [[1.0, 2.0], None], r"a\.parquet, row 2 \(document 'b'\): has no vector"),
        (["a", "b"], [[1.0, 2.0], [1.0, float("nan")]], r"row 2 \(document 'b'\): the vector holds a number that is"),
        (["a", "b"], [[1.0, 2.0], [1.0, float("-inf")]], r"row 2 \(document 'b'\): the vector holds a number that is"),
        (["a", "b"], [[1.0, 2.0], [1.0, None]], r"row 2 \(document 'b'\): the vector holds a number that is not"),
        (["a", "b"], [[1.0, 2.0], [0.0, -0.0]], r"row 2 \(document 'b'\): the vector is zero"),
        (["a", "c"], [[1.0, 2.0], [0.0, 1.0]], "1 of 2 documents of this part have no vector, the first: 'b'"),
        (["a", None], [[1.0, 2.0], [0.0, 1.0]], r"a\.parquet, row 2: id is empty"),
        (["a", "b", "a"], [[1.0, 2.0]] * 3, r"'a' in \S+a\.parquet, row 1, and \S+a\.parquet, row 3"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, ids: list[Any], vectors: list[Any], message: str) -> None:
    write(tmp_path / "a.parquet", ids, vectors)
    with pytest.raises(TableError, match=message):
        gather(tmp_path, ["a", "b"])


def test_a_null_of_fixed_size_is_no_vector(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", ["a", "b"], [[1.0, 2.0], None], pa.list_(pa.float32(), 2))
    with pytest.raises(TableError, match=r"row 2 \(document 'b'\): has no vector"):
        gather(tmp_path, ["a", "b"])


def test_files_must_agree(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", ["a"], [[1.0, 2.0]])
    write(tmp_path / "b.parquet", ["b"], [[1.0, 2.0, 3.0]])
    with pytest.raises(TableError, match=r"length 2 in \S+a\.parquet and 3 in \S+b\.parquet"):
        gather(tmp_path, ["a", "b"])
    write(tmp_path / "b.parquet", ["c", "a"], [[1.0, 2.0], [1.0, 1.0]])
    with pytest.raises(TableError, match=r"'a' in \S+a\.parquet, row 1, and \S+b\.parquet, row 2"):
        gather(tmp_path, ["a", "b"])
    for name in "ab":
        write(tmp_path / f"{name}.parquet", [], [], pa.list_(pa.float32()))
    with pytest.raises(TableError, match=r"a\.parquet and the files behind it hold no vector"):
        gather(tmp_path, ["a"])


def test_other_columns_and_damage_are_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", ["a"] * 5000, [[1.0, 2.0]] * 5000)
    (file,) = find_vectors(VectorsConfig(paths=(str(path),)))
    for config, message in (
        (VectorsConfig(paths=("x",), id_column="doc"), r"id_column: \S+a\.parquet has no column 'doc'.*id, vector"),
        (VectorsConfig(paths=("x",), vector_column="emb"), r"vector_column: \S+a\.parquet has no column 'emb'"),
        (VectorsConfig(paths=("x",), id_column="vector", vector_column="id"), "id_column: vector of .* is list"),
    ):
        with pytest.raises(ConfigError, match=message):
            index_file(file, config)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(TableError, match=r"a\.parquet: cannot be read as Parquet"):
        index_file(file, VectorsConfig(paths=("x",)))
    with pytest.raises(ConfigError, match="paths: is empty"):
        VectorsConfig(paths=())


def test_the_digest_is_that_of_the_content(tmp_path: Path) -> None:
    for name in "xy":
        (tmp_path / name).mkdir()
        write(tmp_path / name / f"{name}.parquet", ["a"], [[1.0, 2.0]])
    first, moved = (vectors_digest(VectorsConfig(paths=(str(tmp_path / name),))) for name in "xy")
    assert first == moved, "where a file lies does not count"
    write(tmp_path / "y" / "y.parquet", ["a"], [[1.0, 2.0000002]])
    assert vectors_digest(VectorsConfig(paths=(str(tmp_path / "y"),))) != first
