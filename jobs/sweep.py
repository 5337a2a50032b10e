"""`prereq sweep`: one base configuration, named changes, several seeds; a table of what each came to.

    base: ../quickstart.yaml          # relative to this file
    output: runs/sweep-quickstart     # one run folder per variant and seed, and results.json
    set: {rounds: 8}                  # changes for all runs
    seeds: [0, 1, 2]                  # each is the seed of the draw and of the trainer's first weights
    runs:
      uniform: {mixer.name: uniform}
      skill_it: {mixer.name: skill_it}

Every member is expanded to a full configuration before anything runs. Members that are finished are skipped, so a sweep
that was stopped goes on. Losses are judged on the report split, which no mixer sees.
"""

import argparse
import json
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from prereq.graph.canonical import canonical_json
from prereq.graph.errors import ConfigError
from prereq.jobs.config import RunConfig, load_config
from prereq.jobs.progress import Progress
from prereq.jobs.run import run
from prereq.selector.rounds.manifest import read_chain
from prereq.selector.rounds.run import read_done
from prereq.selector.storage import Folder

_KEYS = {"base", "output", "set", "seeds", "runs"}


@dataclass(frozen=True, slots=True)
class Member:
    """One run of a sweep."""

    variant: str
    seed: int
    config: RunConfig


def read_sweep(path: str) -> tuple[list[Member], str]:
    """Expand a sweep file into full configurations.

    Args:
        path: The sweep's YAML file.

    Returns:
        The members, variants in the order of the file and seeds inside them, and the output folder.

    Raises:
        ConfigError: The file cannot be read, a key is unknown, or a member's configuration is wrong.
    """
    try:
        value = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as YAML: {' '.join(str(error).split())}") from error
    if not isinstance(value, dict) or not set(value) <= _KEYS or not {"base", "output", "runs"} <= set(value):
        raise ConfigError(
            f"{path}: a sweep has the keys base, output, runs and may have set, seeds; got {_keys(value)}"
        )
    seeds, runs, common = value.get("seeds", [0]), value["runs"], value.get("set") or {}
    if not isinstance(seeds, list) or not seeds or not all(isinstance(s, int) and s >= 0 for s in seeds):
        raise ConfigError(f"{path}: seeds must be a list of whole numbers, got {seeds!r}")
    if not isinstance(runs, dict) or not runs or not all(isinstance(v, dict | None) for v in runs.values()):
        raise ConfigError(f"{path}: runs must map a name to changes such as {{mixer.name: uniform}}, got {_keys(runs)}")
    base = str((Path(path).parent / str(value["base"])).resolve())
    members = []
    for variant, changes in runs.items():
        for seed in seeds:
            overrides = _overrides({"train.seed": seed, **common, **(changes or {}), "seed": seed})
            overrides.append(f"run_dir={value['output']}/{variant}-seed{seed}")
            members.append(Member(str(variant), seed, load_config(base, overrides)))
    return members, str(value["output"])


def _keys(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, dict) else type(value).__name__


def _overrides(changes: Mapping[str, Any]) -> list[str]:
    # JSON is YAML: a value travels through `--set` unchanged
    return [f"{key}={json.dumps(value)}" for key, value in changes.items()]


def result(member: Member) -> dict[str, Any] | None:
    """What a finished member came to, or None while it is not finished."""
    folder = Folder(member.config.run_dir)
    if read_done(folder) is None or not folder.exists("train/final.json"):
        return None
    final = json.loads(folder.read("train/final.json"))
    losses = {skill: loss for skill, loss in final["final"]["losses"].items() if loss is not None}
    chain = read_chain(folder)
    return {
        "variant": member.variant,
        "seed": member.seed,
        "tokens": sum(manifest.tokens for manifest in chain),
        "rounds": len(chain),
        "last_manifest": chain[-1].sha256 if chain else None,
        "mean_report_loss": statistics.fmean(losses.values()),
        "worst_report_loss": max(losses.values()),
        "worst_skill": max(losses, key=lambda skill: (losses[skill], skill)),
        "initial_mean_report_loss": statistics.fmean(v for v in final["initial"]["losses"].values() if v is not None),
    }


def sweep_table(results: list[dict[str, Any]]) -> str:
    """Per variant: mean over seeds (smallest to largest) of the mean and worst report loss, in nats per token."""
    lines = [f"{'variant':<24} {'seeds':>5} {'tokens':>13}  {'mean report loss':<28} {'worst skill report loss':<28}"]
    for variant in dict.fromkeys(entry["variant"] for entry in results):
        group = [entry for entry in results if entry["variant"] == variant]
        tokens = statistics.fmean(entry["tokens"] for entry in group)
        cells = [_spread([entry[key] for entry in group]) for key in ("mean_report_loss", "worst_report_loss")]
        lines.append(f"{variant:<24} {len(group):>5} {tokens:>13,.0f}  {cells[0]:<28} {cells[1]:<28}")
    return "\n".join(lines)


def _spread(values: list[float]) -> str:
    return f"{statistics.fmean(values):.4f} ({min(values):.4f} to {max(values):.4f})"


def main_sweep(path: str, args: argparse.Namespace) -> int:
    """The verb: run every member that is not finished, then write `results.json` and print the table."""
    members, output = read_sweep(path)
    if args.dry_run:
        for member in members:
            print(f"{member.config.run_dir}: {member.variant}, seed {member.seed}")
        return 0
    folder = Folder(output)
    folder.check_writable()
    results = []
    for number, member in enumerate(members):
        start = time.monotonic()
        if result(member) is None:
            run(member.config, Progress(quiet=True))
        entry = result(member)
        if entry is None:
            raise ConfigError(
                f"{member.config.run_dir}: finished without train/final.json; delete the folder and start again"
            )
        results.append(entry)
        Progress().line(
            f"{number + 1}/{len(members)} {member.variant} seed {member.seed}: mean report loss "
            f"{entry['mean_report_loss']:.4f} ({time.monotonic() - start:.0f} s)"
        )
        folder.replace("results.json", canonical_json({"format": "prereq.sweep/1", "results": results}))
    print(sweep_table(results))
    return 0
