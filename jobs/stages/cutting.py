"""Stage `lines`: large files are cut, so that several tasks read one and a kill costs a piece and not the file.

    STAGES/lines/<source>-<file>-<n>/lines.json    how many lines begin in each of some consecutive pieces

Parquet is cut by row groups, JSON Lines by bytes; what is compressed, or cannot be read from the middle, stays whole.
Only lines have to be counted, for documents and rejects are placed by file and line.
"""

import json
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import accumulate
from pathlib import Path

from prereq.graph.canonical import canonical_json, digest
from prereq.jobs.stages.runner import Bench, Task, run_stage
from prereq.selector.corpus.inputs import InputFile, open_input, pieces_of
from prereq.selector.corpus.streams import line_ends

_PIECES = 32  # of a file, whose lines one task counts


def cut_files(bench: Bench, sources: Sequence[Sequence[InputFile]], limit: int) -> list[list[InputFile]]:
    """The files of each source, those of more than `limit` bytes in pieces where that is possible.

    Args:
        bench: Of this build.
        sources: The files of each source.
        limit: Bytes of a piece.

    Returns:
        Files and pieces in the same order; every piece of JSON Lines knows the number of its first line.
    """
    cut = [[pieces_of(file, limit) for file in files] for files in sources]
    tasks = [
        Task(f"{source:03d}-{number:06d}-{first // _PIECES:04d}", (group,), tuple(piece.fingerprint for piece in group))
        for source, files in enumerate(cut)
        for number, pieces in enumerate(files)
        if len(pieces) > 1 and pieces[0].format == "jsonl"
        for first in range(0, len(pieces), _PIECES)
        for group in [pieces[first : first + _PIECES]]
    ]
    if tasks:
        counted = run_stage(bench, "lines", count_lines, tasks, {})
        begun: dict[str, list[int]] = {}
        for task, file in zip(counted.tasks, counted.matching("lines"), strict=True):
            begun.setdefault(task.rpartition("-")[0], []).extend(json.loads(Path(file.path).read_bytes()))
        for name, lines in begun.items():
            source, number = map(int, name.split("-"))
            cut[source][number] = _numbered(cut[source][number], lines)
    return [[piece for pieces in files for piece in pieces] for files in cut]


def count_lines(output: str, pieces: Sequence[InputFile]) -> dict[str, int]:
    """Write how many lines begin in each of some pieces of one file."""
    begun = [0] * len(pieces)
    with suppress(OSError), open_input(pieces[0]) as stream:  # what cannot be opened is rejected by who reads it
        size = stream.seek(0, os.SEEK_END)
        for number, (start, stop) in enumerate(piece.piece.range(size) for piece in pieces):
            # a line begins at the file's start, and behind every line end
            begun[number] = line_ends(stream, max(0, start - 1), stop - 1) + (start == 0)
    (Path(output) / "lines.json").write_bytes(canonical_json(begun))
    return {"lines": sum(begun)}


def _numbered(pieces: Sequence[InputFile], begun: Sequence[int]) -> list[InputFile]:
    first = accumulate(begun[:-1], initial=1)
    return [
        replace(file, piece=replace(file.piece, first_line=line), fingerprint=digest([file.fingerprint, line]))
        for file, line in zip(pieces, first, strict=True)
    ]
