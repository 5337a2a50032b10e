"""The running interpreter's standard library as a corpus: its functions and classes with their docstrings.

No line of source appears in two documents. A function or method is a document with everything nested in it. A class is
an outline: its header, docstring and statements, with the methods that are documents of their own cut down to their
signature. A short method (`SHORT_BODY` lines or fewer) stays in the outline and is no document.
"""

import ast
import io
import os
import sysconfig
import tokenize
import warnings
from collections.abc import Iterator
from typing import NamedTuple

from prereq.graph.errors import ConfigError

SHORT_BODY = 3  # lines
MIN_CHARACTERS, MAX_CHARACTERS = 80, 8000  # of a document

# tests, tools with a life of their own, what is installed beside the library, and data in the shape of code
_SKIPPED = frozenset(
    {"test", "tests", "idlelib", "lib2to3", "site-packages", "dist-packages", "turtledemo", "pydoc_data", "ensurepip"}
    | {"lib-dynload", "__pycache__"}
)
_Function = (ast.FunctionDef, ast.AsyncFunctionDef)
_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


class Definition(NamedTuple):
    """One function or class of a module."""

    line: int  # 1-based, of its first decorator or its header
    qualname: str  # unique in its module: the second of a name ends in `#2`
    text: str


def stdlib_files() -> list[tuple[str, str]]:
    """(name below the library's folder with `/`, absolute path) of its modules, sorted by name.

    Raises:
        ConfigError: This interpreter's library has no source files.
    """
    root = sysconfig.get_path("stdlib")
    found = []
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name not in _SKIPPED and not name.startswith("config-")]
        for name in names:
            if name.endswith(".py") and not name.startswith("_sysconfigdata"):
                path = os.path.join(folder, name)
                found.append((os.path.relpath(path, root).replace(os.sep, "/"), path))
    if not found:
        raise ConfigError(
            f"format stdlib: the standard library at {root} has no .py files (a zipped or frozen Python?); run with a "
            "Python that has them, or name another source"
        )
    return sorted(found)


def module_name(file: str) -> str:
    """`json.decoder` for `json/decoder.py`, `json` for `json/__init__.py`."""
    return file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def definitions(data: bytes) -> Iterator[Definition]:
    """The documents of one module, in order of line.

    Args:
        data: The module's source, in the encoding that it declares.

    Raises:
        SyntaxError: It is not Python.
        UnicodeDecodeError: It is not in that encoding.
    """
    encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
    text = data.decode(encoding).replace("\r\n", "\n")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about odd escapes in the library's own strings
        tree = ast.parse(text)
    lines = text.split("\n")  # as ast counts them; splitlines also ends a line at a form feed
    seen: dict[str, int] = {}
    for node, qualname in sorted(_walk(tree, ""), key=lambda item: (_first_line(item[0]), item[1])):
        number = seen[qualname] = seen.get(qualname, 0) + 1
        source = _outline(node, lines) if isinstance(node, ast.ClassDef) else _lines(node, lines)
        document = _dedent(source, node.col_offset)
        if MIN_CHARACTERS <= len(document) <= MAX_CHARACTERS:
            yield Definition(_first_line(node), qualname if number == 1 else f"{qualname}#{number}", document)


def _walk(node: ast.AST, prefix: str) -> Iterator[tuple[_Definition, str]]:
    """Every definition that is not inside a function and not short, with its dotted name."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, _Function):
            if not (prefix and _is_short(child)):
                yield child, prefix + child.name
        elif isinstance(child, ast.ClassDef):
            yield child, prefix + child.name
            yield from _walk(child, f"{prefix}{child.name}.")
        elif isinstance(child, ast.stmt | ast.ExceptHandler | ast.match_case):
            yield from _walk(child, prefix)


def _outline(node: ast.ClassDef, lines: list[str]) -> list[str]:
    """A class without what is a document of its own: those keep their header and get `...` for a body."""
    kept: list[str] = []
    line = _first_line(node)
    inner = [child for child, _ in _walk(node, ".")]
    for child in sorted(inner, key=_first_line):
        start, body, end = _first_line(child), child.body[0].lineno, child.end_lineno or child.lineno
        if start < line:  # inside a class that was cut already
            continue
        one_line = body == child.lineno
        kept += lines[line - 1 : end if one_line else body - 1]
        while not one_line and kept[-1].lstrip()[:1] in ("", "#"):  # comments over the body go with the body
            kept.pop()
        if not one_line:
            kept.append(" " * child.body[0].col_offset + "...")
        line = end + 1
    return kept + lines[line - 1 : node.end_lineno]


def _is_short(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return (node.end_lineno or node.lineno) - node.body[0].lineno < SHORT_BODY


def _first_line(node: _Definition) -> int:
    return min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])


def _lines(node: _Definition, lines: list[str]) -> list[str]:
    return lines[_first_line(node) - 1 : node.end_lineno]


def _dedent(source: list[str], columns: int) -> str:
    """Take up to `columns` blanks off each line: `textwrap.dedent` gives up at a string that starts at the margin."""
    return "\n".join(line[min(columns, len(line) - len(line.lstrip())) :].rstrip() for line in source)
