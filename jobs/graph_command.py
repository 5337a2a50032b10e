"""`prereq graph check` and `prereq graph show`: is the skill graph sound, and what does it look like."""

import argparse
import json
from pathlib import Path

from prereq.graph.errors import ConfigError
from prereq.graph.load import load_edges, load_graph, write_whole
from prereq.graph.render import describe, to_svg
from prereq.graph.skill_graph import SkillGraph
from prereq.jobs.config import load_config, read_graph
from prereq.jobs.config_file import find_config, read_settings


def open_graph(name: str, overrides: list[str]) -> SkillGraph:
    """The graph of a configuration, or of a graph file (`.json`, `.csv`, or YAML in the format prereq.graph/1).

    Args:
        name: A file, or the name of a shipped configuration.
        overrides: `--set` for a configuration; a graph file takes none.
    """
    if not is_graph_file(name):
        return read_graph(load_config(name, overrides).graph)
    if overrides:
        raise ConfigError(f"--set {overrides[0]}: {name} is a graph, not a configuration; leave --set out")
    return load_edges(name) if Path(name).suffix.lower() == ".csv" else load_graph(name)


def is_graph_file(name: str) -> bool:
    """Whether a name is that of a graph file, and not of a configuration."""
    suffix = Path(name).suffix.lower()
    if suffix in (".yaml", ".yml") and Path(name).is_file():
        keys = read_settings(find_config(name)).keys()
        return "format" in keys or ("skills" in keys and "sources" not in keys)  # a graph without its format is one
    return suffix in (".json", ".csv")


def main_graph_check(args: argparse.Namespace) -> int:
    """The verb: read the graph, which checks it, and say how large it is."""
    graph = open_graph(args.config, args.set)
    stages = graph.stages() if graph.kind == "prerequisite" else []
    facts = {"kind": graph.kind, "skills": len(graph), "edges": len(graph.edges), "stages": len(stages)}
    if args.json:
        print(json.dumps({**facts, "merged": graph.merged}))
        return 0
    merged = f", {len(graph.merged)} skills merged into others" if graph.merged else ""
    layers = f", {len(stages)} stages" if graph.kind == "prerequisite" else ""
    print(f"{args.config}: sound: {facts['skills']} skills, {facts['edges']} edges{layers} ({graph.kind}){merged}")
    return 0


def main_graph_show(args: argparse.Namespace) -> int:
    """The verb: describe the graph, or draw it."""
    graph = open_graph(args.config, args.set)
    if args.svg is not None:
        write_whole(Path(args.svg), to_svg(graph).encode())
        print(args.svg)
    else:
        print(json.dumps(graph.to_dict(), indent=2) if args.json else describe(graph))
    return 0
