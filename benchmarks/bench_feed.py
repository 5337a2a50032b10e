"""The feed measured beside other loaders, and what a served run costs and survives.

    python benchmarks/bench_feed.py --out DIR --corpus DIR --peers DIR [--size check|full] [--rows NAME ...]

`--corpus` and `--peers` name the prepared corpus and the peers' environments; the program exits 2 with one line when
one is missing that a row reads. Writes params.json (with sha256 of the corpus), metrics.json (`bars`: {name, value,
unit, bar, holds}, `rows`: every run) and env.json, and each row's own numbers to rows/NAME.json as soon as it ends;
exits 1 when a bar is missed. A row is a function of a `Context` in one of the modules below; to add one:
corpus_rows.py.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import feed_serving
import feed_speed
from corpus_rows import Context, MissingInput, Row, Values, digests, require, select
from recording import bars, record

GROUPS: dict[str, dict[str, Row]] = {"speed": feed_speed.ROWS, "serving": feed_serving.ROWS}


def run_row(name: str, row: Row, options: argparse.Namespace) -> tuple[Values, dict[str, Any]]:
    """One row in a scratch folder of its own; its numbers are on disk when it returns."""
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix=f"bench-{name}-") as scratch:
        corpus, peers = ((getattr(options, need) or Path()).resolve() for need in ("corpus", "peers"))
        context = Context(size=options.size, corpus=corpus, peers=peers, data=Path(), scratch=Path(scratch))
        values, details = row.run(context)
    details = {"wall_seconds": round(time.monotonic() - start, 1), **details}
    out = options.out / "rows"
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{name}.json").write_text(json.dumps({"values": values} | details, indent=1, sort_keys=True) + "\n")
    print(f"{name}: {details['wall_seconds']} s, {values}", file=sys.stderr, flush=True)
    return values, details


def main(arguments: list[str] | None = None) -> int:
    """Run the rows and write the files; 1 when a bar does not hold, 2 when an input is missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--corpus", type=Path)
    parser.add_argument("--peers", type=Path)
    parser.add_argument("--size", choices=("check", "full"), default="check")
    parser.add_argument("--rows", nargs="+", metavar="NAME")
    options = parser.parse_args(arguments)
    values: Values = {}
    details: dict[str, Any] = {}
    try:
        rows = select(GROUPS, options.rows, options.size)
        needs = sorted({need for row in rows.values() for need in row.needs})
        for need in needs:
            require(need, getattr(options, need))
        for name, row in rows.items():
            found, details[name] = run_row(name, row, options)
            values |= found
    except MissingInput as error:
        print(f"bench_feed: {error}", file=sys.stderr)
        return 2
    inputs = {"corpus": digests(options.corpus / "parquet")} if "corpus" in needs else {}
    params = {"size": options.size, "rows": list(rows), "inputs_sha256": inputs}
    return record(options.out, params, {"bars": bars("feed", values), "rows": details})


if __name__ == "__main__":
    sys.exit(main())
