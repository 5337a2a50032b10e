"""A folder's files are whole or absent, its names are taken once, and no name leaves it."""

import errno
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from prereq.graph.errors import ConfigError, PrereqError
from prereq.selector.storage import Folder


def test_a_committed_file_is_there_once(tmp_path: Path):
    folder = Folder(tmp_path / "run")
    assert folder.commit("rounds/000000/manifest.json", b"first") is True
    assert folder.commit("rounds/000000/manifest.json", b"second") is False
    assert folder.read("rounds/000000/manifest.json") == b"first"
    assert folder.names("rounds/000000") == ["manifest.json"]
    assert list((tmp_path / "run/rounds/000000").iterdir()) == [tmp_path / "run/rounds/000000/manifest.json"]


def test_of_many_writers_one_wins(tmp_path: Path):
    folder = Folder(tmp_path)
    barrier = threading.Barrier(8)
    won: list[int] = []

    def write(number: int) -> None:
        barrier.wait()
        if folder.commit("name", b"%d" % number * 1000):
            won.append(number)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert folder.read("name") == b"%d" % won[0] * 1000
    assert folder.names() == ["name"]


def test_replace_puts_a_whole_file_in_place_of_another(tmp_path: Path):
    folder = Folder(tmp_path)
    folder.replace("a/b", b"one")
    folder.replace("a/b", b"two")
    assert folder.read("a/b") == b"two"
    assert folder.names("a") == ["b"]


@pytest.mark.parametrize("name", ["", "/etc/passwd", "../x", "a/../../x", "a//b", "a/./b", "..", "a\\..\\b", "a/"])
def test_a_name_that_leaves_the_folder_is_refused(tmp_path: Path, name: str):
    folder = Folder(tmp_path)
    for act in (folder.path, folder.read, folder.exists, folder.size, folder.delete, folder.open, folder.sub):
        with pytest.raises(PrereqError, match="leaves the folder"):
            act(name)
    with pytest.raises(PrereqError, match="leaves the folder"):
        folder.commit(name, b"x")
    assert list(tmp_path.parent.glob("x")) == []


def test_questions_about_files(tmp_path: Path):
    folder = Folder(tmp_path)
    folder.replace("a/b", b"12345")
    assert folder.exists("a/b")
    assert folder.exists("a")
    assert not folder.exists("c")
    assert folder.size("a/b") == 5
    assert folder.names() == ["a"]
    assert folder.names("absent") == []
    assert folder.sub("a").read("b") == b"12345"
    with folder.open("a/b") as file:
        file.seek(3)
        assert file.read() == b"45"
    folder.delete("a/b")
    for act in (folder.read, folder.size, folder.delete):
        with pytest.raises(FileNotFoundError):
            act("a/b")


def test_a_url_reads_the_same_files(tmp_path: Path):
    Folder(tmp_path).replace("a/b", b"x")
    folder = Folder(f"file://{tmp_path}")
    assert folder.read("a/b") == b"x"
    assert folder.sub("a").names() == ["b"]
    assert folder.commit("c", b"y")
    assert (tmp_path / "c").read_bytes() == b"y"


def test_a_store_that_cannot_hold_a_run_is_refused_for_writing():
    with pytest.raises(ConfigError, match="nosuch://bucket/run: cannot be opened"):
        Folder("nosuch://bucket/run")


def test_leftovers_of_killed_writers_are_swept_and_never_listed(tmp_path: Path):
    folder = Folder(tmp_path)
    folder.replace("kept", b"x")
    (tmp_path / ".tmp-99-abc").write_bytes(b"half")
    assert folder.names() == ["kept"]
    assert folder.sweep(older_than_s=3600) == []
    assert folder.sweep() == [".tmp-99-abc"]
    assert folder.sweep() == []
    assert folder.sweep("absent") == []
    assert folder.read("kept") == b"x"


@pytest.mark.parametrize("act", ["commit", "replace"])
def test_a_writer_whose_temporary_file_was_swept_writes_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, act: str
):
    folder = Folder(tmp_path)
    name = "link" if act == "commit" else "replace"
    real, calls = getattr(os, name), []

    def after_a_sweep(source: str, target: str) -> None:
        calls.append(source)
        if len(calls) == 1:
            assert len(folder.sweep()) == 1
        real(source, target)

    monkeypatch.setattr(os, name, after_a_sweep)
    getattr(folder, act)("file", b"data")
    assert folder.read("file") == b"data"
    assert folder.names() == ["file"]
    assert len(set(calls)) == 2


def full(*_args: Any, **_values: Any) -> Any:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_is_one_line_and_leaves_nothing_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = Folder(tmp_path)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(PrereqError, match=r"name: could not be written \(No space left on device\); free space"):
        folder.commit("name", b"x")
    assert list(tmp_path.iterdir()) == []


def test_a_file_system_without_hard_links_is_named_as_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def no_links(*_args: Any) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", no_links)
    with pytest.raises(PrereqError, match="needs a file system with hard links"):
        Folder(tmp_path).commit("name", b"x")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_known_before_work_starts(tmp_path: Path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match="cannot be written"):
        Folder(tmp_path / "file" / "run").check_writable()
    with pytest.raises(PrereqError, match="could not be written"):
        Folder(tmp_path / "file").commit("run/name", b"x")
    folder = Folder(tmp_path / "new" / "run")
    folder.check_writable()
    assert folder.names() == []
    assert (tmp_path / "new" / "run").is_dir()
