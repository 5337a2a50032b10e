"""What a row of bench_corpus.py is: a function of a `Context` that returns what it measured.

A group of rows is a module `benchmarks/corpus_<group>.py` with a table

    ROWS: dict[str, Row] = {"clusters": Row(clusters_row, needs=("data",))}

and a line in `GROUPS` of bench_corpus.py. A row's name is what `--rows` selects. Its function returns

    ({"cluster_nmi_openstax": .63, ...},        values: names that stand under `corpus:` in requirements.yaml
     {"runs": [...], "settings": {...}})        details: anything JSON can hold; every single run, every setting

It may write below `context.scratch` (its own folder, deleted afterwards), takes fewer repeats with `--size check`
(all rows together: 20 minutes on two cores) and raises when it cannot measure; a bar is never judged by the row itself.
Needs are looked for before the first row starts, and the program exits 2 when one is missing.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Need = Literal["corpus", "peers", "data"]
Values = dict[str, float]
Found = tuple[Values, dict[str, Any]]
CHUNK = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What a row is told."""

    size: Literal["check", "full"]
    corpus: Path  # the prepared corpus: parquet/*.parquet, jsonl/*.jsonl, truth.json
    peers: Path  # the peers' environments: venv/<name>/bin/python
    data: Path  # the real data sets, one folder each
    scratch: Path  # an empty folder of this row
    documents: int = 5_000_000  # of the row `scale`
    runs: int | None = None  # of each kind, in place of what the size says

    def repeats(self, check: int, full: int = 5) -> int:
        """Runs of each kind to take the median of."""
        return self.runs or (check if self.size == "check" else full)

    def peer(self, name: str) -> Path:
        """The Python of a peer's environment; an error naming it when it is not there."""
        python = self.peers / "venv" / name / "bin" / "python"
        if not python.exists():
            raise MissingInput(f"no environment of the peer {name} at {python}: build it with the peers' install.sh")
        return python


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A function and which of the folders it reads; `sizes` says at which --size it runs unless it is asked for."""

    run: Callable[[Context], Found]
    needs: tuple[Need, ...] = ()
    sizes: tuple[str, ...] = ("check", "full")


class MissingInput(Exception):
    """Something that the benchmark reads is not there; the program prints it and exits 2."""


HOW = {
    "corpus": "--corpus must name the prepared corpus, a folder with parquet/, jsonl/ and truth.json",
    "peers": "--peers must name the folder of the peers' environments, with venv/<name>/",
    "data": "--data or PREREQ_DATA must name the folder of the real data sets",
}
MARKS = {"corpus": ("parquet", "jsonl", "truth.json"), "peers": ("venv",), "data": ("openstax_multi",)}


def require(need: Need, folder: Path | None) -> None:
    """Raise MissingInput unless the folder holds what the rows read."""
    if folder is None:
        raise MissingInput(HOW[need])
    for mark in MARKS[need]:
        if not (folder / mark).exists():
            raise MissingInput(f"{HOW[need]}; {folder / mark} does not exist")


def digests(folder: Path) -> dict[str, str]:
    """sha256 of every file below a folder, by its relative path."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            total = hashlib.sha256()
            with open(path, "rb") as file:
                while chunk := file.read(CHUNK):
                    total.update(chunk)
            found[path.relative_to(folder).as_posix()] = total.hexdigest()
    return found


def select(groups: Mapping[str, Mapping[str, Row]], names: list[str] | None, size: str) -> dict[str, Row]:
    """The rows to run, in the order of the table."""
    rows = {name: row for group in groups.values() for name, row in group.items()}
    if names is None:
        return {name: row for name, row in rows.items() if size in row.sizes}
    unknown = sorted(set(names) - set(rows))
    if unknown:
        raise MissingInput(f"--rows {', '.join(unknown)}: no such row; there are {', '.join(sorted(rows))}")
    return {name: row for name, row in rows.items() if name in names}
