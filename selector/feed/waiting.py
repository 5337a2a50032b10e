"""Waiting for files that another program writes: probe with backoff, count the seconds, say so once in a while."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from prereq.graph.errors import ConfigError, PrereqError

_log = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitConfig:
    """How a feed waits; changes no batch."""

    first_s: float = 0.02  # seconds before the second look
    growth: float = 1.5  # each pause is so many times the one before
    most_s: float = 0.5  # seconds, longest pause
    start_timeout_s: float | None = 30.0  # seconds to wait for run.json; none: for ever
    timeout_s: float | None = None  # seconds to wait for a round; none: for ever
    notice_s: float = 60.0  # seconds between two notices in the log

    def __post_init__(self) -> None:
        if not (self.first_s > 0 and self.most_s >= self.first_s and self.growth >= 1 and self.notice_s > 0):
            raise ConfigError(
                f"waiting: first_s, notice_s must be above 0, most_s at least first_s, growth at least 1: {self}"
            )
        for name in ("start_timeout_s", "timeout_s"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise ConfigError(f"waiting: {name} must be 0 or more seconds, got {value}")


class Waiter:
    """Probes until there is an answer; `waited_s` is the sum of all pauses.

    Args:
        config: Pauses and limits.
        stop: Asked between two looks; when it answers true the wait ends without an answer.
    """

    def __init__(self, config: WaitConfig, stop: Callable[[], bool] | None = None) -> None:
        self._config, self._stop = config, stop
        self.waited_s = 0.0
        self.waits = 0  # calls whose first look found nothing

    def add(self, seconds: float) -> None:
        """Count a wait that someone else waited, such as a loader worker."""
        self.waited_s += seconds
        self.waits += 1

    def stopping(self) -> bool:
        """Whether the caller wants to end."""
        return self._stop is not None and self._stop()

    def wait(
        self,
        probe: Callable[[], T | None],
        what: str,
        timeout_s: float | None,
        advice: str,
        *,
        first_notice_s: float | None = None,
    ) -> T | None:
        """Call `probe` until it gives something.

        Args:
            probe: Looks once; None: not there.
            what: What is awaited, for messages.
            timeout_s: Seconds before giving up; None: never.
            advice: What to do about it, for messages.
            first_notice_s: Seconds before the first notice in the log; None: as between two.

        Returns:
            What the probe gave; None when the caller wants to end.

        Raises:
            PrereqError: Nothing came within `timeout_s` seconds; the message ends with `advice`.
        """
        begin = time.monotonic()
        pause, before = self._config.first_s, self.waited_s
        notice = self._config.notice_s if first_notice_s is None else first_notice_s
        if (answer := probe()) is not None:
            return answer
        self.waits += 1
        while (answer := probe()) is None:
            waited = time.monotonic() - begin
            self.waited_s = before + waited
            if self.stopping():
                return None
            if timeout_s is not None and waited >= timeout_s:
                raise PrereqError(f"{what}: not there after {waited:.1f} s; {advice}")
            if waited >= notice:
                _log.warning("%s: still waiting after %.0f s; %s", what, waited, advice)
                notice = waited + self._config.notice_s
            time.sleep(pause)
            pause = min(pause * self._config.growth, self._config.most_s)
            self.waited_s = before + time.monotonic() - begin
        return answer
