"""Turns the bytes of an input file into rows, one at a time, and says what of it is lost.

A reader never raises for bad input: it yields `Lost` in the place of what cannot be read, and goes on where it can. It
holds one line, one text file or one batch of Parquet rows in memory.
"""

import json
import os
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from prereq.selector.corpus.arrow_rows import column_values, read_arrow
from prereq.selector.corpus.rows import WHOLE, Lost, Piece, Row, Rows
from prereq.selector.corpus.stdlib_source import definitions, module_name
from prereq.selector.corpus.streams import Damaged, blocks, lines, range_blocks
from prereq.selector.corpus.warc_rows import read_warc

_BOM = b"\xef\xbb\xbf"
_BATCH_BYTES = 4 * 2**20  # of a Parquet batch
_BATCH_ROWS = 1024
_BUFFER_BYTES = 2**20  # read ahead in each column; by default pyarrow holds all columns of a row group


def read_rows(
    stream: BinaryIO,
    name: str,
    form: str,
    compression: str,
    *,
    fields: Sequence[str],
    required: Sequence[str],
    max_bytes: int,
    piece: Piece = WHOLE,
) -> Rows:
    """Yield the rows of one file, or of one piece of it.

    Args:
        stream: Seekable, at its start.
        name: The file's name, the id of a text file's only document.
        form: parquet, arrow, jsonl, text, warc or stdlib.
        compression: gzip, zstd, bz2 or empty.
        fields: All fields that will be looked up, dotted; Parquet and Arrow read no other columns.
        required: Fields without which no row can be a document.
        max_bytes: A longer line, record, text file or module is lost.
        piece: Which piece; only files for which `can_be_cut` have several. Rows carry the numbers that they have in
            the file, and what is wrong with the file as a whole is said in its first piece.
    """
    if form == "parquet":
        yield from read_parquet(stream, compression, fields, required, piece)
        return
    if form == "arrow":
        yield from read_arrow(stream, compression, fields, required)
        return
    start, stop = piece.range(_size(stream))
    source = blocks(stream, compression) if piece.count == 1 else range_blocks(stream, start, stop)
    if form == "jsonl":
        rows = read_jsonl(source, max_bytes, piece.first_line)
    elif form == "text":
        rows = read_text(source, name, max_bytes)
    elif form == "warc":
        rows = read_warc(source, max_bytes)
    else:
        rows = read_stdlib(source, name, max_bytes)
    for row in rows:
        if isinstance(row, Lost) and row.reason == "damaged_stream":
            row = row._replace(bytes=max(0, stop - stream.tell()))
        yield row


def read_jsonl(source: Iterator[bytes], max_bytes: int, first: int = 1) -> Rows:
    """One JSON object a line, numbered from `first`; blank lines are no rows."""
    number = first - 1
    try:
        for number, line in enumerate(lines(source, max_bytes), start=first):
            if isinstance(line, int):
                yield Lost(number, "too_long", f"{line} bytes in one line; at most {max_bytes} (ingest.max_record_mib)")
            elif line.strip():
                yield _json_row(number, line.removeprefix(_BOM) if number == 1 else line)
    except Damaged as error:
        yield Lost(number + 1, "damaged_stream", f"nothing behind line {number} can be read: {error}")


