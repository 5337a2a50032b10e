"""Exports hold exactly the run, appear whole, and say what they hold."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from prereq.graph.errors import ConfigError, ManifestError
from prereq.selector.export import FORMATS, ExportRequest, export
from prereq.selector.rounds.manifest import read_chain
from prereq.selector.rounds.samples import SamplesConfig


def request(run: Any, to: str, out: Path, **more: Any) -> ExportRequest:
    if to in ("megatron", "nanogpt"):
        more = {"tokenizer": "bytes", **more}
    return ExportRequest(run_dir=str(run.folder), to=to, out=str(out), **more)


@pytest.mark.parametrize("to", FORMATS)
def test_every_format_is_written_once_and_whole(finished: Callable[..., Any], tmp_path: Path, to: str):
    run, out = finished(), tmp_path / "deep" / to
    first = export(request(run, to, out))
    chain = read_chain(run.run)
    assert not first.was_there
    assert first.facts["rounds"] == [0, 2]
    assert (first.facts["documents"], first.facts["tokens"]) == (32, sum(m.tokens for m in chain))
    assert first.facts["last"] == chain[-1].sha256
    assert json.loads((out / "export.json").read_bytes()) == first.facts
    assert [path.name for path in out.parent.iterdir()] == [to], "nothing is left beside it"
    there = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert there == {file["path"] for file in first.facts["files"]} | {"export.json"}
    again = export(request(run, to, out))
    assert again.was_there
    assert again.facts == first.facts
    with pytest.raises(ConfigError, match=r"holds another export \(it differs in rounds"):
        export(request(run, to, out, rounds=(0, 1)))


def test_parquet_has_the_rows_of_the_rounds_that_were_asked_for(
    finished: Callable[..., Any], rows: Callable[[Path], list[dict[str, Any]]], tmp_path: Path
):
    run = finished()
    export(request(run, "parquet", tmp_path / "out", rounds=(1, 2)))
    (file,) = (tmp_path / "out/data").iterdir()
    assert file.name == "train-00000-of-00001.parquet"
    assert pq.read_table(file).to_pylist() == rows(run.folder)[16:]


def test_a_running_run_gives_what_is_committed(finished: Callable[..., Any], tmp_path: Path):
    run = finished()
    (run.folder / "done.json").unlink()
    shutil.rmtree(run.folder / "rounds/000001")
    assert export(request(run, "megatron", tmp_path / "out")).facts["rounds"] == [0, 1]
    for rounds in ((0, 2), (1, None), (3, 2)):
        with pytest.raises(ConfigError, match="rounds 0 to 0 are committed"):
            export(request(run, "megatron", tmp_path / "more", rounds=rounds))


def test_damage_and_missing_files_stop_it_and_leave_nothing(finished: Callable[..., Any], tmp_path: Path):
    run = finished()
    shard = sorted(run.folder.glob("rounds/000001/shard-*"))[1]
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-9] + b"x" + whole[-8:])
    with pytest.raises(ManifestError, match=rf"{shard.name}: sha256 is .* the manifest says .*--repair 1"):
        export(request(run, "datasets", tmp_path / "out" / "x"))
    shard.unlink()
    with pytest.raises(ManifestError, match="is missing: it was lost"):
        export(request(run, "mds", tmp_path / "out" / "x"))
    (shard.parent / "deleted.json").write_text("{}")
    with pytest.raises(ManifestError, match="retention"):
        export(request(run, "nanogpt", tmp_path / "out" / "x"))
    assert list((tmp_path / "out").iterdir()) == []


def test_what_a_killed_export_left_is_removed_and_what_a_live_one_writes_is_not(
    finished: Callable[..., Any], tmp_path: Path
):
    run, host = finished(), os.uname().nodename
    dead, live = (tmp_path / f".out.partial-{host}-{process}-00000000" for process in (2**30, os.getpid()))
    dead.mkdir()
    live.mkdir()
    export(request(run, "mds", tmp_path / "out"))
    assert (dead.exists(), live.exists()) == (False, True)


def test_a_folder_with_something_else_is_refused(finished: Callable[..., Any], tmp_path: Path):
    run, out = finished(), tmp_path / "out"
    out.mkdir()
    (out / "mine").write_text("x")
    with pytest.raises(ConfigError, match="is not empty and not an export"):
        export(request(run, "mds", out))
    (out / "mine").unlink()
    export(request(run, "mds", out))
    (out / "index.json").write_text("{}")
    with pytest.raises(ConfigError, match="files of this export are missing or cut"):
        export(request(run, "mds", out))


def test_wrong_requests_say_what_is_right(finished: Callable[..., Any], tmp_path: Path):
    run = finished()
    with pytest.raises(ConfigError, match="'zip' is not one of megatron, nanogpt, mds, datasets, parquet"):
        request(run, "zip", tmp_path)
    with pytest.raises(ConfigError, match="tokenizer and eod go with"):
        request(run, "mds", tmp_path, eod="1")
    with pytest.raises(ConfigError, match="not a local folder"):
        ExportRequest(run_dir="x", to="mds", out="s3://bucket/x")
    with pytest.raises(ConfigError, match="names no tokenizer; give one"):
        export(request(run, "megatron", tmp_path / "o", tokenizer=None))
    with pytest.raises(ConfigError, match=r"<\|end\|>"):
        export(request(run, "megatron", tmp_path / "o", eod="<|end|>"))
    with pytest.raises(ManifestError, match=r"no run \(run.json is missing\)"):
        export(ExportRequest(run_dir=str(tmp_path / "none"), to="mds", out=str(tmp_path / "o")))


@pytest.mark.parametrize("eos", [None, 7])
def test_rows_of_tokens_are_taken_as_they_are(
    finished: Callable[..., Any], rows: Callable[[Path], list[dict[str, Any]]], tmp_path: Path, eos: int | None
):
    run = finished(samples=SamplesConfig(kind="tokens", bos=5, eos=eos))
    with pytest.raises(ConfigError, match="rows hold tokens of None, and --tokenizer bytes cannot change"):
        export(request(run, "nanogpt", tmp_path / "out"))
    if eos is None:
        with pytest.raises(ConfigError, match="what ends a document is not known; give --eod"):
            export(request(run, "nanogpt", tmp_path / "out", tokenizer=None))
    facts = export(request(run, "nanogpt", tmp_path / "out", tokenizer=None, eod=None if eos else "300")).facts
    expected = [token for row in rows(run.folder) for token in (*row["input_ids"], *([] if eos else [300]))]
    assert facts["written"]["dtype"] == "uint32", "nobody says how large the vocabulary is"
    assert np.fromfile(tmp_path / "out/train.bin", dtype="<u4").tolist() == expected
    assert not (tmp_path / "out/meta.pkl").exists()


def test_packed_rows_become_their_pieces_without_padding(
    finished: Callable[..., Any], rows: Callable[[Path], list[dict[str, Any]]], tmp_path: Path
):
    run = finished(samples=SamplesConfig(kind="packed", seq_len=128, eos=256, pad=999))
    facts = export(request(run, "nanogpt", tmp_path / "out", tokenizer=None)).facts
    pieces = [
        row["input_ids"][sum(row["lengths"][:i]) :][:length]
        for row in rows(run.folder)
        for i, length in enumerate(row["lengths"])
    ]
    tokens = np.fromfile(tmp_path / "out/train.bin", dtype="<u4")
    assert tokens.tolist() == [token for piece in pieces for token in piece]
    assert 999 not in tokens
    assert facts["written"]["documents"] == len(pieces)
    assert facts["written"]["tokens"] == facts["tokens"] + facts["documents"], "each document with its eos"
    with pytest.raises(ConfigError, match="do not say where a document that was cut ends; give --eod none"):
        export(request(run, "megatron", tmp_path / "other", tokenizer=None, eod="1"))
    export(request(run, "parquet", tmp_path / "rows"))
    assert pq.read_table(tmp_path / "rows/data/train-00000-of-00001.parquet").to_pylist() == rows(run.folder)


def test_a_count_that_differs_from_the_manifests_is_an_error(
    finished: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from prereq.selector.corpus.tokens import BytesTokenizer
    from prereq.selector.export import token_stream
    from prereq.selector.export.selection import select_rounds

    run = finished()
    run_json = json.loads((run.folder / "run.json").read_bytes())
    run_json["config"]["tokenizer"] = "bytes"
    (run.folder / "run.json").write_text(json.dumps(run_json))
    assert select_rounds(str(run.folder)).tokenizer == "bytes"
    monkeypatch.setattr(BytesTokenizer, "encode", lambda self, text: np.zeros(3, dtype=np.int32))
    stream = token_stream.open_tokens(select_rounds(str(run.folder)), None, None)
    with pytest.raises(ManifestError, match=r"hold 96 tokens, their manifests say \d+; is this the tokenizer"):
        list(stream.documents())
