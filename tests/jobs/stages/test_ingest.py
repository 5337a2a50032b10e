"""The stage end to end on small inputs: what is kept, what is refused, and that the bytes depend on nothing else."""

import bz2
import gzip
import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

import prereq.jobs.stages.ingest
from prereq.graph.errors import ConfigError, TableError
from prereq.jobs.executor import InProcessExecutor, RayConfig, make_executor
from prereq.jobs.progress import Progress
from prereq.jobs.stages.ingest import ingest
from prereq.jobs.stages.runner import Bench, StageResult
from prereq.selector.corpus.documents import IngestConfig, SourceConfig
from prereq.selector.corpus.identifiers import id_digests

ROWS = [{"id": f"d{number:03d}", "text": f"document {number} " + "word " * (number % 9)} for number in range(50)]


def jsonl(rows: Sequence[Any]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, empty."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def make_bench(stages: Path) -> Bench:
    return Bench(stages=stages, executor=InProcessExecutor(), progress=Progress(quiet=True), seed=1)


def run(here: Path, *sources: SourceConfig, stages: str = "stages", **config: Any) -> StageResult:
    return ingest(make_bench(here.parent / stages), sources, IngestConfig(**config))


def source(*paths: str, **values: Any) -> SourceConfig:
    return SourceConfig(**{"name": "s", "paths": paths or ("*",), **values})


def documents(result: StageResult) -> list[dict[str, Any]]:
    parts = result.matching("part-")
    return pa.concat_tables([pq.read_table(part.path) for part in parts]).to_pylist() if parts else []


def rejects(result: StageResult) -> list[tuple[str, int, str]]:
    rows = [row for file in result.matching("rejects") for row in pq.read_table(file.path).to_pylist()]
    return [(row["file"], row["line"], row["reason"]) for row in rows]


PACK: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".zst": zstandard.compress,
    ".bz2": bz2.compress,
}


def test_every_format_gives_the_same_documents(here: Path):
    found = []
    for number, (suffix, pack) in enumerate(PACK.items()):
        Path(f"rows.jsonl{suffix}").write_bytes(pack(jsonl(ROWS)))
        found.append(documents(run(here, source(f"rows.jsonl{suffix}"), stages=f"stages-{number}")))
    pq.write_table(pa.Table.from_pylist(ROWS), "rows.parquet")
    found.append(documents(run(here, source("rows.parquet"), stages="stages-parquet")))
    with pa.ipc.new_stream("rows.arrow", pa.Table.from_pylist(ROWS).schema) as writer:
        writer.write_table(pa.Table.from_pylist(ROWS))
    found.append(documents(run(here, source("rows.arrow"), stages="stages-arrow")))
    for rows in found:
        assert [{"id": row["id"], "text": row["text"]} for row in rows] == ROWS
    assert found[1][3]["place"] == "rows.jsonl.gz:4"
    assert found[4][3]["place"] == "rows.parquet:4"
    assert {row["parent"] == row["id"] and row["source"] == "s" and not row["labels"] for row in found[0]} == {True}


def test_text_files_are_documents_named_by_their_path(here: Path):
    Path("books").mkdir()
    Path("books/b.md").write_text("# B")
    Path("books/a.txt.gz").write_bytes(gzip.compress("wörd\n".encode()))
    rows = documents(run(here, source("books")))
    assert [(row["id"], row["text"], row["place"]) for row in rows] == [
        ("books/a.txt.gz", "wörd\n", "books/a.txt.gz"),
        ("books/b.md", "# B", "books/b.md"),
    ]


