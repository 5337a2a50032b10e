"""`prereq graph learn`: the influence of skills on each other, learned from short runs over a built pool.

    prereq build my.yaml
    prereq graph learn my.yaml --out learned.parquet
    prereq run my.yaml --set mixer.influence.path=learned.parquet

Row i is what a short run on skill i does to the losses of the control split: the approximate method of Skill-It, one
run for each training skill. Rows that are done lie in `FILE.partial.json` until the file is whole, so a call that was
stopped goes on where it was.
"""

import argparse
import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from prereq.graph.canonical import canonical_json, digest
from prereq.graph.errors import ConfigError, PrereqError
from prereq.graph.influence import Influence, save_influence
from prereq.graph.load import write_whole
from prereq.jobs.config import RunConfig, load_config
from prereq.jobs.config_file import check_out
from prereq.jobs.progress import Progress
from prereq.jobs.train.config import LearnConfig
from prereq.selector.rounds.pool import Pool

_FORMAT = "prereq.learning/1"
_STRONGEST = 8  # influences of one skill on another that are printed


def learn(config: RunConfig, out: str, progress: Progress) -> Influence:
    """Learn the influence and write it.

    Args:
        config: pool_dir, seed, train and learn count; the mixer does not.
        out: Parquet in the format prereq.influence/1; appears whole or not at all.
        progress: Shows a bar over the skills.

    Raises:
        PrereqError: No finished pool, nothing to measure, or the file cannot be written.
    """
    _check_tokens(config)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as `prereq train`: read when torch is loaded
    from prereq.jobs.train.checkpoint import binding
    from prereq.jobs.train.short_runs import LearnedFrom, as_influence, learn_rows

    pool = Pool(config.pool_dir)
    source = LearnedFrom(pool=pool, arms=pool.arms(), train=config.train, learn=config.learn, seed=config.seed)
    without = [skill for skill in source.arms.skills if skill not in source.skills]
    if not source.skills:
        raise PrereqError(f"{config.pool_dir}: no document of the pool has a skill; see `prereq inspect`, and tagging")
    if without:
        progress.line(f"no documents, so no row: {', '.join(without[:5])}{' and more' if len(without) > 5 else ''}")
    parts = {"pool": pool.sha256, "train": binding(config.train), "learn": _binding(config.learn), "seed": config.seed}
    journal = _Journal(Path(f"{out}.partial.json"), digest(parts))
    known = journal.read(progress)
    with progress.stage("learn", total=len(source.skills), done=len(known)) as bar:

        def keep(rows: Mapping[str, Mapping[str, float]]) -> None:
            journal.write(rows)
            bar.advance()

        rows = learn_rows(source, known, keep, progress.line)
        bar.note({"skills": len(rows)}, skipped=len(known))
    influence = as_influence(source, rows)
    save_influence(influence, out)
    journal.remove()
    return influence


def _binding(learn: LearnConfig) -> dict[str, Any]:
    """The settings that rows are bound to; one that came later counts only where it is not at its default."""
    return {key: value for key, value in asdict(learn).items() if key != "relative" or value}


class _Journal:
    """Rows of a call that is not finished, bound to what decides them."""

    def __init__(self, path: Path, key: str) -> None:
        self._path, self._key = path, key

    def read(self, progress: Progress) -> dict[str, dict[str, float]]:
        try:
            value = json.loads(self._path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise PrereqError(f"{self._path}: cannot be read ({error}); delete it to learn from the start") from error
        if not isinstance(value, dict) or value.get("format") != _FORMAT or not _is_rows(value.get("rows")):
            raise PrereqError(f"{self._path}: is not a {_FORMAT} file; delete it to learn from the start")
        if value.get("key") != self._key:
            progress.line(f"{self._path}: was made with another pool or other settings; learning from the start")
            return {}
        return dict(value["rows"])

    def write(self, rows: Mapping[str, Mapping[str, float]]) -> None:
        write_whole(self._path, canonical_json({"format": _FORMAT, "key": self._key, "rows": rows}))

    def remove(self) -> None:
        self._path.unlink(missing_ok=True)


def _is_rows(value: object) -> bool:
    return isinstance(value, dict) and all(
        isinstance(row, dict) and all(isinstance(drop, int | float) for drop in row.values()) for row in value.values()
    )


def _check_tokens(config: RunConfig) -> None:
    if config.tokenizer != "bytes":
        raise ConfigError(
            f"graph learn: tokenizer is {config.tokenizer}, the reference trainer reads bytes; learn the influence in "
            "a loop of your own and write it with prereq.graph.influence.save_influence"
        )


def told(influence: Influence, out: str, unit: str) -> str:
    """What was learned, in a few lines."""
    own = {name: column for column, name in enumerate(influence.eval)}
    diagonal = [influence.matrix[row, own[name]] for row, name in enumerate(influence.train) if name in own]
    same = np.array(influence.train)[:, None] == np.array(influence.eval)[None, :]
    others = np.where(same, -np.inf, influence.matrix)
    lines = [
        f"{out}: {len(influence.train)} training skills x {len(influence.eval)} evaluation skills, {unit}",
        f"on itself: mean {np.mean(diagonal) if diagonal else 0.0:.4f}; on others: "
        f"{(influence.matrix[~same] > 0).mean() if (~same).any() else 0.0:.0%} help",
    ]
    for flat in np.argsort(-others, axis=None, kind="stable")[:_STRONGEST].tolist():
        row, column = divmod(flat, len(influence.eval))
        if np.isfinite(others[row, column]):
            lines.append(f"  {others[row, column]:8.4f}  {influence.train[row]} -> {influence.eval[column]}")
    return "\n".join(lines)


def main_graph_learn(args: argparse.Namespace) -> int:
    """The verb."""
    config = load_config(args.config, args.set)
    _check_tokens(config)
    check_out(args.out, (".parquet",))
    if args.dry_run:
        arms = Pool(config.pool_dir).arms()
        skills = int((arms.skill_tokens[:-1] > 0).sum())
        step = config.train.windows_per_step * config.train.seq_len
        tokens = config.learn.start_tokens + skills * config.learn.steps * step
        print(f"would write {args.out}: {skills} short runs over {config.pool_dir}, about {tokens:,} tokens in all")
        return 0
    influence = learn(config, args.out, Progress())
    if args.json:
        print(json.dumps({"path": args.out, "train": len(influence.train), "eval": len(influence.eval)}))
        return 0
    unit = "shares of the loss at the start" if config.learn.relative else "nats per token"
    print(told(influence, args.out, unit))
    return 0
