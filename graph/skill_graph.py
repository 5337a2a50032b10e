"""The skill graph: skills, weighted edges between them, and the questions that the rest of prereq asks of it.

A graph is checked when it is made and never changes afterwards. Reading and writing files is `graph.load`, the matrix
that mixers use is `graph.influence`, pictures are `graph.render`.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, get_args

from prereq.graph import order
from prereq.graph.canonical import digest
from prereq.graph.condense import merge_groups
from prereq.graph.errors import GraphError
from prereq.graph.skill import Edge, Skill, check_keys, nearest

FORMAT = "prereq.graph/1"
Kind = Literal["prerequisite", "influence", "similarity"]
OnCycle = Literal["error", "condense"]
_CYCLE_NODES_SHOWN = 24


class SkillGraph:
    """Skills and edges of one kind; immutable, comparable, hashable, picklable.

    Only a graph of kind `prerequisite` must be acyclic and free of negative weights. An edge of kind `similarity` has
    no direction: `b -> a` beside `a -> b` is a duplicate.

    Args:
        kind: What an edge means.
        skills: At least one, ids unique; their order is kept.
        edges: Between known skills, none twice, none from a skill to itself.
        on_cycle: What a prerequisite graph with cycles gets. `error` refuses it; `condense` drops edges from a skill to
            itself and merges the skills of each cycle by the rule of the method `condense`.

    Raises:
        GraphError: With the edge, the id or the cycle that is wrong.
    """

    __slots__ = ("_edges", "_index", "_kind", "_merged", "_prerequisites", "_skills", "_targets")

    def __init__(
        self, kind: Kind, skills: Sequence[Skill], edges: Sequence[Edge], *, on_cycle: OnCycle = "error"
    ) -> None:
        _check_choice("kind", kind, get_args(Kind))
        _check_choice("on_cycle", on_cycle, get_args(OnCycle))
        condensing = kind == "prerequisite" and on_cycle == "condense"
        _check_skills(skills)
        _check_edges(kind, {skill.id for skill in skills}, edges, allow_self=condensing)
        self._kind: Kind = kind
        self._merged: dict[str, str] = {}
        self._link(skills, edges)
        if condensing:
            skills, edges, self._merged = merge_groups(skills, edges, order.strong_components(self._targets))
            self._link(skills, edges)
        elif kind == "prerequisite" and (cycle := order.find_cycle(self._targets)):
            raise GraphError(
                f"prerequisites form a cycle: {show_path(cycle)}; remove one of these edges, or merge the skills of "
                "every cycle with on_cycle: condense"
            )

    def _link(self, skills: Sequence[Skill], edges: Sequence[Edge]) -> None:
        self._skills = tuple(skills)
        self._edges = tuple(edges)
        self._index = {skill.id: skill for skill in skills}
        targets: dict[str, list[str]] = {skill.id: [] for skill in skills}
        for edge in edges:
            targets[edge.prerequisite].append(edge.target)
        self._targets = {node: tuple(sorted(found)) for node, found in targets.items()}
        self._prerequisites = {node: tuple(sorted(found)) for node, found in order.reverse(targets).items()}

    @property
    def kind(self) -> Kind:
        """What an edge means."""
        return self._kind

    @property
    def skills(self) -> tuple[Skill, ...]:
        """All skills, in the order given."""
        return self._skills

    @property
    def edges(self) -> tuple[Edge, ...]:
        """All edges, in the order given."""
        return self._edges

    @property
    def ids(self) -> tuple[str, ...]:
        """All ids, in the order given."""
        return tuple(self._index)

    @property
    def merged(self) -> dict[str, str]:
        """Where skills were condensed: absorbed id -> id of the skill that stands for it. Not part of the format."""
        return dict(self._merged)

    def __len__(self) -> int:
        return len(self._skills)

    def __contains__(self, skill_id: object) -> bool:
        return skill_id in self._index

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SkillGraph):
            return NotImplemented
        return (self._kind, self._skills, self._edges) == (other._kind, other._skills, other._edges)

    def __hash__(self) -> int:
        return hash((self._kind, self._skills, self._edges))

    def __repr__(self) -> str:
        return f"SkillGraph(kind={self._kind!r}, skills={len(self._skills)}, edges={len(self._edges)})"

    def skill(self, skill_id: str) -> Skill:
        """The skill of an id.

        Raises:
            GraphError: Unknown id; this holds for every method that takes one.
        """
        return self._index[self._known(skill_id)]

    def prerequisites(self, skill_id: str) -> tuple[str, ...]:
        """Direct prerequisites, sorted."""
        return self._prerequisites[self._known(skill_id)]

    def targets(self, skill_id: str) -> tuple[str, ...]:
        """Skills that name this one as a prerequisite, sorted."""
        return self._targets[self._known(skill_id)]

    def ancestors(self, skill_id: str) -> frozenset[str]:
        """Every skill from which a path leads here; the skill itself only where it lies on a cycle."""
        return order.reachable(self._prerequisites, [self._known(skill_id)])

    def descendants(self, skill_id: str) -> frozenset[str]:
        """Every skill to which a path leads from here; the skill itself only where it lies on a cycle."""
        return order.reachable(self._targets, [self._known(skill_id)])

    def stages(self) -> list[list[str]]:
        """Topological layers: a skill stands one stage after the latest of its prerequisites; ids sorted inside.

        Raises:
            GraphError: The graph (of another kind than prerequisite) has a cycle.
        """
        self._refuse_cycle("stages")
        return order.layers(self._targets)

    def longest_chain(self) -> list[str]:
        """The longest path, by ids; the first in id order among equals.

        Raises:
            GraphError: The graph (of another kind than prerequisite) has a cycle.
        """
        self._refuse_cycle("longest chain")
        return order.longest_chain(self._targets)

    def frontier(self, mastered: Iterable[str]) -> list[str]:
        """Skills to learn next: not mastered, with every direct prerequisite mastered; sorted by id."""
        done = {self._known(skill_id) for skill_id in mastered}
        return sorted(node for node in self._index if node not in done and done.issuperset(self._prerequisites[node]))

    def condense(self) -> "SkillGraph":
        """Merge the skills of each strongly connected group (skills that reach one another) into one.

        The rule: the merged skill stands where its first member stood and keeps the smallest member id; names are
        joined by " / " and descriptions by a newline, both in id order; aliases and patterns are the union in id order.
        Absorbed ids do not become aliases (an id such as "1" would tag every text); `merged` maps them to the skill
        that stands for them. Edges inside a group go; of several edges between the same two groups the one of largest
        absolute weight stays.
        """
        skills, edges, merged = merge_groups(self._skills, self._edges, order.strong_components(self._targets))
        return self._derived(skills, edges, {**self._merged, **merged})

    def subgraph(self, ids: Iterable[str]) -> "SkillGraph":
        """The given skills, in this graph's order, and the edges between them."""
        kept = {self._known(skill_id) for skill_id in ids}
        skills = [skill for skill in self._skills if skill.id in kept]
        edges = [edge for edge in self._edges if edge.prerequisite in kept and edge.target in kept]
        merged = {absorbed: into for absorbed, into in self._merged.items() if into in kept}
        return self._derived(skills, edges, merged)

    def _derived(self, skills: Sequence[Skill], edges: Sequence[Edge], merged: Mapping[str, str]) -> "SkillGraph":
        graph = SkillGraph(self._kind, skills, edges)
        graph._merged = dict(merged)
        return graph

    def to_dict(self) -> dict[str, Any]:
        """The graph in the format `prereq.graph/1`, every key present, as plain lists and dicts."""
        return {
            "format": FORMAT,
            "kind": self._kind,
            "skills": [
                {
                    "id": skill.id,
                    "name": skill.name,
                    "description": skill.description,
                    "aliases": list(skill.aliases),
                    "patterns": list(skill.patterns),
                }
                for skill in self._skills
            ],
            "edges": [
                {"prerequisite": edge.prerequisite, "target": edge.target, "weight": edge.weight}
                for edge in self._edges
            ],
        }

    def digest(self) -> str:
        """Sha256 of the canonical JSON of `to_dict`."""
        return digest(self.to_dict())

    @classmethod
    def from_dict(cls, data: object, *, on_cycle: OnCycle = "error") -> "SkillGraph":
        """Read the format `prereq.graph/1`; name, description, aliases, patterns and weight may be left out.

        Raises:
            GraphError: Another format, a missing or unknown key, a wrong type, or whatever the constructor refuses.
        """
        if isinstance(data, dict) and "format" not in data:
            raise GraphError(f"graph: missing 'format'; write `format: {FORMAT}` as its first line")
        top = check_keys(data, ("format", "kind", "skills", "edges"), (), "graph")
        if top["format"] != FORMAT:
            raise GraphError(f"graph: format is {top['format']!r}, expected {FORMAT!r}")
        for key in ("skills", "edges"):
            if not isinstance(top[key], list):
                raise GraphError(f"graph: {key} must be a list, got {type(top[key]).__name__}")
        optional = ("name", "description", "aliases", "patterns")
        skills = [
            Skill(**check_keys(entry, ("id",), optional, f"skill {number}"))
            for number, entry in enumerate(top["skills"], 1)
        ]
        edges = [
            Edge(**check_keys(entry, ("prerequisite", "target"), ("weight",), f"edge {number}"))
            for number, entry in enumerate(top["edges"], 1)
        ]
        return cls(top["kind"], skills, edges, on_cycle=on_cycle)

    def _known(self, skill_id: str) -> str:
        if skill_id not in self._index:
            raise GraphError(f"no skill {skill_id!r} in the graph{nearest(str(skill_id), self._index)}")
        return skill_id

    def _refuse_cycle(self, wanted: str) -> None:
        if self._kind != "prerequisite" and (cycle := order.find_cycle(self._targets)):
            raise GraphError(f"a graph with the cycle {show_path(cycle)} has no {wanted}; call condense() first")


