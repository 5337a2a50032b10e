"""The way back: from what a trainer measured to a feedback file."""

import logging
from collections.abc import Mapping
from typing import Any, Literal

from prereq.graph.errors import FeedbackError
from prereq.selector.rounds.feedback import Feedback, Outcome, record_feedback
from prereq.selector.rounds.manifest import RoundManifest, read_manifest
from prereq.selector.rounds.run import RunInfo
from prereq.selector.storage import Folder

_log = logging.getLogger(__name__)


def make_feedback(
    number: int | Literal["initial"],
    step: int,
    tokens_seen: int,
    losses: Mapping[str, Any],
    eval_tokens: Mapping[str, Any] | None,
    arm_losses: Mapping[str, Any] | None,
    signals: Mapping[str, Mapping[str, Any]] | None,
    reporter: str,
) -> Feedback:
    """A report with plain numbers: numpy and torch scalars become Python ones, anything else is left to be refused."""
    return Feedback(
        round=number,
        step=step,
        tokens_seen=tokens_seen,
        losses=_plain(losses, "losses"),
        eval_tokens={key: _count(value) for key, value in _plain(eval_tokens or {}, "eval_tokens").items()},
        arm_losses=None if arm_losses is None else _plain(arm_losses, "arm_losses"),
        signals=None if signals is None else {name: _plain(s, f"signals.{name}") for name, s in signals.items()},
        reporter=reporter,
    )


class Reporter:
    """Records the reports of one run.

    Args:
        run: The run's folder.
        info: What `run.json` says.
        pool: The pool's folder, of which the mixer is made that tries a report.
    """

    def __init__(self, run: Folder, info: RunInfo, pool: str) -> None:
        self._run, self._info, self._pool = run, info, pool
        self._trial: Any = None

    def write(self, feedback: Feedback) -> Outcome:
        """Record a report; say so in the log when it changes nothing."""
        outcome = record_feedback(self._run, self._info, feedback, self._check)
        if outcome == "already recorded":
            _log.warning("%s: round %s was reported before; the first report stands", self._run.name, feedback.round)
        elif outcome == "late":
            _log.warning(
                "%s: the report of round %s came late; it is kept, not applied", self._run.name, feedback.round
            )
        return outcome

    def _check(self, feedback: Feedback) -> None:
        if self._trial is None:
            from prereq.selector.rounds.trial import Trial  # pulls in the mixers; a loop that never reports is lighter

            self._trial = Trial(self._run, self._info, self._pool)
        self._trial.check(feedback)


def tokens_through(run: Folder, current: RoundManifest, tokens_before: int, number: int) -> int:
    """Tokens of rounds 0 to `number`, counted back from the current round.

    Args:
        run: The run's folder.
        current: The round that is being read.
        tokens_before: Tokens of the rounds before it.
        number: A round up to the current one.

    Raises:
        FeedbackError: A manifest between the two is missing.
    """
    total = tokens_before + current.tokens
    for later in range(number + 1, current.round + 1):
        manifest = current if later == current.round else read_manifest(run, later)
        if manifest is None:
            raise FeedbackError(f"{run.name}: the manifest of round {later} is missing; restore it")
        total -= manifest.tokens
    return total


def _plain(values: Mapping[str, Any], where: str) -> dict[str, Any]:
    if not isinstance(values, Mapping):
        raise FeedbackError(f"{where}: expected a mapping from id to number, got {type(values).__name__}")
    return {str(key): _number(value) for key, value in values.items()}


def _number(value: Any) -> Any:
    if value is None or isinstance(value, bool | str | int | float):
        return value
    try:
        return float(value)
    except (TypeError, ValueError):
        return value


def _count(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value
