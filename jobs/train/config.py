"""What steers the reference trainer: the size of its model, its steps, its evaluations. Light: no torch here."""

from dataclasses import dataclass

from prereq.graph.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """The reference trainer of one run, the key `train` of a configuration file."""

    layers: int = 2  # transformer blocks
    width: int = 64  # numbers per position; a multiple of twice heads
    heads: int = 4  # attention heads
    seq_len: int = 128  # tokens (bytes) in a window
    windows_per_step: int = 16  # windows in an optimizer step; a global batch is cut into as many as it has
    learning_rate: float = 3e-3  # of AdamW, constant after the warm-up
    warmup_steps: int = 20  # optimizer steps of linear warm-up
    weight_decay: float = 0.1  # of AdamW, on matrices
    clip_norm: float = 1.0  # largest norm of a gradient
    seed: int = 0  # of the first weights
    threads: int = 2  # threads of torch on the CPU; pinned, because sums depend on it
    device: str = "cpu"  # cpu or cuda
    eval_tokens_per_skill: int = 4096  # tokens of the control split per skill and evaluation, about
    report_tokens_per_skill: int | None = None  # tokens of the report split per skill at the end; none: all
    eval_windows: int = 32  # windows evaluated at a time
    checkpoint_every: int = 1  # rounds between checkpoints
    signal_tokens: int = 1024  # tokens of an arm or a skill behind each signal that the mixer asks for
    signal_windows: int = 4  # windows of an arm or a skill whose gradients are compared
    influence_damping: float = 0.1  # lambda of K-FAC, relative to the curvature's own size
    probe_steps: int = 2  # optimizer steps of a probe of one arm (mixer aioli)
    reference_run: str | None = None  # run whose trained model gives excess losses; none: trigrams of the pool
    wait_timeout_s: float = 900.0  # seconds without a new round before giving up

    def __post_init__(self) -> None:
        counts = ["layers", "width", "heads", "seq_len", "windows_per_step", "threads", "eval_tokens_per_skill"]
        counts += ["eval_windows", "checkpoint_every", "signal_tokens", "signal_windows", "probe_steps"]
        for name in counts:
            if getattr(self, name) < 1:
                raise ConfigError(f"train.{name}: must be 1 or more, got {getattr(self, name)}")
        if self.report_tokens_per_skill is not None and self.report_tokens_per_skill < 1:
            raise ConfigError(f"train.report_tokens_per_skill: must be 1 or more, got {self.report_tokens_per_skill}")
        if self.width % (2 * self.heads):
            raise ConfigError(f"train.width: {self.width} is not a multiple of twice train.heads ({2 * self.heads})")
        for name in ("learning_rate", "clip_norm", "wait_timeout_s", "influence_damping"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"train.{name}: must be above 0, got {getattr(self, name)}")
        for name in ("warmup_steps", "weight_decay", "seed"):
            if not getattr(self, name) >= 0:
                raise ConfigError(f"train.{name}: must be 0 or more, got {getattr(self, name)}")
        if self.device not in ("cpu", "cuda"):
            raise ConfigError(f"train.device: {self.device!r} is not one of cpu, cuda")


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnConfig:
    """How `prereq graph learn` learns the influence of skills on each other, the key `learn`."""

    start_tokens: int = 262_144  # tokens of all skills in even shares before the short runs branch off; 0: untrained
    steps: int = 16  # optimizer steps of each short run
    own_share: float = 1.0  # of a short run's tokens from its own skill, the rest in even shares; 1: the paper's
    relative: bool = False  # entries as shares of the start's loss instead of nats, so that every skill counts the same

    def __post_init__(self) -> None:
        if self.start_tokens < 0:
            raise ConfigError(f"learn.start_tokens: must be 0 or more, got {self.start_tokens}")
        if self.steps < 1:
            raise ConfigError(f"learn.steps: must be 1 or more, got {self.steps}")
        if not 0 < self.own_share <= 1:
            raise ConfigError(f"learn.own_share: must be above 0 and at most 1, got {self.own_share}")
