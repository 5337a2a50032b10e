"""Reading a user's reference files whole: evaluation data, target texts, examples. Nothing of them may be lost."""

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from prereq.graph.errors import TableError
from prereq.selector.corpus.documents import SourceConfig, field_getter
from prereq.selector.corpus.formats import Lost, read_rows
from prereq.selector.corpus.inputs import InputFile, find_inputs, open_input

_MAX_RECORD_BYTES = 64 * 2**20  # of one reference


def find_references(name: str, paths: Sequence[str]) -> list[InputFile]:
    """The files of a reference set; `name` says in errors what they are for.

    Raises:
        ConfigError: A path matches nothing.
    """
    return find_inputs(SourceConfig(name=name, paths=tuple(paths)))


def read_references(
    file: InputFile, what: str, fields: Sequence[str], required: Sequence[str]
) -> Iterator[tuple[str, list[Any]]]:
    """Place and fields of each row of a file.

    Args:
        file: One of `find_references`.
        what: Begins every message.
        fields: Dotted; of a text file or a module the fields are `text` and `id`.
        required: Those without which a row says nothing.

    Raises:
        TableError: A row cannot be read: what is left out of a reference set is missed in silence.
    """
    getters = [field_getter(name) for name in fields]
    try:
        stream = open_input(file)
    except (OSError, pa.ArrowException) as error:
        raise TableError(f"{what}: {file.name} cannot be opened: {error}") from error
    with stream:
        rows = read_rows(
            stream,
            file.name,
            file.format,
            file.compression,
            fields=list(fields),
            required=list(required),
            max_bytes=_MAX_RECORD_BYTES,
        )
        for row in rows:
            place = f"{file.name}:{row.line}" if row.line else file.name
            if isinstance(row, Lost):
                raise TableError(f"{what}: {place} cannot be read: {row.reason} ({row.detail}); mend the file")
            yield place, [get(row.fields) for get in getters]


def read_texts(file: InputFile, what: str, field: str, setting: str) -> Iterator[tuple[str, str]]:
    """Place and text of each row of a file.

    Args:
        file: One of `find_references`.
        what: Begins every message.
        field: Of the text, where the file has fields of its own.
        setting: Named in errors as what chooses the field.

    Raises:
        TableError: As `read_references`, or a text that is none or that UTF-8 cannot hold.
    """
    name = "text" if file.format in ("text", "stdlib") else field
    for place, (text,) in read_references(file, what, [name], [name]):
        yield place, checked_text(text, what, place, name, setting)


def checked_text(text: Any, what: str, place: str, field: str, setting: str) -> str:
    """A field's value as text; arguments and errors as in `read_texts`."""
    if not isinstance(text, str):
        raise TableError(f"{what}: {place} has no text in the field {field!r}; set {setting}")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise TableError(f"{what}: {place} holds half a character at {error.start}; mend the file") from None
    return text
