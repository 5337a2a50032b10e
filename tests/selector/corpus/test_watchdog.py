"""The time limit: it ends a regular expression that backtracks, and leaves nothing behind."""

import re
import signal
import threading
import time

import pytest

from prereq.graph.errors import TableError
from prereq.selector.corpus.watchdog import time_limit


def _error() -> TableError:
    return TableError("too slow")


def test_ends_a_regular_expression_that_would_run_for_years() -> None:
    start = time.monotonic()
    with pytest.raises(TableError, match="too slow"), time_limit(0.2, _error):
        re.search(r"(?:a+)+b", "a" * 60)
    assert time.monotonic() - start < 5


def test_each_restart_gives_the_whole_time() -> None:
    steps = 0
    with time_limit(0.3, _error) as restart:
        for _ in range(5):
            restart()
            time.sleep(0.1)
            steps += 1
    assert steps == 5


def test_handler_and_timer_are_as_before() -> None:
    handler = signal.getsignal(signal.SIGALRM)
    with time_limit(10, _error):
        assert signal.getsignal(signal.SIGALRM) is not handler
    assert signal.getsignal(signal.SIGALRM) is handler
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0


def test_a_timer_of_the_caller_goes_on() -> None:
    signal.setitimer(signal.ITIMER_REAL, 1000)
    try:
        with time_limit(10, _error):
            pass
        assert 900 < signal.getitimer(signal.ITIMER_REAL)[0] <= 1000
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def test_no_limit_for_zero_seconds_and_outside_the_main_thread() -> None:
    with time_limit(0, _error) as restart:
        restart()
        assert signal.getitimer(signal.ITIMER_REAL)[0] == 0
    seen: list[float] = []

    def other() -> None:
        with time_limit(10, _error) as restart:
            restart()
            seen.append(signal.getitimer(signal.ITIMER_REAL)[0])

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert seen == [0]
