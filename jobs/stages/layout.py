"""Laying the pool out by arm, as stages: "scatter" (per part), "gather" (per bucket), "gather-holdout".

scatter/NNNNN/part-00000.parquet  the part's pool documents, a row group per bucket, listed in the schema's metadata
scatter/NNNNN/holdout.parquet     the part's holdout documents, where it has some
gather/NNNNN/part-00000.parquet   a part of the pool: row groups of one arm each, documents in stored order
gather/NNNNN/groups.json          arm, rows and tokens of each row group
gather-holdout/holdout/holdout-NNNNN.parquet

A document is moved twice, so no task holds more than a documents part or a pool part.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from prereq.graph.canonical import canonical_json
from prereq.jobs.stages.arms import Labelling, choose_arms
from prereq.jobs.stages.holdout import FactsConfig, Parts, set_aside
from prereq.jobs.stages.runner import Bench, StageFile, StageResult, Task, run_stage
from prereq.selector.corpus.documents import RESERVED_COLUMNS
from prereq.selector.corpus.holdout import POOL, SPLITS, HoldoutConfig
from prereq.selector.corpus.keys import id_keys, seeded_order
from prereq.selector.corpus.layout import (
    HOLDOUT_SCHEMA,
    POOL_COLUMNS,
    STORED_ORDER,
    LayoutConfig,
    metadata_columns,
    row_groups,
)
from prereq.selector.corpus.tokens import make_tokenizer


@dataclass(frozen=True, slots=True)
class Layout:
    """The stages whose files make a pool."""

    facts: StageResult
    holdout: StageResult
    arms: StageResult
    scatter: StageResult
    gather: StageResult
    gather_holdout: StageResult


def lay_out(
    bench: Bench,
    parts: Sequence[Parts],
    labelling: Labelling,
    *,
    sources: Sequence[str],
    tokenizer: str,
    holdout: HoldoutConfig,
    layout: LayoutConfig,
) -> Layout:
    """Choose the holdout, then write the pool's parts arm by arm.

    Args:
        bench: Of this build.
        parts: Files of every documents part.
        labelling: Names of the arms to be, and the graph's skills.
        sources: Names of the sources, sorted.
        tokenizer: What a token is.
        holdout: Sizes of the holdout.
        layout: Kind of arm, sizes of the pool's pieces.

    Raises:
        TableError: Parts do not fit together, or no document is left for the pool.
    """
    facts = FactsConfig(tokenizer, labelling.skills, tuple(sources) if layout.arms == "source" else ())
    gathered, chosen = set_aside(bench, parts, facts, holdout)
    plan = choose_arms(bench, parts, gathered, chosen, labelling, layout)
    scattered = _scatter(bench, parts, plan, facts)
    written = _gather(bench, scattered, layout)
    return Layout(gathered, chosen, plan, scattered, written, _gather_holdout(bench, scattered, chosen, layout))


@dataclass(frozen=True, slots=True)
class _Shape:
    """What scatter needs beside the files of a part."""

    arms: str  # arms.parquet
    tokenizer: str
    metadata: tuple[str, ...]  # user's columns, over all parts
    seed: int


def _scatter(bench: Bench, parts: Sequence[Parts], plan: StageResult, facts: FactsConfig) -> StageResult:
    metadata: set[str] = set()
    for part in parts:
        metadata |= set(metadata_columns(pq.read_schema(part.documents.path), sorted(RESERVED_COLUMNS)))
    arms = plan.matching("arms.parquet")[0]
    shape = _Shape(arms.path, facts.tokenizer, tuple(sorted(metadata)), bench.seed)
    tasks = [
        Task(
            f"{index:05d}",
            (part, where.path, shape),
            (part.documents.sha256, part.tags.sha256, where.sha256, arms.sha256),
        )
        for index, (part, where) in enumerate(zip(parts, plan.matching("part-"), strict=True))
    ]
    settings = {"metadata": list(shape.metadata), "tokenizer": shape.tokenizer, "seed": bench.seed}
    return run_stage(bench, "scatter", scatter_part, tasks, settings)


def scatter_part(output: str, part: Parts, plan: str, shape: _Shape) -> dict[str, int]:
    """Write one part's pool documents bucket by bucket, and its holdout documents."""
    where = pq.read_table(plan)
    schema = pq.read_schema(part.documents.path)
    own = [name for name in shape.metadata if name in schema.names]
    documents = pq.read_table(part.documents.path, columns=["id", "text", "source", *own]).combine_chunks()
    skills = pq.read_table(part.tags.path, columns=["skills"])["skills"]
    arms = pa.concat_tables([pq.read_table(shape.arms, columns=["id"])])["id"]
    tokens = make_tokenizer(shape.tokenizer).counts(documents["text"].to_pylist())
    full = documents.append_column("skills", skills.cast(pa.list_(pa.string()))).append_column(
        "n_tokens", pa.array(tokens, pa.int64())
    )
    split = where["split"].to_numpy()
    _write_holdout(Path(output) / "holdout.parquet", full, split)
    rows = np.flatnonzero(split == POOL)
    bucket = where["bucket"].to_numpy()[rows]
    rows = rows[np.argsort(bucket, kind="stable")]
    kept = full.take(pa.array(rows))
    arm = arms.take(pa.array(where["arm"].to_numpy()[rows]))
    order = seeded_order(id_keys(kept["id"].to_pylist()), shape.seed, STORED_ORDER)
    missing = {name: pa.nulls(len(rows), pa.string()) for name in shape.metadata if name not in own}
    columns = {name: kept[name] for name in kept.column_names} | missing | {"arm": arm, "order": pa.array(order)}
    table = pa.table({name: columns[name] for name in (*POOL_COLUMNS, *shape.metadata, "order")})
    _write_buckets(Path(output) / "part-00000.parquet", table, np.sort(bucket))
    return {"documents": len(rows), "tokens": int(tokens[rows].sum())}


