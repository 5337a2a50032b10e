"""The fuzzer of the benchmark in small, and that its judge notices a document that goes without a word."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

pytest.importorskip("warcio")
pytest.importorskip("selectolax")
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def fuzzer() -> ModuleType:
    sys.path.insert(0, str(BENCHMARKS))
    try:
        spec = importlib.util.spec_from_file_location("corpus_fuzz", BENCHMARKS / "corpus_fuzz.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(BENCHMARKS))
    return module


def test_no_document_of_a_damaged_file_is_lost_without_a_line(fuzzer: ModuleType):
    found = list(fuzzer.fuzz(100_000, 100_000 + 5 * len(fuzzer.FORMATS)))
    assert {run["name"] for run in found} == set(fuzzer.FORMATS)
    assert [run for run in found if run["lost"]] == []
    assert sum(bool(run.get("rejects")) for run in found) > len(found) // 3, "the fuzzer does damage"


def test_whole_files_of_every_format_lose_and_reject_nothing(fuzzer: ModuleType, tmp_path: Path):
    documents = fuzzer.rows(fuzzer.random.Random(0))
    for number, (name, make) in enumerate(fuzzer.FORMATS.items()):
        folder = tmp_path / str(number)
        (folder / name).parent.mkdir(parents=True)
        for beside in ("set/data-00000-of-00001.arrow", "set/state.json") if name.startswith("set/") else ():
            (folder / beside).write_bytes(fuzzer.FORMATS[beside](documents))
        (folder / name).write_bytes(make(documents))
        texts, rejects = fuzzer.ingested(folder, name)
        assert (len(texts), rejects) == (1 if name in fuzzer.SINGLE else len(documents), []), name


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz", "rows.parquet", "stream.arrow", "crawl.wet"])
def test_the_judge_notices_a_document_that_is_gone(fuzzer: ModuleType, name: str):
    documents = fuzzer.rows(fuzzer.random.Random(0))
    data, texts = fuzzer.FORMATS[name](documents), [row["text"] for row in documents]
    reject = {"line": 8, "reason": "invalid_json", "documents": 1}
    assert fuzzer.lost_unlisted(name, data, texts, []) == 0
    assert fuzzer.lost_unlisted(name, data, texts[:7] + texts[8:], []) == 1
    assert fuzzer.lost_unlisted(name, data, texts[:7] + texts[8:], [reject]) == 0
    assert fuzzer.lost_unlisted(name, data, texts[:7] + texts[9:], [reject]) == 1