def _json_row(number: int, line: bytes) -> Row | Lost:
    try:
        value = json.loads(line.decode(), object_pairs_hook=_object)
    except UnicodeDecodeError as error:
        return Lost(number, "invalid_utf8", str(error))
    except (ValueError, RecursionError) as error:  # not JSON, a number of over 4300 digits, or nested too deep
        return Lost(number, "invalid_json", str(error))
    if isinstance(value, dict):
        return Row(number, value)
    return Lost(number, "not_an_object", f"a line must hold a JSON object, this one holds {type(value).__name__}")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; two lines that damage made one would else be the second, and the first be gone without a word."""
    value = dict(pairs)
    if len(value) < len(pairs):
        raise ValueError("a key appears twice in one object")
    return value


def read_text(source: Iterator[bytes], name: str, max_bytes: int) -> Rows:
    """The file as one row with the fields id (its name) and text."""
    data = _whole(source, max_bytes)
    if isinstance(data, Lost):
        yield data
        return
    try:
        yield Row(0, {"id": name, "text": data.removeprefix(_BOM).decode()})
    except UnicodeDecodeError as error:
        yield Lost(0, "invalid_utf8", str(error))


def read_stdlib(source: Iterator[bytes], name: str, max_bytes: int) -> Rows:
    """The functions and classes of a Python module, with the fields id, text and module."""
    data = _whole(source, max_bytes)
    if isinstance(data, Lost):
        yield data
        return
    module = module_name(name)
    try:
        for line, qualname, text in definitions(data):
            yield Row(line, {"id": f"{module}:{qualname}", "text": text, "module": module})
    except (SyntaxError, ValueError, RecursionError) as error:
        yield Lost(0, "invalid_python", str(error))


def _whole(source: Iterator[bytes], max_bytes: int) -> bytes | Lost:
    parts: list[bytes] = []
    size = 0
    try:
        for block in source:
            size += len(block)
            if size > max_bytes:
                return Lost(0, "too_long", f"a file of over {max_bytes} bytes (ingest.max_record_mib); split it")
            parts.append(block)
    except Damaged as error:
        return Lost(0, "damaged_stream", str(error))
    return b"".join(parts)


def read_parquet(
    stream: BinaryIO, compression: str, fields: Sequence[str], required: Sequence[str], piece: Piece = WHOLE
) -> Rows:
    """The rows of a Parquet file, row group by row group: damage costs what is left of the group that it lies in."""
    for row in _parquet_rows(stream, compression, fields, required, piece):
        if row.line or piece.index == 0:  # what concerns the file as a whole is said once
            yield row


def _parquet_rows(
    stream: BinaryIO, compression: str, fields: Sequence[str], required: Sequence[str], piece: Piece
) -> Rows:
    size = _size(stream)
    if compression:
        yield Lost(0, "unreadable_file", f"Parquet inside {compression} cannot be read; unpack it", 1, size)
        return
    try:
        file = pq.ParquetFile(stream, page_checksum_verification=True, pre_buffer=False, buffer_size=_BUFFER_BYTES)
        names = file.schema_arrow.names
        rows = [max(0, file.metadata.row_group(index).num_rows) for index in range(file.metadata.num_row_groups)]
        promised = file.metadata.num_rows
    except (pa.ArrowException, OSError, ValueError) as error:
        yield Lost(0, "unreadable_file", str(error), 1, size)
        return
    for field in required:
        if field not in names and field.partition(".")[0] not in names:
            detail = f"no column {field!r}; the columns are {', '.join(names)}"
            yield Lost(0, "missing_column", detail, max(1, sum(rows)), size)
            return
    columns = sorted({field if field in names else field.partition(".")[0] for field in fields} & set(names))
    first, stop = piece.range(len(rows))
    start = 1 + sum(rows[:first])
    for index in range(first, stop):
        yield from _row_group(file, index, columns, start, sum(rows), size)
        start += rows[index]
    if promised != sum(rows) and piece.index == 0:
        detail = f"the footer counts {promised} rows, its row groups {sum(rows)}"
        yield Lost(1 + sum(rows), "damaged_rows", detail, max(1, promised - sum(rows)))


def _row_group(
    file: pq.ParquetFile, index: int, columns: Sequence[str], start: int, file_rows: int, file_bytes: int
) -> Rows:
    group = file.metadata.row_group(index)
    rows, size = max(0, group.num_rows), max(1, group.total_byte_size)
    batch_rows = max(1, min(_BATCH_ROWS, _BATCH_BYTES * rows // size))
    seen, problem = 0, "fewer rows than the file says"
    try:
        for batch in file.iter_batches(batch_rows, row_groups=[index], columns=columns, use_threads=False):
            names = batch.schema.names
            for values in zip(*map(column_values, batch.columns), strict=True):
                seen += 1
                wrong = next((value for value in values if isinstance(value, UnicodeDecodeError)), None)
                if wrong is None:
                    yield Row(start + seen - 1, dict(zip(names, values, strict=True)))
                else:
                    yield Lost(start + seen - 1, "invalid_utf8", str(wrong))
    except (pa.ArrowException, OSError, ValueError) as error:
        problem = str(error)
    if seen < rows:
        detail = f"row group {index}, rows {start + seen} to {start + rows - 1}: {problem}"
        # a share of the file: asking a damaged group for its columns' sizes can abort the process (pyarrow 26)
        yield Lost(start + seen, "damaged_rows", detail, rows - seen, file_bytes * (rows - seen) // file_rows)


def _size(stream: BinaryIO) -> int:
    here = stream.tell()
    size = stream.seek(0, os.SEEK_END)
    stream.seek(here)
    return int(size)
