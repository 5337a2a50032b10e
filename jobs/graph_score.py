"""`prereq graph score`: how well a graph, or a learned influence, agrees with another one.

    prereq graph score built.json --reference my.yaml
    prereq graph score my.yaml --reference learned.parquet

Every figure stands beside what a graph that says nothing gets on average.
"""

import argparse
import json
import math
from typing import Any

from prereq.graph.compare import Comparison, Opinion, compare
from prereq.graph.errors import ConfigError
from prereq.graph.influence import load_influence
from prereq.jobs.graph_command import open_graph
from prereq.jobs.table import printable


def open_opinion(name: str, overrides: list[str], least: float) -> Opinion:
    """What a file says of pairs of skills.

    Args:
        name: A learned influence (`.parquet`), a graph file, or a configuration.
        overrides: `--set` for a configuration.
        least: Entries of an influence above it count as edges.
    """
    if not name.lower().endswith(".parquet"):
        return Opinion.of_graph(open_graph(name, overrides), least)
    if overrides:
        raise ConfigError(f"--set {overrides[0]}: {name} is an influence, not a configuration; leave --set out")
    return Opinion.of_influence(load_influence(name), least)


def told(found: Comparison, graph: str, reference: str) -> str:
    """The comparison as a table for a terminal."""
    kind = "ordered pairs" if found.directed else "pairs without direction"
    outside = f" ({found.outside} more are not among these pairs)" if found.outside else ""
    lines = [
        f"{graph}, judged by {reference}",
        f"{found.skills} skills in both, {found.pairs:,} {kind}; edges: {found.edges:,} of the graph, "
        f"{found.reference_edges:,} of the reference{outside}, {found.both:,} of both",
        "",
        f"{'':<18}{'value':>9}{'random':>9}",
    ]
    notes = {
        "direction": f"of {found.linked:,} pairs that both link",
        "NDCG": f"helpers of {found.targets:,} skills",
    }
    for measure in found.measures:
        if measure.name == "direction" and not found.directed:
            continue
        row = f"{measure.name:<18}{_number(measure.value):>9}{_number(measure.random):>9}"
        lines.append(f"{row}  {notes.get(measure.name, '')}".rstrip())
    return "\n".join(printable(line) for line in lines)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _facts(found: Comparison) -> dict[str, Any]:
    names = ("skills", "pairs", "directed", "edges", "reference_edges", "both", "outside", "linked", "targets")

    def rounded(value: float | None) -> float | None:
        return None if value is None else round(value, 6)

    measures = {m.name: {"value": rounded(m.value), "random": rounded(m.random)} for m in found.measures}
    return {**{name: getattr(found, name) for name in names}, "measures": measures}


def main_graph_score(args: argparse.Namespace) -> int:
    """The verb."""
    if not math.isfinite(args.least):
        raise ConfigError(f"graph score: --least is {args.least}, expected a finite number")
    if args.dry_run:
        print(f"would read {args.config} and {args.reference} and write nothing")
        return 0
    graph = open_opinion(args.config, args.set, args.least)
    found = compare(graph, open_opinion(args.reference, [], args.least), k=args.k)
    print(json.dumps(_facts(found)) if args.json else told(found, args.config, args.reference))
    return 0
