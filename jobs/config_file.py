"""Reading a run's YAML file into plain values: nothing but maps, lists, texts and numbers comes out.

What the values mean is `jobs.config`. A file is data from outside: tags, aliases and keys given twice are refused.
"""

import importlib
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from prereq.graph.errors import ConfigError

_PLAIN = {"map", "seq", "str", "int", "float", "bool", "null"}


class _Loader(yaml.SafeLoader):
    """The safe loader, reading 1e-3 as a number as people mean it (YAML 1.1 wants 1.0e-3)."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def shipped_folder() -> Path:
    """The folder of the configurations and graphs that come with prereq."""
    # not importlib.resources: in an editable install the namespace's path also names a finder, which it rejects
    for entry in importlib.import_module("prereq.configs").__path__:
        if os.path.isdir(entry):
            return Path(entry)
    raise ConfigError("the configurations that come with prereq are not installed; install the package again")


def find_config(name: str) -> Path:
    """The file of a configuration: a path, or the name of a shipped one (`quickstart`).

    Raises:
        ConfigError: Neither is there; the shipped names are listed.
    """
    path = Path(name)
    if path.is_file():
        return path
    known = sorted(file.stem for file in shipped_folder().glob("*.yaml"))
    if name in known:
        return shipped_folder() / f"{name}.yaml"
    what = "is a folder" if path.is_dir() else "there is no such file"
    raise ConfigError(f"{name}: {what}; give a YAML file or a shipped configuration: {', '.join(known)}")


def read_settings(path: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The values of a configuration file with `--set` overrides put in.

    Args:
        path: A YAML file, UTF-8.
        overrides: `a.b=1`; the value is YAML, a number in the path is a position in a list.

    Raises:
        ConfigError: The file cannot be read, is not plain YAML, or an override cannot be placed.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8 text ({error.reason} at byte {error.start})") from error
    settings = parse_yaml(text, str(path))
    if settings is None:
        settings = {}
    if not isinstance(settings, dict):
        raise ConfigError(f"{path}: must hold keys and values, found a {type(settings).__name__}")
    for override in overrides:
        _override(settings, override)
    return settings


def check_out(out: str, suffixes: Sequence[str]) -> None:
    """Refuse a name of a file to write before the work whose result it is to hold.

    Args:
        out: What `--out` says.
        suffixes: How it may end.

    Raises:
        ConfigError: It ends otherwise, or its folder is not there.
    """
    if Path(out).suffix.lower() not in suffixes:
        raise ConfigError(f"--out {out}: expected a name that ends in {' or '.join(suffixes)}")
    if not Path(out).absolute().parent.is_dir():
        raise ConfigError(f"--out {out}: there is no such folder; make it first")


def parse_yaml(text: str, where: str) -> Any:
    """Plain values from YAML.

    Raises:
        ConfigError: Not YAML, or with a tag, an alias, a date, or a key that is no text or given twice.
    """
    try:
        loader = _Loader(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{where}: is not YAML: {_one_line(error)}") from error
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _check_nodes(node, where)
        return loader.construct_document(node)
    except ConfigError:
        raise
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{where}: is not YAML: {_one_line(error)}") from error
    finally:
        loader.dispose()


def _check_nodes(root: Any, where: str) -> None:
    """Refuse what is not plain, before anything is made of it."""
    seen: set[int] = set()
    stack = [root]
    while stack:
        node = stack.pop()
        line = node.start_mark.line + 1
        if id(node) in seen:
            raise ConfigError(f"{where} line {line}: an alias (*name) is refused; write the value out")
        seen.add(id(node))
        tag = node.tag.removeprefix("tag:yaml.org,2002:")
        if tag == "timestamp":
            raise ConfigError(f"{where} line {line}: {node.value!r} reads as a date; put it in quotes")
        if tag not in _PLAIN:
            raise ConfigError(f"{where} line {line}: the tag {node.tag!r} is refused; a configuration is plain values")
        if isinstance(node, yaml.SequenceNode):
            stack += node.value
        elif isinstance(node, yaml.MappingNode):
            _check_keys(node, where)
            stack += [part for pair in node.value for part in pair]


def _check_keys(node: yaml.MappingNode, where: str) -> None:
    names: set[str] = set()
    for key, _ in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode) or key.tag != "tag:yaml.org,2002:str":
            raise ConfigError(f"{where} line {line}: the key {key.value!r} does not read as text; put it in quotes")
        if key.value in names:
            raise ConfigError(f"{where} line {line}: the key {key.value!r} is given twice; keep one")
        names.add(key.value)


def _override(settings: dict[str, Any], override: str) -> None:
    """Put one `a.b=1` into the settings."""
    path, sign, text = override.partition("=")
    keys = path.strip().split(".")
    if not sign or not all(keys):
        raise ConfigError(
            f"--set {override}: expected key=value with a dotted key, for example --set mixer.name=uniform"
        )
    value = parse_yaml(text, f"--set {path}")
    holder: Any = settings
    for depth, key in enumerate(keys[:-1]):
        if isinstance(holder, dict) and holder.get(key) is None:
            if keys[depth + 1].isdecimal():
                missing = ".".join(keys[: depth + 1])
                raise ConfigError(
                    f"--set {override}: there is no {missing} to take {keys[depth + 1]} of; give all of {missing} in "
                    "one --set, or write it into the file"
                )
            holder[key] = {}
        holder = holder[_slot(holder, key, keys[: depth + 1], override)]
    holder[_slot(holder, keys[-1], keys, override)] = value


def _slot(holder: Any, key: str, path: list[str], override: str) -> str | int:
    """The key or the position in a list that one step of a dotted path means."""
    dotted = ".".join(path)
    if isinstance(holder, dict):
        return key
    if isinstance(holder, list):
        if key.isdecimal() and int(key) < len(holder):
            return int(key)
        raise ConfigError(f"--set {override}: {dotted} is no position in a list of {len(holder)}")
    raise ConfigError(
        f"--set {override}: {'.'.join(path[:-1])} is a plain value and has no {dotted.rsplit('.', 1)[-1]!r}"
    )


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