def _write_holdout(path: Path, documents: pa.Table, split: NDArray[Any]) -> None:
    rows = np.flatnonzero(np.isin(split, list(SPLITS)))
    if len(rows):
        table = documents.take(pa.array(rows)).append_column("split", pa.array([SPLITS[s] for s in split[rows]]))
        pq.write_table(table.select(HOLDOUT_SCHEMA.names).cast(HOLDOUT_SCHEMA), path, compression="zstd")


def _write_buckets(path: Path, table: pa.Table, buckets: NDArray[Any]) -> None:
    present, starts = np.unique(buckets, return_index=True)
    schema = table.schema.with_metadata({"buckets": json.dumps(present.tolist())})
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for start, stop in pairwise([*starts.tolist(), len(buckets)]):
            writer.write_table(table.slice(start, stop - start), row_group_size=stop - start)


def _gather(bench: Bench, scattered: StageResult, config: LayoutConfig) -> StageResult:
    found: dict[int, list[tuple[StageFile, int]]] = {}
    for file in scattered.matching("part-"):
        for group, bucket in enumerate(json.loads(pq.read_schema(file.path).metadata[b"buckets"])):
            found.setdefault(bucket, []).append((file, group))
    tasks = [
        Task(
            f"{bucket:05d}",
            ([(file.path, group) for file, group in found[bucket]], config.rows_per_group),
            tuple(file.sha256 for file, _ in found[bucket]),
        )
        for bucket in sorted(found)
    ]
    return run_stage(bench, "gather", gather_bucket, tasks, {"layout": asdict(config)})


def _gather_holdout(bench: Bench, scattered: StageResult, chosen: StageResult, config: LayoutConfig) -> StageResult:
    files = [*scattered.matching("holdout.parquet"), *chosen.matching("evaluation.parquet")]
    task = Task("holdout", ([file.path for file in files], config.part_mib), tuple(file.sha256 for file in files))
    return run_stage(bench, "gather-holdout", gather_holdout, [task], {"part_mib": config.part_mib})


def gather_bucket(output: str, inputs: Sequence[tuple[str, int]], rows_per_group: int) -> dict[str, int]:
    """Write one part of the pool: documents by arm, inside an arm by the digest of their ids."""
    tables = []
    for path, group in inputs:
        with pq.ParquetFile(path) as file:
            tables.append(file.read_row_group(group).replace_schema_metadata(None))
    table = pa.concat_tables(tables).combine_chunks()
    del tables
    table = table.take(
        pc.sort_indices(table, sort_keys=[("arm", "ascending"), ("order", "ascending"), ("id", "ascending")])
    )
    arm = table["arm"].to_pylist()
    tokens = table["n_tokens"].to_numpy()
    table = table.drop_columns(["order"]).combine_chunks()
    number = np.unique(arm, return_inverse=True)[1]
    groups = row_groups(number, rows_per_group)
    text_like = [name for name in table.column_names if name not in ("id", "text", "n_tokens", "skills")]
    with pq.ParquetWriter(
        Path(output) / "part-00000.parquet",
        table.schema,
        compression="zstd",
        write_page_checksum=True,
        use_dictionary=text_like,
    ) as writer:
        for _, start, stop in groups:
            writer.write_table(table.slice(start, stop - start), row_group_size=stop - start)
    listed = [
        {"arm": arm[start], "rows": stop - start, "tokens": int(tokens[start:stop].sum())} for _, start, stop in groups
    ]
    (Path(output) / "groups.json").write_bytes(canonical_json(listed))
    return {"documents": len(arm), "tokens": int(tokens.sum()), "row groups": len(groups)}


def gather_holdout(output: str, paths: Sequence[str], part_mib: int) -> dict[str, int]:
    """Write the holdout, sorted by id, in files of about `part_mib` MiB of text."""
    tables = [pq.read_table(path) for path in paths] or [HOLDOUT_SCHEMA.empty_table()]
    table = pa.concat_tables(tables).sort_by("id").combine_chunks()
    sizes = np.cumsum(pc.binary_length(table["text"]).to_numpy()) // (part_mib * 2**20) if len(table) else np.zeros(0)
    present, starts = np.unique(sizes, return_index=True)
    for index, (start, stop) in enumerate(pairwise([*starts.tolist(), len(table)])):
        rows = table.slice(start, stop - start)
        pq.write_table(rows, Path(output) / f"holdout-{index:05d}.parquet", compression="zstd")
    return {"holdout": len(table), "holdout parts": len(present)}


def read_groups(gather: StageResult) -> Iterator[tuple[StageFile, list[Mapping[str, Any]]]]:
    """Each part of the pool with what its row groups hold."""
    listed = {Path(file.path).parent: file for file in gather.matching("groups.json")}
    for file in gather.matching("part-"):
        yield file, json.loads(Path(listed[Path(file.path).parent].path).read_bytes())
