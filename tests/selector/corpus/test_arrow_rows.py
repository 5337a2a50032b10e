"""Arrow files, streams and saved data sets: the rows, and what each kind of damage costs."""

import io
import json
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.ipc as ipc
import pytest

from prereq.graph.errors import ConfigError
from prereq.selector.corpus.arrow_rows import files_with_rows
from prereq.selector.corpus.documents import SourceConfig
from prereq.selector.corpus.formats import Lost, Row, read_rows
from prereq.selector.corpus.inputs import find_inputs, open_input

DOCUMENTS = [{"id": f"d{n}", "text": f"the text of {n} " + "wörd " * (n % 7), "other": n} for n in range(60)]


def arrow(rows: Any = DOCUMENTS, *, footed: bool = False, **options: Any) -> bytes:
    sink = io.BytesIO()
    if not isinstance(rows, pa.Table):
        rows = pa.Table.from_batches([pa.RecordBatch.from_pylist(rows[at : at + 20]) for at in range(0, len(rows), 20)])
    make = ipc.new_file if footed else ipc.new_stream
    with make(sink, rows.schema, **options) as writer:
        writer.write_table(rows)
    return sink.getvalue()


def rows_of(data: bytes, **values: Any) -> list[Row | Lost]:
    settings = {"fields": ("id", "text"), "required": ("id", "text"), "max_bytes": 10**6, "compression": ""} | values
    compression = settings.pop("compression")
    return list(read_rows(io.BytesIO(data), "folder/file", "arrow", compression, **settings))


def kept(rows: list[Row | Lost]) -> list[Any]:
    return [dict(row.fields) for row in rows if isinstance(row, Row)]


def lost(rows: list[Row | Lost]) -> list[tuple[int, str]]:
    return [(row.line, row.reason) for row in rows if isinstance(row, Lost)]


WANTED = [{"id": row["id"], "text": row["text"]} for row in DOCUMENTS]


@pytest.mark.parametrize("footed", [False, True])
@pytest.mark.parametrize("packing", [None, "zstd", "lz4"])
def test_a_stream_and_a_file_give_the_asked_columns_with_row_numbers(footed: bool, packing: str | None):
    rows = rows_of(arrow(footed=footed, options=ipc.IpcWriteOptions(compression=packing)))
    assert kept(rows) == WANTED
    assert [row.line for row in rows] == list(range(1, 61))


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())]
)
def test_text_may_have_any_text_type(kind: pa.DataType):
    table = pa.table({"id": pa.array(["a", "b"]), "text": pa.array(["x", "y"]).cast(kind)})
    assert kept(rows_of(arrow(table))) == [{"id": "a", "text": "x"}, {"id": "b", "text": "y"}]


def test_text_that_is_not_utf8_costs_its_row():
    text = pa.array([b"good", b"bad \xff", b"good"]).view(pa.string())
    rows = rows_of(arrow(pa.table({"id": ["a", "b", "c"], "text": text})))
    assert [row["id"] for row in kept(rows)] == ["a", "c"]
    assert lost(rows) == [(2, "invalid_utf8")]


def test_a_file_without_a_needed_column_or_inside_a_packer_is_lost():
    (missing,) = rows_of(arrow(), required=("body",))
    assert isinstance(missing, Lost)
    assert (missing.reason, missing.detail) == ("missing_column", "no column 'body'; the columns are id, text, other")
    (packed,) = rows_of(arrow(), compression="gzip")
    assert isinstance(packed, Lost)
    assert (packed.reason, packed.bytes) == ("unreadable_file", len(arrow()))


def test_a_stream_cut_between_two_batches_is_noticed():
    data = arrow()
    whole = arrow(DOCUMENTS[:20])
    cut = data[: len(whole) - 8]  # the first batch, without an end mark
    rows = rows_of(cut)
    assert kept(rows) == WANTED[:20]
    assert lost(rows) == [(21, "damaged_stream")]


def test_what_looks_like_an_end_mark_in_the_middle_is_no_end():
    data = arrow()
    whole = arrow(DOCUMENTS[:20])
    for mark in (b"\0\0\0\0", b"\xff\xff\xff\xff\0\0\0\0"):
        rows = rows_of(whole[:-8] + mark + data[len(whole) - 8 :])
        assert kept(rows) == WANTED[:20]
        assert lost(rows) == [(21, "damaged_stream")]


def test_damage_in_a_batch_of_a_file_costs_that_batch():
    data = bytearray(arrow(footed=True))
    place = data.index(b"the text of 20")
    # the lengths of the texts lie before them: any offset may now point anywhere
    data[place - 64 : place] = b"\x7f" * 64
    rows = rows_of(bytes(data))
    assert kept(rows) == WANTED[:20] + WANTED[40:]
    assert [reason for _, reason in lost(rows)] == ["damaged_rows"]


@pytest.mark.parametrize("footed", [False, True])
@pytest.mark.parametrize("seed", range(40))
def test_any_damage_keeps_a_row_or_lists_it_and_never_ends_the_process(footed: bool, seed: int):
    rng = random.Random(seed)
    data = bytearray(arrow(footed=footed))
    if seed % 2:
        del data[rng.randrange(len(data)) :]
    else:
        for _ in range(rng.randrange(1, 4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
    rows = rows_of(bytes(data))
    # a flipped byte inside a text is a text; what is missing must be listed
    assert len(kept(rows)) == 60 or lost(rows)


def test_a_saved_data_set_is_the_files_that_its_state_lists(tmp_path: Path):
    for split in ("train", "test"):
        folder = tmp_path / "set" / split
        folder.mkdir(parents=True)
        for name in ("data-00000-of-00002.arrow", "data-00001-of-00002.arrow", "cache-123.arrow"):
            (folder / name).write_bytes(arrow())
        listed = [{"filename": f"data-0000{number}-of-00002.arrow"} for number in range(2)]
        (folder / "state.json").write_text(json.dumps({"_data_files": listed, "_fingerprint": "x"}, indent=2))
        (folder / "dataset_info.json").write_text("{\n}")
    (tmp_path / "set" / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    for root in (str(tmp_path / "set"), f"file://{tmp_path}/set"):
        files = find_inputs(SourceConfig(name="s", paths=(root,)))
        assert [(file.name.removeprefix(f"{root}/"), file.format) for file in files] == [
            (f"{split}/data-0000{number}-of-00002.arrow", "arrow") for split in ("test", "train") for number in range(2)
        ]
    with open_input(files[0]) as stream:
        found = list(read_rows(stream, "x", "arrow", "", fields=["text"], required=["text"], max_bytes=1))
    assert [row.fields["text"] for row in found if isinstance(row, Row)] == [row["text"] for row in DOCUMENTS]


def test_other_json_files_of_these_names_stay_rows():
    def read(name: str) -> bytes:
        return b'{"id": "a", "text": "the state of the art"}\n'

    assert list(files_with_rows("f", ["dataset_info.json", "state.json"], read)) == ["dataset_info.json", "state.json"]
    assert list(files_with_rows("f", ["a.arrow", "dataset_info.json"], read)) == ["a.arrow"]


def test_a_state_that_points_out_of_its_folder_is_refused():
    state = json.dumps({"_data_files": [{"filename": "../secret.arrow"}]}).encode()
    with pytest.raises(
        ConfigError, match=r"f/state.json: lists the file '../secret.arrow', which is not in its folder"
    ):
        list(files_with_rows("f", ["state.json"], lambda name: state))
