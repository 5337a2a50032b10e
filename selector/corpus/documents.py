"""What a document is: the configuration of a source, and how one row of an input file becomes a document or a reject.

Nothing here opens a file: `inputs` finds files, `formats` turns their bytes into rows, the stage `ingest` writes parts.

What counts as text: any Unicode string without lone surrogates. NUL and other control characters are kept, as are CRLF
line ends; one UTF-8 byte order mark at the start of a file is dropped; `ingest.normalisation` may change the text. An
id must also be free of control characters, because ids are joined by newlines where a round's order is digested.
"""

import hashlib
import json
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import pyarrow as pa

from prereq.graph.errors import ConfigError
from prereq.selector.corpus.splitting import split_text

MAX_ID_BYTES = 1024
CONTENT_ID_DIGITS = 32  # hex digits of an id made from content: 128 bits

# columns that the pipeline itself writes, now or in a later stage
RESERVED_COLUMNS = frozenset(
    {"id", "text", "source", "parent", "place", "labels", "content", "component", "n_tokens", "arm", "skills", "split"}
    | {"input_ids", "lengths", "ids", "arms", "merged_sources"}
)
FORMATS = ("auto", "parquet", "arrow", "jsonl", "text", "warc", "stdlib")
Format = Literal["auto", "parquet", "arrow", "jsonl", "text", "warc", "stdlib"]
Scalar = str | int | float | bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceConfig:
    """One named set of input files, all of one shape."""

    name: str  # goes to the column `source`; unique
    # files, folders (also as Hugging Face `datasets` saves them), globs (`**` for any depth) or
    # URLs (s3:// and others); none for format stdlib
    paths: tuple[str, ...] = ()
    format: Format = "auto"  # auto: by the file's suffix, with .gz, .zst or .bz2 behind it
    text_field: str = "text"  # field of the text; dotted for a field inside a field
    id_field: str = "id"  # field of the id, a string or an integer; not read with ids: content
    skills_fields: tuple[str, ...] = ()  # fields with a skill's id or a list of them; together the column `labels`
    metadata: tuple[str, ...] = ()  # fields kept as string columns named by their last part
    # field -> values: only rows where the field is, or its list holds, one of the values, compared as text
    include: Mapping[str, tuple[Scalar, ...]] = field(default_factory=dict)
    max_documents: int | None = None  # stop after this many documents of this source; it is then read by one task

    def __post_init__(self) -> None:
        where = f"source {self.name!r}"
        for key in ("paths", "skills_fields", "metadata"):
            value = getattr(self, key)
            if isinstance(value, str) or not all(isinstance(item, str) and item for item in value):
                raise ConfigError(f"{where}: {key} must be a list of non-empty strings, got {value!r}")
            object.__setattr__(self, key, tuple(value))
        if not self.name or not self.name.isprintable():
            raise ConfigError(f"{where}: a source needs a name of printable characters")
        if self.format not in FORMATS:
            raise ConfigError(f"{where}: format {self.format!r} is unknown; choose one of {', '.join(FORMATS)}")
        if (self.format == "stdlib") == bool(self.paths):
            raise ConfigError(f"{where}: format {self.format} needs " + ("no paths" if self.paths else "paths"))
        if not self.text_field or not self.id_field:
            raise ConfigError(f"{where}: text_field and id_field must not be empty")
        if self.max_documents is not None and self.max_documents < 1:
            raise ConfigError(f"{where}: max_documents must be at least 1, got {self.max_documents}")
        for name, values in self.include.items():
            if isinstance(values, str) or not values:
                raise ConfigError(f"{where}: include.{name} must be a list of at least one value, got {values!r}")
        self.columns()

    def columns(self) -> dict[str, str]:
        """Metadata column -> field, for this source.

        Raises:
            ConfigError: Two fields share their last part, or it is a column that prereq writes itself.
        """
        fields = (*self.metadata, "module") if self.format == "stdlib" else self.metadata
        columns: dict[str, str] = {}
        for path in dict.fromkeys(fields):
            column = path.rsplit(".", 1)[-1]
            clash = columns.get(column, "a column of prereq itself" if column in RESERVED_COLUMNS else None)
            if clash:
                raise ConfigError(
                    f"source {self.name!r}: metadata field {path!r} has the name of {clash}; leave one out"
                )
            columns[column] = path
        return columns


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestConfig:
    """How input becomes parts of documents, and what is refused."""

    part_rows: int = 5000  # documents in a part at most
    part_mib: int = 32  # MiB of text in a part, about, and of input in a task: larger Parquet and plain JSONL are cut
    max_document_bytes: int = 10_000_000  # UTF-8 bytes; a longer document is split
    max_record_mib: int = 64  # MiB of one line or one text file; a longer one is rejected
    min_characters: int = 1  # characters after stripping white space; a shorter document is rejected
    max_rejected: float = 0.05  # share of rows, or of input bytes, that may be lost before it is an error
    ids: Literal["field", "content"] = "field"  # content: the sha256 of the text names a document
    normalisation: Literal["none", "NFC", "NFKC"] = "none"  # Unicode normal form that texts are brought into

    def __post_init__(self) -> None:
        for key, least in (("part_rows", 1), ("part_mib", 1), ("max_document_bytes", 16), ("max_record_mib", 1)):
            if getattr(self, key) < least:
                raise ConfigError(f"ingest.{key} must be at least {least}, got {getattr(self, key)}")
        if self.min_characters < 0:
            raise ConfigError(f"ingest.min_characters must be 0 or more, got {self.min_characters}")
        if not 0.0 <= self.max_rejected <= 1.0:
            raise ConfigError(f"ingest.max_rejected must be a share from 0 to 1, got {self.max_rejected}")
        if self.ids not in ("field", "content"):
            raise ConfigError(f"ingest.ids must be field or content, got {self.ids!r}")
        if self.normalisation not in ("none", "NFC", "NFKC"):
            raise ConfigError(f"ingest.normalisation must be none, NFC or NFKC, got {self.normalisation!r}")


