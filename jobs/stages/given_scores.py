"""Scores that were computed elsewhere: files of an id and a value a row, looked up by document id.

index.npy   (3, n) as `given_vectors.Index`: digests of the file's ids, sorted, and their rows
values.npy  (n + 1,) the values by row; behind them their mean over the corpus, which stands for a document without one
"""

import math
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from prereq.graph.errors import TableError
from prereq.jobs.stages.reference_files import read_references
from prereq.selector.corpus.given_vectors import Index, look_up
from prereq.selector.corpus.identifiers import find_repeats, id_digests
from prereq.selector.corpus.inputs import InputFile
from prereq.selector.corpus.scoring import ScoreConfig

_EXAMPLES = 3  # named in an error
_ROWS = 65_536  # ids in memory at a time


def fit_given(
    output: str, config: ScoreConfig, files: Sequence[InputFile], parts: Sequence[str], what: str
) -> dict[str, int]:
    """Read the files, hold them against the corpus, and write what scores are looked up in.

    Holds 24 bytes a row of the files, and 24 more while they are sorted.

    Args:
        output: Folder.
        config: Of method file.
        files: Of `config.paths`.
        parts: Paths of the corpus's parts.
        what: Begins every message.

    Returns:
        Rows of the files, rows of no document, and documents without a row.

    Raises:
        TableError: A row has no id or no finite number, an id appears twice, no row is of a document, or a document
            has no row and `config.missing` is error.
    """
    digests, values = _read(config, files, what)
    _refuse_repeats(digests, config, files, what)
    order = np.lexsort((digests[:, 1], digests[:, 0]))
    index = np.vstack([digests[order].T, order.astype(np.uint64)])
    used, without, named = np.zeros(len(values), dtype=np.bool_), 0, list[str]()
    for path in parts:
        ids = pq.read_table(path, columns=["id"])["id"].to_pylist()
        rows = look_up(index, ids)
        used[rows[rows >= 0]] = True
        absent = np.flatnonzero(rows < 0)
        without += len(absent)
        named += [ids[row] for row in absent[: _EXAMPLES - len(named)].tolist()]
    shown = ", ".join(map(repr, named))
    if not used.any():
        raise TableError(
            f"{what}: none of the {len(values)} ids in {files[0].name} is that of a document (documents are, for "
            f"example: {shown}); ids are those of the pool, so a document that ingest split has one for each piece"
        )
    if without and config.missing == "error":
        raise TableError(
            f"{what}: {without} documents have no row in its files, the first: {shown}; add rows, or say with missing: "
            "keep or missing: drop what becomes of such documents"
        )
    mean = math.fsum(values[used].tolist()) / int(used.sum())
    np.save(Path(output) / "index.npy", index, allow_pickle=False)
    np.save(Path(output) / "values.npy", np.append(values, mean), allow_pickle=False)
    told = {"rows": len(values), "rows of no document": int((~used).sum()), "documents without a row": without}
    return {f"{config.name}: {name}": number for name, number in told.items()}


def given_scores(folder: Path, ids: Sequence[str]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Scores of some documents `(n,)`, and which of them have no row and so the mean, `(n,)`."""
    index: Index = np.load(folder / "index.npy", mmap_mode="r", allow_pickle=False)
    values: NDArray[np.float64] = np.load(folder / "values.npy", mmap_mode="r", allow_pickle=False)
    rows = look_up(index, ids)
    return values[rows], rows < 0  # row -1 is the mean


def _read(config: ScoreConfig, files: Sequence[InputFile], what: str) -> tuple[NDArray[np.uint64], NDArray[np.float64]]:
    """Digests of the ids `(n, 2)` and values `(n,)`, in the order of the files."""
    found, values, ids = [np.zeros((0, 2), dtype=np.uint64)], [np.zeros(0)], list[str]()
    numbers: list[float] = []
    for place, name, value in _rows(config, files):
        ids.append(_checked_id(name, config, f"{what}: {place}"))
        numbers.append(_checked_value(value, config, f"{what}: {place}"))
        if len(ids) == _ROWS:
            found.append(id_digests(ids))
            values.append(np.array(numbers))
            ids, numbers = [], []
    return np.concatenate([*found, id_digests(ids)]), np.concatenate([*values, np.array(numbers, dtype=np.float64)])


def _rows(config: ScoreConfig, files: Sequence[InputFile]) -> Iterator[tuple[str, Any, Any]]:
    fields = [config.id_field, config.value_field]
    for file in files:
        for place, (name, value) in read_references(file, f"scoring: score {config.name!r}", fields, fields):
            yield place, name, value


def _checked_id(name: Any, config: ScoreConfig, where: str) -> str:
    if isinstance(name, bool) or not isinstance(name, str | int) or name == "":
        raise TableError(
            f"{where}: {config.id_field} is {name!r}, not the id of a document (text or a whole number); mend the row, "
            "or set scoring.N.id_field"
        )
    try:
        str(name).encode()
    except UnicodeEncodeError:
        raise TableError(f"{where}: {config.id_field} holds half a character; mend the file") from None
    return str(name)


def _checked_value(value: Any, config: ScoreConfig, where: str) -> float:
    good = isinstance(value, int | float) and not isinstance(value, bool)
    try:
        number = float(value) if good else math.nan
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise TableError(
            f"{where}: {config.value_field} is {str(value)[:40]!r}, not a finite number; leave a document without a "
            "score out of the file (and see scoring.N.missing), or set scoring.N.value_field"
        )
    return number


def _refuse_repeats(digests: NDArray[np.uint64], config: ScoreConfig, files: Sequence[InputFile], what: str) -> None:
    repeats = find_repeats(digests)
    if not len(repeats.rows):
        return
    first, again = int(repeats.firsts[0]), int(repeats.rows[0])
    both = [next(islice(_rows(config, files), row, None)) for row in (first, again)]
    raise TableError(
        f"{what}: {len(repeats.rows)} ids appear again, the first: {both[0][1]!r} at {both[0][0]} and {both[1][0]}; "
        "leave one row for each id"
    )
