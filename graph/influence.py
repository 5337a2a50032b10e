"""The influence matrix: how much training on one group lowers the loss on another. By id, never by position.

This is what mixers read. It may be rectangular, negative and cyclic. Learning it from losses is not done here.
"""

import csv
import io
import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from prereq.graph.errors import ConfigError, GraphError
from prereq.graph.load import read_text, write_whole
from prereq.graph.parquet_bytes import read_parquet
from prereq.graph.skill import check_text, nearest
from prereq.graph.skill_graph import SkillGraph

if TYPE_CHECKING:
    import pyarrow as pa  # at run time inside the functions that need it, so that importing the graph stays quick

FORMAT = "prereq.influence/1"
_COLUMNS = {"train": "string", "eval": "string", "weight": "double"}  # Arrow types


@dataclass(frozen=True, eq=False)
class Influence:
    """`A (k, m)`: entry (i, j) is the effect of training on `train[i]` on the loss of `eval[j]`.

    Raises:
        GraphError: The shape does not fit the ids, an id is empty or twice in its list, an entry is not finite.
    """

    train: tuple[str, ...]  # k ids, the rows: groups trained on
    eval: tuple[str, ...]  # m ids, the columns: skills evaluated
    matrix: NDArray[np.float64]  # (k, m), unitless; read-only

    def __post_init__(self) -> None:
        for side in ("train", "eval"):
            ids = tuple(getattr(self, side))
            for name in ids:
                check_text(name, f"influence: an id of {side}")
            if not ids or "" in ids or len(set(ids)) != len(ids):
                raise GraphError(
                    f"influence: the ids of {side} must be at least one, none empty, none twice; got {ids}"
                )
            object.__setattr__(self, side, ids)
        matrix = np.array(self.matrix, dtype=np.float64)
        shape = (len(self.train), len(self.eval))
        if matrix.shape != shape:
            raise GraphError(
                f"influence: the matrix is {matrix.shape}, {shape[0]} train and {shape[1]} eval ids need {shape}"
            )
        if not np.isfinite(matrix).all():
            row, column = np.argwhere(~np.isfinite(matrix))[0]
            raise GraphError(
                f"influence: {self.train[row]!r} on {self.eval[column]!r} is {matrix[row, column]}, expected finite"
            )
        matrix.setflags(write=False)
        object.__setattr__(self, "matrix", matrix)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Influence):
            return NotImplemented
        return (self.train, self.eval) == (other.train, other.eval) and np.array_equal(self.matrix, other.matrix)

    __hash__ = None  # type: ignore[assignment]

    def restricted(self, train_ids: Sequence[str] | None = None, eval_ids: Sequence[str] | None = None) -> "Influence":
        """The given rows and columns, in the given order; None keeps all.

        Raises:
            GraphError: An id that the matrix does not have, or one asked for twice.
        """
        rows = _positions(self.train, self.train if train_ids is None else train_ids, "train")
        columns = _positions(self.eval, self.eval if eval_ids is None else eval_ids, "eval")
        train, evaluated = (self.train[i] for i in rows), (self.eval[j] for j in columns)
        return Influence(tuple(train), tuple(evaluated), self.matrix[np.ix_(rows, columns)])

    def permuted(self, train_ids: Sequence[str] | None = None, eval_ids: Sequence[str] | None = None) -> "Influence":
        """The same matrix with rows and columns in another order; unlike `restricted` nothing may be left out.

        Raises:
            GraphError: The ids are not exactly those of the matrix.
        """
        for side, own, wanted in (("train", self.train, train_ids), ("eval", self.eval, eval_ids)):
            if wanted is not None and (missing := sorted(set(own) - set(wanted))):
                raise GraphError(
                    f"influence: the new order of {side} leaves out {missing[0]!r}; use restricted() to drop ids"
                )
        return self.restricted(train_ids, eval_ids)


