"""Embedding by the user's own vectors, as stages.

vector-index/NNNNN/{index.npy, length.json}   of each file of vectors: digests of ids with their rows, sorted
vector-check/all/length.json                  the length of all vectors, after looking for ids that appear twice
embed/NNNNN/part-00000.parquet                id, vector (unit length, float32); rows as in the documents
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from prereq.graph.canonical import canonical_json
from prereq.jobs.stages.runner import Bench, StageResult, Task, run_stage
from prereq.selector.corpus.given_vectors import (
    VectorsConfig,
    check_indexes,
    find_vectors,
    index_file,
    place_documents,
    read_vectors,
)
from prereq.selector.corpus.inputs import InputFile


def embed_given(bench: Bench, documents: StageResult, config: VectorsConfig) -> StageResult:
    """Give every document its vector, as `jobs.stages.embed.embed`.

    Args:
        bench: Of this build.
        documents: Parts with columns id, parent.
        config: Files and columns.

    Raises:
        ConfigError: A path matches nothing, or a file has other columns.
        TableError: An id is missing or appears twice, or a vector cannot be used.
    """
    files = find_vectors(config)
    settings = {"columns": [config.id_column, config.vector_column]}
    tasks = [Task(f"{i:05d}", (file, config), (file.fingerprint,)) for i, file in enumerate(files)]
    indexed = run_stage(bench, "vector-index", write_index, tasks, settings)
    indexes, lengths = indexed.matching("index"), indexed.matching("length")
    paths = [file.path for file in indexes]
    inputs = (*(file.fingerprint for file in files), *(file.sha256 for file in indexed.files))
    args = (files, paths, [file.path for file in lengths], config.id_column)
    checked = run_stage(bench, "vector-check", check, [Task("all", args, inputs)], settings).files[0]
    tasks = [
        Task(f"{i:05d}", (part.path, files, paths, checked.path, config), (part.sha256, checked.sha256, *inputs))
        for i, part in enumerate(documents.matching("part-"))
    ]
    return run_stage(bench, "embed", embed_part, tasks, settings)


def write_index(output: str, file: InputFile, config: VectorsConfig) -> dict[str, int]:
    """Write the index of one file of vectors."""
    index, length = index_file(file, config)
    np.save(Path(output) / "index.npy", index, allow_pickle=False)
    (Path(output) / "length.json").write_bytes(canonical_json(length))
    return {"vectors": index.shape[1]}


def check(
    output: str, files: Sequence[InputFile], indexes: Sequence[str], lengths: Sequence[str], id_column: str
) -> dict[str, int]:
    """Compare the indexes of all files and write the length of a vector; 40 bytes a vector are held in memory."""
    loaded = [np.load(path, mmap_mode="r") for path in indexes]
    length = check_indexes(files, loaded, [json.loads(Path(path).read_bytes()) for path in lengths], id_column)
    (Path(output) / "length.json").write_bytes(canonical_json(length))
    return {}


def embed_part(
    output: str, path: str, files: Sequence[InputFile], indexes: Sequence[str], length_path: str, config: VectorsConfig
) -> dict[str, int]:
    """Write the vectors of one part."""
    table = pq.read_table(path, columns=["id", "parent"])
    ids, length = table["id"].to_pylist(), json.loads(Path(length_path).read_bytes())
    loaded = [np.load(index, mmap_mode="r") for index in indexes]
    wanted, by_parent = place_documents(ids, table["parent"].to_pylist(), loaded)
    vectors = np.zeros((len(ids), length), dtype=np.float32)
    for file, own in zip(files, wanted, strict=True):
        for rows, found in read_vectors(file, own, ids, length, config):
            vectors[rows] = found
    write_vectors(output, ids, vectors)
    return {"documents": len(ids)} | ({"by the vector of the whole": by_parent} if by_parent else {})


def write_vectors(output: str, ids: Sequence[str], vectors: np.ndarray) -> None:
    """A part of the stage "embed"."""
    length = vectors.shape[1]
    schema = pa.schema([("id", pa.string()), ("vector", pa.list_(pa.float32(), length))])
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), length)
    written = pa.table([pa.array(ids, pa.string()), column], schema=schema)
    pq.write_table(written, Path(output) / "part-00000.parquet", compression="zstd")
