"""What steers a run's rounds. Paths, Ray and logging are elsewhere: they change no byte of a round."""

from dataclasses import dataclass, field
from typing import Any, Literal

from prereq.graph.errors import ConfigError
from prereq.selector.rounds.samples import SamplesConfig

Policy = Literal["wait", "reuse", "stop"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplerConfig:
    """Rounds of one run; top-level keys of a configuration file."""

    seed: int = 0  # order in which every arm is drawn, and rows inside a round
    rounds: int | None = None  # budget in rounds; exactly one of rounds and tokens is set
    tokens: int | None = None  # budget in tokens: the run ends with the first round that reaches it
    batches_per_round: int = 8  # global batches in a round
    global_batch: int = 64  # samples in a global batch, over all ranks
    lookahead: int = 1  # rounds written before the feedback that they would follow
    ahead: int | None = (
        None  # most rounds past the slowest reader (by its checkpoint, progress or reports); none: unbounded
    )
    report_every: int = 1  # only every n-th round is reported
    policy: Policy = "wait"  # missing feedback: wait for it, reuse the last mixture, or stop the run
    feedback_timeout_s: float = 3600.0  # seconds before `reuse` and `stop` act
    keep_rounds: int | None = None  # rounds whose shards stay behind the slowest reader; none: all
    max_epochs: int = 4  # times a document may be drawn
    initial_evaluation: bool = True  # round 0 waits for the untrained model's losses (where the mixer uses losses)
    batches_per_shard: int = 16  # global batches in a shard file, at most
    rows_per_group: int | None = (
        None  # rows of a Parquet row group; none: the largest divisor of global_batch up to an eighth of it
    )
    state_every: int = 1  # rounds between two copies of large mixer arrays
    samples: SamplesConfig = field(default_factory=SamplesConfig)  # what a row of a shard is

    def __post_init__(self) -> None:
        positive = (
            "batches_per_round",
            "global_batch",
            "report_every",
            "max_epochs",
            "batches_per_shard",
            "state_every",
        )
        for name in positive:
            _check_count(name, getattr(self, name), least=1)
        for name in ("rounds", "tokens", "ahead", "keep_rounds", "rows_per_group"):
            if getattr(self, name) is not None:
                _check_count(name, getattr(self, name), least=1)
        for name in ("lookahead", "seed"):
            _check_count(name, getattr(self, name), least=0)
        if (self.rounds is None) == (self.tokens is None):
            raise ConfigError("rounds, tokens: set exactly one of them: it bounds the run")
        if self.ahead is not None and self.ahead < self.lookahead:
            raise ConfigError(f"ahead: {self.ahead} is less than lookahead {self.lookahead}; the trainer would starve")
        if self.policy not in ("wait", "reuse", "stop"):
            raise ConfigError(f"policy: {self.policy!r} is not one of wait, reuse, stop")
        if not isinstance(self.feedback_timeout_s, int | float) or not self.feedback_timeout_s > 0:
            raise ConfigError(f"feedback_timeout_s: must be above 0 seconds, got {self.feedback_timeout_s}")
        if self.rows_per_group is not None and self.global_batch % self.rows_per_group:
            raise ConfigError(f"rows_per_group: {self.rows_per_group} does not divide global_batch {self.global_batch}")

    @property
    def samples_per_round(self) -> int:
        """Samples in every round."""
        return self.batches_per_round * self.global_batch

    @property
    def group_rows(self) -> int:
        """Rows of a row group: a divisor of the global batch, so that a rank's slice is whole groups."""
        if self.rows_per_group is not None:
            return self.rows_per_group
        most = max(1, self.global_batch // 8)
        return max(n for n in range(1, most + 1) if self.global_batch % n == 0)

    def drawing_keys(self) -> dict[str, Any]:
        """The keys that change what a round holds; the budget, `ahead`, `keep_rounds` and time-outs do not."""
        keys = {
            "seed": self.seed,
            "batches_per_round": self.batches_per_round,
            "global_batch": self.global_batch,
            "lookahead": self.lookahead,
            "report_every": self.report_every,
            "policy": self.policy,
            "max_epochs": self.max_epochs,
            "initial_evaluation": self.initial_evaluation,
            "batches_per_shard": self.batches_per_shard,
            "rows_per_group": self.group_rows,
            "state_every": self.state_every,
        }
        return keys if self.samples.kind == "text" else {**keys, "samples": self.samples.drawing_keys()}


def _check_count(name: str, value: object, *, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigError(f"{name}: must be a whole number of {least} or more, got {value!r}")
