"""The deduplication stages over part files: one answer whatever the parts, resumable, and a list of who was dropped."""

import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prereq.graph.canonical import sha256_hex
from prereq.graph.errors import TableError
from prereq.jobs.executor import InProcessExecutor, RayConfig, make_executor
from prereq.jobs.progress import Progress
from prereq.jobs.stages.dedup import deduplicate, duplicates_path, keep
from prereq.jobs.stages.runner import Bench, StageFile, StageResult
from prereq.selector.corpus.duplicates import DuplicatesConfig
from prereq.selector.corpus.normalise import content_digest

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("text", pa.large_string()),
        ("source", pa.string()),
        ("parent", pa.string()),
        ("place", pa.string()),
        ("labels", pa.list_(pa.string())),
        ("language", pa.string()),
    ]
)


def words(start, stop):
    return " ".join(f"w{number:05d}" for number in range(start, stop))


def documents(rows):
    """Rows for (id, text, labels)."""
    return [
        {
            "id": i,
            "text": t,
            "source": f"from-{i[0]}",
            "parent": i,
            "place": f"{i}.txt:1",
            "labels": labels,
            "language": None,
        }
        for i, t, labels in rows
    ]


def corpus(count=400):
    rng = random.Random(0)
    rows = []
    for number in range(count):
        start = 200 * rng.randrange(count // 3)
        text = words(start, start + rng.choice([100, 100, 98, 90, 70, 2]))
        rows.append((f"{'abc'[number % 3]}{number:04d}", text, [f"skill-{rng.randrange(4)}"] * rng.randrange(2)))
    return documents(rows)


def ingested(folder: Path, rows, part_rows) -> StageResult:
    folder.mkdir(parents=True)
    files = []
    for index, start in enumerate(range(0, len(rows), part_rows)):
        path = folder / f"part-{index:05d}.parquet"
        pq.write_table(pa.Table.from_pylist(rows[start : start + part_rows], SCHEMA), path)
        data = path.read_bytes()
        files.append(StageFile(str(path), len(rows[start : start + part_rows]), len(data), sha256_hex(data)))
    return StageResult("ingest", tuple(files), {}, 0, "")


def bench(folder: Path, executor=None) -> Bench:
    return Bench(stages=folder, executor=executor or InProcessExecutor(), progress=Progress(quiet=True), seed=0)


def run(folder: Path, rows, part_rows=1000, config=None):
    work = bench(folder / "stages")
    result = deduplicate(work, ingested(folder / "ingest", rows, part_rows), config or DuplicatesConfig())
    kept = pa.concat_tables(pq.read_table(file.path) for file in result.matching("part-")).to_pylist()
    return result, kept, pq.read_table(duplicates_path(work)).to_pylist()


def test_part_borders_change_nothing(tmp_path):
    runs = [run(tmp_path / str(size), corpus(), size) for size in (10, 137, 1000)]
    assert [len(result.files) for result, _, _ in runs] == [40, 3, 1]
    for result, kept, dropped in runs[1:]:
        assert kept == runs[0][1]
        assert dropped == runs[0][2]
        assert result.counts == runs[0][0].counts
    counts = runs[0][0].counts
    assert counts["documents"] == 400 == counts["exact"] + counts["near"] + counts["kept"]
    assert min(counts.values()) > 20


def test_kept_documents_carry_what_they_had_and_their_digest_and_component(tmp_path):
    rows = corpus()
    _, kept, dropped = run(tmp_path, rows, 100)
    by_id = {row["id"]: row for row in rows}
    gone = {row["id"] for row in dropped}
    assert [row["id"] for row in kept] == [row["id"] for row in rows if row["id"] not in gone]
    for row in kept:
        assert row["content"] == content_digest(row["text"])
        assert 0 <= row["component"] < len(rows)
        assert {key: row[key] for key in SCHEMA.names if key != "labels"} == {
            key: by_id[row["id"]][key] for key in SCHEMA.names if key != "labels"
        }


def test_the_best_score_of_a_column_stays_and_what_is_no_number_comes_last(tmp_path):
    text = words(0, 100)
    rows = documents([(name, text, []) for name in ("a", "b", "c", "d")])
    for row, score in zip(rows, ("good", "-2.5", "1e-3", None), strict=True):
        row["language"] = score
    config = DuplicatesConfig(keep="score", score="language")
    assert [row["id"] for row in run(tmp_path, rows, part_rows=2, config=config)[1]] == ["c"]
    for column, kept in ((["nan", "x", "-inf", "0"], "d"), (["", "x", None, "nan"], "a")):
        for row, score in zip(rows, column, strict=True):
            row["language"] = score
        left = run(tmp_path / f"again-{kept}", rows, part_rows=2, config=config)[1]
        assert [row["id"] for row in left] == [kept]


def test_every_dropped_document_is_listed_with_a_kept_survivor(tmp_path):
    rows = corpus()
    result, kept, dropped = run(tmp_path, rows, 100)
    names = {row["id"] for row in kept}
    by_id = {row["id"]: row for row in rows}
    assert len(dropped) == result.counts["exact"] + result.counts["near"]
    for row in dropped:
        assert row["survivor"] in names
        assert (row["source"], row["place"]) == (by_id[row["id"]]["source"], by_id[row["id"]]["place"])
        same = content_digest(by_id[row["id"]]["text"]) == content_digest(by_id[row["survivor"]]["text"])
        assert row["kind"] == ("exact" if same else "near")
        assert row["similarity"] == 1.0 if same else 0.8 <= row["similarity"] <= 1.0


def test_labels_and_sources_of_dropped_documents_move_to_their_survivor(tmp_path):
    rows = documents(
        [
            ("d", words(0, 100), ["z", "b"]),
            ("e", words(0, 99), ["a"]),
            ("f", words(0, 100).upper(), ["b", "c"]),
            ("g", words(500, 600), ["z", "b"]),
            ("h", words(700, 800), []),
            ("i", words(700, 800), ["only"]),
        ]
    )
    _, kept, dropped = run(tmp_path, rows, 2)
    assert {row["id"]: row["labels"] for row in kept} == {"d": ["a", "b", "c", "z"], "g": ["z", "b"], "h": ["only"]}
    assert [row["source"] for row in kept] == ["from-d", "from-g", "from-h"]
    assert [row["merged_sources"] for row in kept] == [["from-d", "from-e", "from-f"], ["from-g"], ["from-h", "from-i"]]
    assert [(row["id"], row["survivor"], row["kind"], row["similarity"]) for row in dropped] == [
        ("e", "d", "near", 95 / 96),
        ("f", "d", "exact", 1.0),
        ("i", "h", "exact", 1.0),
    ]


def test_a_part_of_which_nothing_is_left_stays_as_an_empty_file(tmp_path):
    result, kept, _ = run(tmp_path, documents([("a", "one text", []), ("b", "One  text", [])]), 1)
    assert [file.rows for file in result.files] == [1, 0]
    assert [row["id"] for row in kept] == ["a"]
    assert pq.read_schema(result.files[0].path) == pq.read_schema(result.files[1].path)


@pytest.mark.parametrize("config", [DuplicatesConfig(enabled=False), DuplicatesConfig(near=False, exact=False)])
def test_nothing_is_dropped_when_it_is_switched_off(tmp_path, config):
    rows = corpus(60)
    result, kept, dropped = run(tmp_path, rows, 20, config)
    assert ([row["id"] for row in kept], dropped) == ([row["id"] for row in rows], [])
    assert len({row["component"] for row in kept}) < len(rows)
    assert result.counts == {"documents": 60, "exact": 0, "near": 0, "kept": 60}


def test_a_second_run_has_nothing_to_do_and_another_threshold_reuses_the_signatures(tmp_path):
    rows = ingested(tmp_path / "ingest", corpus(), 100)
    config = DuplicatesConfig(bands=18, rows=7)
    first = deduplicate(bench(tmp_path / "stages"), rows, config)
    again = deduplicate(bench(tmp_path / "stages"), rows, config)
    assert (again.skipped, again.files, again.digest) == (4, first.files, first.digest)
    written = (tmp_path / "stages/signatures/00000/signatures.parquet").stat().st_mtime_ns
    other = deduplicate(bench(tmp_path / "stages"), rows, DuplicatesConfig(bands=18, rows=7, threshold=0.95))
    assert other.counts["near"] < first.counts["near"]
    assert (tmp_path / "stages/signatures/00000/signatures.parquet").stat().st_mtime_ns == written


def test_two_runs_write_the_same_bytes(tmp_path):
    a, _, _ = run(tmp_path / "a", corpus(), 50)
    b, _, _ = run(tmp_path / "b", corpus(), 50)
    assert [file.sha256 for file in a.files] == [file.sha256 for file in b.files]
    names = [f"duplicates/all/{name}" for name in ("duplicates.parquet", "fates-00003.parquet")]
    for name in names:
        assert (tmp_path / "a/stages" / name).read_bytes() == (tmp_path / "b/stages" / name).read_bytes()


def test_a_part_that_does_not_fit_its_fates_is_an_error_that_says_what_to_do(tmp_path):
    run(tmp_path, corpus(40), 20)
    stages = tmp_path / "stages"
    fates = stages / "duplicates/all/fates-00001.parquet"
    pq.write_table(pq.read_table(fates).slice(1), fates)
    with pytest.raises(
        TableError, match=r"20 documents, but 20 signatures and 19 fates; delete .* run the same command"
    ):
        keep(
            str(tmp_path),
            str(tmp_path / "ingest/part-00001.parquet"),
            str(stages / "signatures/00001/signatures.parquet"),
            str(fates),
        )


def test_a_column_of_the_user_is_never_overwritten(tmp_path):
    run(tmp_path, corpus(20), 20)
    path = tmp_path / "ingest/part-00000.parquet"
    table = pq.read_table(path)
    pq.write_table(table.append_column("component", table.column("id")), path)
    names = ("signatures/00000/signatures.parquet", "duplicates/all/fates-00000.parquet")
    with pytest.raises(TableError, match=r"adds the columns \['component'\], which the documents have"):
        keep(str(tmp_path), str(path), *(str(tmp_path / "stages" / name) for name in names))


@pytest.mark.ray
@pytest.mark.slow
def test_ray_writes_the_same_bytes_as_this_process(tmp_path):
    rows = ingested(tmp_path / "ingest", corpus(), 50)
    here = deduplicate(bench(tmp_path / "here"), rows, DuplicatesConfig())
    with make_executor(RayConfig(num_cpus=2)) as executor:
        there = deduplicate(bench(tmp_path / "there", executor), rows, DuplicatesConfig())
    assert (here.digest, here.counts) == (there.digest, there.counts)
