"""The corpus engine measured beside its peers: duplicates, whole builds, tagging, clusters, faults and damaged input.

    python benchmarks/bench_corpus.py --out DIR --corpus DIR --peers DIR [--data DIR] [--size check|full] [--rows ...]

`--runs N` takes medians of N in place of what the size says. `--corpus` and `--peers` name the prepared corpus and
the peers' environments, `--data` the real data sets (default $PREREQ_DATA, else ../shared/data); the program exits 2
with one line when one is missing that a row reads. Writes params.json (with sha256 of every input file), metrics.json
(`bars`: {name, value, unit, bar, holds}, `rows`: every run) and env.json, and each row's own numbers to
rows/NAME.json as soon as it ends; exits 1 when a bar is missed.
How to add a row: corpus_rows.py.
"""

import argparse
import importlib
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from corpus_rows import Context, MissingInput, Row, Values, digests, require, select
from recording import bars, record

# modules with a table ROWS, in the order in which they run
GROUPS: tuple[str, ...] = (
    "corpus_dedup",
    "corpus_build",
    "corpus_ratios",
    "corpus_tags",
    "corpus_clusters",
    "corpus_faults",
    "corpus_fuzz",
)


def tables() -> dict[str, dict[str, Row]]:
    """The rows of every group."""
    return {name: importlib.import_module(name).ROWS for name in GROUPS}


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    data = os.environ.get("PREREQ_DATA") or Path(__file__).parent.parent.parent / "shared" / "data"
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--corpus", type=Path)
    parser.add_argument("--peers", type=Path)
    parser.add_argument("--data", type=Path, default=Path(data))
    parser.add_argument("--size", choices=("check", "full"), default="check")
    parser.add_argument("--rows", nargs="+", metavar="NAME")
    parser.add_argument("--documents", type=int, default=5_000_000, help="of the row scale")
    parser.add_argument(
        "--runs", type=int, help="of each kind to take medians of; default: what the size says, 5 in full"
    )
    return parser.parse_args(arguments)


def run_row(name: str, row: Row, options: argparse.Namespace) -> tuple[Values, dict[str, Any]]:
    """One row in a scratch folder of its own; its numbers are on disk when it returns."""
    print(f"{name}: ...", file=sys.stderr, flush=True)
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix=f"bench-{name}-") as scratch:
        folders = {need: (getattr(options, need) or Path()).resolve() for need in ("corpus", "peers", "data")}
        values, details = row.run(
            Context(size=options.size, scratch=Path(scratch), documents=options.documents, runs=options.runs, **folders)
        )
    details = {"wall_seconds": round(time.monotonic() - start, 1), **details}
    out = options.out / "rows"
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{name}.json").write_text(json.dumps({"values": values} | details, indent=1, sort_keys=True) + "\n")
    print(f"{name}: {details['wall_seconds']} s", file=sys.stderr, flush=True)
    return values, details


def main(arguments: list[str] | None = None) -> int:
    """Run the rows and write the files; 1 when a bar does not hold, 2 when an input is missing."""
    options = parse(arguments)
    try:
        rows = select(tables(), options.rows, options.size)
        needs = sorted({need for row in rows.values() for need in row.needs})
        for need in needs:
            require(need, getattr(options, need))
        values: Values = {}
        details: dict[str, Any] = {}
        for name, row in rows.items():
            found, details[name] = run_row(name, row, options)
            values |= found
    except MissingInput as error:
        print(f"bench_corpus: {error}", file=sys.stderr)
        return 2
    inputs = {need: digests(getattr(options, need)) for need in needs if need != "peers"}
    params = {"size": options.size, "runs": options.runs, "rows": list(rows), "inputs_sha256": inputs}
    return record(options.out, params, {"bars": bars("corpus", values), "values": values, "rows": details})


if __name__ == "__main__":
    sys.exit(main())
