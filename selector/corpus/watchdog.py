"""Ends work that takes too long with an error, from inside the same process: for regular expressions that backtrack.

Python's `re` looks at pending signals while it matches, so a timer's handler can raise out of a match that would run
for years. It is an error and never a skipped document: what the clock skips would differ from machine to machine.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from prereq.graph.errors import PrereqError


@contextmanager
def time_limit(seconds: float, describe: Callable[[], PrereqError]) -> Iterator[Callable[[], None]]:
    """Raise `describe()` when more than `seconds` pass between two calls of the function that this yields.

    Works in the main thread of a system with interval timers, where the executors run their tasks; anywhere else there
    is no limit. A timer that was running before goes on afterwards.

    Args:
        seconds: Wall-clock seconds; 0 or less for no limit.
        describe: Makes the error; called when the time is over.
    """
    usable = hasattr(signal, "setitimer") and threading.current_thread() is threading.main_thread()
    if seconds <= 0 or not usable:
        yield lambda: None
        return

    def expire(_number: int, _frame: FrameType | None) -> None:
        raise describe()

    def restart() -> None:
        signal.setitimer(signal.ITIMER_REAL, seconds)

    handler = signal.signal(signal.SIGALRM, expire)
    remaining, interval = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield restart
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        if remaining:
            signal.setitimer(signal.ITIMER_REAL, remaining, interval)