class Reject(Exception):
    """One row that does not become a document; `reason` is one of a few words, `detail` is for people."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail


class Document(NamedTuple):
    """One text on its way to a part."""

    id: str
    text: str
    parent: str  # id of the document that it was split from, else its own
    labels: list[str]  # skills that the data states, in its order, each once
    metadata: list[str | None]  # in the order of the converter's columns
    normalised: bool = False  # whether the text is not as it came


Converter = Callable[[Mapping[str, Any]], Document | None]


def make_converter(source: SourceConfig, ingest: IngestConfig) -> Converter:
    """A function from a row to its document.

    Returns:
        A function that gives a document whose metadata follows the order of `source.columns()`, or None for a row
        that `source.include` leaves out; it raises Reject for a row that cannot be a document.
    """
    own_fields = source.format in ("text", "stdlib")
    get_text = field_getter("text" if own_fields else source.text_field)
    get_id = field_getter("id" if own_fields else source.id_field)
    labels = [(path, field_getter(path)) for path in source.skills_fields]
    metadata = [(path, field_getter(path)) for path in source.columns().values()]
    wanted = [(field_getter(path), {as_text(value) for value in values}) for path, values in source.include.items()]

    def convert(row: Mapping[str, Any]) -> Document | None:
        for get, values in wanted:
            value = get(row)
            items = value if isinstance(value, list) else [value]
            if not any(item is not None and as_text(item) in values for item in items):
                return None
        text, normalised = _text(get_text(row), source.text_field, ingest)
        name = content_id(text) if ingest.ids == "content" else _id(get_id(row), source.id_field)
        found = dict.fromkeys(label for path, get in labels for label in _labels(get(row), path))
        kept = [_metadata(get(row), path) for path, get in metadata]
        return Document(name, text, name, list(found), kept, normalised)

    return convert


def pieces(document: Document, max_bytes: int, min_characters: int) -> Iterator[Document | Reject]:
    """The document itself, or the documents `<id>#00001`, ... that it is split into when it is over `max_bytes`."""
    if len(document.text) * 4 <= max_bytes or len(document.text.encode()) <= max_bytes:
        yield document
        return
    for number, text in enumerate(split_text(document.text, max_bytes), start=1):
        name = f"{document.id}#{number:05d}"
        if len(text.strip()) < min_characters:
            yield Reject("empty", f"piece {name} has fewer than {min_characters} characters besides white space")
        else:
            yield document._replace(id=name, text=text)


class DocumentTable:
    """Documents on their way to one part: columns that grow, with their rows and bytes.

    Args:
        metadata_columns: Of the part, over all sources, in the order in which they are stored.
    """

    def __init__(self, metadata_columns: Sequence[str]) -> None:
        self.schema = documents_schema(metadata_columns)
        self.rows, self.bytes = 0, 0
        self._metadata_columns = metadata_columns
        self._columns: dict[str, list[Any]] = {name: [] for name in self.schema.names}

    def add(self, document: Document, source: str, place: str, metadata: Mapping[str, str | None]) -> None:
        """Append a document; metadata columns that its source does not have are null."""
        columns = self._columns
        columns["id"].append(document.id)
        columns["text"].append(document.text)
        columns["source"].append(source)
        columns["parent"].append(document.parent)
        columns["place"].append(place)
        columns["labels"].append(document.labels)
        for name in self._metadata_columns:
            columns[name].append(metadata.get(name))
        self.rows += 1
        self.bytes += len(document.text) if document.text.isascii() else len(document.text.encode())

    def ids(self) -> list[str]:
        """The ids so far."""
        return list(self._columns["id"])

    def to_table(self) -> pa.Table:
        """The documents as an Arrow table of `documents_schema`."""
        return pa.table(self._columns, schema=self.schema)


def content_id(text: str) -> str:
    """The id of a document that is named by its content."""
    return hashlib.sha256(text.encode()).hexdigest()[:CONTENT_ID_DIGITS]


def field_getter(path: str) -> Callable[[Mapping[str, Any]], Any]:
    """A function that looks a field up: the key `a.b` itself where it exists, else `b` inside `a`; None when absent."""
    first, _, rest = path.partition(".")
    if not rest:
        return lambda row: row.get(path)
    inner = field_getter(rest)

    def get(row: Mapping[str, Any]) -> Any:
        if path in row:
            return row[path]
        below = row.get(first)
        return inner(below) if isinstance(below, Mapping) else None

    return get


def as_text(value: Any) -> str:
    """How a value is written as text: JSON where it is JSON, bytes as UTF-8 with escapes, else as Python prints it."""
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.decode(errors="backslashreplace")
    if value is None or isinstance(value, bool | int | float | list | Mapping):
        return json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)
    return str(value)


def documents_schema(metadata_columns: Sequence[str]) -> pa.Schema:
    """The columns of a part of documents; `metadata_columns` in the order in which they are stored."""
    columns = [
        ("id", pa.string()),
        ("text", pa.large_string()),
        ("source", pa.string()),
        ("parent", pa.string()),
        ("place", pa.string()),
        ("labels", pa.list_(pa.string())),
    ]
    return pa.schema(columns + [(name, pa.string()) for name in metadata_columns])


def _text(value: Any, path: str, ingest: IngestConfig) -> tuple[str, bool]:
    """The text of a row, and whether its normal form differs from what came."""
    if value is None:
        raise Reject("missing_text", f"no field {path!r}")
    text, normalised = _unicode(value, path, "text_not_string"), False
    if ingest.normalisation != "none" and not unicodedata.is_normalized(ingest.normalisation, text):
        text, normalised = unicodedata.normalize(ingest.normalisation, text), True
    least = ingest.min_characters
    if len(text) < least or len(text.strip()) < least:
        raise Reject("empty", f"fewer than {least} characters besides white space")
    return text, normalised


def _id(value: Any, path: str) -> str:
    if value is None:
        raise Reject("missing_id", f"no field {path!r}; `ids: content` needs none")
    name = str(value) if isinstance(value, int) and not isinstance(value, bool) else _unicode(value, path, "bad_id")
    if not name or len(name.encode()) > MAX_ID_BYTES:
        raise Reject("bad_id", f"an id has 1 to {MAX_ID_BYTES} bytes, got {len(name.encode())}: {name[:60]!r}")
    if not name.isprintable() and any(unicodedata.category(c) in ("Cc", "Zl", "Zp") for c in name):
        raise Reject("bad_id", f"control character in {name[:60]!r}")
    return name


def _labels(value: Any, path: str) -> list[str]:
    items = value if isinstance(value, list) else [] if value is None else [value]
    labels = [_unicode(item, path, "bad_label") for item in items if item is not None]
    return [label for label in labels if label]


def _metadata(value: Any, path: str) -> str | None:
    return None if value is None else _unicode(as_text(value), path, "bad_metadata")


def _unicode(value: Any, path: str, reason: str) -> str:
    """`value` as text that UTF-8 can hold; bytes (Parquet columns without a text mark) are read as UTF-8."""
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError as error:
            raise Reject("invalid_utf8", f"{path}: {error}") from None
    if not isinstance(value, str):
        raise Reject(reason, f"{path} is {type(value).__name__}, not text: {as_text(value)[:60]!r}")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise Reject("lone_surrogate", f"{path}: {error.object[error.start]!r} at {error.start}") from None
    return value
