"""What a long job shows on stderr: one bar per stage on a terminal, one line per finished stage elsewhere.

A log file or a cluster's job log gets a line when a stage ends, never a stream of redrawn bars.
"""

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichProgress


class Bar:
    """One running stage; `advance` counts a finished unit, `note` is printed when the stage ends."""

    def __init__(self, rich: RichProgress | None, task: int | None) -> None:
        self._rich, self._task = rich, task
        self.text = ""

    def advance(self, units: int = 1) -> None:
        """Count finished units."""
        if self._rich is not None and self._task is not None:
            self._rich.advance(self._task, units)  # type: ignore[arg-type]

    def note(self, counts: Mapping[str, int], skipped: int = 0) -> None:
        """Keep what the stage counted, for its last line."""
        said = [f"{key} {value:,}" for key, value in counts.items()]
        self.text = ", ".join(said + ([f"{skipped} parts already done"] if skipped else []))


class Progress:
    """Bars on a terminal, lines elsewhere, nothing when `quiet`."""

    def __init__(self, stream: TextIO | None = None, *, quiet: bool = False) -> None:
        self._stream = stream or sys.stderr
        self._quiet = quiet

    def line(self, text: str) -> None:
        """Say one line, unless quiet."""
        if not self._quiet:
            print(text, file=self._stream, flush=True)

    @contextmanager
    def stage(self, name: str, total: int, done: int = 0) -> Iterator[Bar]:
        """Show one stage while the block runs, then leave one line with its counts and seconds."""
        start = time.monotonic()
        if self._quiet or not self._stream.isatty():
            bar = Bar(None, None)
            yield bar
        else:
            columns = (TextColumn("{task.description:>12}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
            with RichProgress(*columns, console=Console(file=self._stream), transient=True) as rich:
                bar = Bar(rich, int(rich.add_task(name, total=total, completed=done)))
                yield bar
        self.line(f"{name:>12}  {time.monotonic() - start:6.1f} s  {bar.text}")
