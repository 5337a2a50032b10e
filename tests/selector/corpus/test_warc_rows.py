"""WARC files: which records are rows, what they hold, and what damage costs."""

import gzip
import io
import random
from collections.abc import Sequence
from typing import Any

import pytest

from prereq.graph.errors import ConfigError
from prereq.selector.corpus import warc_rows
from prereq.selector.corpus.documents import SourceConfig
from prereq.selector.corpus.formats import Lost, Row, read_rows
from prereq.selector.corpus.inputs import find_inputs

pytest.importorskip("warcio")
pytest.importorskip("selectolax")

PAGE = b"<html><title>A page</title><body><nav>menu</nav><p>Some <b>bold</b> text.</p></body></html>"


def record(kind: str, content: bytes, number: int = 1, media: str = "", **headers: str) -> bytes:
    lines = {"WARC-Type": kind, "WARC-Record-ID": f"<urn:uuid:{number}>", "WARC-Date": "2026-01-01T00:00:00Z"}
    lines |= {"WARC-Target-URI": f"https://example.org/{number}", "Content-Type": media} | headers
    lines = {"Content-Length": str(len(content))} | lines
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items() if value)
    return b"WARC/1.0\r\n" + head.encode() + b"\r\n" + content + b"\r\n\r\n"


def response(body: bytes, media: str = "text/html", status: str = "200 OK", number: int = 1, **headers: str) -> bytes:
    head = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    answer = f"HTTP/1.1 {status}\r\nContent-Type: {media}\r\n{head}\r\n".encode() + body
    return record("response", answer, number, "application/http; msgtype=response")


def rows_of(data: bytes, compression: str = "", max_bytes: int = 10**6) -> list[Row | Lost]:
    return list(read_rows(io.BytesIO(data), "file", "warc", compression, fields=(), required=(), max_bytes=max_bytes))


def texts(rows: Sequence[Row | Lost]) -> list[Any]:
    return [row.fields["text"] for row in rows if isinstance(row, Row)]


def lost(rows: Sequence[Row | Lost]) -> list[tuple[int, str]]:
    return [(row.line, row.reason) for row in rows if isinstance(row, Lost)]


def test_a_page_is_a_row_with_its_address_date_and_title():
    assert rows_of(record("warcinfo", b"software: x") + response(PAGE, number=7)) == [
        Row(
            2,
            {
                "id": "<urn:uuid:7>",
                "text": "Some bold text.",
                "url": "https://example.org/7",
                "date": "2026-01-01T00:00:00Z",
                "title": "A page",
                "content_type": "text/html",
            },
        )
    ]


def test_text_is_taken_as_it_is():
    data = record("conversion", "wörds <b>\n".encode(), media="text/plain") + response(
        b"a\r\nb", "text/plain; charset=x"
    )
    data += record("resource", b"r", media="text/plain")
    assert texts(rows_of(data)) == ["wörds <b>\n", "a\r\nb", "r"]
    assert lost(rows_of(record("conversion", b"\xff", media="text/plain"))) == [(1, "invalid_utf8")]


def test_what_is_no_text_is_no_row():
    data = record("request", b"GET / HTTP/1.1\r\n\r\n") + record("metadata", b"x: y", media="text/plain")
    data += response(PAGE, status="404 Not Found") + response(b"\x89PNG", "image/png") + response(PAGE)
    assert texts(rows_of(data)) == ["Some bold text."]
    assert lost(rows_of(data)) == []


def test_content_is_unpacked_and_its_charset_heeded():
    chunks = b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"
    data = response(gzip.compress(PAGE), Content_Encoding="gzip")
    data += response(chunks, "text/plain", Transfer_Encoding="chunked")
    data += response("<p>größer</p>".encode("latin-1"), "text/html; charset=ISO-8859-1")
    assert texts(rows_of(data)) == ["Some bold text.", "hello world", "größer"]
    packed = response(b"\x1f\x8bnot gzip", Content_Encoding="gzip") + response(PAGE, Content_Encoding="x-mystery")
    assert lost(rows_of(packed)) == [(1, "unknown_encoding"), (2, "unknown_encoding")]


def test_a_record_over_the_limit_is_lost_and_the_next_is_not():
    data = response(b"x" * 5000, "text/plain") + response(PAGE)
    rows = rows_of(data, max_bytes=1000)
    assert (lost(rows), texts(rows)) == ([(1, "too_long")], ["Some bold text."])


