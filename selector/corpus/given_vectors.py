"""The user's own vectors: Parquet files of an id and a vector a row, found by document id.

A file is indexed once by 128-bit digests of its ids, so that a part of the corpus reads only the row groups that hold
its documents. Vectors are checked when they are read; whether ids repeat and lengths agree, before any is read.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from prereq.graph.canonical import digest
from prereq.graph.errors import ConfigError, TableError
from prereq.selector.corpus.documents import SourceConfig
from prereq.selector.corpus.identifiers import find_repeats, id_digests
from prereq.selector.corpus.inputs import InputFile, content_digest, find_inputs, open_input

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]
Index = npt.NDArray[np.uint64]  # (3, n): both halves of an id's digest, sorted, and its row in the file, from 0

_BATCH = 4096  # rows in memory at a time
_EXAMPLES = 3  # named in an error


@dataclass(frozen=True, slots=True, kw_only=True)
class VectorsConfig:
    """Where the user's own vectors are."""

    paths: tuple[str, ...]  # Parquet files, folders, globs or URLs
    id_column: str = "id"  # column of document ids, text or integers
    vector_column: str = "vector"  # column of vectors: lists of numbers, all of one length

    def __post_init__(self) -> None:
        if not self.paths:
            raise ConfigError("embedding.vectors.paths: is empty; name at least one Parquet file, folder or glob")
        if not self.id_column or not self.vector_column or self.id_column == self.vector_column:
            raise ConfigError(
                "embedding.vectors: id_column and vector_column must be the names of two columns, got "
                f"{self.id_column!r} and {self.vector_column!r}"
            )


class Wanted(NamedTuple):
    """What documents ask of one file: `(m,)` each, by row."""

    rows: IntArray  # in the file, from 0
    documents: IntArray  # numbers of the documents


def find_vectors(config: VectorsConfig) -> list[InputFile]:
    """The files of vectors, by name.

    Raises:
        ConfigError: A path matches nothing.
    """
    return find_inputs(SourceConfig(name="embedding.vectors", paths=config.paths, format="parquet"))


def vectors_digest(config: VectorsConfig) -> str:
    """What makes two sets of vectors the same: the content of their files, wherever these lie.

    Raises:
        ConfigError: A path matches nothing, or a file cannot be read.
    """
    return digest(sorted(content_digest(file) for file in find_vectors(config)))


def index_file(file: InputFile, config: VectorsConfig) -> tuple[Index, int]:
    """The index of one file and the length of its vectors (0 where it has none).

    Raises:
        ConfigError: It has no such columns, or they are of other types.
        TableError: It cannot be read, or an id is missing.
    """
    with _opened(file) as parquet:
        _check_columns(parquet.schema_arrow, file, config)
        found: list[npt.NDArray[np.uint64]] = []
        rows = 0
        for batch in parquet.iter_batches(batch_size=_BATCH, columns=[config.id_column], use_threads=False):
            ids = batch.column(0).to_pylist()
            if None in ids:
                raise TableError(
                    f"{file.name}, row {rows + ids.index(None) + 1}: {config.id_column} is empty; a vector needs the "
                    "id of its document"
                )
            found.append(id_digests([str(name) for name in ids]))
            rows += len(ids)
        digests = np.concatenate(found) if found else np.zeros((0, 2), dtype=np.uint64)
        order = np.lexsort((digests[:, 1], digests[:, 0]))
        return np.vstack([digests[order].T, order.astype(np.uint64)]), _length(parquet, config)


def check_indexes(files: Sequence[InputFile], indexes: Sequence[Index], lengths: Sequence[int], column: str) -> int:
    """The length of all vectors, after looking for ids that appear twice.

    Raises:
        TableError: There is no vector, lengths differ between files, or an id appears twice.
    """
    known = [(length, file.name) for file, length in zip(files, lengths, strict=True) if length]
    if not known:
        raise TableError(f"embedding.vectors: {files[0].name} and the files behind it hold no vector")
    other = next((entry for entry in known if entry[0] != known[0][0]), None)
    if other:
        raise TableError(
            f"embedding.vectors: vectors are of length {known[0][0]} in {known[0][1]} and {other[0]} in {other[1]}; "
            "all must come from one model"
        )
    repeats = find_repeats(np.concatenate([index[:2].T for index in indexes]))
    if len(repeats.rows):
        starts = np.cumsum([0, *(index.shape[1] for index in indexes)])
        both = []
        for place in (int(repeats.firsts[0]), int(repeats.rows[0])):
            number = int(np.searchsorted(starts, place, side="right")) - 1
            both.append((files[number], int(indexes[number][2, place - starts[number]])))
        (file, row), (again, row_again) = both
        raise TableError(
            f"embedding.vectors: {len(repeats.rows)} ids appear again, the first: {_id_at(file, row, column)!r} in "
            f"{file.name}, row {row + 1}, and {again.name}, row {row_again + 1}; leave one vector for each id"
        )
    return known[0][0]


