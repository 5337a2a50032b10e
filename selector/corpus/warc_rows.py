"""Rows of WARC files: the text of every page that was fetched, and every text that was made from one.

Read by warcio (extra `warc`). A row is a `conversion` record (WET files), or a `response` or `resource` of HTML or
plain text that was answered with 200. Other records (requests, images, redirects, notes on the crawl) are no rows. A
record that names no type of record, status or media type that exists is none of them: it is lost, and listed.
"""

import io
import re
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any, BinaryIO, cast

from prereq.graph.errors import ConfigError
from prereq.selector.corpus.html_text import decode_page, html_text
from prereq.selector.corpus.rows import Lost, Row, Rows
from prereq.selector.corpus.streams import Damaged

_HTML = ("text/html", "application/xhtml+xml")
_PLAIN = "text/plain"
_RECORDS = frozenset(
    ("warcinfo", "request", "response", "resource", "metadata", "revisit", "conversion", "continuation")
)
_OTHER_SCHEMES = ("dns", "ftp", "ftps", "sftp", "gopher", "gemini", "whois", "nntp", "news", "data", "about", "urn")
# what a record that is no page may say that it is: any application, image, ..., but of text only what exists
_MEDIA = re.compile(
    r"(application|audio|chemical|font|image|message|model|multipart|video)/[a-z0-9!#$&^_.+*-]+"
    r"|text/(x-.*|vnd\..*|css|csv|calendar|dns|ecmascript|enriched|javascript|json|markdown|richtext|rtf|"
    r"tab-separated-values|troff|turtle|vcard|vtt|xml|xsl|yaml|html|plain|\*)"
)
_DECODED = ("", "identity", "gzip", "x-gzip", "deflate", "br")
_PACKED = b"\x1f\x8b"  # how gzip begins
_STEP = 2**16  # bytes
_LINE = 2**16  # bytes of a header line, at most; what is behind counts as a further line


def check_libraries(name: str) -> None:
    """Make sure that WARC files can be read.

    Raises:
        ConfigError: A library is missing; `name` is the file that needs it.
    """
    missing = [library for library in ("warcio", "selectolax") if find_spec(library) is None]
    if missing:
        raise ConfigError(f"{name}: reading WARC needs {' and '.join(missing)}; install the extra: prereq[warc]")


def read_warc(source: Iterator[bytes], max_bytes: int) -> Rows:
    """The texts of a WARC file with the fields id, text, url, date, title and content_type; lines count its records.

    Args:
        source: The file's bytes, decompressed.
        max_bytes: A longer record is lost.
    """
    from warcio.recordloader import ArchiveLoadFailed, ArcWarcRecordLoader

    reader = _Reader(source)
    # not warcio's own iterator: it takes a header that is cut short for the end of the file
    stream: BinaryIO = cast(BinaryIO, _Lines(reader, _STEP))
    loader, number = ArcWarcRecordLoader(), 0
    problem: Exception | None = None
    try:
        while line := _first_line(stream):
            record = loader.parse_record_stream(stream, line, "warc", no_record_parse=True)
            row = _record(number + 1, record, max_bytes)
            if _is_cut(record):
                problem = ValueError(f"record {number + 1} is cut short or has no length")
                break
            number += 1
            if row is not None:
                yield row
    except (ArchiveLoadFailed, EOFError, ValueError) as error:
        problem = error
    if problem := reader.damage or problem:
        yield Lost(number + 1, "damaged_stream", f"nothing behind record {number} can be read: {problem}")


def _first_line(stream: BinaryIO) -> bytes:
    """The next line that is not blank; empty at the end."""
    while (line := stream.readline()) and not line.strip():
        pass
    return line


class _Lines(io.BufferedReader):
    """A stream whose lines are of bounded length: a damaged header may be one line of gigabytes."""

    def readline(self, size: int | None = -1, /) -> bytes:
        return super().readline(_LINE if size is None or not 0 <= size <= _LINE else size)


class _Reader(io.RawIOBase):
    """Blocks of bytes as the stream that warcio wants; it ends where they are damaged, and says so in `damage`."""

    def __init__(self, source: Iterator[bytes]) -> None:
        self._source, self._left = source, memoryview(b"")
        self.damage: Damaged | None = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._left:
            try:
                self._left = memoryview(next(self._source))
            except StopIteration:
                return 0
            except Damaged as error:
                self.damage = error
                return 0
        size = min(len(buffer), len(self._left))
        buffer[:size], self._left = self._left[:size], self._left[size:]
        return size


