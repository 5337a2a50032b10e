"""Finds a source's input files and says what identifies each; a local path and a URL take the same road.

A file's name is its path as the configuration gives it, so that no output depends on where a checkout lies; a URL's
options and credentials are left out of it. A file that cannot be read is still listed: reading it later is what rejects
it.

Object stores (`stores`) are listed once, and an object is known by its size and its ETag, not by reading it.
"""

import glob
import hashlib
import io
import os
import re
import stat
import unicodedata
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, cast

import pyarrow as pa
import pyarrow.fs as pafs

from prereq.graph.canonical import digest
from prereq.graph.errors import ConfigError
from prereq.selector.corpus.arrow_rows import files_with_rows
from prereq.selector.corpus.documents import SourceConfig
from prereq.selector.corpus.rows import WHOLE, Piece
from prereq.selector.corpus.stdlib_source import stdlib_files
from prereq.selector.corpus.stores import is_store, open_store, public_name, store_path, version_of
from prereq.selector.corpus.warc_rows import check_libraries

_FORMATS = {
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".warc": "warc",
    ".wet": "warc",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".txt": "text",
    ".text": "text",
    ".md": "text",
    ".rst": "text",
}
_COMPRESSIONS = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2"}
_WHOLE_BYTES = 64 * 2**20  # a file below this is digested whole
_END_BYTES = 2**20  # of a larger one, this much at each end
_REMOTE_BUFFER = 4 * 2**20  # bytes of one request to an object store, where a file is read from its start to its end


@dataclass(frozen=True, slots=True)
class InputFile:
    """One input file of a source."""

    name: str  # as the configuration gives it; what places and rejects say
    path: str  # absolute path or URL; how it is opened
    format: str  # parquet, arrow, jsonl, text, warc or stdlib
    compression: str  # gzip, zstd, bz2 or empty
    bytes: int  # size; 0 where it cannot be found out
    fingerprint: str = ""  # sha256 that changes when the name or the content does
    piece: Piece = WHOLE  # which piece of it is meant; `bytes` are the piece's


def find_inputs(source: SourceConfig) -> list[InputFile]:
    """All input files of a source, each once, sorted by name.

    Raises:
        ConfigError: A path matches nothing, a file's format cannot be told from its name, or a library that reads it is
            missing.
    """
    if source.format == "stdlib":
        listed = [InputFile(name, path, "stdlib", "", 0) for name, path in stdlib_files()]
    else:
        listed = [file for path in source.paths for file in _expand(path, source)]
    once = {file.path: file for file in listed}
    if needy := next((file.name for file in listed if file.format == "warc"), None):
        check_libraries(needy)
    files = sorted(once.values(), key=lambda file: file.name)
    with ThreadPoolExecutor(min(8, max(1, len(files)))) as threads:
        return list(threads.map(_fingerprinted, files))


