"""A run's own files: `run.json` binds the folder to a configuration and a pool, `done.json` ends it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from prereq.graph.canonical import canonical_json, digest
from prereq.graph.errors import ConfigError, ManifestError
from prereq.selector.rounds.shape import Spec, misfit
from prereq.selector.storage import Folder

FORMAT = "prereq.run/1"
DONE_FORMAT = "prereq.done/1"
Reason = Literal["budget", "pool exhausted", "stopped"]
_DONE_SHAPE = {"rounds": int, "last": (str, None), "reason": str}
_FORK_SHAPE = {"round": int, "manifest": str, "configs": [[(int, str)]]}
_RUN_FACTS = {"config": dict, "versions": {str: str}, "started": str}  # which readers show and can do without
_RUN_SHAPE = {
    "config_sha256": str,
    "drawing": {
        "batches_per_round": int,
        "lookahead": int,
        "report_every": int,
        "policy": str,
        "initial_evaluation": bool,
    },
    "seed": int,
    "pool": str,
    "pool_sha256": str,
    "global_batch": int,
    "skills": [str],
    "mixer": {"name": str, "uses_feedback": bool, "signals": [str]},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunInfo:
    """What a reader or reporter needs to know of a run, from `run.json`."""

    config: str  # sha256 of the keys that change the draw
    pool_path: str
    pool: str  # sha256 of the pool's manifest
    seed: int
    global_batch: int
    batches_per_round: int
    lookahead: int
    report_every: int
    policy: str
    initial_evaluation: bool
    kind: str  # of samples: text, tokens or packed
    mixer: str
    parameters: dict[str, Any] | None  # of the mixer; None where run.json does not say
    uses_feedback: bool
    signals: tuple[str, ...]  # signals that every report must carry
    skills: tuple[str, ...]  # ids that a report may name
    own_from: int = 0  # of a fork: the first round that is its own
    shared: tuple[tuple[int, str], ...] = ()  # of a fork: first round and configuration of the rounds before

    def config_of(self, number: int) -> str:
        """The configuration that a round was drawn by: of a fork's first rounds, that of the run it comes from."""
        before = [config for first, config in self.shared if first <= number < self.own_from]
        return before[-1] if before else self.config

    def applied_by(self, number: int | Literal["initial"]) -> int:
        """The first round that the report of a round can move."""
        return 0 if number == "initial" else number + 1 + self.lookahead

    def is_reported(self, number: int) -> bool:
        """Whether a round is one of every `report_every` that are reported."""
        return (number + 1) % self.report_every == 0

    def awaited_by(self, number: int) -> list[int | Literal["initial"]]:
        """The reports that a round waits for, oldest first; earlier rounds have waited for the earlier ones."""
        if not self.uses_feedback:
            return []
        first: list[int | Literal["initial"]] = ["initial"] if number == 0 and self.initial_evaluation else []
        before = number - 1 - self.lookahead
        return first + ([before] if before >= 0 and self.is_reported(before) else [])


@dataclass(frozen=True, slots=True)
class Done:
    """How a run ended."""

    rounds: int
    last: str | None  # sha256 of the last manifest; None when no round was written
    reason: Reason


