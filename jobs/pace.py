"""How fast the two sides of a run go and how long each waited for the other, in words and as plain values."""

from dataclasses import asdict
from typing import Any

from prereq.selector.rounds.manifest import RoundManifest
from prereq.selector.rounds.progress import SAMPLER, Progress, read_progress, readers_progress
from prereq.selector.storage import Folder


def pace_facts(run: Folder) -> dict[str, Any]:
    """What both sides wrote last: `{sampler: {...} or None, readers: {name: {...}}}`; seconds and tokens per second."""
    sampler = read_progress(run, SAMPLER)
    return {
        "sampler": None if sampler is None else _values(sampler),
        "readers": {name: _values(progress) for name, progress in readers_progress(run).items()},
    }


def pace(run: Folder) -> str:
    """One line: places, tokens per second and waits; empty when nobody wrote anything."""
    sampler = read_progress(run, SAMPLER)
    told = [] if sampler is None else [f"sampler {sampler.round} rounds written, {_speed(sampler)}"]
    for name, progress in readers_progress(run).items():
        told.append(f"{name} at round {progress.round}, {_speed(progress)}")
    return "; ".join(told)


def staleness(manifest: RoundManifest, newest: int | None) -> str:
    """How old the newest report behind a round's mixture is, in words.

    Args:
        manifest: The round.
        newest: The newest report of a round that it or an earlier round applied.
    """
    return "no report yet" if newest is None else f"{manifest.round - newest} rounds old"


def _values(progress: Progress) -> dict[str, Any]:
    return {**asdict(progress), "tokens_per_s": progress.tokens_per_s, "stall_share": progress.stall_share}


def _speed(progress: Progress) -> str:
    waits = f"{progress.waits} stall" + ("" if progress.waits == 1 else "s")
    return (
        f"{progress.tokens_per_s:,.0f} tokens/s, waited {progress.waited_s:.1f} s ({progress.stall_share:.1%}, {waits})"
    )
