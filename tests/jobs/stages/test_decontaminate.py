"""The stages over part files: what is dropped or listed, whatever the parts; an unreadable reference stops them."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prereq.graph.canonical import sha256_hex
from prereq.graph.errors import ConfigError, TableError
from prereq.jobs.executor import InProcessExecutor
from prereq.jobs.progress import Progress
from prereq.jobs.stages.decontaminate import decontaminate, decontamination_path
from prereq.jobs.stages.runner import Bench, StageFile, StageResult
from prereq.selector.corpus.decontamination import DecontaminationConfig


def words(start: int, stop: int) -> str:
    return " ".join(f"w{number}" for number in range(start, stop))


TEXTS = [words(0, 30), words(10, 25), words(100, 160), words(20, 33) + " x", "short", words(500, 540)]


def staged(folder: Path, rows_per_part: int) -> StageResult:
    files = []
    for start in range(0, len(TEXTS), rows_per_part):
        numbers = range(start, min(len(TEXTS), start + rows_per_part))
        columns = {"id": [f"d{n}" for n in numbers], "text": [TEXTS[n] for n in numbers]}
        columns |= {"source": ["web"] * len(numbers), "place": [f"a:{n}" for n in numbers]}
        path = folder / f"part-{start:05d}.parquet"
        pq.write_table(pa.table(columns), path)
        files.append(StageFile(str(path), len(numbers), path.stat().st_size, sha256_hex(path.read_bytes())))
    return StageResult("dedup", tuple(files), {}, 0, "")


def run(folder: Path, rows_per_part: int = 2, **config: Any) -> tuple[StageResult, list[dict[str, Any]], list[str]]:
    folder.mkdir(exist_ok=True)
    bench = Bench(stages=folder / "stages", executor=InProcessExecutor(), progress=Progress(quiet=True), seed=0)
    result = decontaminate(bench, staged(folder, rows_per_part), DecontaminationConfig(**config))
    kept = [row for part in result.matching("part-") for row in pq.read_table(part.path)["id"].to_pylist()]
    return result, pq.read_table(decontamination_path(bench)).to_pylist(), kept


@pytest.fixture
def references(tmp_path: Path) -> str:
    """Three references: two of 30 and 20 words, one that is nowhere."""
    path = tmp_path / "references.jsonl"
    rows = [{"id": "b", "text": words(0, 30)}, {"text": words(500, 520)}, {"id": "a", "text": words(900, 930)}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_contaminated_documents_are_dropped_and_listed_whatever_the_parts(tmp_path: Path, references: str):
    result, listed, kept = run(tmp_path / "one", paths=(references,))
    assert kept == ["d2", "d3", "d4"]
    assert [(row["id"], row["reference"], row["overlap"], row["shared"], row["action"]) for row in listed] == [
        ("d0", "b", 1.0, 18, "drop"),
        ("d1", "b", 3 / 18, 3, "drop"),
        ("d5", f"{references}:2", 1.0, 8, "drop"),
    ]
    assert [(row["source"], row["place"]) for row in listed] == [("web", "a:0"), ("web", "a:1"), ("web", "a:5")]
    assert result.counts == {"documents": 6, "contaminated": 3, "kept": 3}
    assert len(result.matching("part-")) == 3
    assert run(tmp_path / "two", 4, paths=(references,))[1:] == (listed, kept)


def test_a_share_may_be_allowed_and_listing_drops_nothing(tmp_path: Path, references: str):
    _, listed, kept = run(tmp_path / "one", paths=(references,), max_overlap=0.2, action="list")
    assert [(row["id"], row["action"]) for row in listed] == [("d0", "list"), ("d5", "list")]
    assert kept == [f"d{number}" for number in range(6)]


def test_nothing_found_leaves_an_empty_list(tmp_path: Path):
    (tmp_path / "r.txt").write_text(words(2000, 2100))
    _, listed, kept = run(tmp_path / "one", paths=(str(tmp_path / "r.txt"),))
    assert (listed, len(kept)) == ([], 6)


def test_without_references_there_is_no_stage(tmp_path: Path):
    documents = staged(tmp_path, 2)
    bench = Bench(stages=tmp_path / "stages", executor=InProcessExecutor(), progress=Progress(quiet=True), seed=0)
    assert decontaminate(bench, documents, DecontaminationConfig()) is documents
    assert not (tmp_path / "stages").exists()


def test_a_finished_stage_is_not_run_again_until_the_references_change(tmp_path: Path, references: str):
    run(tmp_path / "one", paths=(references,))
    assert run(tmp_path / "one", paths=(references,))[0].skipped == 3
    with open(references, "a") as file:
        file.write(json.dumps({"id": "c", "text": words(100, 120)}) + "\n")
    again, listed, kept = run(tmp_path / "one", paths=(references,))
    assert again.skipped == 0
    assert [row["reference"] for row in listed if row["id"] == "d2"] == ["c"]
    assert kept == ["d3", "d4"]


def test_a_reference_that_cannot_be_read_is_an_error(tmp_path: Path, references: str):
    with open(references, "a") as file:
        file.write('{"id": "c", "body": "x"}\n')
    with pytest.raises(TableError, match=r"references.jsonl:4 has no text in the field 'text'"):
        run(tmp_path / "one", paths=(references,))
    Path(references).write_text('{"text": "x"}\n{oops\n')
    with pytest.raises(TableError, match=r"references.jsonl:2 cannot be read: invalid_json"):
        run(tmp_path / "one", paths=(references,))
    with pytest.raises(ConfigError, match="no input file matches"):
        run(tmp_path / "one", paths=(str(tmp_path / "absent.jsonl"),))
