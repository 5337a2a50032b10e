"""When a sampler may draw the next round: its reports are there and readers have caught up."""

import time
from collections.abc import Callable
from typing import Any, Literal

from prereq.graph.errors import ManifestError
from prereq.selector.rounds.config import SamplerConfig
from prereq.selector.rounds.feedback import read_feedback
from prereq.selector.rounds.manifest import manifest_name
from prereq.selector.rounds.progress import slowest_place
from prereq.selector.rounds.run import Reason, RunInfo
from prereq.selector.storage import Folder

Event = Callable[[str, dict[str, Any]], None]


class Turns:
    """Waits for the turn of each round; `waited_s` and `waits` count what it cost.

    Args:
        run: The run's folder.
        info: What `run.json` says.
        config: The run's rounds.
        on_event: Called with ("waiting", {...}) when a wait begins.
    """

    def __init__(self, run: Folder, info: RunInfo, config: SamplerConfig, on_event: Event) -> None:
        self._run, self._info, self._config, self._event = run, info, config, on_event
        self.waited_s = 0.0
        self.waits = 0

    def wait(self, number: int, stop: Callable[[], bool], *, patient: bool) -> Reason | Literal["interrupted"] | None:
        """Wait until a round may be drawn.

        Args:
            number: The round.
            stop: Asked at least once, and between two looks.
            patient: False: a wait that would begin is an interruption.

        Returns:
            None when the round may be drawn; "stopped" by the policy; "interrupted" by the caller.

        Raises:
            ManifestError: Another sampler wrote the round.
        """
        begin, told = time.monotonic(), False
        while True:
            if self._run.exists(manifest_name(number)):
                raise beaten(self._run, number)
            missing = [n for n in self._info.awaited_by(number) if read_feedback(self._run, n) is None]
            behind = self._readers_behind(number)
            waited = time.monotonic() - begin
            overdue = bool(missing) and not behind and waited > self._config.feedback_timeout_s
            if overdue and self._config.policy == "stop":
                return "stopped"
            if stop():
                return "interrupted"
            if not behind and (not missing or (overdue and self._config.policy == "reuse")):
                self.waited_s += waited if told else 0.0
                return None
            if not patient:
                return "interrupted"
            if not told:
                self._event("waiting", {"round": number, "reports": missing, "readers": behind})
                self.waits, told = self.waits + 1, True
            time.sleep(self._run.poll_s)

    def _readers_behind(self, number: int) -> bool:
        """Whether this round would lie more than `ahead` rounds past the slowest reader."""
        return self._config.ahead is not None and number > slowest_place(self._run) + self._config.ahead


def beaten(run: Folder, number: int) -> ManifestError:
    """What a sampler that lost a round says."""
    return ManifestError(
        f"{run.path(manifest_name(number))}: another sampler wrote round {number} of this run first; "
        "this one stops and nothing is lost: let the other one go on"
    )
