"""Checks for the parameters of mixers: each raises a ConfigError with the dotted path, the value and the remedy."""

import math
from collections.abc import Collection, Mapping
from typing import Any

from prereq.graph.errors import ConfigError
from prereq.graph.skill import nearest

PATH = "mixer.parameters"


def check_number(name: str, value: Any, *, low: float, high: float = math.inf, open_high: bool = False) -> float:
    """Return a finite number in [low, high], or in [low, high) with `open_high`, as float."""
    good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not good or not low <= value <= high or (open_high and value == high):
        bound = f">= {low:g}" if math.isinf(high) else f"in [{low:g}, {high:g}{')' if open_high else ']'}"
        raise ConfigError(f"{PATH}.{name} is {value!r}; expected a number {bound}")
    return float(value)


def check_whole(name: str, value: Any, *, low: int) -> int:
    """Return a whole number >= low."""
    if not isinstance(value, int) or isinstance(value, bool) or value < low:
        raise ConfigError(f"{PATH}.{name} is {value!r}; expected a whole number >= {low}")
    return value


def check_flag(name: str, value: Any) -> bool:
    """Return true or false; no other value counts as either."""
    if not isinstance(value, bool):
        raise ConfigError(f"{PATH}.{name} is {value!r}; expected true or false")
    return value


def check_choice(name: str, value: Any, choices: tuple[str, ...]) -> str:
    """Return one of the words in `choices`."""
    if value not in choices:
        raise ConfigError(
            f"{PATH}.{name} is {value!r}; expected one of {', '.join(choices)}{nearest(str(value), choices)}"
        )
    return str(value)


def check_ids(name: str, value: Any) -> tuple[str, ...]:
    """Return a non-empty list of different ids as a tuple."""
    if isinstance(value, str) or not isinstance(value, list | tuple) or not all(isinstance(x, str) for x in value):
        raise ConfigError(f"{PATH}.{name} is {value!r}; expected a list of ids")
    if not value or len(set(value)) != len(value):
        raise ConfigError(f"{PATH}.{name} is {list(value)!r}; expected at least one id and none twice")
    return tuple(value)


def check_weights(name: str, value: Any) -> dict[str, float]:
    """Return {id: weight} with finite weights >= 0, not all 0, in ascending order of id."""
    if not isinstance(value, Mapping) or not value or not all(isinstance(key, str) for key in value):
        raise ConfigError(f"{PATH}.{name} is {value!r}; expected a mapping of ids to weights")
    weights = {key: check_number(f"{name}.{key}", value[key], low=0.0) for key in sorted(value)}
    if not any(weights.values()):
        raise ConfigError(f"{PATH}.{name}: all weights are 0; give at least one a weight above 0")
    return weights


def check_known(name: str, ids: Collection[str], known: Collection[str], what: str, *, remedy: str = "") -> None:
    """Refuse ids that are not known, naming the first few and what was probably meant."""
    unknown = [key for key in ids if key not in known]
    if unknown:
        hint = nearest(unknown[0], known)
        raise ConfigError(f"{name}: unknown {what} {', '.join(map(repr, unknown[:5]))}{hint}{remedy}")