def test_records_of_a_warc_file_are_documents_named_by_a_field_of_choice(here: Path):
    pytest.importorskip("warcio")
    pytest.importorskip("selectolax")
    head = "WARC/1.0\r\nWARC-Type: conversion\r\nWARC-Target-URI: http://x/{0}\r\nContent-Type: text/plain\r\n"
    records = [head.format(n) + f"Content-Length: 5\r\n\r\ntext{n}\r\n\r\n" for n in range(3)]
    Path("a.warc.wet.gz").write_bytes(b"".join(gzip.compress(record.encode()) for record in records))
    rows = documents(run(here, source(id_field="url", metadata=("content_type",))))
    assert [(row["id"], row["text"], row["place"], row["content_type"]) for row in rows] == [
        (f"http://x/{n}", f"text{n}", f"a.warc.wet.gz:{n + 1}", "text/plain") for n in range(3)
    ]


def test_columns_are_those_of_all_sources_in_order_of_name(here: Path):
    Path("a.jsonl").write_bytes(jsonl([{"id": "a", "text": "x", "labels": {"lang": "en", "skill": ["s", "t"]}}]))
    Path("b.jsonl").write_bytes(jsonl([{"id": "b", "text": "y", "year": 1999, "skill": "u"}]))
    result = run(
        here,
        source("b.jsonl", name="second", metadata=("year",), skills_fields=("skill",)),
        source("a.jsonl", name="first", metadata=("labels.lang",), skills_fields=("labels.skill",)),
    )
    schemas = {str(pq.read_schema(part.path)) for part in result.matching("part-")}
    assert len(schemas) == 1
    assert list(pq.read_schema(result.files[0].path).names) == [
        *("id", "text", "source", "parent", "place", "labels"),
        *("lang", "year"),
    ]
    rows = documents(result)
    assert [(row["id"], row["source"], row["labels"], row["lang"], row["year"]) for row in rows] == [
        ("b", "second", ["u"], None, "1999"),
        ("a", "first", ["s", "t"], "en", None),
    ]


def test_texts_are_brought_into_a_normal_form_and_counted(here: Path):
    texts = ["plain", "fu\u0308r", "für", "ﬁne", "\u2003"]
    Path("a.jsonl").write_bytes(jsonl([{"id": str(n), "text": text} for n, text in enumerate(texts)]))

    def found(form: str) -> tuple[list[str], int | None, int]:
        result = run(here, source(), normalisation=form, stages=f"stages-{form}", max_rejected=0.5)
        counts = result.counts
        return [row["text"] for row in documents(result)], counts.get("normalised"), counts["rejected"]

    assert found("none") == (texts[:4], None, 1)
    assert found("NFC") == (["plain", "für", "für", "ﬁne"], 1, 1)
    assert found("NFKC") == (["plain", "für", "für", "fine"], 2, 1)
    same = [row["id"] for row in documents(run(here, source(), normalisation="NFC", ids="content", max_rejected=0.5))]
    assert same[2] == f"{same[1]}-1", "an id is made of the text that is kept"


def test_parts_end_at_their_rows_and_their_bytes(here: Path):
    Path("a.jsonl").write_bytes(jsonl(ROWS))
    assert [part.rows for part in run(here, source(), part_rows=20).matching("part-")] == [20, 20, 10]
    big = [{"id": str(number), "text": "x" * 600_000} for number in range(5)]
    Path("a.jsonl").write_bytes(jsonl(big))
    assert [part.rows for part in run(here, source(), part_mib=1).matching("part-")] == [2, 2, 1]


def test_digests_of_the_ids_lie_beside_the_parts(here: Path):
    import numpy as np

    Path("a.jsonl").write_bytes(jsonl(ROWS))
    run(here, source(), part_rows=20)
    digests = np.load(here.parent / "stages" / "ingest" / "000-000000" / "ids.npy")
    assert (digests == id_digests([row["id"] for row in ROWS])).all()


def test_small_files_share_a_task_and_large_ones_do_not(here: Path):
    for number in range(4):
        Path(f"{number}.jsonl").write_bytes(jsonl([{"id": str(number), "text": "x" * 400_000}]))
    result = run(here, source(), part_mib=1)
    assert result.tasks == ("000-000000", "000-000001")
    assert [row["id"] for row in documents(result)] == ["0", "1", "2", "3"]


