"""Rows of each format, what each kind of damage costs, and a fuzz of all of them."""

import bz2
import gzip
import io
import json
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from prereq.selector.corpus import streams
from prereq.selector.corpus.formats import Lost, Row, read_rows
from prereq.selector.corpus.inputs import InputFile, open_input
from prereq.selector.corpus.rows import Piece
from prereq.selector.corpus.streams import line_ends

DOCUMENTS = [{"id": f"d{number}", "text": f"the text of {number} " + "wörd " * (number % 7)} for number in range(60)]
JSONL = "".join(json.dumps(document, ensure_ascii=False) + "\n" for document in DOCUMENTS).encode()


def rows_of(data: bytes, form: str = "jsonl", compression: str = "", **values: Any) -> list[Row | Lost]:
    settings = {"fields": ("id", "text"), "required": ("id", "text"), "max_bytes": 10**6} | values
    return list(read_rows(io.BytesIO(data), "folder/file", form, compression, **settings))


def kept(rows: list[Row | Lost]) -> list[Any]:
    return [row.fields for row in rows if isinstance(row, Row)]


def lost(rows: list[Row | Lost]) -> list[tuple[int, str]]:
    return [(row.line, row.reason) for row in rows if isinstance(row, Lost)]


def parquet(rows: list[dict[str, Any]] | pa.Table = DOCUMENTS, **options: Any) -> bytes:
    sink = io.BytesIO()
    table = rows if isinstance(rows, pa.Table) else pa.Table.from_pylist(rows)
    pq.write_table(table, sink, **({"row_group_size": 20, "write_page_checksum": True} | options))
    return sink.getvalue()


def test_jsonl_gives_each_line_with_its_number():
    assert rows_of(b'{"id": "a"}\n\n  \r\n{"id": "b"}\r\n{"id": "c"}') == [
        Row(1, {"id": "a"}),
        Row(4, {"id": "b"}),
        Row(5, {"id": "c"}),
    ]


def test_a_line_that_is_no_json_object_is_lost_alone():
    deep = b"[" * 100_000
    huge = b'{"n": ' + b"9" * 5000 + b"}"
    data = b"\n".join([b'{"id": 1}', b"{oops", b"[1]", b'"text"', b"null", b"\xff\xfe{}", deep, huge, b'{"id": 2}'])
    rows = rows_of(data)
    assert kept(rows) == [{"id": 1}, {"id": 2}]
    assert lost(rows) == [
        (2, "invalid_json"),
        (3, "not_an_object"),
        (4, "not_an_object"),
        (5, "not_an_object"),
        (6, "invalid_utf8"),
        (7, "invalid_json"),
        (8, "invalid_json"),
    ]


def test_two_lines_that_damage_made_one_are_not_taken_for_the_second():
    rows = rows_of(b'{"id": "a", "text": "x", "id": "b", "text": "y"}\n{"id": "c", "text": {"n": 1, "n": 2}}\n')
    assert lost(rows) == [(1, "invalid_json"), (2, "invalid_json")]


def test_a_byte_order_mark_is_dropped_at_the_start_only():
    assert rows_of(b'\xef\xbb\xbf{"id": "a"}\n\xef\xbb\xbf{"id": "b"}')[0] == Row(1, {"id": "a"})
    assert lost(rows_of(b'{"id": "a"}\n\xef\xbb\xbf{"id": "b"}')) == [(2, "invalid_json")]
    assert kept(rows_of(b"\xef\xbb\xbfhi", "text"))[0]["text"] == "hi"
    assert kept(rows_of("x\ufeffy".encode(), "text"))[0]["text"] == "x\ufeffy"


def test_utf16_is_not_utf8():
    assert lost(rows_of('{"id": "a"}\n'.encode("utf-16")))[0] == (1, "invalid_utf8")
    assert lost(rows_of("text".encode("utf-16"), "text")) == [(0, "invalid_utf8")]


def test_unicode_line_separators_do_not_end_a_line():
    rows = rows_of('{"id": "a\u2028b\u0085c"}\n'.encode())
    assert kept(rows) == [{"id": "a\u2028b\u0085c"}]


def test_a_line_over_the_limit_is_lost_and_the_next_is_not():
    data = b'{"id": "a"}\n{"id": "' + b"x" * 2000 + b'"}\n{"id": "b"}'
    rows = rows_of(data, max_bytes=1000)
    assert kept(rows) == [{"id": "a"}, {"id": "b"}]
    assert lost(rows) == [(2, "too_long")]


def test_a_text_file_is_one_row_named_by_its_file():
    assert rows_of("a\r\nb\0é".encode(), "text") == [Row(0, {"id": "folder/file", "text": "a\r\nb\0é"})]
    assert lost(rows_of(b"a\xffb", "text")) == [(0, "invalid_utf8")]
    assert lost(rows_of(b"x" * 2000, "text", max_bytes=1000)) == [(0, "too_long")]