def _record(number: int, record: Any, max_bytes: int) -> Row | Lost | None:
    """The row of one record; None for a record that is none."""
    try:
        http = record.http_headers = _answer(record)
    except (EOFError, ValueError) as error:
        return Lost(number, "damaged_record", f"an answer without HTTP headers: {error}")
    kind, charset = _content_type(record)
    if not _is_text(record, kind):
        problem = _doubt(record, kind)
        return None if problem is None else Lost(number, *problem)
    encoding = (http.get_header("content-encoding") or "" if http else "").strip().lower()
    if encoding not in _DECODED:
        return Lost(number, "unknown_encoding", f"content-encoding {encoding[:40]!r} is not read")
    # a chunk of an answer is read as a whole, so the length is looked at before
    data = None if (record.length or 0) > max_bytes + _STEP else _content(record, max_bytes)
    if data is None:
        return Lost(number, "too_long", f"a record of over {max_bytes} bytes (ingest.max_record_mib)")
    if data.startswith(_PACKED) or (encoding == "br" and find_spec("brotli") is None):
        return Lost(number, "unknown_encoding", f"the content cannot be unpacked (content-encoding {encoding!r})")
    title: str | None = None
    if kind in _HTML:
        title, text = html_text(decode_page(data, charset))
    else:
        try:
            text = data.decode(charset or "utf-8") if charset in (None, "utf-8", "utf8") else decode_page(data, charset)
        except UnicodeDecodeError as error:
            return Lost(number, "invalid_utf8", str(error))
    headers = record.rec_headers
    fields = {"id": headers.get_header("WARC-Record-ID"), "text": text, "url": headers.get_header("WARC-Target-URI")}
    return Row(number, fields | {"date": headers.get_header("WARC-Date"), "title": title, "content_type": kind})


def _answer(record: Any) -> Any:
    """The HTTP status and headers of a response; None for other records.

    Raises:
        EOFError, ValueError: The response has none.
    """
    from warcio.statusandheaders import StatusAndHeadersParser, StatusAndHeadersParserException

    uri = record.rec_headers.get_header("WARC-Target-URI") or ""
    if record.rec_type != "response" or not uri.startswith(("http:", "https:")):
        return None
    try:
        answer = StatusAndHeadersParser(["HTTP/1.0", "HTTP/1.1"], False).parse(record.raw_stream)
    except StatusAndHeadersParserException as error:
        raise ValueError(str(error)) from error
    if not answer.protocol.upper().startswith("HTTP/"):
        raise ValueError(f"it begins with {answer.protocol[:40]!r}")
    return answer


def _is_text(record: Any, kind: str) -> bool:
    if record.rec_type == "conversion":
        return kind in (_PLAIN, "")
    if record.rec_type == "response" and record.http_headers is not None:
        return record.http_headers.get_statuscode() == "200" and (kind in _HTML or kind == _PLAIN)
    return record.rec_type == "resource" and (kind in _HTML or kind == _PLAIN)


def _doubt(record: Any, kind: str) -> tuple[str, str] | None:
    """(reason, detail) where a record that is no row may have been one before it was damaged."""
    if record.rec_type not in _RECORDS:
        return "unknown_record", f"no record is of type {str(record.rec_type)[:40]!r}"
    if record.rec_type == "response":
        if record.http_headers is None:
            uri = record.rec_headers.get_header("WARC-Target-URI") or ""
            known = uri.partition(":")[0] in _OTHER_SCHEMES
            return None if known else ("damaged_record", f"a response from the address {uri[:40]!r}")
        status = record.http_headers.get_statuscode()
        if not (status.isdecimal() and len(status) == 3):
            return "damaged_record", f"an answer with the status {status[:40]!r}"
        if status != "200":
            return None
    if record.rec_type in ("response", "resource", "conversion") and not _MEDIA.fullmatch(kind):
        return "unknown_type", f"no content is of type {kind[:40]!r}"
    return None


def _content_type(record: Any) -> tuple[str, str | None]:
    """Media type and charset, both in lower case, of what was answered or, without an answer, of the record."""
    headers = record.http_headers if record.http_headers is not None else record.rec_headers
    kind, *parameters = (headers.get_header("content-type") or "").lower().split(";")
    given = dict(parameter.strip().partition("=")[::2] for parameter in parameters)
    return kind.strip(), given.get("charset", "").strip(" \"'") or None


def _content(record: Any, max_bytes: int) -> bytes | None:
    """The bytes of a record, unpacked; None where they are more than `max_bytes`."""
    stream, parts, size = record.content_stream(), [], 0
    while block := stream.read(_STEP):
        parts.append(block)
        size += len(block)
        if size > max_bytes:
            return None
    return b"".join(parts)


def _is_cut(record: Any) -> bool:
    """Read what is left of a record; whether the file ended before it did."""
    stream = record.raw_stream
    if not (record.rec_headers.get_header("Content-Length") or "").strip().isdecimal():
        return True  # nothing says where the record ends
    while stream.read(_STEP):
        pass
    return bool(stream.limit > 0)