def test_a_large_file_is_cut_and_its_pieces_give_the_documents_and_rejects_of_the_whole(here: Path):
    rows = [{"id": f"d{number}", "text": "word " * 40 + str(number)} for number in range(20_000)]
    lines = jsonl(rows).split(b"\n")
    lines[7_000] = b"no JSON"
    lines[19_990] = b"[]"
    Path("a.jsonl").write_bytes(b"\n".join(lines))
    table = pa.Table.from_pylist([{**row, "id": "p" + row["id"]} for row in rows])
    pq.write_table(table, "b.parquet", row_group_size=500, compression="none", use_dictionary=False)
    whole, cut = run(here, source()), run(here, source(), stages="cut", part_mib=1)
    assert len(whole.tasks) == 1
    assert len(cut.tasks) >= 9
    assert documents(cut) == documents(whole)
    assert rejects(cut) == rejects(whole) == [("a.jsonl", 7_001, "invalid_json"), ("a.jsonl", 19_991, "not_an_object")]
    assert run(here, source(), stages="cut", part_mib=1).skipped == len(cut.tasks)


def test_more_pieces_than_row_groups_leave_some_empty(here: Path):
    rows = [{"id": f"d{number}", "text": "word " * 40 + str(number)} for number in range(20_000)]
    table = pa.Table.from_pylist(rows)
    pq.write_table(table, "a.parquet", row_group_size=15_000, compression="none", use_dictionary=False)
    result = run(here, source(), part_mib=1)
    assert len(result.tasks) >= 4
    assert [(row["id"], row["text"]) for row in documents(result)] == [(row["id"], row["text"]) for row in rows]


def test_a_large_file_stays_whole_where_it_cannot_be_read_from_the_middle(here: Path):
    rng = random.Random(1)
    rows = [{"id": f"d{number}", "text": rng.randbytes(600).hex()} for number in range(3_000)]
    Path("a.jsonl.gz").write_bytes(gzip.compress(jsonl(rows)))
    assert len(run(here, source(), part_mib=1).tasks) == 1
    assert len(run(here, source(max_documents=2_999), stages="some", part_mib=1).tasks) == 1


def test_a_kill_costs_a_piece_of_a_large_file(here: Path, monkeypatch: pytest.MonkeyPatch):
    rows = [{"id": f"d{number}", "text": "word " * 40 + str(number)} for number in range(20_000)]
    Path("a.jsonl").write_bytes(jsonl(rows))
    undisturbed = run(here, source(), stages="undisturbed", part_mib=1)
    add = prereq.jobs.stages.ingest._Parts.add
    left = iter(range(15_000))

    def dies(*args: Any) -> None:
        if next(left, None) is None:
            raise KeyboardInterrupt
        add(*args)

    monkeypatch.setattr(prereq.jobs.stages.ingest._Parts, "add", dies)
    with pytest.raises(KeyboardInterrupt):
        run(here, source(), part_mib=1)
    monkeypatch.undo()
    monkeypatch.chdir(here)
    again = run(here, source(), part_mib=1)
    assert again.skipped >= 2
    assert [file.sha256 for file in again.files] == [file.sha256 for file in undisturbed.files]


def test_a_row_that_is_no_document_is_listed_with_file_line_and_reason(here: Path):
    bad = [
        b'{"id": "a"}',
        b'{"id": "b", "text": 3}',
        b'{"text": "no id"}',
        b"[]",
        b"{",
        b'{"id": "c", "text": "\xff"}',
        b'{"id": "d", "text": "\\ud800"}',
        b'{"id": "e\\n", "text": "x"}',
        b'{"id": "f", "text": "  "}',
    ]
    Path("a.jsonl").write_bytes(jsonl(ROWS) + b"\n".join(bad) + b"\n")
    result = run(here, source(), max_rejected=0.5)
    assert len(documents(result)) == result.counts["documents"] == len(ROWS)
    assert result.counts["rejected"] == len(bad)
    reasons = ["missing_text", "text_not_string", "missing_id", "not_an_object", "invalid_json", "invalid_utf8"]
    reasons += ["lone_surrogate", "bad_id", "empty"]
    assert rejects(result) == [("a.jsonl", line, reason) for line, reason in enumerate(reasons, start=51)]


