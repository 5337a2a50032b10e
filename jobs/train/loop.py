"""`prereq train`: the reference trainer as a process of its own, with signals turned into a clean stop.

Light until it runs: torch is loaded inside the verb, after the process has been told how its threads are to wait.
"""

import argparse
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from types import FrameType

from prereq.graph.errors import ConfigError
from prereq.jobs.config import RunConfig


def main_train(config: RunConfig, args: argparse.Namespace) -> int:
    """The verb: train to the end of the run; stopped, it leaves a checkpoint from which the same command goes on."""
    every = config.train.checkpoint_every
    if config.ahead is not None and every > config.ahead:
        raise ConfigError(
            f"train.checkpoint_every: {every} rounds between checkpoints, but the sampler stops {config.ahead} rounds "
            "(ahead) past the last one; lower checkpoint_every or raise ahead"
        )
    # Threads that spin while they wait fight the sampler for cores: measured 10 times slower on two shared ones.
    # OpenMP reads this when torch loads it.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from prereq.jobs.train.trainer import train

    with stop_on_signals() as stop:
        summary = train(
            config.run_dir, config.train, stop=stop, say=lambda line: print(line, file=sys.stderr, flush=True)
        )
    if getattr(args, "json", False):
        print(json.dumps(asdict(summary), sort_keys=True))
        return 0
    losses = (
        f"; mean report loss {summary.initial_loss:.4f} -> {summary.final_loss:.4f} nats per token"
        if summary.initial_loss is not None and summary.final_loss is not None
        else ""
    )
    print(f"trained on {summary.rounds} rounds, {summary.steps} global batches, {summary.tokens:,} tokens{losses}")
    return 0


@contextmanager
def stop_on_signals() -> Iterator[Callable[[], bool]]:
    """Inside, the first Ctrl-C or SIGTERM only sets the flag that is yielded; a second one acts as before.

    On leaving, a signal that came is raised again, so that the program ends the way it would have ended.
    """
    came: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def note(number: int, frame: FrameType | None) -> None:
        came.append(number)
        for each, handler in before.items():
            signal.signal(each, handler)

    for number in before:
        signal.signal(number, note)
    try:
        yield lambda: bool(came)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if came:
        signal.raise_signal(came[0])
