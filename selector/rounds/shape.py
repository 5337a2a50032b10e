"""Whether JSON from a file has the shape that its format says, before anything is made of it.

The formats' other rules (digests, chains, known ids) are checked where they are known; this is only about types.
"""

from typing import Any

Spec = Any  # see `misfit`

_NAMES = {str: "text", int: "a whole number", float: "a number", bool: "true or false", None: "null", dict: "an object"}


def misfit(value: Any, spec: Spec, path: str = "") -> str | None:
    """What about a JSON value is not of a shape, with its dotted path; None when it fits.

    Args:
        value: What `json.loads` gave.
        spec: `str`, `int`, `float` (whole numbers too), `bool`, `None`, or `dict` (anything inside); `[spec]` for a
            list; `{str: spec}` for an object with any keys; `{"a": spec}` for one that has at least these keys; a tuple
            of specs for one of them.
        path: Where the value stands.

    Returns:
        For example "draws.a1.0.epoch is 'x', expected a whole number".
    """
    if isinstance(spec, tuple):
        found = [misfit(value, one, path) for one in spec]
        return None if None in found else _wrong(value, spec, path)
    if isinstance(spec, list):
        if not isinstance(value, list):
            return _wrong(value, spec, path)
        return _first(misfit(item, spec[0], _below(path, index)) for index, item in enumerate(value))
    if isinstance(spec, dict):
        if not isinstance(value, dict):
            return _wrong(value, spec, path)
        if str in spec:
            return _first(misfit(item, spec[str], _below(path, key)) for key, item in value.items())
        missing = [key for key in spec if key not in value]
        if missing:
            return f"{_below(path, missing[0])} is missing"
        return _first(misfit(value[key], one, _below(path, key)) for key, one in spec.items())
    return None if _is(value, spec) else _wrong(value, spec, path)


def _is(value: Any, spec: Spec) -> bool:
    if spec is None:
        return value is None
    if spec in (int, float):
        return not isinstance(value, bool) and isinstance(value, int | float if spec is float else int)
    return isinstance(value, spec)


def _first(found: Any) -> str | None:
    return next((fault for fault in found if fault is not None), None)


def _below(path: str, key: object) -> str:
    return f"{path}.{key}" if path else str(key)


def _wrong(value: Any, spec: Spec, path: str) -> str:
    shown = repr(value)
    return f"{path or 'it'} is {shown if len(shown) <= 40 else shown[:37] + '...'}, expected {_described(spec)}"


def _described(spec: Spec) -> str:
    if isinstance(spec, tuple):
        return " or ".join(_described(one) for one in spec)
    if isinstance(spec, list):
        return "a list"
    return "an object" if isinstance(spec, dict) else _NAMES[spec]
