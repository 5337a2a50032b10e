"""What a long job shows on stderr: one bar per stage on a terminal, lines elsewhere. Tasks of all nodes count.

A log file or a cluster's job log gets a line when a stage ends, never a stream of redrawn bars; a stage that takes long
says after a minute, and then ever more rarely, how far it is, so that a job that works can be told from one that hangs.
"""

import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichProgress

_FIRST_S = 60.0  # seconds after which a stage off a terminal first says how far it is
_RARER = 0.25  # share of the time so far that passes at least before it says so again


class Bar:
    """One running stage; `advance` counts a finished unit, `note` is printed when the stage ends."""

    def __init__(self, rich: RichProgress | None, task: int | None) -> None:
        self._rich, self._task = rich, task
        self.text = ""
        self.advanced = 0

    def advance(self, units: int = 1) -> None:
        """Count finished units."""
        self.advanced += units
        if self._rich is not None and self._task is not None:
            self._rich.advance(self._task, units)  # type: ignore[arg-type]

    def note(self, counts: Mapping[str, int], skipped: int = 0) -> None:
        """Keep what the stage counted, for its last line."""
        said = [f"{key} {value:,}" for key, value in counts.items()]
        self.text = ", ".join(said + ([f"{skipped} parts already done"] if skipped else []))


class Progress:
    """Bars on a terminal, lines elsewhere, nothing when `quiet`."""

    def __init__(self, stream: TextIO | None = None, *, quiet: bool = False, first_s: float = _FIRST_S) -> None:
        self._stream = stream or sys.stderr
        self._quiet = quiet
        self._first_s = first_s

    def line(self, text: str) -> None:
        """Say one line, unless quiet."""
        if not self._quiet:
            print(text, file=self._stream, flush=True)

    @contextmanager
    def stage(self, name: str, total: int, done: int = 0) -> Iterator[Bar]:
        """Show one stage while the block runs, then leave one line with its counts and seconds."""
        start = time.monotonic()
        if self._quiet:
            yield Bar(None, None)
            return
        if not self._stream.isatty():
            bar, ended = Bar(None, None), threading.Event()
            teller = threading.Thread(target=self._tell, args=(name, bar, total, done, ended), daemon=True)
            teller.start()
            try:
                yield bar
            finally:
                ended.set()
                teller.join()
        else:
            columns = (TextColumn("{task.description:>12}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
            with RichProgress(*columns, console=Console(file=self._stream), transient=True) as rich:
                bar = Bar(rich, int(rich.add_task(name, total=total, completed=done)))
                yield bar
        self.line(f"{name:>12}  {time.monotonic() - start:6.1f} s  {bar.text}")

    def _tell(self, name: str, bar: Bar, total: int, done: int, ended: threading.Event) -> None:
        """Say how far a stage is until it has ended."""
        start = time.monotonic()
        while not ended.wait(max(self._first_s, _RARER * (time.monotonic() - start))):
            self.line(_so_far(name, bar.advanced, total, done, time.monotonic() - start))


def _so_far(name: str, advanced: int, total: int, done: int, seconds: float) -> str:
    """One line on a stage of which `done` of `total` units were there at its start and `advanced` came since."""
    of = f" of {total:,}" if total else ""
    left = f", about {_rough(seconds * (total - done - advanced) / advanced)} left" if total and advanced else ""
    return f"{name:>12}  {done + advanced:,}{of} done after {_rough(seconds)}{left}"


def _rough(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"
