"""What can be said of a run: plain values, made by `jobs.summary`, shown by `jobs.table` and `jobs.report`."""

import math
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from prereq.graph.skill_graph import SkillGraph
from prereq.jobs.drawn import Drawn
from prereq.selector.rounds.run import Done, RunInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class SkillSummary:
    """One skill of a run; losses in nats per token, None where not measured."""

    id: str
    name: str
    documents: int | None  # of the pool that carry it; None: unknown
    held: int | None  # documents of the control split that carry it; None: unknown
    tokens: float  # drawn so far; a document's tokens are split evenly over its skills
    share: float  # of all tokens drawn
    pool_share: float | None  # of the pool's tokens
    first_loss: float | None  # control split, first report that measured it
    last_loss: float | None  # control split, last report, if there was more than one
    first_report_loss: float | None  # report split, untrained
    last_report_loss: float | None  # report split, trained

    @property
    def change(self) -> float | None:
        """Relative change of the control loss; -0.2: it fell by a fifth."""
        if self.first_loss is None or self.last_loss is None or self.first_loss == 0.0:
            return None
        return self.last_loss / self.first_loss - 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmSummary:
    """One arm of a run."""

    id: str
    name: str
    documents: int | None  # in the pool
    pool_tokens: int | None
    tokens: int  # drawn so far
    share: float  # of all tokens drawn
    epochs: float | None  # drawn documents over documents in the pool
    cohesion: float | None = None  # mean cosine of its documents to its centre; None: unknown
    scores: Mapping[str, float] = field(default_factory=dict)  # mean of each score over its tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundSummary:
    """One committed round."""

    round: int
    documents: int
    tokens: int
    applied: tuple[str, ...]  # rounds whose reports it newly applied
    moved: float | None  # total variation of the requested mixture from that of the round before, 0 to 1
    capped: float  # total variation between what was requested and what the pool could still give
    off: float  # total variation between the weights after caps and the tokens drawn
    requested: dict[str, float]  # arm -> weight
    weights: dict[str, float]  # arm -> weight after caps
    realised: dict[str, float]  # arm -> share of the tokens drawn
    drawn: Drawn  # tokens per skill


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportSummary:
    """One report of a trainer."""

    round: int | None  # None: the untrained model
    losses: dict[str, float | None]
    mean: float | None  # over the skills measured


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary:
    """Everything that a table or a report says of a run."""

    run_dir: str
    info: RunInfo
    settings: dict[str, Any]  # run.json
    done: Done | None
    graph: SkillGraph | None
    skills: tuple[SkillSummary, ...]  # in the order of the graph
    arms: tuple[ArmSummary, ...]
    rounds: tuple[RoundSummary, ...]
    reports: tuple[ReportSummary, ...]
    untagged: float  # tokens drawn without a skill
    exact: bool  # tokens per skill are counted, not estimated
    warnings: tuple[str, ...]

    @property
    def documents(self) -> int:
        """Documents drawn."""
        return sum(entry.documents for entry in self.rounds)

    @property
    def tokens(self) -> int:
        """Tokens drawn."""
        return sum(entry.tokens for entry in self.rounds)

    @property
    def staleness(self) -> int | None:
        """Rounds between the last one and the newest report that was applied; None: no report was applied."""
        applied = [int(name) for entry in self.rounds for name in entry.applied if name != "initial"]
        return self.rounds[-1].round - max(applied) if applied else None


def mean(values: Iterable[float | None]) -> float | None:
    """Mean of the numbers that are there, or None."""
    there = [value for value in values if value is not None]
    return statistics.fmean(there) if there else None


def variation(left: Mapping[str, float], right: Mapping[str, float]) -> float:
    """Total variation distance between two mixtures, 0 (the same) to 1 (nothing in common)."""
    return math.fsum(abs(left.get(key, 0.0) - right.get(key, 0.0)) for key in sorted({*left, *right})) / 2


def status(summary: RunSummary) -> str:
    """How the run stands, in a few words."""
    if summary.done is None:
        return f"{len(summary.rounds)} rounds so far"
    return f"done: {summary.done.rounds} rounds ({summary.done.reason})"