def influence_from_graph(
    graph: SkillGraph, *, diagonal: float = 1.0, edge: float = 0.5, decay: float = 0.0
) -> Influence:
    """The declared graph as a matrix: `diagonal * I`, plus `edge * weight` for every edge.

    A similarity edge counts both ways. With `decay` d > 0 a skill also acts on skills behind its direct targets: along
    a path of n edges by `edge * d**(n - 1) * (product of its weights)`, the strongest path counts, and a pair with an
    edge of its own keeps exactly that edge. (A sum over paths would grow with their number: thousands in a deep graph.)

    Args:
        graph: Any kind; weights of an `influence` graph that are influences already want `edge=1`.
        diagonal: Effect of a skill on itself.
        edge: Effect of an edge of weight 1. The published Skill-It runs use 0.5 (arXiv:2307.14430, App. C).
        decay: Factor per further edge, 0 to 1; above 0 only for kind prerequisite.

    Returns:
        `(k, k)` with train and eval both `graph.ids`.

    Raises:
        ConfigError: A parameter is not finite or out of range, or decay with a graph of another kind.
    """
    for name, value in (("diagonal", diagonal), ("edge", edge), ("decay", decay)):
        if not math.isfinite(value):
            raise ConfigError(f"influence: {name} is {value}, expected a finite number")
    if not 0 <= decay <= 1:
        raise ConfigError(f"influence: decay is {decay}, expected 0 (direct edges only) to 1")
    if decay > 0 and graph.kind != "prerequisite":
        raise ConfigError(
            f"influence: decay is {decay} with a graph of kind {graph.kind}; only prerequisite graphs take it"
        )
    position = {skill_id: index for index, skill_id in enumerate(graph.ids)}
    weights = np.zeros((len(graph), len(graph)))  # weights: (k, k), entry (i, j) for the edge i -> j
    for item in graph.edges:
        weights[position[item.prerequisite], position[item.target]] = item.weight
        if graph.kind == "similarity":
            weights[position[item.target], position[item.prerequisite]] = item.weight
    if decay > 0:
        weights = _with_paths(graph, position, weights, decay)
    matrix = edge * weights
    np.fill_diagonal(matrix, diagonal)
    return Influence(graph.ids, graph.ids, matrix)


def _with_paths(
    graph: SkillGraph, position: dict[str, int], weights: NDArray[np.float64], decay: float
) -> NDArray[np.float64]:
    linked = np.zeros(weights.shape, dtype=bool)  # linked: an edge of weight 0 still is an edge
    for item in graph.edges:
        linked[position[item.prerequisite], position[item.target]] = True
    strongest = np.zeros_like(weights)  # strongest: (k, k), over all paths i ~> j, the direct edge among them
    for stage in graph.stages():
        for skill_id in stage:
            target = position[skill_id]
            best = weights[:, target].copy()
            for prerequisite in graph.prerequisites(skill_id):
                middle = position[prerequisite]
                best = np.maximum(best, decay * weights[middle, target] * strongest[:, middle])
            strongest[:, target] = best
    return np.where(linked, weights, strongest)


def read_matrix_csv(
    path: str | os.PathLike[str],
    *,
    train: Sequence[str] | None = None,
    eval: Sequence[str] | None = None,
    off_diagonal_one: float | None = None,
) -> Influence:
    """Read a bare matrix of numbers (no header), one row per group trained on.

    Args:
        path: CSV, UTF-8.
        train: Ids of the rows. None: row numbers from 0, padded to one width so that they sort ("00" .. "22").
        eval: Ids of the columns. None: `train` where the matrix is square, else `eval-00`, `eval-01`, ..
        off_diagonal_one: What an entry of exactly 1 off the diagonal becomes; the published Skill-It runs turn these
            ones into 0.5 when they load a matrix. None leaves them.

    Raises:
        GraphError: With the line of a row that is not numbers or of another length, or the ids do not fit.
    """
    path = Path(path)
    rows: list[list[float]] = []
    for number, row in enumerate(csv.reader(io.StringIO(read_text(path), newline="")), 1):
        try:
            rows.append([float(cell) for cell in row])
        except ValueError as error:
            raise GraphError(f"{path} line {number}: {error}; expected a matrix of numbers without a header") from error
        if not row or len(row) != len(rows[0]):
            raise GraphError(f"{path} line {number}: {len(row)} numbers, the first line has {len(rows[0])}")
    if not rows:
        raise GraphError(f"{path}: no rows; expected a matrix of numbers")
    matrix = np.array(rows)
    train_ids = tuple(train) if train is not None else _numbered("", matrix.shape[0])
    square = matrix.shape[0] == matrix.shape[1]
    eval_ids = tuple(eval) if eval is not None else (train_ids if square else _numbered("eval-", matrix.shape[1]))
    try:
        influence = Influence(train_ids, eval_ids, matrix)
    except GraphError as error:
        raise GraphError(f"{path}: {error}") from error
    if off_diagonal_one is None:
        return influence
    same = np.array(train_ids)[:, None] == np.array(eval_ids)[None, :]
    return Influence(train_ids, eval_ids, np.where((matrix == 1.0) & ~same, off_diagonal_one, matrix))