def test_a_truncated_gzip_keeps_the_rows_before_the_cut():
    data = gzip.compress(JSONL)
    rows = rows_of(data[: len(data) * 3 // 4], compression="gzip")
    assert kept(rows) == DOCUMENTS[: len(rows) - 1]
    assert len(rows) > 10
    assert lost(rows) == [(len(rows), "damaged_stream")]


def test_bytes_behind_the_damage_are_counted():
    data = gzip.compress(random.Random(0).randbytes(300_000).hex().encode(), mtime=0)
    damaged = data[:1000] + b"\xff" * 8 + data[1008:]
    (row,) = [row for row in rows_of(damaged, compression="gzip") if isinstance(row, Lost)]
    assert row.bytes >= len(damaged) - 1000 - 2 * 65_536


def test_parquet_gives_the_asked_columns_with_row_numbers():
    documents = [{"id": "a", "text": "x", "unused": 1, "labels": {"skill": ["s"], "year": 1}}] * 3
    rows = rows_of(parquet(documents), "parquet", fields=("id", "text", "labels.skill", "absent", "absent.too"))
    assert [row.line for row in rows] == [1, 2, 3]
    assert kept(rows)[0] == {"id": "a", "text": "x", "labels": {"skill": ["s"], "year": 1}}


def test_a_parquet_column_may_have_a_dot_in_its_name():
    rows = rows_of(parquet([{"id": "a", "text": "x", "a.b": "c"}]), "parquet", fields=("id", "text", "a.b"))
    assert kept(rows) == [{"id": "a", "text": "x", "a.b": "c"}]


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.binary(), pa.dictionary(pa.int32(), pa.string())])
def test_parquet_text_may_have_any_text_type(kind: pa.DataType):
    table = pa.table({"id": ["a", "b"], "text": pa.array(["x", "é"]).cast(kind)})
    texts = [fields["text"] for fields in kept(rows_of(parquet(table), "parquet"))]
    assert [text.decode() if isinstance(text, bytes) else text for text in texts] == ["x", "é"]


def test_parquet_text_that_is_not_utf8_costs_its_row():
    raw = pa.array([b"good", b"\xff\xfe", b"fine"], pa.binary())
    text = pa.Array.from_buffers(pa.string(), 3, raw.buffers())
    nested = pa.StructArray.from_arrays([text], ["skill"])
    for column in ({"id": ["a", "b", "c"], "text": text}, {"id": ["a", "b", "c"], "text": nested}):
        rows = rows_of(parquet(pa.table(column)), "parquet")
        assert [row.line for row in rows] == [1, 2, 3]
        assert lost(rows) == [(2, "invalid_utf8")]


def test_a_parquet_file_without_a_needed_column_is_lost_with_its_rows():
    (row,) = rows_of(parquet([{"id": "a", "body": "x"}] * 5), "parquet")
    assert isinstance(row, Lost)
    assert (row.reason, row.documents) == ("missing_column", 5)
    assert "no column 'text'; the columns are id, body" in row.detail


def test_a_truncated_parquet_file_is_lost_whole():
    data = parquet()
    for cut in (0, 3, len(data) // 2, len(data) - 1):
        assert lost(rows_of(data[:cut], "parquet")) == [(0, "unreadable_file")]
    assert lost(rows_of(gzip.compress(data), "parquet", "gzip")) == [(0, "unreadable_file")]


def test_damage_in_a_row_group_costs_that_group_and_counts_its_rows():
    data = parquet(compression="none", use_dictionary=False)
    at = data.index(b"the text of 25 ")
    rows = rows_of(data[:at] + b"X" + data[at + 1 :], "parquet")
    assert kept(rows) == DOCUMENTS[:20] + DOCUMENTS[40:]
    (row,) = [row for row in rows if isinstance(row, Lost)]
    assert (row.line, row.reason, row.documents) == (21, "damaged_rows", 20)
    assert 0 < row.bytes < len(data)


def test_a_damaged_footer_does_not_end_the_process():
    """Some footers abort the interpreter when pyarrow is asked for a column's sizes: here every bit flip of one."""
    data = parquet(DOCUMENTS[:4], row_group_size=2)
    start = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    for at in range(start, len(data)):
        rows = rows_of(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :], "parquet")
        assert lost(rows) or len(kept(rows)) == 4


def test_an_empty_file_has_no_rows():
    assert rows_of(b"") == []
    assert rows_of(b"\n\n") == []
    assert (
        rows_of(parquet(pa.table({"id": pa.array([], pa.string()), "text": pa.array([], pa.string())})), "parquet")
        == []
    )


def test_python_that_does_not_parse_is_lost():
    assert lost(rows_of(b"def f(:\n", "stdlib")) == [(0, "invalid_python")]
    assert lost(rows_of(b"# coding: no-such\n", "stdlib")) == [(0, "invalid_python")]
    assert lost(rows_of(b"x = 'a\0b'\n", "stdlib")) == [(0, "invalid_python")]


def damaged(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data))
    kind = rng.choice(["flip", "truncate", "insert"])
    if kind == "flip":
        return data[:at] + bytes([data[at] ^ (1 << rng.randrange(8))]) + data[at + 1 :]
    return data[:at] if kind == "truncate" else data[:at] + rng.randbytes(rng.randint(1, 9)) + data[at:]