def test_a_line_without_an_end_is_not_held(monkeypatch: pytest.MonkeyPatch):
    longest = 0

    class Watched(warc_rows._Lines):
        def readline(self, size: int | None = -1, /) -> bytes:
            nonlocal longest
            line = super().readline(size)
            longest = max(longest, len(line))
            return line

    monkeypatch.setattr(warc_rows, "_Lines", Watched)
    data = b"WARC/1.0\r\n" + b"x" * 1_000_000
    assert lost(rows_of(data)) == [(1, "damaged_stream")]
    assert longest == 2**16


def test_an_answer_without_http_headers_is_lost_alone():
    rows = rows_of(record("response", b"\r\n") + response(PAGE))
    assert (lost(rows), texts(rows)) == ([(1, "damaged_record")], ["Some bold text."])


@pytest.mark.parametrize("packed", [False, True])
def test_every_cut_is_noticed(packed: bool):
    records = [response(PAGE, number=number) for number in range(3)]
    data = b"".join(map(gzip.compress, records)) if packed else b"".join(records)
    borders, end = {0}, 0
    for one in records:
        end += len(gzip.compress(one)) if packed else len(one)
        # a record's two empty lines at its end may be missing
        borders |= set(range(end - (0 if packed else 4), end + 1))
    for cut in range(len(data)):
        rows = rows_of(data[:cut], "gzip" if packed else "")
        if cut not in borders:
            assert [reason for _, reason in lost(rows)] == ["damaged_stream"], cut
        assert set(texts(rows)) <= {"Some bold text."}
    assert len(texts(rows_of(data, "gzip" if packed else ""))) == 3


@pytest.mark.parametrize("seed", range(30))
def test_damage_never_raises(seed: int):
    rng = random.Random(seed)
    data = bytearray(b"".join(response(PAGE, number=number) for number in range(10)))
    for _ in range(rng.randrange(1, 20)):
        data[rng.randrange(len(data))] = rng.randrange(256)
    assert len(rows_of(bytes(data))) <= 11


def test_what_is_not_warc_is_said_to_be_damaged():
    for data in (b"hello\nworld\n" * 100, b"filedesc://x 0.0.0.0 20260101000000 text/plain 3\nabc\n"):
        assert lost(rows_of(data)) == [(1, "damaged_stream")]


def test_a_missing_library_is_named_before_anything_is_read(tmp_path: Any, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "a.warc.gz").write_bytes(gzip.compress(response(PAGE)))
    (file,) = find_inputs(SourceConfig(name="s", paths=(str(tmp_path),)))
    assert (file.format, file.compression) == ("warc", "gzip")
    monkeypatch.setattr(warc_rows, "find_spec", lambda name: None)
    with pytest.raises(
        ConfigError, match=r"a.warc.gz: reading WARC needs warcio and selectolax; install .*prereq\[warc\]"
    ):
        find_inputs(SourceConfig(name="s", paths=(str(tmp_path),)))


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        ((b"WARC-Type: response", b"WARC-Type: resqonse"), "unknown_record"),
        ((b"WARC-Target-URI", b"WARC-Tasget-URI"), "damaged_record"),
        ((b": https://", b": htps://"), "damaged_record"),
        ((b" 200 OK", b" 200\xa0OK"), "damaged_record"),
        ((b"Content-Type: text/html", b"Content-Type: text/hxml"), "unknown_type"),
        ((b"\r\nContent-Type: text/html", b"\r\nContent-Tyqe: text/html"), "unknown_type"),
    ],
)
def test_a_page_that_damage_turned_into_something_unknown_is_listed(damage: tuple[bytes, bytes], reason: str):
    data = response(PAGE)
    assert damage[0] in data
    assert lost(rows_of(data.replace(*damage))) == [(1, reason)]


def test_records_that_are_something_else_are_no_rows_and_not_lost():
    others = [
        response(b"\x89PNG", "image/png"),
        response(PAGE, status="404 Not Found"),
        response(b"a { }", "text/css"),
        record("response", b"20260101", 1, "text/dns", **{"WARC-Target-URI": "dns:example.org"}),
        record("metadata", b"x: y", 1, "application/warc-fields"),
        record("conversion", b"%PDF", 1, "application/pdf"),
    ]
    assert rows_of(b"".join(others)) == []