def read_run(run: Folder) -> RunInfo | None:
    """Read `run.json`, or None when the run has not been started.

    Raises:
        ManifestError: The file is not of the format.
    """
    value = _read_json(run, "run.json", FORMAT, _RUN_SHAPE)
    if value is None:
        return None
    fault = misfit(value, {key: spec for key, spec in _RUN_FACTS.items() if key in value})
    if fault is None and "mixer" in value["drawing"]:
        fault = misfit(value["drawing"]["mixer"], {"name": str, "parameters": dict}, "drawing.mixer")
    if fault is None and "fork" in value["drawing"]:
        fault = misfit(value["drawing"]["fork"], _FORK_SHAPE, "drawing.fork")
    if fault is None and "samples" in value["drawing"]:
        fault = misfit(value["drawing"]["samples"], {"kind": str}, "drawing.samples")
    if fault is not None:
        raise ManifestError(f"{run.path('run.json')}: {fault}; the file was changed after it was written: restore it")
    drawing = value["drawing"]
    return RunInfo(
        config=value["config_sha256"],
        pool_path=value["pool"],
        pool=value["pool_sha256"],
        seed=value["seed"],
        global_batch=value["global_batch"],
        batches_per_round=drawing["batches_per_round"],
        lookahead=drawing["lookahead"],
        report_every=drawing["report_every"],
        policy=drawing["policy"],
        initial_evaluation=drawing["initial_evaluation"],
        kind=drawing["samples"]["kind"] if "samples" in drawing else "text",
        mixer=value["mixer"]["name"],
        parameters=drawing["mixer"]["parameters"] if "mixer" in drawing else None,
        uses_feedback=value["mixer"]["uses_feedback"],
        signals=tuple(value["mixer"]["signals"]),
        skills=tuple(value["skills"]),
        own_from=drawing["fork"]["round"] if "fork" in drawing else 0,
        shared=tuple((first, config) for first, config in drawing["fork"]["configs"]) if "fork" in drawing else (),
    )


def read_drawing(run: Folder) -> dict[str, Any] | None:
    """The drawing keys in `run.json`, or None when the run has not been started."""
    value = _read_json(run, "run.json", FORMAT, _RUN_SHAPE)
    return None if value is None else dict(value["drawing"])


def start_run(run: Folder, value: Mapping[str, Any], drawing: Mapping[str, Any]) -> RunInfo:
    """Write `run.json`, or check that the one that is there has the same drawing keys.

    Args:
        run: The run's folder.
        value: What `run.json` holds beside the format and the drawing keys.
        drawing: The keys that change the draw, plain values; their digest is the run's identity.

    Raises:
        ConfigError: The folder belongs to a run with other drawing keys; the message names them.
    """
    run.check_writable()
    full = {"format": FORMAT, **value, "drawing": dict(drawing), "config_sha256": digest(dict(drawing))}
    if not run.commit("run.json", canonical_json(full)):
        found = _read_json(run, "run.json", FORMAT, _RUN_SHAPE)
        theirs = found["drawing"] if found else {}
        changed = list(_differences(theirs, json.loads(canonical_json(dict(drawing)))))
        if changed:
            raise ConfigError(
                f"{run.name}: belongs to a run with another configuration: {'; '.join(changed[:5])}; "
                "choose another run_dir, or go back to that configuration"
            )
    info = read_run(run)
    if info is None:
        raise ManifestError(
            f"{run.path('run.json')}: disappeared while it was read; another program deletes files here"
        )
    return info


def _differences(old: Any, new: Any, path: str = "") -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        nested = (_differences(old.get(k), new.get(k), f"{path}.{k}" if path else k) for k in sorted({*old, *new}))
        return [line for lines in nested for line in lines]
    return [] if old == new else [f"{path} was {_short(old)}, is {_short(new)}"]


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def read_done(run: Folder) -> Done | None:
    """How the run ended, or None while it goes on."""
    value = _read_json(run, "done.json", DONE_FORMAT, _DONE_SHAPE)
    return None if value is None else Done(value["rounds"], value["last"], value["reason"])


def commit_done(run: Folder, done: Done) -> None:
    """Write `done.json`, right after the last manifest."""
    run.commit(
        "done.json",
        canonical_json({"format": DONE_FORMAT, "rounds": done.rounds, "last": done.last, "reason": done.reason}),
    )


def _read_json(run: Folder, name: str, expected: str, shape: Spec) -> dict[str, Any] | None:
    try:
        data = run.read(name)
    except FileNotFoundError:
        return None
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ManifestError(f"{run.path(name)}: not JSON ({error}); restore the file") from error
    if not isinstance(value, dict) or value.get("format") != expected:
        raise ManifestError(f"{run.path(name)}: is not a {expected} file; it was written by another program or version")
    fault = misfit(value, shape)
    if fault is not None:
        raise ManifestError(f"{run.path(name)}: {fault}; the file was changed after it was written: restore it")
    return value