def look_up(index: Index, names: Sequence[str]) -> IntArray:
    """The row of each id in an indexed file, `(n,)`; -1 where it is not there."""
    wanted = id_digests(names)
    high, low, rows = index
    at = np.searchsorted(high, wanted[:, 0])
    last = max(0, len(high) - 1)
    while len(high):  # rows whose first half is the same are neighbours, in order of the second
        here = np.minimum(at, last)
        behind = (at <= last) & (high[here] == wanted[:, 0]) & (low[here] != wanted[:, 1])
        if not behind.any():
            found = (at <= last) & (high[here] == wanted[:, 0])
            return np.where(found, rows[here].astype(np.int64), -1)
        at = at + behind
    return np.full(len(names), -1, dtype=np.int64)


def place_documents(ids: Sequence[str], parents: Sequence[str], indexes: Sequence[Index]) -> tuple[list[Wanted], int]:
    """Where each document's vector is: that of its id, else that of the document that it was split from.

    Returns:
        For each index what is wanted of its file, and how many documents take their parent's vector.

    Raises:
        TableError: A document has no vector.
    """
    file, row = np.full(len(ids), -1, dtype=np.int64), np.full(len(ids), -1, dtype=np.int64)
    own = 0
    for names in (ids, parents):
        own = int((file >= 0).sum())
        for number, index in enumerate(indexes):
            left = np.flatnonzero(file < 0)
            found = look_up(index, [names[place] for place in left.tolist()])
            hit = left[found >= 0]
            file[hit], row[hit] = number, found[found >= 0]
    missing = np.flatnonzero(file < 0)
    if len(missing):
        named = ", ".join(repr(ids[place]) for place in missing[:_EXAMPLES])
        raise TableError(
            f"embedding.vectors: {len(missing)} of {len(ids)} documents of this part have no vector, the first: "
            f"{named}; add rows with these ids, or choose another embedding.method"
        )
    wanted = []
    for number in range(len(indexes)):
        held = np.flatnonzero(file == number)
        held = held[np.argsort(row[held], kind="stable")]
        wanted.append(Wanted(row[held], held))
    return wanted, len(ids) - own


def read_vectors(
    file: InputFile, wanted: Wanted, ids: Sequence[str], length: int, config: VectorsConfig
) -> Iterator[tuple[IntArray, FloatArray]]:
    """Numbers of documents and their unit vectors `(m, length)`; only the row groups that hold one are read.

    Args:
        file: An indexed file.
        wanted: Of this file.
        ids: Of all documents, for errors.
        length: Of every vector.
        config: Names of the columns.

    Raises:
        TableError: The file cannot be read, or a vector is empty, of another length, not finite or zero.
    """
    if not len(wanted.rows):
        return
    with _opened(file) as parquet:
        groups = [parquet.metadata.row_group(number).num_rows for number in range(parquet.metadata.num_row_groups)]
        starts = np.cumsum([0, *groups])
        for group in np.unique(np.searchsorted(starts, wanted.rows, side="right") - 1).tolist():
            start = int(starts[group])
            for batch in parquet.iter_batches(
                batch_size=_BATCH, row_groups=[group], columns=[config.vector_column], use_threads=False
            ):
                span = slice(*np.searchsorted(wanted.rows, [start, start + len(batch)]).tolist())
                rows, documents = wanted.rows[span], wanted.documents[span]
                start += len(batch)
                if len(rows):
                    places = [
                        f"{file.name}, row {row + 1} (document {ids[number]!r})"
                        for row, number in zip(rows.tolist(), documents.tolist(), strict=True)
                    ]
                    column = batch.column(0).take(pa.array(rows - (start - len(batch))))
                    yield documents, unit_vectors(column, places, length)


