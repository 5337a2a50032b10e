"""`SkillShares`: which share of each arm's tokens belongs to each skill, the matrix T, kept sparse.

A document's tokens are split evenly over its skills; untagged tokens are in the column `_none`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from prereq.graph.errors import ManifestError
from prereq.graph.skill import RESERVED_ID
from prereq.selector.mixers.simplex import FloatArray, IntArray

NO_SKILL = RESERVED_ID
"""Name of the column of tokens without any skill; no skill may be called so."""

ROW_TOLERANCE = 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class SkillShares:
    """T `(n, k)`: row = arm, column = skill, the last column is `_none`; every row sums to 1.

    Attributes:
        columns: k skill ids, `_none` last.
        n_arms: n.
        arm_index, column_index: int64 `(nnz,)`, sorted by arm, then column.
        values: float64 `(nnz,)`, in (0, 1].
    """

    columns: tuple[str, ...]
    n_arms: int
    arm_index: IntArray
    column_index: IntArray
    values: FloatArray

    @classmethod
    def from_rows(
        cls, rows: Sequence[Mapping[str, float]], skills: Sequence[str], ids: Sequence[str] | None = None
    ) -> "SkillShares":
        """Build T from one mapping {skill id or `_none`: share} per arm.

        Args:
            rows: n mappings; skills that are left out have a share of 0.
            skills: The k - 1 skill ids of the columns, without `_none`.
            ids: Names of the arms, for messages; by default their positions.

        Raises:
            ManifestError: An unknown skill, a share outside [0, 1] or NaN, or a row that does not sum to 1.
        """
        if NO_SKILL in skills or len(set(skills)) != len(skills):
            raise ManifestError(f"skill ids must be unique and {NO_SKILL!r} is reserved, got {list(skills)[:8]}")
        columns = (*skills, NO_SKILL)
        position = {skill: index for index, skill in enumerate(columns)}
        entries: list[tuple[int, int, float]] = []
        for arm, row in enumerate(rows):
            name = arm if ids is None else ids[arm]
            unknown = sorted(set(row) - set(position))
            if unknown:
                raise ManifestError(f"arm {name}: shares for unknown skills {unknown[:5]}; rebuild the pool")
            if any(not 0.0 <= share <= 1.0 for share in row.values()) or abs(sum(row.values()) - 1.0) > ROW_TOLERANCE:
                raise ManifestError(
                    f"arm {name}: shares {dict(sorted(row.items())[:5])} must lie in [0, 1] and sum to 1; "
                    f"tokens without a skill belong to {NO_SKILL!r}"
                )
            entries.extend((arm, position[skill], float(share)) for skill, share in row.items() if share > 0.0)
        entries.sort()
        arms = np.array([entry[0] for entry in entries], dtype=np.int64)
        skill_columns = np.array([entry[1] for entry in entries], dtype=np.int64)
        values = np.array([entry[2] for entry in entries], dtype=np.float64)
        for array in (arms, skill_columns, values):
            array.setflags(write=False)
        return cls(columns, len(rows), arms, skill_columns, values)

    @classmethod
    def identity(cls, skills: Sequence[str]) -> "SkillShares":
        """T = I: arm i holds exactly skill i (Skill-It's own setting)."""
        return cls.from_rows([{skill: 1.0} for skill in skills], skills)

    @property
    def shape(self) -> tuple[int, int]:
        """(arms, columns)."""
        return self.n_arms, len(self.columns)

    def dot(self, per_column: FloatArray) -> FloatArray:
        """T @ v: a value per column `(k,)` averaged over each arm's tokens, `(n,)`."""
        if per_column.shape != (len(self.columns),):
            raise ValueError(f"T.dot: expected shape ({len(self.columns)},), got {per_column.shape}")
        # bincount adds in storage order, on one thread: the same bits everywhere
        return np.bincount(
            self.arm_index, weights=self.values * per_column[self.column_index], minlength=self.n_arms
        ).astype(np.float64)

    def transpose_dot(self, per_arm: FloatArray) -> FloatArray:
        """T' @ w: arm weights `(n,)` summed into weights per column `(k,)`, `_none` last."""
        if per_arm.shape != (self.n_arms,):
            raise ValueError(f"T.transpose_dot: expected shape ({self.n_arms},), got {per_arm.shape}")
        return np.bincount(
            self.column_index, weights=self.values * per_arm[self.arm_index], minlength=len(self.columns)
        ).astype(np.float64)

    def row(self, arm: int) -> dict[str, float]:
        """The shares of one arm, {skill: share}, zeros left out."""
        start, stop = np.searchsorted(self.arm_index, [arm, arm + 1])
        columns, values = self.column_index[start:stop], self.values[start:stop]
        return {self.columns[c]: float(v) for c, v in zip(columns, values, strict=True)}

    def to_dense(self) -> FloatArray:
        """T as an `(n, k)` array, for tests and small reports."""
        dense = np.zeros(self.shape, dtype=np.float64)
        dense[self.arm_index, self.column_index] = self.values
        return dense
