"""What a check compares with the stored full results: the same inputs by digest, numbers within what the row allows.

Also the interval that stands beside a mean over seeds.
"""

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def comparable(inputs: str, **numbers: tuple[float, float]) -> dict[str, Any]:
    """What a row hands on as `comparable` in its details.

    Args:
        inputs: Digest of what the row works on; another one means other data, whose numbers say nothing.
        numbers: By name the value and how far another run of the same inputs may be from it, as a share of the stored.
    """
    return {
        "inputs": inputs,
        "numbers": {name: {"value": float(value), "tolerance": float(far)} for name, (value, far) in numbers.items()},
    }


def interval(values: Sequence[float]) -> tuple[float, list[float] | None]:
    """Mean and 95 % interval over seeds (Student's t); a single value has none."""
    from scipy.stats import t

    mean, n = statistics.fmean(values), len(values)
    if n < 2:
        return mean, None
    half = float(t.ppf(0.975, n - 1)) * statistics.stdev(values) / math.sqrt(n)
    return mean, [mean - half, mean + half]


def compare(row: str, found: Mapping[str, Any], stored: Path | None = None) -> dict[str, Any]:
    """A row's comparable numbers beside those of `results/mixers-ROW`, which the size `full` made.

    Args:
        row: Name in ROWS.
        found: `comparable` of this run; numbers that the stored run lacks are left out, and the other way round.
        stored: Folder of the stored results.

    Returns:
        `commit` of the stored run, `agrees`, `why` where it does not, and `numbers`: now, stored, tolerance, agrees.
    """
    folder = stored or RESULTS / f"mixers-{row}"
    try:
        past = json.loads((folder / "metrics.json").read_text())["rows"][row]["comparable"]
        commit = json.loads((folder / "env.json").read_text())["commit"]
    except (OSError, KeyError, ValueError) as error:
        return _unlike(None, f"{folder} has no results of --size full ({type(error).__name__}: {error}); store them")
    if past["inputs"] != found["inputs"]:
        what = f"the inputs are {found['inputs'][:12]}, those of the stored results {past['inputs'][:12]}"
        return _unlike(commit, f"{what}; make and store them anew with --size full")
    numbers = {}
    for name in sorted(past["numbers"].keys() & found["numbers"].keys()):
        now, before = found["numbers"][name]["value"], past["numbers"][name]["value"]
        far = found["numbers"][name]["tolerance"]
        agrees = abs(now - before) <= far * abs(before)
        numbers[name] = {"now": now, "stored": before, "tolerance": far, "agrees": agrees}
    wrong = [name for name, entry in numbers.items() if not entry["agrees"]]
    why = f"{', '.join(wrong)} outside tolerance" if wrong else ("" if numbers else "no number in common")
    return {"commit": commit, "agrees": not why, "why": why, "numbers": numbers}


def _unlike(commit: str | None, why: str) -> dict[str, Any]:
    return {"commit": commit, "agrees": False, "why": why, "numbers": {}}


def say(row: str, result: Mapping[str, Any]) -> None:
    """One line per number, and why where it does not agree."""
    for name, entry in result["numbers"].items():
        word = "agrees " if entry["agrees"] else "DIFFERS"
        print(
            f"{word} {row}: {name} = {entry['now']:.4g}, stored {entry['stored']:.4g} (within {entry['tolerance']:.0%})"
        )
    if not result["agrees"]:
        print(f"DIFFERS {row}: {result['why']}")
