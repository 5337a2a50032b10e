"""How far the two sides of a run are, for backpressure and for people: small files that change no round.

    RUN/progress/sampler.json  reader-<name>.json

The sampler writes its own after each round, a feed's rank 0 when it asks for a round. They hold clock times and counts
since the process began, are replaced in place, and may be deleted; nothing that a round holds depends on them.
"""

import json
import time
from dataclasses import asdict, dataclass

from prereq.graph.canonical import canonical_json
from prereq.graph.errors import ManifestError
from prereq.selector.rounds.feedback import read_feedback
from prereq.selector.rounds.shape import misfit
from prereq.selector.storage import Folder

FORMAT = "prereq.progress/1"
SAMPLER = "progress/sampler.json"
_READER = "reader-"
_SHAPE = {
    "name": str,
    "round": int,
    "tokens": int,
    "elapsed_s": float,
    "waited_s": float,
    "waits": int,
    "at": float,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """One side's place and pace; counts and seconds are those of its process, not of the run."""

    format: str = FORMAT
    name: str  # of the reader, or "sampler"
    round: int  # the next round to be written, or the one that the reader asks for
    tokens: int  # written, or handed out by this reader to all ranks
    elapsed_s: float  # since the process began with the run
    waited_s: float  # of them spent waiting for the other side
    waits: int  # times that it waited
    at: float  # seconds since 1970 when this was written

    @property
    def tokens_per_s(self) -> float:
        """Pace, waits included; 0 before any time has passed."""
        return self.tokens / self.elapsed_s if self.elapsed_s > 0 else 0.0

    @property
    def stall_share(self) -> float:
        """Share of the time spent waiting for the other side."""
        return min(1.0, self.waited_s / self.elapsed_s) if self.elapsed_s > 0 else 0.0


class Clock:
    """Counts what one process does on a run, and writes it down.

    Args:
        run: The run.
        name: Of the reader; None: the sampler.
    """

    def __init__(self, run: Folder, name: str | None) -> None:
        self._run, self._name = run, name
        self._begin = time.monotonic()
        self._tokens = 0

    def add(self, tokens: int) -> None:
        """Count tokens written or handed out."""
        self._tokens += tokens

    def write(self, round: int, waited_s: float, waits: int) -> None:
        """Replace this side's file; PrereqError when it cannot be written."""
        value = Progress(
            name=self._name or "sampler",
            round=round,
            tokens=self._tokens,
            elapsed_s=round_s(time.monotonic() - self._begin),
            waited_s=round_s(waited_s),
            waits=waits,
            at=round_s(time.time()),
        )
        name = SAMPLER if self._name is None else f"progress/{_READER}{self._name}.json"
        self._run.replace(name, canonical_json(asdict(value)), durable=False)  # a loop would wait for the disk


def round_s(seconds: float) -> float:
    """Seconds to a millisecond."""
    return round(float(seconds), 3)


def read_progress(run: Folder, name: str) -> Progress | None:
    """One file below `progress/`, or None when it is not there or empty.

    Raises:
        ManifestError: It is not of the format.
    """
    try:
        data = run.read(name)
    except FileNotFoundError:
        return None
    if not data:
        return None  # as a power failure leaves it, since nobody waits for it to be on disk
    where = run.path(name)
    advice = "delete it: it is written again"
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ManifestError(f"{where}: not JSON ({error}); {advice}") from error
    if not isinstance(value, dict) or value.get("format") != FORMAT or set(value) != {"format", *_SHAPE}:
        raise ManifestError(f"{where}: is not a {FORMAT} file; {advice}")
    fault = misfit(value, _SHAPE)
    if fault is not None:
        raise ManifestError(f"{where}: {fault}; {advice}")
    return Progress(**value)


def readers_progress(run: Folder) -> dict[str, Progress]:
    """What each reader wrote last, by name."""
    names = [name for name in run.names("progress") if name.startswith(_READER) and name.endswith(".json")]
    found = {name: read_progress(run, f"progress/{name}") for name in names}
    return {
        name.removeprefix(_READER).removesuffix(".json"): value for name, value in found.items() if value is not None
    }


def checkpoints(run: Folder) -> dict[str, int]:
    """The round that each reader's last checkpoint still needs, by name.

    Raises:
        ManifestError: A reader's file cannot be understood; guessing could delete what it still reads.
    """
    rounds = {}
    for name in run.names("readers"):
        where = run.path(f"readers/{name}")
        try:
            value = json.loads(run.read(f"readers/{name}"))
            rounds[name.removesuffix(".json")] = int(value["round"])
        except (ValueError, KeyError, TypeError) as error:
            raise ManifestError(f"{where}: not a reader's state ({error}); delete it if that reader is gone") from error
    return rounds


def slowest_place(run: Folder) -> int:
    """The round that the slowest reader reads or asks for; 0 when nobody has read anything.

    A reader is known by its checkpoint, its progress or its reports, whichever is furthest: a loop that checkpoints
    less often than every `ahead` rounds goes on reading, and must not be waited for while it waits. A report under a
    name that no reader has counts for all of them.
    """
    places: dict[str, int] = checkpoints(run)
    for name, progress in readers_progress(run).items():
        places[name] = max(places.get(name, 0), progress.round)
    numbers = [int(name[:-5]) for name in run.names("feedback") if name.endswith(".json") and name[:-5].isdigit()]
    if numbers:
        newest = read_feedback(run, max(numbers))
        reporter = newest.reporter if newest is not None else ""
        for name in (reporter,) if reporter in places else (tuple(places) or ("",)):
            places[name] = max(places.get(name, 0), max(numbers) + 1)
    return min(places.values(), default=0)
