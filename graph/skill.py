"""A skill, an edge, and what makes each of them valid on its own; how they fit together is `graph.skill_graph`."""

import difflib
import math
import re
import unicodedata
import warnings
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from prereq.graph.errors import GraphError

RESERVED_ID = "_none"  # the column of untagged tokens

# control, surrogate, line and paragraph separator;
# format characters (bidi overrides, zero width) make two ids look the same
_ID_FORBIDDEN_CATEGORIES = {"Cc", "Cf", "Cs", "Zl", "Zp"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Skill:
    """One node of the graph.

    Raises:
        GraphError: A field has the wrong type, the id is not allowed, an alias is blank, a pattern does not compile or
            matches the empty text.
    """

    id: str  # unique in its graph; appears in tables, file contents and reports, never as a path
    name: str = ""  # for people; the id where it is empty
    description: str = ""  # for people
    aliases: tuple[str, ...] = ()  # terms of prose that mean the skill, compared as whole words, ignoring case
    patterns: tuple[str, ...] = ()  # regular expressions (Python `re`, MULTILINE) that find the skill in a text

    def __post_init__(self) -> None:
        check_id(self.id)
        where = f"skill {self.id!r}"
        check_text(self.name, f"{where}: name")
        check_text(self.description, f"{where}: description")
        for field in ("aliases", "patterns"):
            items = getattr(self, field)
            if isinstance(items, str) or not isinstance(items, tuple | list):
                raise GraphError(f"{where}: {field} must be a list of texts, got {items!r}")
            for item in items:
                check_text(item, f"{where}: {field}")
                if not item.strip():
                    raise GraphError(f"{where}: {field} holds a blank entry, which would match every text; remove it")
            object.__setattr__(self, field, tuple(items))
        for pattern in self.patterns:
            compile_pattern(pattern, where)
        if not self.name:
            object.__setattr__(self, "name", self.id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """`prerequisite -> target`: the first helps to learn the second.

    Raises:
        GraphError: An id is not allowed, or the weight is not a finite number.
    """

    prerequisite: str
    target: str
    weight: float = 1.0  # strength, unitless; 1 is an ordinary edge

    def __post_init__(self) -> None:
        check_id(self.prerequisite)
        check_id(self.target)
        object.__setattr__(self, "weight", finite_number(self.weight, f"edge {self}: weight"))

    def __str__(self) -> str:
        return f"{self.prerequisite} -> {self.target}"


def check_id(skill_id: object) -> None:
    """Refuse an id that could not be told apart, printed or kept.

    Raises:
        GraphError: Not text, empty, the reserved `_none`, not in Unicode normal form NFC, with blank ends, a control or
            invisible character, a backslash, or a part between slashes that is empty, `.` or `..`.
    """
    if not isinstance(skill_id, str):
        raise GraphError(f"a skill id must be text, got {skill_id!r} ({type(skill_id).__name__}); quote it in the file")
    if skill_id == RESERVED_ID:
        raise GraphError(f"skill id {RESERVED_ID!r} is reserved for untagged text; choose another id")
    reason = ""
    if not skill_id or skill_id != skill_id.strip():
        reason = "is empty or has blanks at its ends"
    elif any(unicodedata.category(character) in _ID_FORBIDDEN_CATEGORIES for character in skill_id):
        reason = "holds a control or invisible character"
    elif unicodedata.normalize("NFC", skill_id) != skill_id:
        reason = "is not in Unicode normal form NFC"
    elif "\\" in skill_id or any(part in ("", ".", "..") for part in skill_id.split("/")):
        reason = "holds a backslash or a part '', '.' or '..' between slashes"
    if reason:
        raise GraphError(f"skill id {skill_id!r} {reason}; use plain words such as 'loops' or 'python/loops'")


def check_text(value: object, where: str) -> None:
    """Refuse anything but text that UTF-8 can hold.

    Raises:
        GraphError: Not a string, or a lone surrogate in it.
    """
    if not isinstance(value, str):
        raise GraphError(f"{where} must be text, got {value!r} ({type(value).__name__}); quote it in the file")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise GraphError(f"{where} cannot be written as UTF-8: {error}") from error


def compile_pattern(pattern: str, where: str) -> re.Pattern[str]:
    """Compile a skill's pattern as the tagger does (`re.MULTILINE`).

    Raises:
        GraphError: The pattern is invalid, draws a warning of `re`, or matches the empty text (so would match all).
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            compiled = re.compile(pattern, re.MULTILINE)
    except (re.error, OverflowError, RecursionError, Warning) as error:
        raise GraphError(f"{where}: pattern {pattern!r} is not a regular expression: {error}") from error
    if compiled.search(""):
        raise GraphError(f"{where}: pattern {pattern!r} matches the empty text, so it would tag every document")
    return compiled


def finite_number(value: Any, where: str) -> float:
    """A finite float, from an int or a float and nothing else.

    Raises:
        GraphError: Of another type (bool included), NaN, infinite or too large for float64.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise GraphError(f"{where} must be a number, got {value!r} ({type(value).__name__})")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise GraphError(f"{where} must be finite, got {number}")
    return number


def nearest(name: str, known: Collection[str]) -> str:
    """A hint for a message, `; did you mean 'x'`, or nothing where no known name is close."""
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]!r}" if close else ""


def check_keys(entry: object, required: Collection[str], optional: Collection[str], where: str) -> Mapping[str, Any]:
    """The entry itself, once it is a mapping with the required keys and no unknown one.

    Raises:
        GraphError: Not a mapping, a key missing, or a key unknown (with the nearest known one).
    """
    if not isinstance(entry, Mapping):
        raise GraphError(f"{where} must be a mapping with {_listed(required)}, got {type(entry).__name__}")
    known = [*required, *optional]
    for key in entry:
        if key not in known:
            raise GraphError(f"{where}: unknown key {key!r}{nearest(str(key), known)}; known keys: {_listed(known)}")
    missing = [key for key in required if key not in entry]
    if missing:
        raise GraphError(f"{where}: missing {_listed(missing)}")
    return entry


def _listed(names: Collection[str]) -> str:
    return ", ".join(repr(name) for name in names)
