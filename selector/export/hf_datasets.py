"""Hugging Face `datasets`: a folder for `load_from_disk` (Arrow), or Parquet files for `load_dataset`.

The features are left for the library to take from the columns, which every version of it does in its own way.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

_FILE_BYTES = 500 * 10**6  # of rows at which a file ends, the library's own
Open = Callable[[Path], AbstractContextManager[Any]]


def write_arrow(folder: Path, schema: pa.Schema, tables: Iterable[pa.Table], fingerprint: str) -> dict[str, Any]:
    """Write `data-*.arrow`, `state.json` and `dataset_info.json`; `datasets.load_from_disk(FOLDER)`.

    Args:
        folder: Exists.
        schema: Of the tables.
        tables: The rows, in order.
        fingerprint: 16 hex digits that say what the rows are; the library's caches go by it.
    """
    files, samples = _write(folder, tables, lambda path: pa.ipc.new_stream(str(path), schema))
    names = [f"data-{number:05d}-of-{len(files):05d}.arrow" for number in range(len(files))]
    for file, name in zip(files, names, strict=True):
        file.rename(folder / name)
    state: dict[str, Any] = {
        "_data_files": [{"filename": name} for name in names],
        "_fingerprint": fingerprint,
        "_format_columns": None,
        "_format_kwargs": {},
        "_format_type": None,
        "_output_all_columns": False,
        "_split": "train",
    }
    (folder / "state.json").write_text(json.dumps(state, indent=2))
    (folder / "dataset_info.json").write_text(json.dumps({"description": "", "citation": "", "homepage": ""}, indent=2))
    return {"samples": samples, "files": len(files)}


def write_parquet(folder: Path, schema: pa.Schema, tables: Iterable[pa.Table]) -> dict[str, Any]:
    """Write `data/train-*.parquet`; `datasets.load_dataset(FOLDER)`, or any reader of Parquet.

    Args:
        folder: Exists.
        schema: Of the tables.
        tables: The rows, in order.
    """
    data = folder / "data"
    data.mkdir()
    files, samples = _write(data, tables, lambda path: pq.ParquetWriter(str(path), schema, compression="zstd"))
    for number, file in enumerate(files):
        file.rename(data / f"train-{number:05d}-of-{len(files):05d}.parquet")
    return {"samples": samples, "files": len(files)}


def _write(folder: Path, tables: Iterable[pa.Table], open_file: Open) -> tuple[list[Path], int]:
    """Files under working names, in order, and the number of rows."""
    files: list[Path] = []
    samples = 0
    for group in _files_of(tables):
        files.append(folder / f"part-{len(files):05d}")
        with open_file(files[-1]) as writer:
            for table in group:
                writer.write_table(table)
                samples += table.num_rows
    return files, samples


def _files_of(tables: Iterable[pa.Table]) -> Iterator[Iterator[pa.Table]]:
    """Consecutive tables that share a file; each group is to be used up before the next."""
    source = iter(tables)
    for first in source:

        def group(table: pa.Table = first) -> Iterator[pa.Table]:
            size = 0
            while True:
                yield table
                size += table.nbytes
                if size >= _FILE_BYTES:
                    return
                following = next(source, None)
                if following is None:
                    return
                table = following

        yield group()
