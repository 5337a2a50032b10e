"""The literals that a regular expression cannot match without: a cheap test that spares most searches.

`"yield" in text` takes a fraction of a microsecond where `re` takes dozens, and a skill graph has hundreds of patterns.
The answer is only ever used to skip a search that cannot succeed, so "no literal known" is always a correct answer.
"""

import importlib
import re
from collections.abc import Iterable
from typing import Any

_MAX_ALTERNATIVES = 16  # a longer list of literals is as good as met by every text
_MAX_CLASS = 4  # characters of a class such as `[<>]` that are tried one by one

_Literals = frozenset[str]
_NOTHING: _Literals = frozenset([""])  # known of the text before the next item: nothing


def required_literals(pattern: str, flags: int = re.MULTILINE) -> tuple[str, ...]:
    """Texts of which every match of the pattern holds at least one, sorted; empty where none is known.

    Reads the parse tree of `re` (`re._parser`, there since Python 3.11). Where an interpreter has none, or has a node
    that is unknown here, the answer says less and stays right.

    Args:
        pattern: A regular expression that compiles.
        flags: As given to `re.compile`.

    Source:
        Cox 2012, "Regular expression matching with a trigram index", swtch.com/~rsc/regexp/regexp4.html: the analysis
        of exact, prefix and match sets, without the trigrams.
    """
    try:
        parser = importlib.import_module("re._parser")
    except ImportError:
        return ()
    tree = parser.parse(pattern, flags)
    if tree.state.flags & re.IGNORECASE:
        return ()
    found, run = _of_sequence(tree, _NOTHING)
    return tuple(sorted(_best([*found, run])))


def _of_sequence(sequence: Iterable[tuple[Any, Any]], run: _Literals) -> tuple[list[_Literals], _Literals]:
    """What items that follow one another require.

    Args:
        sequence: Of the parse tree.
        run: Literals of which one stands right before the sequence.

    Returns:
        Sets of which each is met by every match, and the literals of which one stands right before what follows.
    """
    found: list[_Literals] = []
    for operation, argument in sequence:
        more, run_after = _of_item(str(operation), argument, run)
        # where the run cannot go on it is kept as it is; _best drops it where it holds nothing
        found += more if _extends(run_after, run) else [*more, run]
        run = run_after
    return found, run


def _extends(after: _Literals, before: _Literals) -> bool:
    """Whether each literal of `after` begins with one of `before`, so that nothing known of `before` gets lost."""
    return all(any(text.startswith(start) for start in before) for text in after)


def _of_item(operation: str, argument: Any, run: _Literals) -> tuple[list[_Literals], _Literals]:
    """As `_of_sequence`, for one item."""
    if operation == "LITERAL":
        return [], frozenset(text + chr(argument) for text in run)
    if operation == "IN":
        return [], _with_class(argument, run)
    if operation == "SUBPATTERN":
        _group, added, _removed, inner = argument
        return ([], _NOTHING) if added & re.IGNORECASE else _of_sequence(inner, run)
    if operation in ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"):
        return _of_repeat(argument, run)
    if operation == "ATOMIC_GROUP":
        return _of_sequence(argument, run)
    if operation == "ASSERT":  # what a look-around must see is in the text as well
        found, last = _of_sequence(argument[1], _NOTHING)
        return [*found, last], run
    if operation in ("AT", "ASSERT_NOT"):  # of no width
        return [], run
    if operation == "BRANCH":
        return _of_branches(argument[1], run)
    return [], _NOTHING


def _with_class(items: Iterable[tuple[Any, Any]], run: _Literals) -> _Literals:
    characters = [chr(value) for kind, value in items if str(kind) == "LITERAL"]
    if len(characters) != len(list(items)) or len(characters) > _MAX_CLASS:
        return _NOTHING
    return _limited(frozenset(text + character for text in run for character in characters))


def _of_repeat(argument: tuple[int, int, Any], run: _Literals) -> tuple[list[_Literals], _Literals]:
    least, most, inner = argument
    found, after = _of_sequence(inner, run)
    if least == 0:
        return [], _limited(run | after) if most == 1 and not found else _NOTHING
    if most == 1:
        return found, after
    return [*found, after], _of_sequence(inner, _NOTHING)[1]  # what the last of several leaves behind


def _of_branches(branches: Iterable[Any], run: _Literals) -> tuple[list[_Literals], _Literals]:
    results = [_of_sequence(branch, run) for branch in branches]
    after = _limited(frozenset().union(*(last for _found, last in results)))
    if not any(found for found, _last in results):
        return [], after
    best = [_best([*found, last]) for found, last in results]
    return ([frozenset().union(*best)] if all(best) else []), after


def _limited(literals: _Literals) -> _Literals:
    return literals if len(literals) <= _MAX_ALTERNATIVES else _NOTHING


def _best(choices: Iterable[_Literals]) -> _Literals:
    """The set that is met most rarely: its shortest literal is the longest, then it has the fewest; empty if none."""
    usable = [choice for choice in choices if "" not in choice and 0 < len(choice) <= _MAX_ALTERNATIVES]
    if not usable:
        return frozenset()
    return max(usable, key=lambda choice: (min(map(len, choice)), -len(choice), sorted(choice)))
