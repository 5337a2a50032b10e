"""`docs/configuration.md`, made from the code: every key with its default and the comment behind it.

    python -m prereq.jobs.config_docs > docs/configuration.md

A test compares the file with what this makes, so the page cannot fall behind.
"""

import dataclasses
import inspect
import io
import json
import tokenize
import types
from collections.abc import Iterator
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from prereq.jobs.config import RunConfig
from prereq.selector.mixers.registry import MIXERS

HEAD = """\
# Configuration

One YAML file holds everything about a pool and a run; `prereq run quickstart` takes the one that comes with it. Only
the keys without a default must be given. A key that is not listed here is refused, with its dotted path and the nearest
name that is. On the command line `--set a.b=1` overrides one key (`--set sources.0.max_documents=100` reaches into a
list) and `--dry-run` prints the whole configuration with every default filled in.

This page is made from the code by `python -m prereq.jobs.config_docs`.
"""


def make_page() -> str:
    """The whole page."""
    sections = [HEAD, "## Top level\n", _table(_keys(RunConfig, ""))]
    for name, kind, many in _sections(RunConfig):
        prefix = f"{name}.N." if many else f"{name}."
        said = inspect.getdoc(kind) or ""
        sections += [f"## {name}\n", f"{_first_paragraph(said)}\n", _table(_keys(kind, prefix))]
    sections += ["## mixer.parameters\n", "Which there are depends on `mixer.name`.\n"]
    for name, mixer in MIXERS.items():
        keys = list(_keys(mixer.config, "mixer.parameters."))
        sections += [f"### {name}\n", _table(iter(keys)) if keys else "No parameters.\n"]
    return "\n".join(sections)


def _first_paragraph(text: str) -> str:
    return " ".join(text.split("\n\n")[0].split())


def _sections(model: type[Any]) -> Iterator[tuple[str, type[Any], bool]]:
    """Each section's name and dataclass, and whether it is a list of them."""
    for name, hint in _hints(model).items():
        if dataclasses.is_dataclass(hint):
            yield name, hint, False  # type: ignore[misc]
        elif get_origin(hint) is tuple and dataclasses.is_dataclass(get_args(hint)[0]):
            yield name, get_args(hint)[0], True


def _hints(kind: type[Any]) -> dict[str, Any]:
    if issubclass(kind, BaseModel):
        return {name: field.annotation for name, field in kind.model_fields.items()}
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def _keys(kind: type[Any], prefix: str) -> Iterator[tuple[str, str, str, str]]:
    """Key, type, default and comment of every plain key, sections left out except inside sections."""
    comments = field_comments(kind)
    defaults = _defaults(kind)
    for name, hint in _hints(kind).items():
        if dataclasses.is_dataclass(hint):
            if prefix:
                yield from _keys(hint, f"{prefix}{name}.")  # type: ignore[arg-type]
            continue
        if get_origin(hint) is tuple and dataclasses.is_dataclass(get_args(hint)[0]):
            continue
        if name not in comments:  # so that a new key cannot stay undocumented
            raise ValueError(f"{kind.__name__}.{name}: has no comment; say what it is and its unit")
        yield f"{prefix}{name}", _type_name(hint), defaults[name], comments[name]
        for option in get_args(hint):
            if dataclasses.is_dataclass(option):  # a section that may be left out: its keys, where it is there
                yield from _keys(option, f"{prefix}{name}.")  # type: ignore[arg-type]


def _defaults(kind: type[Any]) -> dict[str, str]:
    if issubclass(kind, BaseModel):
        return {name: _shown(field.default) for name, field in kind.model_fields.items()}
    return {
        field.name: _shown(field.default if field.default_factory is dataclasses.MISSING else field.default_factory())
        for field in dataclasses.fields(kind)
    }


def _shown(value: Any) -> str:
    if value is PydanticUndefined or value is dataclasses.MISSING:
        return "**required**"
    if dataclasses.is_dataclass(value):
        return ""
    return f"`{json.dumps(value)}`"


def _type_name(hint: Any) -> str:
    """A type as people say it."""
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(_type_name(arg) for arg in args)
    if origin is Literal:
        return " or ".join(map(str, args))
    if origin is tuple:
        return f"list of {_type_name(args[0])}" if args[-1] is Ellipsis else f"{len(args)} values"
    names = {str: "text", int: "integer", float: "number", bool: "true or false", type(None): "null"}
    if hint in names:
        return names[hint]
    return "keys and values"


def _table(keys: Iterator[tuple[str, str, str, str]]) -> str:
    rows = ["| key | type | default | what |", "|---|---|---|---|"]
    for key, kind, default, said in keys:
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in (f"`{key}`", kind, default, said)) + " |")
    return "\n".join(rows) + "\n"


def field_comments(kind: type[Any]) -> dict[str, str]:
    """What the comments of a class say of its fields: behind the field, inside its brackets, or right above it."""
    comments: dict[str, str] = {}
    above: list[str] = []
    name, depth, fresh = "", 0, True
    for token in tokenize.generate_tokens(io.StringIO(inspect.getsource(kind)).readline):
        if token.type == tokenize.INDENT:
            depth += 1
        elif token.type == tokenize.DEDENT:
            depth -= 1
        elif token.type == tokenize.COMMENT and depth == 1:
            said = token.string.removeprefix("#").strip()
            alone = fresh and not token.line[: token.start[1]].strip()
            if alone:
                above.append(said)
            elif name:
                comments[name] = f"{comments[name]} {said}" if name in comments else said
        elif token.type == tokenize.NEWLINE:
            name, fresh, above = "", True, []
        elif token.type == tokenize.NAME and fresh and depth == 1:
            name, fresh = token.string, False
            if above:
                comments[name] = " ".join(above)
        elif token.type not in (tokenize.NL, tokenize.COMMENT):
            fresh = False
    return {field: comments[field] for field in _hints(kind) if field in comments}


if __name__ == "__main__":
    print(make_page(), end="")
