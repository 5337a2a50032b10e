"""Two samplers on one run."""

import os
import shutil
from functools import partial
from pathlib import Path

import chaos_worker as worker
from chaos_worker import FINISHED, REFUSED, Place

_RACED = {"rounds": 12, "batches_per_round": 1, "global_batch": 8, "seed": 5}


def race(root: Path, pool: Path, expected: list[bytes]) -> str:
    """Two samplers on one run, started together; "clean", or what was wrong."""
    root.mkdir()
    place = Place(root, pool)
    gate, opener = os.pipe()

    ready, tell = os.pipe()

    def contend() -> None:
        os.close(opener)
        told = iter([True])

        def meet() -> None:
            if next(told, False):  # before the first round: neither can be done before the other has begun
                os.write(tell, b".")
                os.close(tell)
                os.read(gate, 1)  # until the writing end is closed

        worker.sample(place, _RACED, "uniform", meet)

    children = [worker.fork(contend, root / f"{n}.log") for n in range(2)]
    os.close(tell)
    came = sum(len(os.read(ready, 1)) for _ in children)  # fewer where one ended before it was ready
    os.close(opener)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    os.close(gate)
    os.close(ready)
    if came < len(children):
        return f"only {came} samplers were ready to draw"
    said = [(root / f"{n}.log").read_text() if (root / f"{n}.log").exists() else "" for n in range(2)]
    if sorted(codes) != [FINISHED, REFUSED] or "another sampler wrote round" not in said[codes.index(REFUSED)]:
        return f"exit codes {codes}: {said}"
    found = [path.read_bytes() for path in sorted(place.run.glob("rounds/*/manifest.json"))]
    return "clean" if found == expected else "the rounds differ"


def run_races(root: Path, pool: Path, tries: int) -> list[str]:
    """The outcomes of so many races."""
    alone = Place(root / "alone", pool)
    alone.root.mkdir()
    os.waitpid(worker.fork(partial(worker.sample, alone, _RACED, "uniform"), alone.root / "log"), 0)
    expected = [path.read_bytes() for path in sorted(alone.run.glob("rounds/*/manifest.json"))]
    outcomes = []
    for number in range(tries):
        outcomes.append(race(root / f"race-{number}", pool, expected))
        shutil.rmtree(root / f"race-{number}")
    return outcomes
