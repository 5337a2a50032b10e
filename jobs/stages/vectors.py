"""Embedding by the user's own vectors or by a model of the user's own, as stages.

vector-index/NNNNN/{index.npy, length.json}   of each file of vectors: digests of ids with their rows, sorted
vector-check/all/length.json                  the length of all vectors, after looking for ids that appear twice
embed/NNNNN/part-00000.parquet                id, vector (unit length, float32); rows as in the documents

By a model, there is the stage "embed" only.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from prereq.graph.canonical import canonical_json
from prereq.graph.errors import ConfigError, PrereqError
from prereq.jobs.stages.runner import Bench, StageResult, Task, run_stage
from prereq.selector.corpus.embedding import EmbeddingConfig
from prereq.selector.corpus.given_vectors import (
    VectorsConfig,
    check_indexes,
    find_vectors,
    index_file,
    place_documents,
    read_vectors,
    unit_rows,
)
from prereq.selector.corpus.inputs import InputFile
from prereq.selector.corpus.text_models import LIBRARIES, ModelMethod, embed_texts, model_digest

_BATCH = 1024  # documents in memory at a time; a model's batches begin anew with each


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


def embed_by_model(bench: Bench, documents: StageResult, config: EmbeddingConfig) -> StageResult:
    """Give every document the vector that a model in a local folder gives it, as `jobs.stages.embed.embed`.

    Args:
        bench: Of this build.
        documents: Parts with columns id, text.
        config: With a method and folder of a model.

    Raises:
        ConfigError: The folder holds no such model, or not the same one everywhere.
        PrereqError: A library is missing, or the model fails.
        TableError: A vector holds no finite direction.
    """
    if config.model_path is None:
        raise ConfigError(f"embedding.model_path: embedding.method {config.method} needs it")
    model = model_digest(config.model_path)
    settings = {
        **{key: getattr(config, key) for key in ("method", "max_characters", "batch_size", "max_tokens")},
        "libraries": {name: _version(name) for name in LIBRARIES[config.method]},
    }
    # a worker may have another working folder
    config = replace(config, model_path=os.path.abspath(os.path.expanduser(config.model_path)))
    tasks = [
        Task(f"{i:05d}", (part.path, config, model), (part.sha256, model))
        for i, part in enumerate(documents.matching("part-"))
    ]
    return run_stage(bench, "embed", embed_texts_of_part, tasks, settings)


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError as error:
        raise PrereqError(
            f"embedding.method: this needs {library}, which is not installed: pip install 'prereq[models]'"
        ) from error


def embed_texts_of_part(output: str, path: str, config: EmbeddingConfig, model: str) -> dict[str, int]:
    """Write the vectors of one part that a model gives."""
    ids: list[str] = []
    found = []
    with pq.ParquetFile(path) as source:
        for batch in source.iter_batches(batch_size=_BATCH, columns=["id", "text"]):
            texts = pc.utf8_slice_codeunits(batch["text"], 0, config.max_characters).to_pylist()
            names = batch["id"].to_pylist()
            places = [f"embed: document {name!r} by the model in {config.model_path}" for name in names]
            found.append(unit_rows(_apply(texts, config, model), places))
            ids += names
    if not found:  # the part has no document, but its column has a length all the same
        found.append(_apply(["a"], config, model)[:0].astype(np.float32))
    write_vectors(output, ids, np.concatenate(found))
    return {"documents": len(ids)}


def _apply(texts: list[str], config: EmbeddingConfig, model: str) -> npt.NDArray[np.float64]:
    method, folder = cast(ModelMethod, config.method), str(config.model_path)
    return embed_texts(texts, method, folder, model, config.batch_size, config.max_tokens).astype(np.float64)


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
