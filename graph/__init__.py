"""The skill graph of prereq: model, files, influence matrix, pictures."""

from prereq.graph.errors import ConfigError, FeedbackError, GraphError, ManifestError, PrereqError, TableError
from prereq.graph.influence import (
    Influence,
    influence_from_graph,
    load_influence,
    read_matrix_csv,
    save_influence,
)
from prereq.graph.load import load_edges, load_graph, save_graph
from prereq.graph.render import describe, to_svg
from prereq.graph.skill import Edge, Skill
from prereq.graph.skill_graph import SkillGraph

__all__ = [
    "ConfigError",
    "Edge",
    "FeedbackError",
    "GraphError",
    "Influence",
    "ManifestError",
    "PrereqError",
    "Skill",
    "SkillGraph",
    "TableError",
    "describe",
    "influence_from_graph",
    "load_edges",
    "load_graph",
    "load_influence",
    "read_matrix_csv",
    "save_graph",
    "save_influence",
    "to_svg",
]
