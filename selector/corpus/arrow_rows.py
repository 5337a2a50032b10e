"""Rows of Arrow IPC files and streams, and which files of a folder saved by Hugging Face `datasets` hold rows.

`datasets` saves streams; Arrow's own tools write files with a footer. Both are read batch by batch, by pyarrow alone.
"""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.ipc as ipc

from prereq.graph.errors import ConfigError
from prereq.selector.corpus.rows import Lost, Row, Rows

_MAGIC = b"ARROW1"
_END_MARKS = (b"\xff\xff\xff\xff\x00\x00\x00\x00", b"\x00\x00\x00\x00")  # of a stream, now and before Arrow 0.15
_ROWS_AT_ONCE = 1024  # turned into Python values together
_STATE, _INFO, _SPLITS = "state.json", "dataset_info.json", "dataset_dict.json"


def read_arrow(stream: BinaryIO, compression: str, fields: Sequence[str], required: Sequence[str]) -> Rows:
    """The rows of an Arrow IPC file or stream; memory: one record batch of the columns that are asked for.

    Damage inside a batch of a file with a footer costs that batch, elsewhere everything behind it.
    """
    size = _seek(stream, 0, os.SEEK_END)
    _seek(stream, 0)
    if compression:
        yield Lost(0, "unreadable_file", f"Arrow inside {compression} cannot be read; unpack it", 1, size)
        return
    try:
        footed = stream.read(len(_MAGIC)) == _MAGIC
        _seek(stream, 0)
        names = (ipc.open_file(stream) if footed else ipc.open_stream(stream)).schema.names
        _seek(stream, 0)
    except (pa.ArrowException, OSError, ValueError) as error:
        yield Lost(0, "unreadable_file", str(error), 1, size)
        return
    for field in required:
        if field not in names and field.partition(".")[0] not in names:
            yield Lost(0, "missing_column", f"no column {field!r}; the columns are {', '.join(names)}", 1, size)
            return
    columns = {field if field in names else field.partition(".")[0] for field in fields} & set(names)
    wanted = [index for index, name in enumerate(names) if name in columns]
    options = ipc.IpcReadOptions(use_threads=False, included_fields=wanted)
    yield from (_read_file if footed else _read_stream)(stream, options, size)


def _read_stream(stream: BinaryIO, options: ipc.IpcReadOptions, size: int) -> Rows:
    row, read = 0, 0
    try:
        reader = ipc.open_stream(stream, options=options)
        read = stream.tell()
        for batch in reader:
            read = stream.tell()
            yield from _batch_rows(batch, row)
            row += len(batch)
    except (pa.ArrowException, OSError, ValueError) as error:
        yield Lost(row + 1, "damaged_stream", f"nothing behind row {row} can be read: {error}", 1, size - read)
        return
    _seek(stream, read)
    if stream.read(len(_END_MARKS[0]) + 1) not in _END_MARKS:  # damage may look like an end mark in the middle
        detail = f"behind row {row} the stream does not end with an end mark, so what was there is missing"
        yield Lost(row + 1, "damaged_stream", detail, 1, size - read)


def _read_file(stream: BinaryIO, options: ipc.IpcReadOptions, size: int) -> Rows:
    row = 0
    reader = ipc.open_file(stream, options=options)
    for index in range(reader.num_record_batches):
        try:
            batch = reader.get_batch(index)
            yield from _batch_rows(batch, row)
            row += len(batch)
        except (pa.ArrowException, OSError, ValueError) as error:
            detail = f"record batch {index}, behind row {row} of those that can be read: {error}"
            yield Lost(row + 1, "damaged_rows", detail, 1, size // reader.num_record_batches)


def _batch_rows(batch: pa.RecordBatch, before: int) -> Rows:
    for column in batch.columns:
        _check(column)
    names = batch.schema.names
    for start in range(0, len(batch), _ROWS_AT_ONCE):
        part = batch.slice(start, _ROWS_AT_ONCE)
        for number, values in enumerate(zip(*map(column_values, part.columns), strict=True), start=before + start + 1):
            wrong = next((value for value in values if isinstance(value, UnicodeDecodeError)), None)
            if wrong is None:
                yield Row(number, dict(zip(names, values, strict=True)))
            else:
                yield Lost(number, "invalid_utf8", str(wrong))


def _check(column: pa.Array) -> None:
    """Check every offset, so that damaged bytes cannot be read as an address; text that is no UTF-8 costs its row only.

    Raises:
        ArrowInvalid: The column's buffers do not fit together.
    """
    kinds = {pa.string(): pa.binary(), pa.large_string(): pa.large_binary()}
    plain = column.view(kinds[column.type]) if column.type in kinds else column
    plain.validate(full=True)


def column_values(column: pa.Array) -> list[Any]:
    """Python values of a column; the error in the place of what is not UTF-8 (Arrow does not check text it reads)."""
    try:
        return list(column.to_pylist())
    except UnicodeDecodeError:
        return [_value(scalar) for scalar in column]


def _value(scalar: pa.Scalar) -> Any:
    try:
        return scalar.as_py()
    except UnicodeDecodeError as error:
        return error


def _seek(stream: BinaryIO, place: int, whence: int = os.SEEK_SET) -> int:
    stream.seek(place, whence)
    return int(stream.tell())


def files_with_rows(folder: str, names: Sequence[str], read: Callable[[str], bytes]) -> Iterator[str]:
    """Which of a folder's files hold rows: all, except where Hugging Face `datasets` saved or cached a data set there.

    What `datasets` saves lists its files in state.json; other Arrow files beside them are caches of other versions of
    the same rows.

    Args:
        folder: Named in errors.
        names: Of the files that lie in it, in order.
        read: Gives the content of one of them.

    Raises:
        ConfigError: state.json lists a file outside the folder.
    """
    listed = _listed(folder, read(_STATE)) if _STATE in names else None
    if listed is not None:
        yield from listed
        return
    cached = any(name.lower().endswith(".arrow") for name in names)
    for name in names:
        if name != _SPLITS and not (cached and name == _INFO):
            yield name


def _listed(folder: str, state: bytes) -> list[str] | None:
    """The files that a state.json of `datasets` lists; None where it is something else."""
    try:
        entries = json.loads(state)["_data_files"]
        names = [str(entry["filename"]) for entry in entries]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    for name in names:
        if name != os.path.basename(name) or name in ("", ".", ".."):
            raise ConfigError(f"{folder}/{_STATE}: lists the file {name!r}, which is not in its folder; it was refused")
    return names
