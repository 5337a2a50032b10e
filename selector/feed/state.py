"""Where a feed stands: the small, exact state that a trainer puts into its checkpoint.

A state belongs to a global step, not to a rank: it restores at any world size that divides the global batch.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from prereq.graph.errors import ManifestError

FORMAT = "prereq.feed-state/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedState:
    """The position behind the last batch handed out; the default is the start of a run."""

    format: str = FORMAT
    run: str  # sha256 of the run's drawing keys, from run.json
    step: int | None = None  # global step of the last batch handed out; None before the first
    round: int = 0  # the round of that batch
    row: int = 0  # rows of that round handed out, over all ranks: where the next batch starts
    manifest: str | None = None  # sha256 of that round's manifest; None before the first batch
    tokens: int = 0  # tokens of all rounds before that round
    unreported: int | None = None  # a finished round that is to be reported and was not

    @property
    def next_step(self) -> int:
        """Global step of the next batch."""
        return 0 if self.step is None else self.step + 1

    def moved(self, **changes: Any) -> "FeedState":
        """A copy with other values."""
        return replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a checkpoint or JSON."""
        return asdict(self)


_COUNTS = ("round", "row", "tokens")
_OPTIONAL_COUNTS = ("step", "unreported")


def parse_state(
    value: Mapping[str, Any], run: str, where: str, shared: Callable[[int], str] = lambda number: ""
) -> FeedState:
    """Check a state from a checkpoint.

    Args:
        value: What `state_dict` gave.
        run: sha256 of the drawing keys of the run that it is to go on with.
        where: The run's name, for errors.
        shared: Round -> the configuration that it was drawn by, where the run is a fork: a state of the run that it
            comes from, from before the fork, is one of its own.

    Raises:
        ManifestError: The state is not of the format, or belongs to another run.
    """
    keys = {field.name for field in fields(FeedState)}
    if not isinstance(value, Mapping) or value.get("format") != FORMAT or set(value) != keys:
        found = sorted(value) if isinstance(value, Mapping) else type(value).__name__
        raise ManifestError(f"{where}: the feed's state holds {found}, expected {FORMAT} with the keys {sorted(keys)}")
    for key in (*_COUNTS, *_OPTIONAL_COUNTS):
        number = value[key]
        if number is None and key in _OPTIONAL_COUNTS:
            continue
        if not isinstance(number, int) or isinstance(number, bool) or number < 0:
            raise ManifestError(f"{where}: the feed's state has {key} {number!r}, expected an integer of 0 or more")
    if value["run"] != run and value["run"] == shared(value["round"]):
        value = {**value, "run": run}
    if value["run"] != run:
        raise ManifestError(
            f"{where}: the feed's state belongs to the run with configuration {value['run']}, this run has {run}; "
            "load the checkpoint that was made with this run, or start the feed from the beginning"
        )
    if (value["step"] is None) != (value["manifest"] is None):
        raise ManifestError(f"{where}: the feed's state has step {value['step']} but manifest {value['manifest']}")
    return FeedState(**value)
