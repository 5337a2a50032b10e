"""Merging groups of skills into one skill each: what `on_cycle: condense` does to cycles."""

from collections.abc import Sequence

from prereq.graph.skill import Edge, Skill


def merge_groups(
    skills: Sequence[Skill], edges: Sequence[Edge], groups: list[list[str]]
) -> tuple[list[Skill], list[Edge], dict[str, str]]:
    """Replace every group of skills by one; the rule is written at `SkillGraph.condense`.

    Args:
        skills: All skills.
        edges: Between them.
        groups: A partition of the ids, each group sorted; `order.strong_components` makes it.

    Returns:
        The skills, the edges between different groups, and absorbed id -> id of the skill that stands for it.
    """
    leader = {member: group[0] for group in groups for member in group}
    index = {skill.id: skill for skill in skills}
    members = {group[0]: [index[member] for member in group] for group in groups}
    merged_skills = [_merge(members[head]) for head in dict.fromkeys(leader[skill.id] for skill in skills)]
    strongest: dict[tuple[str, str], float] = {}
    for edge in edges:
        pair = (leader[edge.prerequisite], leader[edge.target])
        # the sign decides between +w and -w, so that the order of the edges does not
        if pair[0] != pair[1] and (pair not in strongest or _strength(edge.weight) > _strength(strongest[pair])):
            strongest[pair] = edge.weight
    merged_edges = [Edge(prerequisite=a, target=b, weight=weight) for (a, b), weight in strongest.items()]
    return merged_skills, merged_edges, {member: head for member, head in leader.items() if member != head}


def _strength(weight: float) -> tuple[float, float]:
    return abs(weight), weight


def _merge(members: list[Skill]) -> Skill:
    if len(members) == 1:
        return members[0]
    return Skill(
        id=members[0].id,
        name=" / ".join(member.name for member in members),
        description="\n".join(member.description for member in members if member.description),
        aliases=tuple(dict.fromkeys(alias for member in members for alias in member.aliases)),
        patterns=tuple(dict.fromkeys(pattern for member in members for pattern in member.patterns)),
    )
