"""Embedding, as stages: "sample" (per part), "embedding" (one task: the fit), "embed" (per part).

sample/NNNNN/part-00000.parquet      order, id, bytes, text: what of this part the fit may take, in sample order
embedding/fit/{words.json,*.npy}     the word model (`embedding.EmbeddingModel`)
embed/NNNNN/part-00000.parquet       id, vector (unit length, float32); rows as in the documents

The user's own vectors and models take the stages of `jobs.stages.vectors`.
"""

from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from prereq.graph.errors import TableError
from prereq.jobs.stages.runner import Bench, StageFile, StageResult, Task, run_stage
from prereq.jobs.stages.vectors import embed_by_model, embed_given
from prereq.selector.corpus.embedding import (
    MODEL_METHODS,
    EmbeddingConfig,
    EmbeddingModel,
    choose_sample,
    fit,
    sample_order,
)

_PART = "part-00000.parquet"
_KEYS = 50_000  # keys of a sample that are collected, at least, before it is chosen anew
_BATCH = 1024  # documents in memory at a time; the result does not depend on it
_LIBRARIES = ("fasttext-wheel", "numpy", "scikit-learn", "scipy")  # a fit depends on their versions
SAMPLE_SCHEMA = pa.schema(
    [("order", pa.uint64()), ("id", pa.string()), ("bytes", pa.int64()), ("text", pa.large_string())]
)


def embed(bench: Bench, documents: StageResult, config: EmbeddingConfig) -> StageResult:
    """Give every document a unit vector.

    Args:
        bench: Of this build.
        documents: Parts with columns id, text; for vectors of the user's own, parent.
        config: See `EmbeddingConfig`.

    Returns:
        The stage "embed": one part per part of the documents, `id, vector`, rows in the same order. Its counts say how
        many documents got the fallback vector, for want of a known word.

    Raises:
        TableError: There is no document, or one has no vector that can be used.
        ConfigError: The user's own vectors or model are not where they are said to be.
        PrereqError: A library of the model is missing.
    """
    parts = documents.matching("part-")
    if not sum(part.rows for part in parts):
        raise TableError(
            "embed: there is no document to embed; see the counts of ingest and dedup for what was left out"
        )
    if config.vectors is not None:
        return embed_given(bench, documents, config.vectors)
    if config.method in MODEL_METHODS:
        return embed_by_model(bench, documents, config)
    settings = {**config.settings(), "seed": bench.seed}
    samples = [Task(f"{i:05d}", (part.path, config, bench.seed), (part.sha256,)) for i, part in enumerate(parts)]
    taken = run_stage(bench, "sample", sample_part, samples, settings).matching("part-")
    task = Task("fit", ([file.path for file in taken], config, bench.seed), tuple(file.sha256 for file in taken))
    fitted = settings | {"libraries": {name: version(name) for name in _LIBRARIES}}
    model = run_stage(bench, "embedding", fit_model, [task], fitted).files
    return run_stage(bench, "embed", embed_part, list(_embed_tasks(parts, model, config)), config.settings())


def _embed_tasks(parts: list[StageFile], model: tuple[StageFile, ...], config: EmbeddingConfig) -> Iterator[Task]:
    paths, digests = [file.path for file in model], [file.sha256 for file in model]
    for index, part in enumerate(parts):
        yield Task(f"{index:05d}", (part.path, paths, config), (part.sha256, *digests))


def sample_part(output: str, path: str, config: EmbeddingConfig, seed: int) -> dict[str, int]:
    """Write the documents of one part that come first in sample order, up to the whole sample's size."""
    table = pq.read_table(path, columns=["id", "text"])
    texts = pc.utf8_slice_codeunits(table["text"], 0, config.max_characters)
    sizes = pc.binary_length(texts).to_numpy().astype(np.int64)
    ids = table["id"].to_pylist()
    order = sample_order(ids, seed)
    rows = choose_sample(order, ids, sizes, _budget(config))
    columns = [pa.array(order[rows]), table["id"].take(rows), pa.array(sizes[rows]), texts.take(rows)]
    chosen = pa.table(
        [pa.chunked_array(c) if isinstance(c, pa.Array) else c for c in columns], names=SAMPLE_SCHEMA.names
    )
    pq.write_table(chosen.cast(SAMPLE_SCHEMA), Path(output) / _PART, compression="zstd")
    return {}


def fit_model(output: str, paths: list[str], config: EmbeddingConfig, seed: int) -> dict[str, int]:
    """Fit the word model on the sample of the corpus and write its files."""
    texts = _read_sample(paths, _budget(config))
    model = fit(texts, config, seed)
    for name, data in model.files().items():
        (Path(output) / name).write_bytes(data)
    return {"documents": len(texts), "words": len(model.words)}


def embed_part(output: str, path: str, model_paths: list[str], config: EmbeddingConfig) -> dict[str, int]:
    """Write the vectors of one part."""
    model = EmbeddingModel.from_files({Path(p).name: Path(p).read_bytes() for p in model_paths})
    schema = pa.schema([("id", pa.string()), ("vector", pa.list_(pa.float32(), config.dim))])
    counts = {"documents": 0, "without known words": 0}
    with pq.ParquetFile(path) as source, pq.ParquetWriter(Path(output) / _PART, schema, compression="zstd") as writer:
        for batch in source.iter_batches(batch_size=_BATCH, columns=["id", "text"]):
            vectors, missing = model.embed(batch["text"].to_pylist(), config.max_characters)
            column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), config.dim)
            writer.write_batch(pa.record_batch([batch["id"].cast(pa.string()), column], schema=schema))
            counts["documents"] += len(vectors)
            counts["without known words"] += int(missing.sum())
    return counts


def _budget(config: EmbeddingConfig) -> int:
    return int(config.sample_mib * 2**20)


def _read_sample(paths: list[str], budget: int) -> list[str]:
    """The texts of the corpus's sample, in its order, out of the parts' own choices.

    Texts are read of those chosen only: of each part a prefix.
    """
    part, row = _sample_rows(paths, budget)
    texts: dict[tuple[int, int], str] = {}
    for number, count in enumerate(np.bincount(part, minlength=len(paths)).tolist()):
        if count:
            found = pq.read_table(paths[number], columns=["text"])["text"].slice(0, count).to_pylist()
            texts.update({(number, place): text for place, text in enumerate(found)})
    return [texts[key] for key in zip(part.tolist(), row.tolist(), strict=True)]


def _sample_rows(paths: list[str], budget: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Part and row of each document of the corpus's sample, in its order.

    Part after part; of the keys, the sample's and as many again are held, however large the corpus.
    """
    schema = pa.schema([SAMPLE_SCHEMA.field(name) for name in ("order", "id", "bytes")])
    held = schema.append(pa.field("part", pa.int64())).append(pa.field("row", pa.int64())).empty_table()
    settled = 0  # rows of `held` after the last choice
    for number, path in enumerate(paths):
        table = pq.read_table(path, columns=schema.names)
        table = table.append_column("part", pa.array(np.full(len(table), number)))
        held = pa.concat_tables([held, table.append_column("row", pa.array(np.arange(len(table))))])
        if len(held) > 2 * settled + _KEYS or number == len(paths) - 1:
            order, sizes = held["order"].to_numpy(), held["bytes"].to_numpy()
            held = held.take(pa.array(choose_sample(order, held["id"].to_pylist(), sizes, budget)))
            settled = len(held)
    return held["part"].to_numpy(), held["row"].to_numpy()
