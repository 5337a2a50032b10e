"""Which files a source reads, in which order, and what makes them the same files as last time."""

import os
from pathlib import Path

import pytest

from prereq.graph.errors import ConfigError
from prereq.selector.corpus import inputs
from prereq.selector.corpus.documents import SourceConfig
from prereq.selector.corpus.inputs import InputFile, find_inputs, group_by_bytes, open_input


def source(*paths: str | Path, form: str = "auto") -> SourceConfig:
    return SourceConfig(name="s", paths=tuple(str(path) for path in paths), format=form)  # type: ignore[arg-type]


def content(file: InputFile) -> bytes:
    with open_input(file) as stream:
        return stream.read()


def names(*paths: str | Path, form: str = "auto") -> list[str]:
    return [file.name for file in find_inputs(source(*paths, form=form))]


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small corpus in the current folder, named by relative paths."""
    for name in ("b.jsonl", "a.jsonl.gz", "sub/c.parquet", "sub/deep/d.md", "e.csv", ".hidden.txt", ".git/f.txt"):
        path = tmp_path / "corpus" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "corpus"


def test_a_folder_gives_its_known_files_in_order(corpus: Path):
    assert names("corpus") == ["corpus/a.jsonl.gz", "corpus/b.jsonl", "corpus/sub/c.parquet", "corpus/sub/deep/d.md"]
    assert names("corpus", form="jsonl") == ["corpus/a.jsonl.gz", "corpus/b.jsonl"]


def test_globs_and_files_are_read_once_each_and_named_as_given(corpus: Path):
    assert names("corpus/*.jsonl*", "corpus/b.jsonl") == ["corpus/a.jsonl.gz", "corpus/b.jsonl"]
    assert names("corpus/**/*.md") == ["corpus/sub/deep/d.md"]
    assert names(corpus / "b.jsonl") == [str(corpus / "b.jsonl")]
    files = find_inputs(source("corpus/*.jsonl*"))
    assert [(file.format, file.compression) for file in files] == [("jsonl", "gzip"), ("jsonl", "")]
    assert [file.bytes for file in files] == [len("a.jsonl.gz"), len("b.jsonl")]
    assert [file.path for file in files] == [str(corpus / "a.jsonl.gz"), str(corpus / "b.jsonl")]


@pytest.mark.parametrize("pattern", ["corpus/absent.jsonl", "corpus/*.parquet", "nowhere", "corpus/sub/deep/*.jsonl"])
def test_a_pattern_without_a_match_is_an_error(corpus: Path, pattern: str):
    with pytest.raises(ConfigError, match="no input file matches"):
        find_inputs(source(pattern))


def test_a_file_of_unknown_suffix_needs_a_format(corpus: Path):
    with pytest.raises(ConfigError, match=r"the format of corpus/e\.csv cannot be told"):
        find_inputs(source("corpus/e.csv"))
    assert find_inputs(source("corpus/e.csv", form="text"))[0].format == "text"


def test_a_name_with_glob_characters_is_a_file_where_it_exists(corpus: Path):
    (corpus / "odd[1].txt").write_text("x")
    assert names("corpus/odd[1].txt") == ["corpus/odd[1].txt"]


def test_a_name_that_is_not_utf8_is_escaped(corpus: Path):
    path = os.fsencode(corpus) + b"/bad\xff.txt"
    Path(os.fsdecode(path)).write_bytes(b"x")
    (file,) = find_inputs(source("corpus/bad*.txt"))
    assert file.name == "corpus/bad\\xff.txt"
    assert content(file) == b"x"


def test_urls_take_the_same_road(corpus: Path):
    url = f"file://{corpus}"
    assert names(url) == [f"{url}/a.jsonl.gz", f"{url}/b.jsonl", f"{url}/sub/c.parquet", f"{url}/sub/deep/d.md"]
    assert names(f"{url}/*.jsonl") == [f"{url}/b.jsonl"]
    assert names(f"{url}/**/*.md") == [f"{url}/sub/deep/d.md"]
    assert names(f"{url}/sub/c.parquet") == [f"{url}/sub/c.parquet"]
    (file,) = find_inputs(source(f"{url}/b.jsonl"))
    assert content(file) == b"b.jsonl"
    with pytest.raises(ConfigError, match="no input file matches"):
        find_inputs(source(f"{url}/absent/*.jsonl"))


def test_urls_that_only_fsspec_knows(corpus: Path):
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    memory.pipe("/corpus-of-a-test/x.jsonl", b'{"id": 1}\n')
    try:
        (file,) = find_inputs(source("memory://corpus-of-a-test/*.jsonl"))
        assert content(file) == b'{"id": 1}\n'
    finally:
        memory.rm("/corpus-of-a-test", recursive=True)
    with pytest.raises(ConfigError, match="cannot be opened"):
        find_inputs(source("nosuchscheme://x/y.jsonl"))


def test_a_fingerprint_follows_name_and_content_and_not_the_place(corpus: Path, tmp_path: Path):
    def fingerprint(name: str) -> str:
        return find_inputs(source(name))[0].fingerprint

    before = fingerprint("corpus/b.jsonl")
    os.utime(corpus / "b.jsonl", (1, 1))
    assert fingerprint("corpus/b.jsonl") == before
    (corpus / "b.jsonl").write_text("B.jsonl")
    assert fingerprint("corpus/b.jsonl") != before
    (corpus / "g.jsonl").write_text("b.jsonl")
    assert fingerprint("corpus/g.jsonl") != before, "places name the file, so its name counts"


def test_a_large_file_is_known_by_its_ends_size_and_time(corpus: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(inputs, "_WHOLE_BYTES", 100)
    monkeypatch.setattr(inputs, "_END_BYTES", 10)
    path = corpus / "large.txt"

    def fingerprint(data: bytes, time: int) -> str:
        path.write_bytes(data)
        os.utime(path, (time, time))
        return find_inputs(source("corpus/large.txt"))[0].fingerprint

    first = fingerprint(b"a" * 200, 1)
    assert fingerprint(b"a" * 200, 1) == first
    changed = [(b"b" + b"a" * 199, 1), (b"a" * 199 + b"b", 1), (b"a" * 201, 1), (b"a" * 200, 2)]
    assert len({first, *(fingerprint(data, time) for data, time in changed)}) == 5


def test_what_cannot_be_opened_is_listed_and_raises_when_read(corpus: Path):
    (corpus / "gone.jsonl").symlink_to("nowhere")
    os.mkfifo(corpus / "pipe.jsonl")
    files = {file.name: file for file in find_inputs(source("corpus/*.jsonl"))}
    for name in ("corpus/gone.jsonl", "corpus/pipe.jsonl"):
        assert files[name].bytes == 0
        assert files[name].fingerprint
        with pytest.raises(OSError):
            open_input(files[name])


def test_groups_keep_the_order_and_the_limit():
    files = [InputFile(str(size), "", "text", "", size) for size in (3, 4, 9, 1, 2, 0, 3)]
    groups = group_by_bytes(files, 7)
    assert [[file.bytes for file in group] for group in groups] == [[3, 4], [9], [1, 2, 0, 3]]
    assert group_by_bytes([], 7) == []


def test_the_library_is_a_source():
    files = find_inputs(SourceConfig(name="s", format="stdlib"))
    assert len(files) > 300
    assert {file.format for file in files} == {"stdlib"}
    assert all(not file.name.startswith("/") for file in files)


def test_a_line_end_in_a_file_name_stays_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    Path("a\nb\x1b[1m.txt").write_text("x")
    (file,) = find_inputs(SourceConfig(name="s", paths=("*.txt",)))
    assert file.name == r"a\nb\x1b[1m.txt"
    with open_input(file) as stream:
        assert stream.read() == b"x"