def unit_vectors(column: pa.Array, places: Sequence[str], length: int) -> FloatArray:
    """A column of lists as unit vectors, `(n, length)` float32.

    Args:
        column: `(n,)` lists of numbers.
        places: `(n,)`, what an error calls each row.
        length: Of every vector.

    Raises:
        TableError: A vector is missing, of another length, or as `unit_rows`.
    """
    lengths = pc.fill_null(pc.list_value_length(column), -1).to_numpy(zero_copy_only=False)
    # a null of fixed size has a length all the same
    lengths = np.where(column.is_null().to_numpy(zero_copy_only=False), -1, lengths)
    wrong = np.flatnonzero(lengths != length)
    if len(wrong):
        first = int(wrong[0])
        what = f"{int(lengths[first])} numbers, not {length}" if lengths[first] >= 0 else "no vector"
        raise TableError(f"{places[first]}: has {what}; every vector must be of one length")
    values = column.flatten().to_numpy(zero_copy_only=False).astype(np.float64)
    return unit_rows(values.reshape(len(column), length), places)


def unit_rows(values: npt.NDArray[np.float64], places: Sequence[str]) -> FloatArray:
    """Rows `(n, d)` scaled to length 1, float32.

    Raises:
        TableError: One holds no finite direction; `places` `(n,)` says what an error calls it.
    """
    largest = np.abs(values).max(axis=1)  # NaN where a number is missing or none
    wrong = np.flatnonzero(~np.isfinite(largest) | (largest == 0))
    if len(wrong):
        first = int(wrong[0])
        what = "is zero, which has no direction" if largest[first] == 0 else "holds a number that is not finite"
        raise TableError(f"{places[first]}: the vector {what}; mend it or leave the document out")
    scaled = values / largest[:, None]  # no square of it can overflow
    return (scaled / np.sqrt((scaled * scaled).sum(axis=1))[:, None]).astype(np.float32)


class _opened:
    """An opened Parquet file; what reading it raises is a TableError with its name."""

    def __init__(self, file: InputFile) -> None:
        self._file = file

    def __enter__(self) -> pq.ParquetFile:
        try:
            self._stream = open_input(self._file)
        except (OSError, pa.ArrowException) as error:
            raise self._unreadable(error) from error
        try:
            return pq.ParquetFile(self._stream, page_checksum_verification=True, pre_buffer=False)
        except (OSError, pa.ArrowException) as error:
            self._stream.close()
            raise self._unreadable(error) from error

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        self._stream.close()
        if isinstance(error, OSError | pa.ArrowException | UnicodeError):
            raise self._unreadable(error) from error

    def _unreadable(self, error: BaseException) -> TableError:
        return TableError(f"{self._file.name}: cannot be read as Parquet: {error}; mend the file")


def _check_columns(schema: pa.Schema, file: InputFile, config: VectorsConfig) -> None:
    for key, name in (("id_column", config.id_column), ("vector_column", config.vector_column)):
        if schema.names.count(name) != 1:
            raise ConfigError(
                f"embedding.vectors.{key}: {file.name} has no column {name!r}, or more than one; the columns are "
                f"{', '.join(schema.names)}"
            )
    kind = schema.field(config.id_column).type
    types = pa.types
    if not (types.is_string(kind) or types.is_large_string(kind) or types.is_integer(kind)):
        raise ConfigError(
            f"embedding.vectors.id_column: {config.id_column} of {file.name} is {kind}; expected text or integers"
        )
    kind = schema.field(config.vector_column).type
    lists = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
    if not lists or not (types.is_floating(kind.value_type) or types.is_integer(kind.value_type)):
        raise ConfigError(
            f"embedding.vectors.vector_column: {config.vector_column} of {file.name} is {kind}; expected lists of "
            "numbers"
        )


def _length(parquet: pq.ParquetFile, config: VectorsConfig) -> int:
    kind = parquet.schema_arrow.field(config.vector_column).type
    if pa.types.is_fixed_size_list(kind):
        return int(kind.list_size)
    for batch in parquet.iter_batches(batch_size=64, columns=[config.vector_column], use_threads=False):
        for length in pc.list_value_length(batch.column(0)).to_pylist():
            if length is not None:
                return int(length)
    return 0


def _id_at(file: InputFile, row: int, column: str) -> str:
    with _opened(file) as parquet:
        return str(parquet.read(columns=[column]).column(0)[row].as_py())
