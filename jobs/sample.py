"""`prereq sample`: draws rounds from a finished pool and serves them to a trainer that reports its losses."""

import argparse
import platform
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from prereq.graph.canonical import canonical_json, digest, sha256_hex
from prereq.graph.errors import ConfigError, ManifestError, PrereqError
from prereq.graph.influence import encode_influence
from prereq.graph.load import decode_graph
from prereq.graph.skill_graph import SkillGraph
from prereq.jobs.config import RunConfig, read_graph, read_influence
from prereq.jobs.padding import of_round
from prereq.selector.corpus.tokens import make_tokenizer, tokenizer_identity
from prereq.selector.mixers import Mixer, make_mixer, sharpness_warning
from prereq.selector.mixers.registry import identifying_parameters
from prereq.selector.rounds.fork import copy_rounds, fork_entry
from prereq.selector.rounds.pool import Pool
from prereq.selector.rounds.run import Done, read_run, start_run
from prereq.selector.rounds.sampler import Event, Sampler
from prereq.selector.rounds.withdrawal import withdraw
from prereq.selector.storage import Folder

_VERSIONED = ("prereq", "numpy", "pyarrow")


def open_sampler(config: RunConfig, on_event: Event = lambda kind, facts: None) -> Sampler:
    """Start a run on its pool, or open the one that is there.

    Args:
        config: The run; `pool_dir` holds a finished pool.
        on_event: As in `Sampler`.

    Raises:
        ManifestError: There is no finished pool.
        ConfigError: The run's folder belongs to another configuration, or the mixer does not fit the pool.
    """
    pool = Pool(config.pool_dir)
    graph = _read_graph(pool.folder)
    influence = read_influence(config.mixer.influence, graph)
    parameters = config.mixer.parameters or {}
    mixer = make_mixer(config.mixer.name, parameters, pool.arms(), influence)
    sampler, encode = config.sampler(), None
    if sampler.samples.kind != "text":
        tokenizer = make_tokenizer(config.tokenizer)
        encode = tokenizer.encode
        sampler = replace(sampler, samples=sampler.samples.numbered(tokenizer.number))
    drawing = {
        **sampler.drawing_keys(),
        **({} if encode is None else {"tokenizer": tokenizer_identity(config.tokenizer)}),
        "pool": pool.sha256,
        "mixer": {"name": config.mixer.name, "parameters": identifying_parameters(config.mixer.name, parameters)},
        "influence": digest(
            [list(influence.train), list(influence.eval), sha256_hex(influence.matrix.astype("<f8").tobytes())]
        ),
    }
    run = Folder(config.run_dir)
    if config.fork is not None:
        drawing["fork"] = fork_entry(run, Folder(config.fork.run), config.fork.round, drawing)
    info = start_run(run, _run_facts(config, pool, mixer), drawing)
    run.commit("graph.json", canonical_json(graph.to_dict()))
    run.commit("influence.parquet", encode_influence(influence))
    if config.fork is not None:
        copy_rounds(run, Folder(config.fork.run), drawing["fork"])
    return Sampler(run, info, pool, mixer, sampler, on_event, encode)


def _read_graph(pool: Folder) -> SkillGraph:
    try:
        data = pool.read("graph.json")
    except FileNotFoundError:
        raise ManifestError(f"{pool.path('graph.json')}: is missing; restore it, or build the pool again") from None
    return decode_graph(data, pool.path("graph.json"))


def _run_facts(config: RunConfig, pool: Pool, mixer: Mixer) -> dict[str, Any]:
    return {
        "config": config.resolved(),
        "seed": config.seed,
        "versions": {"python": platform.python_version(), **{name: version(name) for name in _VERSIONED}},
        "pool": config.pool_dir,
        "pool_sha256": pool.sha256,
        "global_batch": config.global_batch,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "skills": list(pool.skills),
        "mixer": {
            "name": mixer.name,
            "uses_feedback": mixer.uses_feedback,
            "signals": list(mixer.required_signals),
        },
    }


def say(line: str) -> None:
    """One line of progress on stderr."""
    print(line, file=sys.stderr, flush=True)


def tell(kind: str, facts: dict[str, Any], out: Callable[[str], None] = say) -> None:
    """Put a sampler's event into a line."""
    if kind == "round":
        manifest, diagnostics = facts["manifest"], facts["diagnostics"]
        applied = ", ".join(str(entry["round"]) for entry in manifest.feedback) or "none"
        warning = sharpness_warning(diagnostics)
        out(
            f"round {manifest.round}: {manifest.documents:,} documents, {manifest.tokens:,} tokens"
            f"{of_round(manifest)}, feedback applied: {applied}, logit range {diagnostics['logit_range']:.2f}, "
            f"waited {facts['waited_s']:.1f} s so far" + (f"; {warning}" if warning else "")
        )
    elif kind == "waiting":
        missing = ", ".join(map(str, facts["reports"]))
        out(
            f"round {facts['round']}: waiting for "
            + (f"the report of {missing}" if missing else "readers: they are `ahead` rounds behind")
        )


def ended(done: Done | None) -> str:
    """How a run ended, in words."""
    if done is None:
        return "stopped; run the same command again to go on"
    return f"done: {done.rounds} rounds ({done.reason})"


def main_sample(config: RunConfig, args: argparse.Namespace) -> int:
    """The verb: draw rounds to the end, repair one round (`--repair`) or withdraw documents (`--withdraw`)."""
    if args.withdraw is not None or args.withdraw_source:
        return _withdraw(config, args.withdraw, args.withdraw_source)
    sampler = open_sampler(config, tell)
    note = other_graph(config)
    if note:
        say(note)
    if args.repair is not None:
        mended = sampler.repair(args.repair)
        print(
            f"round {args.repair}: {mended} shards written again"
            if mended
            else f"round {args.repair}: all shards are whole"
        )
        return 0
    done = sampler.run()
    print(ended(done))
    return 0


def other_graph(config: RunConfig) -> str | None:
    """What to say where the configuration's graph is not the one that its pool was tagged with; None where it is.

    A sampler needs the pool alone, so a graph that is not at hand is no error.
    """
    own = _read_graph(Folder(config.pool_dir))
    try:
        given = read_graph(config.graph)
    except PrereqError as error:
        return f"graph: {error}; rounds are drawn with the pool's own"
    if given.to_dict() == own.to_dict():
        return None
    skills = set(own.ids) ^ set(given.ids)
    how = f"{len(skills)} skills are in one of them only" if skills else "edges or descriptions differ"
    return (
        f"graph: the configuration's is not the one that {config.pool_dir} was tagged with ({how}); rounds are drawn "
        "with the pool's own; build into a fresh pool_dir to use the other"
    )


def _withdraw(config: RunConfig, file: str | None, sources: list[str]) -> int:
    """Write a list of withdrawn documents; a sampler that is running takes it up with its next round."""
    run = Folder(config.run_dir)
    if read_run(run) is None:
        raise ManifestError(f"{run.name}: no run (run.json is missing); documents are withdrawn from a run")
    try:
        lines = [] if file is None else Path(file).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"--withdraw {file}: cannot be read ({error}); give a text file with an id per line"
        ) from error
    name, count = withdraw(run, Pool(config.pool_dir), [line for line in lines if line], sources)
    print(f"{run.path(name)}: {count:,} documents will not be drawn from the next round on")
    return 0
