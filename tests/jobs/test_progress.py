"""What a long job says off a terminal: a line per finished stage, and ever rarer ones on a stage that takes long."""

import io
import threading
import time

import pytest

from prereq.jobs.progress import Progress, _so_far


def test_a_short_stage_leaves_one_line_with_its_counts() -> None:
    stream = io.StringIO()
    with Progress(stream).stage("ingest", total=3) as bar:
        bar.advance(3)
        bar.note({"documents": 1_234}, skipped=2)
    (line,) = stream.getvalue().splitlines()
    assert line.split() == ["ingest", "0.0", "s", "documents", "1,234,", "2", "parts", "already", "done"]


def test_a_long_stage_says_how_far_it_is_and_ever_more_rarely() -> None:
    stream = io.StringIO()
    with Progress(stream, first_s=0.02).stage("tag", total=10, done=4) as bar:
        bar.advance()
        time.sleep(1)
    *told, last = stream.getvalue().splitlines()
    assert told[0] == "         tag  5 of 10 done after 0 s, about 0 s left"
    assert 2 <= len(told) <= 25, "50 were they even"
    assert last.startswith("         tag     1.")
    assert not [thread for thread in threading.enumerate() if "_tell" in thread.name]


def test_a_stage_that_fails_leaves_no_thread_and_no_last_line() -> None:
    stream = io.StringIO()
    with pytest.raises(KeyboardInterrupt), Progress(stream).stage("embed", total=1):
        raise KeyboardInterrupt
    assert stream.getvalue() == ""
    assert not [thread for thread in threading.enumerate() if "_tell" in thread.name]


def test_quiet_says_nothing() -> None:
    stream = io.StringIO()
    progress = Progress(stream, quiet=True, first_s=0.01)
    with progress.stage("embed", total=1):
        time.sleep(0.05)
    progress.line("x")
    assert stream.getvalue() == ""


@pytest.mark.parametrize(
    ("advanced", "total", "done", "seconds", "said"),
    [
        (0, 1, 0, 61, "0 of 1 done after 61 s"),
        (50, 1_200, 150, 600, "200 of 1,200 done after 10 min, about 3.3 h left"),
        (1, 3, 0, 7_200, "1 of 3 done after 2.0 h, about 4.0 h left"),
        (7, 0, 0, 80, "7 done after 80 s"),
    ],
)
def test_what_is_left_counts_by_what_came_since_the_start(
    advanced: int, total: int, done: int, seconds: float, said: str
) -> None:
    assert _so_far("x", advanced, total, done, seconds).split(None, 1)[1] == said