def test_damaged_files_cost_only_what_they_hold(here: Path):
    packed = gzip.compress(jsonl(ROWS))
    Path("b.jsonl.gz").write_bytes(packed[: len(packed) // 2])
    Path("c.parquet").write_bytes(b"PAR1 not really")
    Path("d.txt").write_bytes(b"\xff\xfe")
    Path("e.jsonl").symlink_to("nowhere")
    Path("a.jsonl").write_bytes(jsonl([{"id": f"a{number}", "text": "x" * 1000} for number in range(100)]))
    result = run(here, source(), max_rejected=0.1)
    assert result.counts["rejected"] == 4
    found = rejects(result)
    assert [(file, reason) for file, _, reason in found] == [
        ("b.jsonl.gz", "damaged_stream"),
        ("c.parquet", "unreadable_file"),
        ("d.txt", "invalid_utf8"),
        ("e.jsonl", "unreadable_file"),
    ]
    assert [row["id"] for row in documents(result)[100:]] == [row["id"] for row in ROWS[: found[0][1] - 1]]
    assert result.counts["lost_bytes"] == len(b"PAR1 not really")


def test_too_many_rejects_are_an_error_that_counts_them(here: Path):
    Path("a.jsonl").write_bytes(jsonl([*ROWS, {"id": "x"}, {"id": "y"}, [1]]))
    with pytest.raises(TableError) as caught:
        run(here, source(), max_rejected=0.05)
    message = str(caught.value)
    assert "3 of 53 rows were rejected: that is over max_rejected (0.05)" in message
    assert "2 missing_text, 1 not_an_object" in message
    assert "a.jsonl:51 missing_text (no field 'text')" in message
    assert "rejects.parquet" in message
    again = run(here, source(), max_rejected=0.06)
    assert (again.counts["rejected"], again.skipped) == (3, 1), "judging otherwise needs no reading again"


def test_unreadable_bytes_count_against_max_rejected_too(here: Path):
    Path("a.jsonl").write_bytes(jsonl(ROWS))
    Path("b.parquet").write_bytes(b"x" * 10_000)
    with pytest.raises(TableError, match=r"1 of 51 rows were rejected and 10000 of \d+ bytes of input are damaged"):
        run(here, source(), max_rejected=0.05)


def test_nothing_left_is_an_error(here: Path):
    Path("a.jsonl").write_bytes(b"")
    with pytest.raises(TableError, match=r"no document is left\. The input holds no rows"):
        run(here, source())
    Path("a.jsonl").write_bytes(jsonl(ROWS))
    with pytest.raises(TableError, match="`include` leaves all of them out"):
        run(here, source(include={"kind": ("x",)}))
    Path("a.jsonl").write_bytes(b"{}\n")
    with pytest.raises(TableError, match=r"no document is left\. Reasons: 1 missing_text"):
        run(here, source(), max_rejected=1.0)


def test_repeated_ids_are_an_error_naming_both_places(here: Path):
    Path("a.jsonl").write_bytes(jsonl(ROWS))
    Path("b.jsonl").write_bytes(jsonl([{"id": "new", "text": "x"}, ROWS[7]]))
    with pytest.raises(TableError) as caught:
        run(here, source("a.jsonl", name="first"), source("b.jsonl", name="second"), part_rows=20)
    message = str(caught.value)
    assert "1 ids appear again, the first: 'd007' at a.jsonl:8 (source first) and b.jsonl:2 (source second)" in message
    assert "ids: content" in message


def test_ids_from_content_number_texts_that_repeat(here: Path):
    long = "0123456789 " * 5
    rows = [{"text": text} for text in ("one", long, "two", "one", long, "one")]
    Path("a.jsonl").write_bytes(jsonl(rows))
    result = run(here, source(), ids="content", max_document_bytes=32, part_rows=3)
    found = documents(result)
    ids = [row["id"] for row in found]
    assert len(set(ids)) == len(ids)
    one, pieces = ids[0], [row["id"] for row in found if row["text"] != "one" and row["text"] != "two"]
    assert [row["id"] for row in found if row["text"] == "one"] == [one, f"{one}-1", f"{one}-2"]
    base = pieces[0].split("#")[0]
    half = len(pieces) // 2
    assert pieces == [f"{base}#{n:05d}" for n in range(1, half + 1)] + [f"{base}-1#{n:05d}" for n in range(1, half + 1)]
    assert all(row["id"] == row["parent"] or row["id"].startswith(row["parent"] + "#") for row in found)
    assert result.counts["rekeyed"] == 2 + half
    assert {part.rows for part in result.matching("part-")[:-1]} == {3}
    again = run(here, source(), ids="content", max_document_bytes=32, part_rows=3)
    assert again.digest == result.digest


def test_ids_from_content_need_no_id_and_no_copy_where_nothing_repeats(here: Path):
    Path("a.jsonl").write_bytes(jsonl([{"text": row["text"]} for row in ROWS]))
    result = run(here, source(), ids="content")
    assert "rekeyed" not in result.counts
    assert not (here.parent / "stages" / "rekey").exists()
    assert len({row["id"] for row in documents(result)}) == len(ROWS)


def test_long_documents_are_split_and_giant_lines_refused(here: Path):
    rows = [{"id": "long", "text": "word " * 10_000}, {"id": "line", "text": "x" * 50_000}, {"id": "ok", "text": "y"}]
    Path("a.jsonl").write_bytes(jsonl(rows) + b'{"id": "giant", "text": "' + b"z" * 1_100_000 + b'"}\n')
    result = run(here, source(), max_document_bytes=20_000, max_record_mib=1, max_rejected=1.0)
    found = documents(result)
    for row in rows:
        assert "".join(part["text"] for part in found if part["parent"] == row["id"]) == row["text"]
    assert result.counts["split"] == 2
    assert max(len(row["text"]) for row in found) <= 20_000
    assert rejects(result) == [("a.jsonl", 4, "too_long")]


def test_include_and_max_documents(here: Path):
    rows = [{**row, "kind": "even" if number % 2 == 0 else "odd"} for number, row in enumerate(ROWS)]
    Path("a.jsonl").write_bytes(jsonl(rows[:25]))
    Path("b.jsonl").write_bytes(jsonl([{"id": "broken"}, *rows[25:]]))
    result = run(here, source(include={"kind": ("odd",)}, max_documents=20), max_rejected=0.1)
    assert [row["id"] for row in documents(result)] == [row["id"] for row in rows if row["kind"] == "odd"][:20]
    # 20 even rows before the 20th odd one, and the broken row, which has no kind
    assert result.counts == {"documents": 20, "rejected": 0, "filtered": 21}
    assert len(result.tasks) == 1


def test_sources_need_names_of_their_own_and_matches(here: Path):
    Path("a.jsonl").write_bytes(jsonl(ROWS))
    with pytest.raises(ConfigError, match=r"each with a name of its own, got the names \['s', 's'\]"):
        run(here, source(), source())
    with pytest.raises(ConfigError, match="at least one"):
        run(here)
    with pytest.raises(ConfigError, match="no input file matches 'absent/"):
        run(here, source("absent/*.jsonl"))


def test_the_bytes_do_not_depend_on_where_the_input_lies(here: Path, monkeypatch: pytest.MonkeyPatch):
    digests = set()
    for place in ("one", "two/three"):
        folder = here / place / "corpus"
        folder.mkdir(parents=True)
        (folder / "a.jsonl").write_bytes(jsonl([*ROWS, {"id": "bad"}]))
        (folder / "b.jsonl").symlink_to("nowhere")
        monkeypatch.chdir(here / place)
        result = run(here, source("corpus"), stages=place.replace("/", "-"))
        digests.add((result.digest, *(file.sha256 for file in result.files)))
    assert len(digests) == 1


def test_only_tasks_with_changed_input_run_again(here: Path):
    for number in range(3):
        Path(f"{number}.jsonl").write_bytes(jsonl([{"id": str(number), "text": "x" * 700_000}]))
    first = run(here, source(), part_mib=1)
    assert (first.skipped, len(first.tasks)) == (0, 3)
    assert run(here, source(), part_mib=1).skipped == 3
    Path("1.jsonl").write_bytes(jsonl([{"id": "1", "text": "y" * 700_000}]))
    second = run(here, source(), part_mib=1)
    assert second.skipped == 2
    assert documents(second)[1]["text"][0] == "y"
    assert run(here, source(metadata=("lang",)), part_mib=1).skipped == 0


def test_a_kill_in_the_middle_of_a_task_changes_nothing(here: Path, monkeypatch: pytest.MonkeyPatch):
    for number in range(3):
        Path(f"{number}.jsonl").write_bytes(jsonl([{"id": str(number), "text": "x" * 700_000}]))
    whole = run(here, source(), part_mib=1, stages="whole")
    from prereq.jobs.stages import ingest as module

    reader, calls = module.read_rows, iter(range(10))

    def failing(*args: Any, **values: Any) -> Any:
        if next(calls) == 1:
            raise KeyboardInterrupt
        return reader(*args, **values)

    monkeypatch.setattr(module, "read_rows", failing)
    with pytest.raises(KeyboardInterrupt):
        run(here, source(), part_mib=1)
    resumed = run(here, source(), part_mib=1)
    assert resumed.skipped == 1
    assert resumed.digest == whole.digest


@pytest.mark.slow
def test_the_library_is_a_corpus(here: Path):
    result = run(here, SourceConfig(name="python", format="stdlib"))
    rows = documents(result)
    assert 6_000 <= len(rows) <= 15_000
    assert result.counts["rejected"] == 0
    assert len(result.tasks) > 2, "so that more than one core has work"
    by_id = {row["id"]: row for row in rows}
    decoder = by_id["json.decoder:JSONDecoder.raw_decode"]
    assert decoder["module"] == "json.decoder"
    assert decoder["place"].startswith("json/decoder.py:")
    assert decoder["text"].startswith("def raw_decode(self, s, idx=0):")


@pytest.mark.slow
@pytest.mark.ray
def test_ray_gives_the_same_bytes(here: Path):
    for number in range(5):
        Path(f"{number}.jsonl").write_bytes(jsonl([{"id": f"{number}-{n}", "text": "x" * 9000} for n in range(80)]))
    Path("bad.parquet").write_bytes(b"")
    Path("rep.jsonl").write_bytes(jsonl([{"id": "rep", "text": "x" * 9000}]))
    alone = run(here, source(), part_mib=1, ids="content")
    assert alone.counts["rekeyed"] == 400
    with make_executor(RayConfig(num_cpus=2)) as executor:
        bench = Bench(stages=here.parent / "ray", executor=executor, progress=Progress(quiet=True), seed=1)
        spread = ingest(bench, [source()], IngestConfig(part_mib=1, ids="content"))
    assert spread.digest == alone.digest
    assert [file.sha256 for file in spread.files] == [file.sha256 for file in alone.files]


@pytest.mark.data
@pytest.mark.slow
def test_real_data_is_read_whole(here: Path, data_dir: Path):
    result = run(
        here,
        source(
            str(data_dir / "exercism" / "documents.jsonl.gz"),
            skills_fields=("labels.taught", "labels.practices"),
            metadata=("labels.track", "labels.kind"),
        ),
    )
    assert result.counts == {"documents": 3887, "rejected": 0}
    assert sum(bool(row["labels"]) for row in documents(result)) > 500