@pytest.mark.parametrize("seed", range(40))
def test_damaged_jsonl_keeps_every_line_that_is_whole_and_lists_the_others(seed: int):
    data = damaged(JSONL, random.Random(seed))
    rows = rows_of(data)
    found = data.removesuffix(b"\n").split(b"\n")
    assert [row.line for row in rows] == [number for number, line in enumerate(found, start=1) if line.strip()]
    whole = set(JSONL.splitlines())
    for row in rows:
        if found[row.line - 1] in whole:
            assert isinstance(row, Row)
            assert row.fields == json.loads(found[row.line - 1])


PACKED = {
    "gzip": gzip.compress(JSONL, mtime=0),
    "zstd": zstandard.ZstdCompressor(write_checksum=True).compress(JSONL),
    "bz2": bz2.compress(JSONL),
}


@pytest.mark.parametrize("compression", PACKED)
@pytest.mark.parametrize("seed", range(40))
def test_damaged_compression_keeps_a_row_or_lists_the_rest(compression: str, seed: int):
    rows = rows_of(damaged(PACKED[compression], random.Random(seed)), compression=compression)
    assert [row.line for row in rows] == list(range(1, len(rows) + 1))
    if kept(rows) != DOCUMENTS:
        assert lost(rows), "a row is missing and nothing says so"


@pytest.mark.parametrize("seed", range(60))
def test_damaged_parquet_keeps_a_row_or_lists_it(seed: int):
    rows = rows_of(damaged(parquet(), random.Random(seed)), "parquet")
    listed = sum(row.documents for row in rows if isinstance(row, Lost))
    if any(isinstance(row, Lost) and row.reason == "unreadable_file" for row in rows):
        assert kept(rows) == []
    else:
        assert len(kept(rows)) + listed >= len(DOCUMENTS)
        assert all(fields in DOCUMENTS for fields in kept(rows))


def test_memory_does_not_grow_with_the_row_group(tmp_path: Path):
    """pyarrow reads all of a row group ahead unless told not to, and again when it reads through a Python file."""
    rng = random.Random(0)
    text = [rng.randbytes(5000).hex() for _ in range(1000)]
    peaks = []
    for times in (2, 6):
        path = tmp_path / f"{times}.parquet"
        rows = pa.table({"id": [str(n) for n in range(times * 1000)], "text": text * times})
        pq.write_table(rows, path, row_group_size=times * 1000, compression="none", use_dictionary=False)
        del rows
        before, most, count = pa.total_allocated_bytes(), 0, 0
        with open_input(InputFile(path.name, str(path), "parquet", "", 0)) as stream:
            found = read_rows(
                stream, path.name, "parquet", "", fields=("id", "text"), required=("text",), max_bytes=10**6
            )
            for _row in found:
                count += 1
                most = max(most, pa.total_allocated_bytes() - before)
        assert count == times * 1000
        peaks.append(most)
    assert peaks[1] < 1.2 * peaks[0], peaks


def in_pieces(data: bytes, form: str, count: int, **settings: Any) -> list[Row | Lost]:
    """The rows of every piece, each piece told how many lines begin before it."""
    rows: list[Row | Lost] = []
    first = 1
    for index in range(count):
        start, stop = Piece(index, count).range(len(data))
        rows += rows_of(data, form, piece=Piece(index, count, first), **settings)
        first += line_ends(io.BytesIO(data), max(0, start - 1), stop - 1) + (start == 0)
    return rows


@pytest.mark.parametrize("seed", range(30))
def test_pieces_of_damaged_lines_hold_every_line_once_under_its_number(seed: int, monkeypatch: pytest.MonkeyPatch):
    rng = random.Random(seed)
    monkeypatch.setattr(streams, "_BLOCK", rng.choice([1, 7, 2**16]))
    data = damaged(rng.choice([JSONL, JSONL.rstrip(b"\n"), b"\n\n" + JSONL + b"\n" * 9]), rng)
    whole = rows_of(data)
    for count in (2, 3, rng.randint(4, 60), len(data)):
        assert in_pieces(data, "jsonl", count) == whole


def test_a_line_over_the_limit_is_lost_in_one_piece_only():
    data = b'{"id": "a", "text": "x"}\n' + b"x" * 5000 + b"\n" + b'{"id": "b", "text": "x"}\n'
    for count in (2, 5, 50):
        assert lost(in_pieces(data, "jsonl", count, max_bytes=1000)) == [(2, "too_long")]


@pytest.mark.parametrize("seed", range(20))
def test_pieces_of_a_damaged_parquet_file_hold_every_group_once(seed: int):
    data = damaged(parquet(), random.Random(seed)) if seed else parquet()
    whole = rows_of(data, "parquet")
    for count in (2, 3, 7, 100):
        assert sorted(map(repr, in_pieces(data, "parquet", count))) == sorted(map(repr, whole))


def test_a_file_that_cannot_be_read_at_all_is_lost_once():
    assert lost(in_pieces(b"no Parquet at all", "parquet", 4)) == [(0, "unreadable_file")]
