"""`prereq influence`: what each document of a run's pool does for the control loss, as a file that a build filters by.

prereq run my.yaml
prereq influence runs/mine --out influence.parquet
prereq build better.yaml          # scoring: [{name: useful, method: file, paths: [influence.parquet], ...}]
"""

import argparse
import io
import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from prereq.graph.canonical import canonical_json
from prereq.graph.errors import ConfigError
from prereq.graph.load import write_whole
from prereq.jobs.config_file import check_out
from prereq.jobs.inspect import kind_of
from prereq.jobs.progress import Progress
from prereq.selector.rounds.pool import Pool

FORMAT = "prereq.document_influence/1"
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("value", pa.float64()),  # of the document, or the mean of the arm's measured ones
        ("measured", pa.bool_()),
        ("arm", pa.string()),
    ]
)
_SHOWN = 5  # arms of the most and of the least influence that are printed


def influence(
    run: str, out: str, per_arm: int | None, targets: tuple[str, ...] | None, workers: int, progress: Progress
) -> dict[str, Any]:
    """Measure and write; what was found, plain values.

    Args:
        run: Folder of a run that the reference trainer trained.
        out: Parquet `id, value, measured, arm`; appears whole or not at all.
        per_arm: Documents measured in each arm; None: all.
        targets: Skills whose control loss counts; None: all.
        workers: Processes.
        progress: Shows a bar over the arms.

    Raises:
        PrereqError: The run, its pool or its checkpoint cannot be used, or the file cannot be written.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as `prereq train`: read when torch is loaded
    from prereq.jobs.train.influence import find_source, measure_arms

    source = find_source(run, per_arm, targets)
    pool = Pool(source.pool)
    facts = {"pool": pool.sha256, "checkpoint": source.checkpoint, "seed": source.seed, "per_arm": per_arm}
    schema = SCHEMA.with_metadata({FORMAT: canonical_json(facts | {"targets": list(source.targets)})})
    sink, measured, means = io.BytesIO(), 0, dict[str, float]()
    with progress.stage("influence", total=len(pool.layouts)) as bar:
        with pq.ParquetWriter(sink, schema, compression="zstd", write_page_checksum=True) as writer:
            for index, found in enumerate(measure_arms(source, workers)):
                arm, ids = pool.layouts[index].id, pool.text_columns(index, ("id",))[0]
                columns = [ids, found.values, found.measured, [arm] * len(ids)]
                writer.write_table(pa.table(columns, schema=schema))
                measured += int(found.measured.sum())
                if len(ids):
                    means[arm] = math.fsum(found.values[found.measured].tolist()) / int(found.measured.sum())
                bar.advance()
        counts = {"documents": sum(layout.rows for layout in pool.layouts), "measured": measured}
        bar.note(counts)
    write_whole(Path(out), sink.getvalue())
    return {"path": out, "pool": source.pool, **counts, "arms": means, "targets": list(source.targets)}


def told(facts: dict[str, Any], names: dict[str, str]) -> str:
    """What was found, in a few lines."""
    order = sorted(facts["arms"], key=lambda arm: (-facts["arms"][arm], arm))
    shown = order if len(order) <= 2 * _SHOWN else [*order[:_SHOWN], *order[-_SHOWN:]]
    spread = np.std([facts["arms"][arm] for arm in order]) if order else 0.0
    lines = [
        f"{facts['path']}: {facts['documents']:,} documents, {facts['measured']:,} measured, the others have their "
        f"arm's mean; on {len(facts['targets'])} skills' control loss; larger is more useful",
        f"mean by arm, of {len(order)} (standard deviation {spread:.3g}):",
    ]
    return "\n".join([*lines, *(f"  {facts['arms'][arm]:11.4g}  {names.get(arm, arm)}" for arm in shown)])


def _run_folder(args: argparse.Namespace) -> str:
    name = str(args.config)
    if "://" in name or os.path.isdir(name):
        if args.set:
            raise ConfigError(f"--set {args.set[0]}: {name} is a folder, not a configuration; leave --set out")
        if kind_of(name) != "run":
            raise ConfigError(
                f"{name}: holds no run (run.json is missing); name the folder of a run or a configuration"
            )
        return name
    from prereq.jobs.config import load_config

    return load_config(name, args.set).run_dir


def _per_arm(value: str) -> int | None:
    if value == "all":
        return None
    if not value.isascii() or not value.isdigit() or int(value) < 1:
        raise ConfigError(f"--per-arm is {value!r}; expected a number of documents, 1 or more, or all")
    return int(value)


def main_influence(args: argparse.Namespace) -> int:
    """The verb."""
    per_arm, run = _per_arm(args.per_arm), _run_folder(args)
    targets = tuple(name.strip() for name in args.targets.split(",") if name.strip()) if args.targets else None
    if args.workers < 1:
        raise ConfigError(f"--workers is {args.workers}; expected 1 or more processes")
    check_out(args.out, (".parquet",))
    if args.dry_run:
        from prereq.jobs.train.influence import find_source

        source = find_source(run, per_arm, targets)
        rows = [layout.rows for layout in Pool(source.pool).layouts]
        measured = sum(count if per_arm is None else min(count, per_arm) for count in rows)
        print(
            f"would write {args.out}: {sum(rows):,} documents of {source.pool}, {measured:,} of them measured in "
            f"{len(rows)} arms, on the control loss of {len(source.targets)} skills"
        )
        return 0
    facts = influence(run, args.out, per_arm, targets, args.workers, Progress())
    if args.json:
        print(json.dumps(facts, sort_keys=True))
        return 0
    print(told(facts, Pool(facts["pool"]).names()))
    return 0