def influence_table(influence: Influence) -> "pa.Table":
    """The matrix as rows `train, eval, weight` (zeros left out), the id lists in the schema's metadata."""
    import pyarrow as pa

    rows, columns = np.nonzero(influence.matrix)
    arrays = [
        pa.array([influence.train[i] for i in rows], pa.string()),
        pa.array([influence.eval[j] for j in columns], pa.string()),
        pa.array(influence.matrix[rows, columns], pa.float64()),
    ]
    metadata = {"format": FORMAT, "train": _id_list(influence.train), "eval": _id_list(influence.eval)}
    fields = [(name, pa.type_for_alias(kind)) for name, kind in _COLUMNS.items()]
    return pa.table(arrays, schema=pa.schema(fields, metadata=metadata))


def influence_from_table(table: "pa.Table") -> Influence:
    """The inverse of `influence_table`.

    Raises:
        GraphError: Another format, other columns, an id outside the lists, a pair twice, a null or a number not finite.
    """
    metadata = {key.decode(): value for key, value in (table.schema.metadata or {}).items()}
    found = metadata.get("format", b"").decode(errors="replace")
    if found != FORMAT:
        raise GraphError(f"influence: format is {found!r}, expected {FORMAT!r} in the schema's metadata")
    train, evaluated = (_read_id_list(metadata, side) for side in ("train", "eval"))
    columns = {}
    for name, kind in _COLUMNS.items():
        if table.schema.get_all_field_indices(name) == [] or str(table[name].type) != kind or table[name].null_count:
            raise GraphError(f"influence: needs a column {name!r} of {kind} without nulls; got {table.schema.names}")
        columns[name] = table[name].to_pylist()
    matrix = np.zeros((len(train), len(evaluated)))
    seen: set[tuple[int, int]] = set()
    rows = _positions(train, columns["train"], "train", twice=True)
    cols = _positions(evaluated, columns["eval"], "eval", twice=True)
    for row, column, weight in zip(rows, cols, columns["weight"], strict=True):
        if (row, column) in seen:
            raise GraphError(f"influence: {train[row]!r} on {evaluated[column]!r} appears twice; keep one row")
        seen.add((row, column))
        matrix[row, column] = weight
    return Influence(train, evaluated, matrix)


def save_influence(influence: Influence, path: str | os.PathLike[str]) -> None:
    """Write `prereq.influence/1` (Parquet); the file appears whole or not at all.

    Raises:
        GraphError: The path cannot be written.
    """
    write_whole(Path(path), encode_influence(influence))


def encode_influence(influence: Influence) -> bytes:
    """The bytes of a `prereq.influence/1` file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(influence_table(influence), sink, compression="zstd")
    return bytes(sink.getvalue().to_pybytes())


def load_influence(path: str | os.PathLike[str]) -> Influence:
    """Read `prereq.influence/1`.

    Raises:
        GraphError: Unreadable, not Parquet, or anything that `influence_from_table` refuses.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise GraphError(f"{path}: cannot be read as Parquet: {error}") from error
    return decode_influence(data, str(path))


def decode_influence(data: bytes, where: str) -> Influence:
    """The matrix in the bytes of a `prereq.influence/1` file; `where` names it in errors.

    Raises:
        GraphError: As `load_influence`.
    """
    import pyarrow as pa

    try:
        table = read_parquet(data)
    except (OSError, pa.ArrowException) as error:
        raise GraphError(f"{where}: cannot be read as Parquet: {error}") from error
    try:
        return influence_from_table(table)
    except GraphError as error:
        raise GraphError(f"{where}: {error}") from error


def _positions(own: Sequence[str], wanted: Sequence[str], side: str, *, twice: bool = False) -> list[int]:
    index = {name: position for position, name in enumerate(own)}
    found: list[int] = []
    for name in wanted:
        if name not in index:
            raise GraphError(f"influence: no {side} id {name!r}{nearest(str(name), index)}")
        found.append(index[name])
    if not twice and len(set(found)) != len(found):
        raise GraphError(f"influence: the {side} ids asked for hold one twice: {list(wanted)}")
    return found


def _numbered(prefix: str, count: int) -> tuple[str, ...]:
    width = len(str(count - 1))
    return tuple(f"{prefix}{number:0{width}d}" for number in range(count))


def _id_list(ids: Sequence[str]) -> str:
    return json.dumps(list(ids), ensure_ascii=False, separators=(",", ":"))


def _read_id_list(metadata: dict[str, bytes], side: str) -> tuple[str, ...]:
    try:
        ids = json.loads(metadata[side])
    except (KeyError, ValueError, RecursionError) as error:
        raise GraphError(f"influence: the schema's metadata has no list of {side} ids: {error!r}") from error
    if not isinstance(ids, list):
        raise GraphError(f"influence: the {side} ids in the schema's metadata are {ids!r}, expected a list")
    return tuple(ids)
