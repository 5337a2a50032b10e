"""Megatron's and nanoGPT's files, read back by readers written from their layout, and Megatron's by itself."""

import json
import os
import pickle
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from prereq.selector.export import ExportRequest, export
from prereq.selector.export.megatron import write_megatron

MEGATRON = os.environ.get("PREREQ_MEGATRON_PYTHON", sys.executable)


def read_index(prefix: Path) -> tuple[list[list[int]], list[int], str]:
    """Sequences, document borders and type, by the published layout of `.idx` version 1."""
    index = prefix.with_suffix(".idx").read_bytes()
    assert index[:9] == b"MMIDIDX\x00\x00"
    version, code, sequences, documents = struct.unpack_from("<QBQQ", index, 9)
    assert version == 1
    kind = {4: "<i4", 8: "<u2"}[code]
    at = 9 + struct.calcsize("<QBQQ")
    sizes = np.frombuffer(index, "<i4", sequences, at)
    pointers = np.frombuffer(index, "<i8", sequences, at + 4 * sequences)
    borders = np.frombuffer(index, "<i8", documents, at + 12 * sequences)
    assert len(index) == at + 12 * sequences + 8 * documents, "nothing stands behind"
    data = prefix.with_suffix(".bin").read_bytes()
    found = [np.frombuffer(data, kind, size, start).tolist() for size, start in zip(sizes, pointers, strict=True)]
    assert sum(sizes) * np.dtype(kind).itemsize == len(data)
    return found, borders.tolist(), kind


def test_megatrons_index_leads_to_every_document(
    finished: Callable[..., Any], rows: Callable[[Path], list[dict[str, Any]]], tmp_path: Path
):
    run = finished()
    facts = export(
        ExportRequest(run_dir=str(run.folder), to="megatron", out=str(tmp_path / "out"), tokenizer="bytes")
    ).facts
    found, borders, kind = read_index(tmp_path / "out/data")
    assert found == [[*row["text"].encode(), 256] for row in rows(run.folder)]
    assert borders == list(range(33))
    assert kind == "<u2"
    assert facts["written"] == {"documents": 32, "tokens": facts["tokens"] + 32, "dtype": "uint16"}


def test_a_large_vocabulary_takes_four_bytes(tmp_path: Path):
    documents = [np.array(ids, dtype=np.int32) for ids in ([1, 70_000], [], [2, 3, 4])]
    for vocabulary, kind in ((65_499, "<u2"), (65_500, "<i4"), (None, "<i4")):
        small = documents[1:] if kind == "<u2" else documents
        write_megatron(tmp_path, small, vocabulary)
        found, borders, written = read_index(tmp_path / "data")
        assert (found, written) == ([ids.tolist() for ids in small], kind)
        assert borders == list(range(len(small) + 1))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data.bin", "data.idx"]


def test_the_index_is_written_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from prereq.selector.export import megatron

    monkeypatch.setattr(megatron, "_CHUNK", 3)
    documents = [np.arange(length, dtype=np.int32) for length in (3, 0, 5, 1, 2, 8, 4)]
    write_megatron(tmp_path, documents, 100)
    found, borders, _ = read_index(tmp_path / "data")
    assert found == [ids.tolist() for ids in documents]
    assert borders == list(range(8))


READ_BY_MEGATRON = """
import json, sys
from megatron.core.datasets.indexed_dataset import IndexedDataset
data = IndexedDataset(sys.argv[1])
print(json.dumps([data[i].tolist() for i in range(len(data))] + [data.document_indices.tolist()]))
"""


@pytest.mark.slow
def test_megatron_itself_reads_it(
    finished: Callable[..., Any], rows: Callable[[Path], list[dict[str, Any]]], tmp_path: Path
):
    """Where $PREREQ_MEGATRON_PYTHON (or this Python) has megatron-core."""
    probe = subprocess.run([MEGATRON, "-c", "import megatron.core.datasets.indexed_dataset"], capture_output=True)
    if probe.returncode != 0:
        pytest.skip("megatron-core is not installed; set PREREQ_MEGATRON_PYTHON to a Python that has it")
    run, out = finished(), tmp_path / "out"
    export(ExportRequest(run_dir=str(run.folder), to="megatron", out=str(out), tokenizer="bytes"))
    command = [MEGATRON, "-c", READ_BY_MEGATRON, str(out / "data")]
    *found, borders = json.loads(
        subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1]
    )
    assert found == [[*row["text"].encode(), 256] for row in rows(run.folder)]
    assert borders == list(range(33))


def test_nanogpts_files_are_what_its_train_and_sample_programs_load(
    finished: Callable[..., Any], rows: Callable[[Path], list[dict[str, Any]]], tmp_path: Path
):
    run, out = finished(), tmp_path / "out"
    facts = export(ExportRequest(run_dir=str(run.folder), to="nanogpt", out=str(out), tokenizer="bytes")).facts
    train = np.memmap(out / "train.bin", dtype=np.uint16, mode="r")  # as train.py's get_batch
    assert train.tolist() == [token for row in rows(run.folder) for token in (*row["text"].encode(), 256)]
    held = np.memmap(out / "val.bin", dtype=np.uint16, mode="r")
    text = bytes(token for token in held if token != 256).decode()
    assert text.count("held out control") == text.count("held out") == 4 * 2 * 4, "the control split, and nothing else"
    assert facts["written"]["validation_tokens"] == len(held)
    meta = pickle.loads((out / "meta.pkl").read_bytes())  # as sample.py does
    assert meta["vocab_size"] == 257
    assert "".join(meta["itos"][token] for token in [meta["stoi"][c] for c in "a\n"]) == "a\n"
    assert max(meta["itos"]) == 256


def test_without_the_pool_there_is_nothing_to_validate_on(finished: Callable[..., Any], tmp_path: Path):
    run, out = finished(), tmp_path / "out"
    (Path(run.pool.folder.name) / "manifest.json").unlink()
    facts = export(ExportRequest(run_dir=str(run.folder), to="nanogpt", out=str(out), tokenizer="bytes")).facts
    assert facts["written"]["validation_tokens"] is None
    assert not (out / "val.bin").exists()
