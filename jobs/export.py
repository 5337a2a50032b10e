"""`prereq export`: the rounds of a finished or running run in a format that another training loop reads."""

import argparse
import json
import re
import sys
from typing import TYPE_CHECKING, Any

from prereq.graph.errors import ConfigError
from prereq.selector.export import ExportRequest, export

if TYPE_CHECKING:
    from prereq.jobs.config import RunConfig

_ROUNDS = re.compile(r"(\d*):(\d*)")


def parse_rounds(text: str) -> tuple[int, int | None]:
    """`a:b` as first round and the one behind the last; ConfigError for anything else."""
    match = _ROUNDS.fullmatch(text)
    if match is None:
        raise ConfigError(f"--rounds {text}: expected a:b, for example 0:4, 4: or :")
    return int(match[1] or 0), int(match[2]) if match[2] else None


def main_export(target: "RunConfig | str", args: argparse.Namespace) -> int:
    """The verb.

    Args:
        target: A configuration, or the folder of a run.
        args: `to`, `out`, `rounds`, `tokenizer`, `eod`, `json`.
    """
    run_dir = target if isinstance(target, str) else target.run_dir
    request = ExportRequest(
        run_dir=run_dir,
        to=args.to,
        out=args.out,
        rounds=parse_rounds(args.rounds),
        tokenizer=args.tokenizer,
        eod=args.eod,
    )
    exported = export(request)
    if args.json:
        print(json.dumps(exported.facts, indent=2))
        return 0
    if exported.was_there:
        print(f"{args.out}: was exported before; nothing to do")
    print(describe(args.out, exported.facts))
    if exported.facts["written"].get("validation_tokens", 0) is None:
        print("no val.bin: the run's pool or its tokenizer is not here", file=sys.stderr)
    return 0


def describe(out: str, facts: dict[str, Any]) -> str:
    """What an export holds, in a line."""
    first, stop = facts["rounds"]
    written = ", ".join(
        f"{key.replace('_', ' ')} {value:,}" for key, value in facts["written"].items() if isinstance(value, int)
    )
    return (
        f"{out}: {facts['to']}, rounds {first} to {stop - 1}: {facts['documents']:,} documents, "
        f"{facts['tokens']:,} tokens; written: {written}"
    )
