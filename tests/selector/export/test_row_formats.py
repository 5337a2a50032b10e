"""MDS and Hugging Face folders read back by the libraries that they are for, where those are installed."""

import json
import os
import struct
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from prereq.selector.export import ExportRequest, export
from prereq.selector.export.hf_datasets import write_arrow
from prereq.selector.export.mds import write_mds
from prereq.selector.rounds.samples import SamplesConfig

CONSUMER = os.environ.get("PREREQ_CONSUMER_PYTHON", sys.executable)
PACKED = SamplesConfig(kind="packed", seq_len=128, eos=256)


def consume(module: str, program: str, folder: Path) -> Any:
    """What a program prints as JSON, run by a Python that has the library; skips where there is none."""
    if subprocess.run([CONSUMER, "-c", f"import {module}"], capture_output=True).returncode != 0:
        pytest.skip(f"{module} is not installed; set PREREQ_CONSUMER_PYTHON to a Python that has it")
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(folder.parent / "hf")}
    done = subprocess.run([CONSUMER, "-c", program, str(folder)], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


READ_MDS = """
import json, sys, numpy as np
from streaming import StreamingDataset
data = StreamingDataset(local=sys.argv[1], shuffle=False, batch_size=4, validate_hash="sha256")
plain = lambda value: value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value
print(json.dumps([{k: plain(v) for k, v in data[i].items()} for i in range(data.num_samples)]))
"""
READ_DATASETS = """
import json, sys
from datasets import load_from_disk
data = load_from_disk(sys.argv[1])
print(json.dumps(list(data)))
"""
READ_PARQUET = """
import json, sys
from datasets import load_dataset
print(json.dumps(list(load_dataset(sys.argv[1], split="train"))))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("to", "module", "program"),
    [("mds", "streaming", READ_MDS), ("datasets", "datasets", READ_DATASETS), ("parquet", "datasets", READ_PARQUET)],
)
def test_the_real_library_reads_every_row(
    finished: Callable[..., Any],
    rows: Callable[[Path], list[dict[str, Any]]],
    tmp_path: Path,
    to: str,
    module: str,
    program: str,
):
    for name, settings in (("text", {}), ("packed", {"samples": PACKED})):
        run, out = finished(name, **settings), tmp_path / f"out-{name}"
        export(ExportRequest(run_dir=str(run.folder), to=to, out=str(out)))
        assert consume(module, program, out) == rows(run.folder)


def read_mds(folder: Path) -> list[dict[str, Any]]:
    """All rows, by the layout of version 2 of the format."""
    index = json.loads((folder / "index.json").read_bytes())
    assert index["version"] == 2
    found = []
    for shard in index["shards"]:
        data = (folder / shard["raw_data"]["basename"]).read_bytes()
        assert len(data) == shard["raw_data"]["bytes"]
        (count,) = struct.unpack_from("<I", data)
        assert count == shard["samples"]
        borders = struct.unpack_from(f"<{count + 1}I", data, 4)
        assert borders[-1] == len(data)
        names, kinds, widths = (shard[f"column_{key}"] for key in ("names", "encodings", "sizes"))
        for start, stop in pairwise(borders):
            free = widths.count(None)
            sizes = iter(struct.unpack_from(f"<{free}I", data, start))
            at, row = start + 4 * free, {}
            for name, kind, width in zip(names, kinds, widths, strict=True):
                size = width or next(sizes)
                row[name] = decode(kind, data[at : at + size])
                at += size
            assert at == stop
            found.append(row)
    return found


def decode(kind: str, data: bytes) -> Any:
    if kind == "str":
        return data.decode()
    if kind == "int":
        return struct.unpack("<q", data)[0]
    if kind == "json":
        return json.loads(data)
    assert kind == "ndarray:int32"
    assert data[0] >> 2 == 1
    width = 1 << (data[0] & 3)
    length = int.from_bytes(data[1 : 1 + width], "little")
    values = np.frombuffer(data[1 + width :], "<i4")
    assert len(values) == length
    return values.tolist()


@pytest.mark.parametrize("settings", [{}, {"samples": PACKED}])
def test_mds_read_by_its_layout_holds_every_row(
    finished: Callable[..., Any],
    rows: Callable[[Path], list[dict[str, Any]]],
    tmp_path: Path,
    settings: dict[str, Any],
):
    run, out = finished(**settings), tmp_path / "out"
    export(ExportRequest(run_dir=str(run.folder), to="mds", out=str(out)))
    assert read_mds(out) == rows(run.folder)


def test_mds_shards_end_where_they_are_full_and_lists_of_any_length_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from prereq.selector.export import mds

    monkeypatch.setattr(mds, "_SHARD_BYTES", 300_000)
    lists = [list(range(length)) for length in (1, 255, 256, 65_535, 65_536, 3)]
    ids = pa.array(lists, pa.list_(pa.int32()))
    table = pa.table({"id": list("abcdef"), "input_ids": ids, "level": ["x", None, "é", "", "1", None]})
    facts = write_mds(tmp_path, table.schema, [table.slice(0, 4), table.slice(4)])
    assert facts == {"samples": 6, "shards": 2}
    assert read_mds(tmp_path) == table.to_pylist()


def test_files_of_a_datasets_folder_end_where_they_are_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from prereq.selector.export import hf_datasets

    monkeypatch.setattr(hf_datasets, "_FILE_BYTES", 2000)
    table = pa.table({"id": [f"document {i}" for i in range(400)]})
    tables = [table.slice(start, 50) for start in range(0, 400, 50)]
    facts = write_arrow(tmp_path, table.schema, tables, "0" * 16)
    assert facts == {"samples": 400, "files": 3}
    names = [file["filename"] for file in json.loads((tmp_path / "state.json").read_bytes())["_data_files"]]
    assert names == [f"data-{number:05d}-of-00003.arrow" for number in range(3)]
    assert sorted(path.name for path in tmp_path.glob("*.arrow")) == names
    whole = pa.concat_tables([pa.ipc.open_stream(str(tmp_path / name)).read_all() for name in names])
    assert whole.equals(table)
