"""Stage `ingest`: the input files of all sources become parts of documents, and a list of what was refused.

    STAGES/ingest/<source>-<task>/part-00000.parquet ...   documents (`documents_schema`)
                                 /rejects.parquet          only where there are any (`REJECTS_SCHEMA`)
                                 /ids.npy                  (n, 2) uint64, digests of the ids in order

A task is a group of input files in order of name, up to `part_mib` together. A larger file is cut (`cutting`) where its
format allows that, and a task of its own where not; a source with `max_documents` is one task. The borders of tasks and
parts come from the files and the configuration alone.
"""

import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from prereq.graph.canonical import digest
from prereq.graph.errors import ConfigError, TableError
from prereq.jobs.stages.cutting import cut_files
from prereq.jobs.stages.identifiers import settle_ids
from prereq.jobs.stages.runner import Bench, StageResult, Task, run_stage
from prereq.selector.corpus.documents import (
    Converter,
    Document,
    DocumentTable,
    IngestConfig,
    Reject,
    SourceConfig,
    make_converter,
    pieces,
)
from prereq.selector.corpus.formats import Lost, Row, Rows, read_rows
from prereq.selector.corpus.identifiers import id_digests
from prereq.selector.corpus.inputs import InputFile, find_inputs, group_by_bytes, open_input

REJECTS_SCHEMA = pa.schema(
    [
        ("source", pa.string()),
        ("file", pa.string()),
        ("line", pa.int64()),  # 1-based line or row; 0 where the file as a whole is meant
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("documents", pa.int64()),  # rows lost; 1 where their number cannot be known
    ]
)
_STDLIB_TASK_BYTES = 2 * 2**20  # its files are small, and parsing them is slow
_DETAIL_CHARACTERS = 200  # of a reject's detail
_REJECTS_AT_ONCE = 10_000  # held in memory
_EXAMPLES = 3  # named in an error


def ingest(bench: Bench, sources: Sequence[SourceConfig], config: IngestConfig) -> StageResult:
    """Read all sources.

    Returns:
        A result whose files `part-*` are the documents in order of source, file and row, and `rejects*` the rejects.
        Counts: documents, rejected, and where there are any: filtered (by `include`), split, normalised (whose text is
        not as it came), lost_bytes, rekeyed.

    Raises:
        ConfigError: A path matches nothing, or two sources share a name.
        TableError: More than `max_rejected` was lost, nothing is left, or an id appears twice.
    """
    names = [source.name for source in sources]
    if not names or len(set(names)) < len(names):
        raise ConfigError(f"sources must be at least one, each with a name of its own, got the names {names}")
    columns = sorted({column for source in sources for column in source.columns()})
    tasks: list[Task] = []
    input_bytes = 0
    found = [find_inputs(source) for source in sources]
    for index, (source, files) in enumerate(zip(sources, _cut(bench, sources, found, config), strict=True)):
        input_bytes += sum(file.bytes for file in files)
        # what a task makes depends on its source and its files, not on the patterns that found them
        identity = digest({key: value for key, value in asdict(source).items() if key != "paths"})
        for number, group in enumerate(_groups(files, source, config)):
            inputs = (identity, *(file.fingerprint for file in group))
            tasks.append(Task(f"{index:03d}-{number:06d}", (group, source, config, columns), inputs))
    settings = _settings(config)
    result = run_stage(bench, "ingest", read_files, tasks, {**settings, "columns": columns})
    _check_rejected(result, config, input_bytes)
    return settle_ids(bench, result, by_content=config.ids == "content")


def read_files(
    folder: str, files: Sequence[InputFile], source: SourceConfig, config: IngestConfig, columns: Sequence[str]
) -> dict[str, int]:
    """One task: read some files of a source into parts of documents below `folder`; return its counts."""
    counts = Counter[str](documents=0, rejected=0)
    parts, rejects = _Parts(Path(folder), config, columns), _Rejects(Path(folder), source.name)
    own = list(source.columns())
    for name, line, outcome in _outcomes(files, source, config):
        if outcome is None:
            counts["filtered"] += 1
        elif isinstance(outcome, Lost):
            rejects.add(name, outcome)
        else:
            counts["normalised"] += outcome.normalised
            place = f"{name}:{line}" if line else name
            metadata = dict(zip(own, outcome.metadata, strict=True))
            for piece in pieces(outcome, config.max_document_bytes, config.min_characters):
                if isinstance(piece, Reject):
                    rejects.add(name, Lost(line, piece.reason, piece.detail))
                else:
                    parts.add(piece, source.name, place, metadata)
                    counts["split"] += piece.id == f"{piece.parent}#00001"
    counts["documents"] = parts.finish()
    counts["rejected"], counts["lost_bytes"] = rejects.finish()
    return {key: count for key, count in counts.items() if count or key in ("documents", "rejected")}


def _settings(config: IngestConfig) -> dict[str, Any]:
    """What decides a task's output; `max_rejected` only judges it."""
    settings = {key: value for key, value in asdict(config).items() if key != "max_rejected"}
    if config.normalisation == "none":
        del settings["normalisation"]  # so that what was read before the key existed counts as done
    else:
        settings["unicode"] = unicodedata.unidata_version
    return settings


def _cut(
    bench: Bench, sources: Sequence[SourceConfig], found: Sequence[list[InputFile]], config: IngestConfig
) -> list[list[InputFile]]:
    """The files of each source, large ones in pieces; those of a source that one task reads stay whole."""
    may = [[] if source.max_documents is not None else files for source, files in zip(sources, found, strict=True)]
    cut = cut_files(bench, may, config.part_mib * 2**20)
    return [pieces or files for pieces, files in zip(cut, found, strict=True)]


