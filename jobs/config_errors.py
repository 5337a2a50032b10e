"""What pydantic found wrong with a configuration, said in the words of the file: dotted path, value, nearest name."""

import difflib
import types
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from typing import Any, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel, ValidationError

_UNKNOWN = {"extra_forbidden", "unexpected_keyword_argument"}
_MISSING = {"missing", "missing_keyword_only_argument", "missing_argument"}


def explain(error: ValidationError, model: type[BaseModel], where: str) -> str:
    """One line for each thing that is wrong; the file first.

    Args:
        error: What validation raised.
        model: The model that was validated.
        where: The configuration file.
    """
    lines = [_line(dict(entry), model) for entry in error.errors(include_url=False)]
    if len(lines) == 1:
        return f"{where}: {lines[0]}"
    return "\n".join([f"{where}: {len(lines)} keys are wrong", *(f"  {line}" for line in lines)])


def _line(entry: dict[str, Any], model: type[BaseModel]) -> str:
    path: Sequence[str | int] = entry["loc"]
    dotted = ".".join(str(step) for step in path)
    kind = entry["type"]
    if kind in _UNKNOWN:
        known = known_names(model, path[:-1])
        name = str(path[-1])
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(known)}"
        return f"{dotted}: unknown key; {hint}"
    if kind in _MISSING:
        return f"{dotted}: is required and missing"
    if kind == "value_error":
        said = str(entry["ctx"]["error"])
        return said if not dotted or said.startswith(dotted.split(".")[0]) else f"{dotted}: {said}"
    message = entry["msg"].removeprefix("Input ")
    return f"{dotted}: {message}, got {_shown(entry['input'])}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def known_names(model: Any, path: Sequence[str | int]) -> list[str]:
    """Names of the keys that are known below a dotted path; empty where anything goes."""
    here = model
    for step in path:
        here = _below(here, step)
    if isinstance(here, type) and issubclass(here, BaseModel):
        return list(here.model_fields)
    return [field.name for field in fields(here)] if is_dataclass(here) else []


def _below(here: Any, step: str | int) -> Any:
    """The type of what lies one step further down."""
    if isinstance(step, int):
        return _unwrap(get_args(here)[0]) if get_args(here) else None
    if is_dataclass(here) or (isinstance(here, type) and issubclass(here, BaseModel)):
        return _unwrap(get_type_hints(here).get(step))
    return None


def _unwrap(hint: Any) -> Any:
    """`X | None` as X."""
    if get_origin(hint) in (Union, types.UnionType):
        kept = [arg for arg in get_args(hint) if arg is not type(None)]
        return kept[0] if len(kept) == 1 else None
    return hint
