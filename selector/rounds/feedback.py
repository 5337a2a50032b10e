"""Feedback files: what a trainer reports, checked where it is reported, written once.

    RUN/feedback/initial.json  000000.json ...  000003.late.json

Losses are nats per token over the control split, by skill id, never by position.
"""

import json
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, fields
from difflib import get_close_matches
from typing import Literal

from prereq.graph.canonical import canonical_json, sha256_hex
from prereq.graph.errors import FeedbackError
from prereq.selector.rounds.manifest import manifest_name, read_manifest
from prereq.selector.rounds.run import RunInfo
from prereq.selector.rounds.shape import misfit
from prereq.selector.storage import Folder

FORMAT = "prereq.feedback/1"
Outcome = Literal["recorded", "already recorded", "late"]
_SHAPE = {
    "step": int,
    "tokens_seen": int,
    "losses": {str: (float, None)},
    "eval_tokens": {str: float},
    "arm_losses": ({str: float}, None),
    "signals": ({str: {str: float}}, None),
    "reporter": str,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Feedback:
    """One report; fields as in `prereq.feedback/1`."""

    format: str = FORMAT
    round: int | Literal["initial"]
    step: int  # global batches trained on
    tokens_seen: int
    losses: dict[str, float | None]  # skill -> nats per token; None: not measured
    eval_tokens: dict[str, int]  # skill -> tokens behind its loss
    arm_losses: dict[str, float] | None = None  # arm -> nats per token
    signals: dict[str, dict[str, float]] | None = None  # name -> {id: number}, what the mixer asks for
    reporter: str = "trainer"

    def to_bytes(self) -> bytes:
        """Canonical bytes; absent optional parts are left out."""
        return canonical_json({key: value for key, value in asdict(self).items() if value is not None})

    @property
    def sha256(self) -> str:
        """Hex sha256 of the bytes."""
        return sha256_hex(self.to_bytes())


def feedback_name(number: int | Literal["initial"], *, late: bool = False) -> str:
    """The file of a report, relative to the run."""
    stem = "initial" if number == "initial" else f"{number:06d}"
    return f"feedback/{stem}{'.late' if late else ''}.json"


def read_feedback(run: Folder, number: int | Literal["initial"]) -> Feedback | None:
    """Read a recorded report, or None; FeedbackError when the file is not of the format."""
    name = feedback_name(number)
    try:
        data = run.read(name)
    except FileNotFoundError:
        return None
    where = run.path(name)
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise FeedbackError(
            f"{where}: not JSON ({error}); a report is written whole or not at all: restore it"
        ) from error
    keys = {field.name for field in fields(Feedback)}
    if not isinstance(value, dict) or value.get("format") != FORMAT or not set(value) <= keys:
        raise FeedbackError(f"{where}: is not a {FORMAT} file; expected the keys {sorted(keys)}")
    missing = {"round", "step", "tokens_seen", "losses", "eval_tokens"} - set(value)
    if missing or value["round"] != number:
        raise FeedbackError(f"{where}: missing {sorted(missing)} or round {value.get('round')!r} is not {number!r}")
    fault = misfit(value, {key: spec for key, spec in _SHAPE.items() if key in value})
    if fault is not None:
        raise FeedbackError(f"{where}: {fault}; the file was changed after it was written: restore it")
    return Feedback(**value)


def check_feedback(feedback: Feedback, info: RunInfo, arms: Collection[str]) -> None:
    """Refuse a report that must never move a mixture.

    Args:
        feedback: The report.
        info: The run it is for.
        arms: Ids of the run's arms.

    Raises:
        FeedbackError: A number is NaN, negative or infinite, an id is unknown, or a signal the mixer needs is absent.
    """
    where = f"report of round {feedback.round}"
    if feedback.step < 0 or feedback.tokens_seen < 0:
        raise FeedbackError(f"{where}: step {feedback.step} and tokens_seen {feedback.tokens_seen} must be 0 or more")
    _check_numbers(f"{where}: losses", feedback.losses, info.skills, "skill", least=0.0)
    _check_numbers(f"{where}: eval_tokens", feedback.eval_tokens, info.skills, "skill", least=0.0)
    _check_numbers(f"{where}: arm_losses", feedback.arm_losses or {}, arms, "arm", least=0.0)
    for name, signal in (feedback.signals or {}).items():
        _check_numbers(f"{where}: signals.{name}", signal, {*info.skills, *arms}, "skill or arm", least=-math.inf)
    absent = [name for name in info.signals if name not in (feedback.signals or {})]
    if absent:
        raise FeedbackError(
            f"{where}: the mixer {info.mixer} needs the signals {absent}; report them as signals={{...}}"
        )
    if not any(value is not None for value in feedback.losses.values()):
        raise FeedbackError(f"{where}: no loss was measured; report at least one skill")


def _check_numbers(
    where: str, numbers: Mapping[str, float | None], known: Collection[str], kind: str, least: float
) -> None:
    for key, value in numbers.items():
        if key not in known:
            near = get_close_matches(key, sorted(known), n=1)
            raise FeedbackError(f"{where}: unknown {kind} {key!r}" + (f"; nearest known: {near[0]!r}" if near else ""))
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < least:
            bound = "a finite number" if least == -math.inf else f"a finite number of {least:g} or more"
            raise FeedbackError(f"{where}: {key!r} is {value!r}, expected {bound}; nothing was recorded")


def record_feedback(
    run: Folder, info: RunInfo, feedback: Feedback, check: Callable[[Feedback], None] = lambda feedback: None
) -> Outcome:
    """Check a report and write it, once.

    Args:
        run: The run's folder.
        info: What `run.json` says.
        feedback: The report.
        check: Raises FeedbackError for what the run's mixer would refuse; `trial.Trial.check` is one.

    Returns:
        "recorded"; "already recorded" when the round has a report (the first stands); "late" when a committed round has
        already passed it over: it is kept as `.late.json` and never applied.

    Raises:
        FeedbackError: The report is malformed or names a round that was not written.
    """
    number = feedback.round
    first = read_manifest(run, 0 if number == "initial" else number)
    if first is None and number != "initial":
        raise FeedbackError(
            f"report of round {number}: {run.path(manifest_name(number))} is not written; report the round just read"
        )
    check_feedback(feedback, info, first.mixture["requested"] if first else ())
    if run.exists(feedback_name(number)):
        return "already recorded"
    check(feedback)
    if info.uses_feedback and run.exists(manifest_name(info.applied_by(number))):
        return "late" if run.commit(feedback_name(number, late=True), feedback.to_bytes()) else "already recorded"
    return "recorded" if run.commit(feedback_name(number), feedback.to_bytes()) else "already recorded"