def show_path(path: Sequence[str]) -> str:
    """`a -> b -> c`, with the middle of a very long path counted instead of printed."""
    if len(path) > _CYCLE_NODES_SHOWN:
        half = _CYCLE_NODES_SHOWN // 2
        path = [*path[:half], f"({len(path) - 2 * half} more)", *path[-half:]]
    return " -> ".join(path)


def _check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    if not isinstance(value, str) or value not in choices:
        hint = nearest(str(value), choices)
        raise GraphError(f"graph: {name} is {value!r}, expected one of {', '.join(choices)}{hint}")


def _check_skills(skills: Sequence[Skill]) -> None:
    if not skills:
        raise GraphError("graph: no skills; a graph needs at least one")
    first: dict[str, int] = {}
    for number, skill in enumerate(skills, 1):
        if skill.id in first:
            raise GraphError(
                f"skill {number}: id {skill.id!r} is already that of skill {first[skill.id]}; ids are unique"
            )
        first[skill.id] = number


def _check_edges(kind: Kind, known: set[str], edges: Sequence[Edge], *, allow_self: bool) -> None:
    first: dict[tuple[str, str], int] = {}
    for number, edge in enumerate(edges, 1):
        where = f"edge {number} ({edge})"
        for end in (edge.prerequisite, edge.target):
            if end not in known:
                raise GraphError(f"{where}: unknown skill {end!r}{nearest(end, known)}")
        if edge.prerequisite == edge.target and not allow_self:
            raise GraphError(f"{where}: a skill cannot be its own prerequisite; remove the edge")
        if kind == "prerequisite" and edge.weight < 0:
            raise GraphError(f"{where}: weight is {edge.weight}, a prerequisite graph takes 0 or more")
        pair = (edge.prerequisite, edge.target)
        if kind == "similarity":
            pair = (min(pair), max(pair))
        if pair in first:
            raise GraphError(f"{where}: the same edge as edge {first[pair]}; keep one of them")
        first[pair] = number