def pieces_of(file: InputFile, limit: int) -> list[InputFile]:
    """The file in pieces of at most `limit` bytes each, where its format can be read from the middle."""
    count = -(-file.bytes // limit) if file.format in ("jsonl", "parquet") and not file.compression else 1
    if count <= 1:
        return [file]
    pieces = [Piece(index, count) for index in range(count)]
    borders = [piece.range(file.bytes) for piece in pieces]
    return [
        replace(file, piece=piece, bytes=stop - start, fingerprint=digest([file.fingerprint, piece.index, count]))
        for piece, (start, stop) in zip(pieces, borders, strict=True)
    ]


def open_input(file: InputFile) -> BinaryIO:
    """Open for reading and seeking; OSError where that fails, also for what is not a regular file."""
    if "://" in file.path:
        filesystem, path = _filesystem(file.path)
        remote = filesystem.open_input_file(path)
        if is_store(file.path) and file.format not in ("parquet", "arrow"):
            return cast(BinaryIO, io.BufferedReader(remote, _REMOTE_BUFFER))
        return cast(BinaryIO, remote)
    if not stat.S_ISREG(os.stat(file.path).st_mode):  # a named pipe would wait for ever
        raise OSError(f"{file.name} is not a regular file")
    stream = open(file.path, "rb")  # noqa: SIM115 - the caller closes it
    if file.format not in ("parquet", "arrow"):
        return stream
    stream.close()  # it could be opened: its errors are plainer than pyarrow's
    # through a Python file, pyarrow reads a whole column of a row group at once
    return cast(BinaryIO, pa.OSFile(file.path, "rb"))


def content_digest(file: InputFile) -> str:
    """The sha256 of a file's whole content, wherever it lies; of an object in a store, of its size and version.

    Raises:
        ConfigError: It cannot be read.
    """
    try:
        if is_store(file.path):
            return digest(list(version_of(*_filesystem(file.path))))
        with open_input(file) as stream:
            size = stream.seek(0, os.SEEK_END)
            stream.seek(0)
            return _sha256(stream, size)
    except (OSError, pa.ArrowException) as error:
        raise ConfigError(f"{file.name}: cannot be read: {error}") from error


def group_by_bytes(files: Sequence[InputFile], limit: int) -> list[tuple[InputFile, ...]]:
    """Consecutive files in groups of at most `limit` bytes; a larger file is a group of its own."""
    groups: list[list[InputFile]] = []
    filled = 0
    for file in files:
        if not groups or filled + file.bytes > limit:
            groups.append([])
            filled = 0
        groups[-1].append(file)
        filled += file.bytes
    return [tuple(group) for group in groups]


def _fingerprinted(file: InputFile) -> InputFile:
    """Size and fingerprint: the sha256 of name, size and content; in an object store, of name, size and version.

    From 64 MiB on, the digest of the content is that of its first and last MiB with the time of its last change:
    reading a large corpus only to find that nothing changed would cost as much as ingesting it.
    """
    try:
        if is_store(file.path):
            size, version = version_of(*_filesystem(file.path))
            return _with(file, size, ["version", version])
        with open_input(file) as stream:
            size = stream.seek(0, os.SEEK_END)
            if size < _WHOLE_BYTES:
                stream.seek(0)
                return _with(file, size, [_sha256(stream, size)])
            stream.seek(0)
            head = _sha256(stream, _END_BYTES)
            stream.seek(size - _END_BYTES)
            return _with(file, size, [head, _sha256(stream, _END_BYTES), _changed(file)])
    except (OSError, pa.ArrowException) as error:
        return _with(file, 0, ["unreadable", type(error).__name__])


def _with(file: InputFile, size: int, content: list[str]) -> InputFile:
    fingerprint = digest([file.name, file.format, file.compression, size, *content])
    return InputFile(file.name, file.path, file.format, file.compression, size, fingerprint)


def _sha256(stream: BinaryIO, size: int) -> str:
    sha = hashlib.sha256()
    while size > 0 and (block := stream.read(min(size, _END_BYTES))):
        sha.update(block)
        size -= len(block)
    return sha.hexdigest()


def _changed(file: InputFile) -> str:
    if "://" not in file.path:
        return str(os.stat(file.path).st_mtime_ns)
    filesystem, path = _filesystem(file.path)
    return str(filesystem.get_file_info(path).mtime_ns)


def _expand(pattern: str, source: SourceConfig) -> Iterator[InputFile]:
    found = _list_url(pattern) if "://" in pattern else _list_local(pattern)
    matched = 0
    for path, explicit in found:
        form, compression = _kind(path)
        if source.format == "auto" and not form and explicit:
            raise ConfigError(
                f"source {source.name!r}: the format of {path} cannot be told from its name; set `format` to parquet, "
                "arrow, jsonl, text or warc"
            )
        if not explicit and (not form or source.format not in ("auto", form)):
            continue  # in a folder, what has another suffix is not meant
        matched += 1
        absolute = path if "://" in path else os.path.abspath(path)
        name = _shown(public_name(path) if "://" in path else os.fsencode(path).decode("utf-8", "backslashreplace"))
        yield InputFile(name, absolute, form if source.format == "auto" else source.format, compression, 0)
    if not matched:
        raise ConfigError(
            f"source {source.name!r}: no input file matches {pattern!r} (from {os.getcwd()}); known suffixes are "
            f"{' '.join(_FORMATS)} with or without {' '.join(_COMPRESSIONS)}"
        )


def _shown(name: str) -> str:
    """A file's name, which may hold line ends, as one line of text: it is part of ids and places."""
    if name.isprintable():
        return name
    return "".join(
        char.encode("unicode_escape").decode() if unicodedata.category(char) in ("Cc", "Zl", "Zp") else char
        for char in name
    )


def _kind(path: str) -> tuple[str, str]:
    """(format, compression) by suffix; empty where unknown or absent."""
    if "://" in path:
        path = path.partition("?")[0]
    stem, suffix = os.path.splitext(path.lower())
    compression = _COMPRESSIONS.get(suffix, "")
    if compression:
        suffix = os.path.splitext(stem)[1]
    return _FORMATS.get(suffix, ""), compression


def _list_local(pattern: str) -> Iterator[tuple[str, bool]]:
    """(path, whether it was named or matched rather than met in a folder); hidden files in folders are left out."""
    pattern = os.path.expanduser(pattern)
    matches = [pattern] if os.path.lexists(pattern) else sorted(glob.glob(pattern, recursive=True))
    named = os.path.isdir(pattern)
    for match in matches:
        if not os.path.isdir(match):
            yield match, True
        elif named:
            for folder, folders, names in os.walk(match):
                folders[:] = sorted(name for name in folders if not name.startswith("."))
                shown = sorted(name for name in names if not name.startswith("."))
                for name in files_with_rows(folder, shown, partial(_read_local, folder)):
                    yield os.path.join(folder, name), False


def _read_local(folder: str, name: str) -> bytes:
    path = os.path.join(folder, name)
    return Path(path).read_bytes() if os.path.isfile(path) else b""


def _list_url(pattern: str) -> Iterator[tuple[str, bool]]:
    """The same for a URL: a file, a folder, or a glob in its path (`*`, `**`; a `?` starts the URL's options).

    Raises:
        ConfigError: The store cannot be reached, or refuses to list.
    """
    try:
        yield from _list_store(pattern)
    except (OSError, pa.ArrowException) as error:
        raise ConfigError(
            f"{public_name(pattern)}: cannot be listed: {error}; check the address, the region and the credentials"
        ) from error


def _list_store(pattern: str) -> Iterator[tuple[str, bool]]:
    address, _, options = pattern.partition("?")
    prefix = re.match(r"[^*\[]*", address)
    fixed = address if prefix is None or prefix.end() == len(address) else prefix.group().rsplit("/", 1)[0]
    tail = f"?{options}" if options else ""
    filesystem, root = _filesystem(fixed + tail)
    info = filesystem.get_file_info(root)
    if info.type == pafs.FileType.File:
        yield pattern, True
        return
    wanted = re.compile(_glob_regex(address)) if fixed != address else None
    selector = pafs.FileSelector(root, recursive=True, allow_not_found=True)
    entries = sorted(filesystem.get_file_info(selector), key=lambda entry: str(entry.path))
    found = [str(entry.path)[len(root) :].lstrip("/") for entry in entries if entry.type == pafs.FileType.File]
    if wanted is None:
        found = list(_files_with_rows(filesystem, root, [name for name in found if not _is_hidden(name)]))
    for below in found:
        path = f"{fixed.rstrip('/')}/{below}"
        if wanted is None or wanted.fullmatch(path):
            yield path + tail, wanted is not None


def _files_with_rows(filesystem: Any, root: str, found: Sequence[str]) -> Iterator[str]:
    """`files_with_rows` of every folder below `root`; names are relative to it, and sorted by folder, then name."""
    folders: dict[str, list[str]] = {}
    for path in found:
        folder, _, name = path.rpartition("/")
        folders.setdefault(folder, []).append(name)
    for folder, names in folders.items():
        prefix = f"{folder}/" if folder else ""

        def read(name: str, prefix: str = prefix) -> bytes:
            with filesystem.open_input_stream(f"{root.rstrip('/')}/{prefix}{name}") as stream:
                return bytes(stream.read())

        yield from (f"{prefix}{name}" for name in files_with_rows(f"{root}/{folder}", names, read))


def _is_hidden(path: str) -> bool:
    return any(part.startswith(".") for part in path.split("/"))


def _glob_regex(pattern: str) -> str:
    parts = re.split(r"(\*\*/|\*\*|\*)", pattern)
    known = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*"}
    return "".join(known.get(part, re.escape(part)) for part in parts)


def _filesystem(url: str) -> tuple[Any, str]:
    """The file system of a URL and the path in it: pyarrow's own where it has one, else fsspec's."""
    if is_store(url):
        return open_store(url), store_path(url)
    try:
        return cast(tuple[Any, str], pafs.FileSystem.from_uri(url))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        reason = error
    try:
        import fsspec  # type: ignore[import-untyped]
    except ImportError:
        raise ConfigError(f"{url}: {reason}; install fsspec (and its driver for this kind of URL)") from None
    try:
        filesystem, path = fsspec.core.url_to_fs(url)
    except (ValueError, ImportError) as error:
        raise ConfigError(f"{url}: cannot be opened: {error}") from error
    return pafs.PyFileSystem(pafs.FSSpecHandler(filesystem)), path