def _groups(files: list[InputFile], source: SourceConfig, config: IngestConfig) -> list[tuple[InputFile, ...]]:
    if source.max_documents is not None:
        return [tuple(files)]
    return group_by_bytes(files, _STDLIB_TASK_BYTES if source.format == "stdlib" else config.part_mib * 2**20)


def _outcomes(
    files: Sequence[InputFile], source: SourceConfig, config: IngestConfig
) -> Iterator[tuple[str, int, Document | Lost | None]]:
    """Yield (file, line, what became of it) for each row; None for a row that the source leaves out."""
    convert = make_converter(source, config)
    taken = 0
    for file in files:
        for row in _rows(file, source, config):
            outcome = _outcome(row, convert)
            yield file.name, row.line, outcome
            taken += isinstance(outcome, Document)
            if taken == source.max_documents:
                return


def _rows(file: InputFile, source: SourceConfig, config: IngestConfig) -> Rows:
    needed = [source.text_field] if config.ids == "content" else [source.text_field, source.id_field]
    fields = [*needed, *source.skills_fields, *source.columns().values(), *source.include]
    try:
        stream = open_input(file)
    except (OSError, pa.ArrowException) as error:
        yield Lost(0, "unreadable_file", getattr(error, "strerror", None) or str(error), bytes=file.bytes)
        return
    with stream:
        yield from read_rows(
            stream,
            file.name,
            file.format,
            file.compression,
            fields=fields,
            required=needed,
            max_bytes=config.max_record_mib * 2**20,
            piece=file.piece,
        )


def _outcome(row: Row | Lost, convert: Converter) -> Document | Lost | None:
    if isinstance(row, Lost):
        return row
    try:
        return convert(row.fields)
    except Reject as reject:
        return Lost(row.line, reject.reason, reject.detail)


class _Parts:
    """Writes documents into parts of bounded rows and bytes."""

    def __init__(self, folder: Path, config: IngestConfig, columns: Sequence[str]) -> None:
        self._folder, self._config, self._columns = folder, config, columns
        self._table = DocumentTable(columns)
        self._digests: list[np.ndarray] = []

    def add(self, document: Document, source: str, place: str, metadata: dict[str, str | None]) -> None:
        self._table.add(document, source, place, metadata)
        if self._table.rows >= self._config.part_rows or self._table.bytes >= self._config.part_mib * 2**20:
            self._write()

    def finish(self) -> int:
        """Write what is left and the digests of all ids; return the number of documents."""
        if self._table.rows:
            self._write()
        if self._digests:
            np.save(self._folder / "ids.npy", np.concatenate(self._digests))
        return sum(len(digests) for digests in self._digests)

    def _write(self) -> None:
        path = self._folder / f"part-{len(self._digests):05d}.parquet"
        pq.write_table(self._table.to_table(), path, compression="zstd")
        self._digests.append(id_digests(self._table.ids()))
        self._table = DocumentTable(self._columns)


class _Rejects:
    """Writes what was refused, a bounded number of rows at a time."""

    def __init__(self, folder: Path, source: str) -> None:
        self._path, self._source = folder / "rejects.parquet", source
        self._writer: pq.ParquetWriter | None = None
        self._rows: list[dict[str, str | int]] = []
        self._documents, self._bytes = 0, 0

    def add(self, file: str, lost: Lost) -> None:
        detail = lost.detail[:_DETAIL_CHARACTERS].encode("utf-8", "backslashreplace").decode()
        values = (self._source, file, lost.line, lost.reason, detail, lost.documents)
        self._rows.append(dict(zip(REJECTS_SCHEMA.names, values, strict=True)))
        self._documents += lost.documents
        self._bytes += lost.bytes
        if len(self._rows) >= _REJECTS_AT_ONCE:
            self._write()

    def finish(self) -> tuple[int, int]:
        """Write what is left; return (documents lost, bytes of input not read because of damage)."""
        if self._rows:
            self._write()
        if self._writer is not None:
            self._writer.close()
        return self._documents, self._bytes

    def _write(self) -> None:
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._path, REJECTS_SCHEMA, compression="zstd")
        self._writer.write_table(pa.Table.from_pylist(self._rows, schema=REJECTS_SCHEMA))
        self._rows = []


def _check_rejected(result: StageResult, config: IngestConfig, input_bytes: int) -> None:
    documents, rejected, lost = (result.counts.get(key, 0) for key in ("documents", "rejected", "lost_bytes"))
    rows = documents + rejected + result.counts.get("filtered", 0)
    share = max(rejected / max(1, rows), lost / max(1, input_bytes))
    if documents and share <= config.max_rejected:
        return
    said = f"{rejected} of {rows} rows were rejected"
    if lost:
        said += f" and {lost} of {input_bytes} bytes of input are damaged"
    problem = f"that is over max_rejected ({config.max_rejected:g})" if documents else "no document is left"
    raise TableError(f"ingest: {said}: {problem}. {_describe_rejects(result)}")


def _describe_rejects(result: StageResult) -> str:
    reasons = Counter[str]()
    examples: list[str] = []
    for file in result.matching("rejects"):
        table = pq.read_table(file.path, columns=["file", "line", "reason", "detail", "documents"])
        for row in table.to_pylist():
            reasons[row["reason"]] += row["documents"]
            if len(examples) < _EXAMPLES:
                examples.append(f"{row['file']}:{row['line']} {row['reason']} ({row['detail']})")
    if not reasons:
        return "The input holds no rows, or `include` leaves all of them out; check `paths` and `include`"
    counted = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items(), key=lambda x: (-x[1], x[0])))
    listed = str(Path(result.matching("rejects")[0].path).parent.parent / "*" / "rejects.parquet")
    return (
        f"Reasons: {counted}. First: {'; '.join(examples)}. All are in {listed}; mend them or raise ingest.max_rejected"
    )
