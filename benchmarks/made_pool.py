"""Pools and runs made without the corpus engine, for benchmarks of what comes after it. Needs the core install only."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from prereq.graph.canonical import canonical_json, sha256_hex
from prereq.graph.influence import Influence, encode_influence
from prereq.selector.mixers import make_mixer
from prereq.selector.rounds.config import SamplerConfig
from prereq.selector.rounds.pool import Pool
from prereq.selector.rounds.run import RunInfo, start_run
from prereq.selector.rounds.sampler import Sampler
from prereq.selector.rounds.samples import Encode
from prereq.selector.storage import Folder

_HELD_TEXT = "a text that is held out, "


def write_pool(folder: Path, documents: pa.Table, *, group_rows: int = 256) -> Path:
    """Write a pool of `prereq.pool/1` with one part.

    Args:
        folder: Does not exist yet.
        documents: Columns `id, text, arm`; an arm's one skill is `skill-<arm>`, a token is a byte of UTF-8.
        group_rows: Rows of a row group.
    """
    (folder / "holdout").mkdir(parents=True)
    table = documents.select(["id", "text", "arm"]).sort_by("arm").combine_chunks()
    arms = [str(arm) for arm in pc.unique(table["arm"]).to_pylist()]
    table = _columns(table)
    part, entries = "part-00000.parquet", []
    with pq.ParquetWriter(folder / part, table.schema, compression="zstd", write_page_checksum=True) as writer:
        groups = 0
        for arm in arms:
            mine = table.filter(pc.equal(table["arm"], arm))
            writer.write_table(mine, row_group_size=group_rows)
            count = -(-mine.num_rows // group_rows)
            parts = [{"path": part, "row_groups": list(range(groups, groups + count))}]
            groups += count
            tokens = int(pc.sum(mine["n_tokens"]).as_py())
            entries.append({"id": arm, "rows": mine.num_rows, "tokens": tokens, "parts": parts})
    _write_arms(folder, arms)
    value = {
        "format": "prereq.pool/1",
        "config": "0" * 64,
        "seed": 0,
        "documents": table.num_rows,
        "tokens": sum(entry["tokens"] for entry in entries),
        "arms": entries,
        "skills": [f"skill-{arm}" for arm in arms],
        "holdout": _write_holdout(folder, arms),
    }
    (folder / "manifest.json").write_bytes(canonical_json(value))
    return folder


def _columns(table: pa.Table) -> pa.Table:
    """All columns of a part, from `id, text, arm`."""
    rows = table.num_rows
    skills = pc.binary_join_element_wise("skill", table["arm"], "-").combine_chunks()
    return pa.table(
        {
            "id": table["id"].cast(pa.string()),
            "text": table["text"].cast(pa.large_string()),
            "n_tokens": pc.binary_length(table["text"]).cast(pa.int64()),
            "arm": table["arm"].cast(pa.string()),
            "skills": pa.ListArray.from_arrays(np.arange(rows + 1, dtype=np.int32), skills.cast(pa.string())),
            "source": pa.array(["made"] * rows, pa.string()),
        }
    )


def _write_arms(folder: Path, arms: Sequence[str]) -> None:
    shares = pa.array([[(f"skill-{arm}", 1.0)] for arm in arms], pa.map_(pa.string(), pa.float64()))
    centroids = pa.array([[1.0, 0.0]] * len(arms), pa.list_(pa.float32()))
    table = pa.table({"id": list(arms), "name": list(arms), "centroid": centroids, "T": shares})
    pq.write_table(table, folder / "arms.parquet")


def _write_holdout(folder: Path, arms: Sequence[str]) -> str:
    """One document per skill and split; the sha256 of the part."""
    rows = [
        {"id": f"held/{split}/{arm}", "text": _HELD_TEXT + arm, "skills": [f"skill-{arm}"], "split": split}
        for split in ("control", "report")
        for arm in arms
    ]
    schema = pa.schema({"id": pa.string(), "text": pa.large_string(), "skills": pa.list_(pa.string())})
    pq.write_table(
        pa.Table.from_pylist(rows, schema=schema.append(pa.field("split", pa.string()))),
        folder / "holdout/part-00000.parquet",
    )
    return sha256_hex((folder / "holdout/part-00000.parquet").read_bytes())


def small_documents(sizes: Mapping[str, int], *, seed: int = 0, least: int = 20, most: int = 200) -> pa.Table:
    """Made-up documents: so many per arm, each of `least` to `most` - 1 bytes."""
    rng = np.random.default_rng(seed)
    rows = [(arm, row, int(rng.integers(least, most))) for arm in sorted(sizes) for row in range(sizes[arm])]
    return pa.table(
        {
            "id": [f"{arm}/{row}" for arm, row, _ in rows],
            "text": [f"{arm} {row} ".ljust(length, "x")[:length] for arm, row, length in rows],
            "arm": [arm for arm, _, _ in rows],
        }
    )


def open_run(
    folder: Path,
    pool_folder: Path,
    settings: Mapping[str, Any],
    mixer_name: str,
    encode: Encode | None = None,
) -> Sampler:
    """Start a run, or open the one that is there; skills help themselves and, by .3, the next one.

    Args:
        folder: Of the run.
        pool_folder: Of a pool that `write_pool` wrote.
        settings: Of `SamplerConfig`.
        mixer_name: A mixer that needs no parameters.
        encode: Text to tokens, where `settings` ask for tokens.
    """
    run, pool, config = Folder(folder), Pool(str(pool_folder)), SamplerConfig(**dict(settings))
    arms = pool.arms()
    count = len(arms.skills)
    influence = Influence(train=arms.skills, eval=arms.skills, matrix=np.eye(count) + 0.3 * np.eye(count, k=1))
    mixer = make_mixer(mixer_name, {}, arms, influence)
    drawing = {**config.drawing_keys(), "pool": pool.sha256, "mixer": {"name": mixer_name, "parameters": {}}}
    value = {
        "config": asdict(config),
        "seed": config.seed,
        "versions": {},
        "pool": str(pool_folder),
        "pool_sha256": pool.sha256,
        "global_batch": config.global_batch,
        "started": "2026-01-01T00:00:00+00:00",
        "skills": list(pool.skills),
        "mixer": {
            "name": mixer.name,
            "uses_feedback": mixer.uses_feedback,
            "signals": list(mixer.required_signals),
        },
    }
    info: RunInfo = start_run(run, value, drawing)
    run.commit("influence.parquet", encode_influence(influence))
    return Sampler(run, info, pool, mixer, config, encode=encode)


def read_json(path: Path) -> Any:
    """The value in a file."""
    return json.loads(path.read_bytes())
