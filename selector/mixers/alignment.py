"""Influence, targets and base brought into the order of a pool's arms and skills: by id, never by position."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from prereq.graph.canonical import digest
from prereq.graph.errors import ConfigError
from prereq.graph.influence import Influence
from prereq.selector.mixers.parameters import PATH, check_known
from prereq.selector.mixers.protocol import Arms
from prereq.selector.mixers.shares import NO_SKILL
from prereq.selector.mixers.simplex import FloatArray


def target_columns(influence: Influence, targets: Sequence[str] | None) -> tuple[str, ...]:
    """The evaluation skills that count, ascending: sums over them do not depend on the order of the matrix.

    Raises:
        ConfigError: A target that is not among the influence's columns.
    """
    if targets is None:
        return tuple(sorted(influence.eval))
    check_known(f"{PATH}.targets", targets, influence.eval, "evaluation skill")
    return tuple(sorted(targets))


def state_key(name: str, parameters: Mapping[str, Any], arms: Arms, influence: Influence) -> str:
    """What binds a mixer's state to its configuration: 12 hex digits.

    A decay that is not used is left out: states from before there was one stay valid.
    """
    plain = {key: list(value) if isinstance(value, tuple) else value for key, value in parameters.items()}
    if plain.get("ema_decay") is None:
        plain.pop("ema_decay", None)
    ids = {"arms": list(arms.ids), "train": sorted(influence.train), "eval": sorted(influence.eval)}
    return digest({"name": name, "parameters": plain} | ids)[:12]


def aligned_influence(influence: Influence, arms: Arms, columns: Sequence[str]) -> FloatArray:
    """A `(k + 1, m)` with one row per column of T: a skill without a row, and `_none`, has no influence.

    Args:
        influence: Rows by id of the pool's skills, in any order; not every skill needs one.
        arms: Whose T fixes the k + 1 rows.
        columns: The m evaluation skills, all of them columns of `influence`.

    Raises:
        ConfigError: The influence has a training skill that the pool does not know.
    """
    remedy = "; the influence and the pool must come from one graph"
    check_known("influence", influence.train, arms.skills, "training skill", remedy=remedy)
    rows = {skill: index for index, skill in enumerate(arms.skills)}
    position = {skill: index for index, skill in enumerate(influence.eval)}
    kept = [position[skill] for skill in columns]
    aligned = np.zeros((len(arms.skills) + 1, len(kept)))
    aligned[[rows[skill] for skill in influence.train]] = influence.matrix[:, kept]
    return aligned


def reaches(influence: Influence, targets: Collection[str]) -> frozenset[str]:
    """Skills from which a path of positive influence leads to a target, the targets included.

    An edge goes from a training skill to an evaluation skill of positive influence; a path goes on through ids that
    are both.
    """
    position = {skill: index for index, skill in enumerate(influence.eval)}
    reached = set(targets)
    while True:
        columns = sorted(position[skill] for skill in reached if skill in position)
        helps = (influence.matrix[:, columns] > 0).any(axis=1)
        found = {influence.train[row] for row in np.flatnonzero(helps)} - reached
        if not found:
            return frozenset(reached)
        reached |= found


def masked_base(arms: Arms, base: FloatArray, influence: Influence, targets: Collection[str]) -> FloatArray:
    """The base `(n,)`, each arm scaled by the share of its tokens that help a target; not normalised.

    With one skill per arm this keeps an arm or makes it exactly 0. A document that only names an unhelpful skill, and
    untagged text, do not count as help.

    Raises:
        ConfigError: No token of the pool helps.
    """
    allowed = reaches(influence, targets) - {NO_SKILL}
    masked = base * arms.shares.dot(np.array([float(skill in allowed) for skill in arms.shares.columns]))
    if not masked.any():
        raise ConfigError(f"{PATH}.mask leaves nothing to draw: no token of the pool has a skill that helps a target")
    return masked


def base_weights(arms: Arms, base: str) -> FloatArray:
    """Token shares (`tokens`), or the same number for every arm that holds tokens (`uniform`), `(n,)`."""
    return arms.proportions if base == "tokens" else np.where(arms.tokens > 0, 1.0 / len(arms.ids), 0.0)
