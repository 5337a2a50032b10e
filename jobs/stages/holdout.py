"""Setting documents aside, as stages: "facts" (per part), "holdout" (one task).

facts/NNNNN/part-00000.parquet      what later stages need of each document, as numbers and digests; rows as in the part
holdout/holdout/part-NNNNN.parquet  `split` of each document of part NNNNN
holdout/holdout/evaluation.parquet  a user's own evaluation set, where there is one
holdout/holdout/skills.json         documents per skill in the pool, in control, in report

Only the "holdout" task sees all documents at once. Measured with two skills a document: 450 MiB at its peak for a
million documents, 340 bytes for each further one.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from prereq.graph.canonical import canonical_json
from prereq.graph.errors import TableError
from prereq.jobs.stages.runner import Bench, StageFile, StageResult, Task, run_stage
from prereq.selector.corpus.evaluation_set import file_digest, read_evaluation_set
from prereq.selector.corpus.holdout import (
    CONTROL,
    DROPPED,
    POOL,
    REPORT,
    SPLITS,
    HoldoutConfig,
    SplitArray,
    Tags,
    choose_holdout,
    drop_equal,
    join_groups,
)
from prereq.selector.corpus.keys import id_keys
from prereq.selector.corpus.normalise import CONTENT_BYTES, content_digest
from prereq.selector.corpus.tokens import make_tokenizer

FACTS_SCHEMA = pa.schema(
    [
        ("key", pa.uint64()),  # id_keys of the id
        ("parent", pa.uint64()),  # id_keys of the source document's id
        ("component", pa.int64()),  # near duplicates share it
        ("content", pa.binary(CONTENT_BYTES)),  # content_digest
        ("text", pa.binary(32)),  # sha256 of the text
        ("n_tokens", pa.int64()),
        ("bytes", pa.int64()),  # UTF-8 bytes of the text
        ("skills", pa.list_(pa.int32())),  # positions in the graph
        ("label", pa.int32()),  # cluster or source by number, -1 where arms are skills
    ]
)


@dataclass(frozen=True, slots=True)
class Parts:
    """The files of one documents part, rows in the same order in all of them."""

    documents: StageFile
    vectors: StageFile
    tags: StageFile
    clusters: StageFile | None  # where arms are clusters


@dataclass(frozen=True, slots=True)
class FactsConfig:
    """What decides the facts of a part beyond its files."""

    tokenizer: str
    skills: tuple[str, ...]  # ids, graph order
    sources: tuple[str, ...]  # names, sorted; empty unless arms are sources


def set_aside(
    bench: Bench, parts: Sequence[Parts], facts: FactsConfig, config: HoldoutConfig
) -> tuple[StageResult, StageResult]:
    """Gather the facts of every document and choose the holdout.

    Returns:
        The stages "facts" and "holdout".

    Raises:
        TableError: Parts do not fit together, or a user's evaluation set cannot be used.
    """
    tasks = [Task(f"{index:05d}", (part, facts), _digests(part)) for index, part in enumerate(parts)]
    gathered = run_stage(bench, "facts", facts_part, tasks, asdict(facts))
    inputs = tuple(file.sha256 for file in gathered.files)
    if config.path is not None:
        inputs += (file_digest(config.path),)
    paths = [file.path for file in gathered.files]
    settings = {
        "holdout": asdict(config),
        "seed": bench.seed,
        "skills": list(facts.skills),
        "tokenizer": facts.tokenizer,
    }
    task = Task("holdout", (paths, facts, config, bench.seed), inputs)
    return gathered, run_stage(bench, "holdout", choose_task, [task], settings)


def _digests(part: Parts) -> tuple[str, ...]:
    files = (part.documents, part.vectors, part.tags, part.clusters)
    return tuple(file.sha256 for file in files if file is not None)


def facts_part(output: str, part: Parts, config: FactsConfig) -> dict[str, int]:
    """Write the facts of one part."""
    columns = ["id", "text", "source", "parent", "component", "content"]
    table = pq.read_table(part.documents.path, columns=columns).combine_chunks()
    ids = table["id"].to_pylist()
    check_ids(part.vectors.path, part.documents.path, ids)
    tags = pq.read_table(part.tags.path, columns=["id", "skills"])
    _check_same(tags["id"], ids, part.tags.path, part.documents.path)
    texts = table["text"].to_pylist()
    contents = table["content"].to_pylist()
    if any(content_digest(text) != content for text, content in zip(texts[:1], contents[:1], strict=True)):
        raise TableError(f"{part.documents.path}: content digests are of another version; delete the pool's stages")
    encoded = [text.encode("utf-8", "surrogatepass") for text in texts]
    tokens = make_tokenizer(config.tokenizer).counts(texts)
    place = {skill: number for number, skill in enumerate(config.skills)}
    facts = {
        "key": id_keys(ids),
        "parent": id_keys(table["parent"].to_pylist()),
        "component": table["component"],
        "content": table["content"],
        "text": pa.array([hashlib.sha256(data).digest() for data in encoded], pa.binary(32)),
        "n_tokens": tokens,
        "bytes": np.fromiter(map(len, encoded), dtype=np.int64, count=len(encoded)),
        "skills": pa.array([[place[s] for s in found] for found in tags["skills"].to_pylist()], pa.list_(pa.int32())),
        "label": _labels(part, table["source"].to_pylist(), ids, config),
    }
    pq.write_table(pa.table(facts, schema=FACTS_SCHEMA), Path(output) / "part-00000.parquet", compression="zstd")
    return {"documents": len(ids), "tokens": int(tokens.sum())}


def _labels(part: Parts, sources: list[str], ids: list[str], config: FactsConfig) -> NDArray[np.int32]:
    if part.clusters is not None:
        clusters = pq.read_table(part.clusters.path, columns=["id", "cluster"])
        _check_same(clusters["id"], ids, part.clusters.path, part.documents.path)
        return np.asarray(clusters["cluster"].to_numpy(), dtype=np.int32)
    number = {name: place for place, name in enumerate(config.sources)}
    return np.array([number.get(source, -1) for source in sources], dtype=np.int32)


def check_ids(path: str, documents: str, ids: list[str]) -> None:
    """Check that a part has the rows of its documents part.

    Raises:
        TableError: It has not.
    """
    _check_same(pq.read_table(path, columns=["id"])["id"], ids, path, documents)


def _check_same(found: pa.ChunkedArray, ids: list[str], path: str, documents: str) -> None:
    if found.to_pylist() != ids:
        raise TableError(f"{path}: its rows are not those of {documents}; delete the pool's stages and build again")


@dataclass(frozen=True, slots=True)
class Facts:
    """Facts of all documents of a pool, parts end to end."""

    columns: dict[str, NDArray[Any]]
    tags: Tags
    borders: NDArray[np.int64]  # (parts + 1,) rows before each part


def read_facts(paths: Sequence[str], columns: Sequence[str], skills: int) -> Facts:
    """Read some facts of all parts into arrays; digests come as fixed-width bytes."""
    tables = [pq.read_table(path, columns=[*columns, "skills"]) for path in paths]
    borders = np.concatenate([[0], np.cumsum([table.num_rows for table in tables])]).astype(np.int64)
    whole = pa.concat_tables(tables).combine_chunks() if tables else FACTS_SCHEMA.empty_table()
    arrays = {name: _numpy(whole[name].combine_chunks()) for name in columns}
    lists = whole["skills"].combine_chunks()
    sizes = lists.value_lengths().to_numpy(zero_copy_only=False).astype(np.int64)
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    values = lists.flatten().to_numpy(zero_copy_only=False).astype(np.int64)
    return Facts(arrays, Tags(offsets, values, skills), borders)


def _numpy(column: Any) -> NDArray[Any]:
    array = column if isinstance(column, pa.Array) else pa.concat_arrays(column.chunks)
    if not pa.types.is_fixed_size_binary(array.type):
        return np.asarray(array.to_numpy(zero_copy_only=False))
    width = array.type.byte_width
    data = array.buffers()[1]
    raw = b"" if data is None else data.to_pybytes()[array.offset * width : (array.offset + len(array)) * width]
    return np.frombuffer(raw, dtype=f"S{width}", count=len(array))


def choose_task(output: str, paths: list[str], facts: FactsConfig, config: HoldoutConfig, seed: int) -> dict[str, int]:
    """Write which split every document is in."""
    known = read_facts(paths, ["key", "parent", "component", "content"], len(facts.skills))
    columns = known.columns
    foreign = np.zeros(0, dtype=f"S{CONTENT_BYTES}")
    evaluation = None
    if config.path is None:
        groups = join_groups(columns["parent"], columns["component"])
        splits = choose_holdout(columns["key"], groups, known.tags, config, seed)
    else:
        splits = np.full(len(columns["key"]), POOL, dtype=np.int8)
        evaluation = read_evaluation_set(config.path, facts.skills, make_tokenizer(facts.tokenizer), seed)
        foreign = np.array([content_digest(text) for text in evaluation["text"].to_pylist()], dtype=foreign.dtype)
        pq.write_table(evaluation, Path(output) / "evaluation.parquet", compression="zstd")
    splits = drop_equal(splits, columns["content"], foreign)
    for number, (start, stop) in enumerate(zip(known.borders, known.borders[1:], strict=False)):
        table = pa.table({"split": pa.array(splits[start:stop], pa.int8())})
        pq.write_table(table, Path(output) / f"part-{number:05d}.parquet", compression="zstd")
    skills = _count_skills(known.tags, splits, facts.skills, evaluation)
    (Path(output) / "skills.json").write_bytes(canonical_json(skills))
    return _totals(splits, evaluation)


def _count_skills(
    tags: Tags, splits: SplitArray, skills: Sequence[str], evaluation: pa.Table | None
) -> dict[str, dict[str, int]]:
    """Documents per skill and split, `{skill: {pool, control, report}}`."""
    counts = {"pool": tags.counts(splits == POOL)}
    counts |= {name: tags.counts(splits == split) for split, name in SPLITS.items()}
    found = {skill: {name: int(values[k]) for name, values in counts.items()} for k, skill in enumerate(skills)}
    for row in evaluation.select(["skills", "split"]).to_pylist() if evaluation is not None else []:
        for skill in row["skills"]:
            found[skill][row["split"]] += 1
    return found


def _totals(splits: SplitArray, evaluation: pa.Table | None) -> dict[str, int]:
    own = {name: int((splits == split).sum()) for split, name in ((CONTROL, "control"), (REPORT, "report"))}
    for split in evaluation["split"].to_pylist() if evaluation is not None else []:
        own[split] += 1
    return {"pool": int((splits == POOL).sum()), **own, "same text as holdout": int((splits == DROPPED).sum())}
