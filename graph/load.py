"""Skill graphs as files: YAML and JSON in the format `prereq.graph/1`, and edge lists in CSV.

Files are data from outside: only safe loaders, no tags, no anchors, no key twice; every error names the file.
"""

import csv
import gzip
import io
import json
import os
import uuid
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from prereq.graph.canonical import canonical_json
from prereq.graph.errors import GraphError
from prereq.graph.skill import Edge, Skill, nearest
from prereq.graph.skill_graph import Kind, OnCycle, SkillGraph

_SUFFIXES = (".json", ".yaml", ".yml")
_YAML_TYPES = {"map", "seq", "str", "int", "float", "bool", "null", "timestamp"}


def load_graph(path: str | os.PathLike[str], *, on_cycle: OnCycle = "error") -> SkillGraph:
    """Read a graph from `.yaml`, `.yml` (needs PyYAML) or `.json`.

    Raises:
        GraphError: Unreadable file, unsafe or malformed content, or anything that `SkillGraph.from_dict` refuses.
    """
    path = Path(path)
    _check_suffix(path)
    text = read_text(path)
    try:
        data = _parse_json(text) if path.suffix.lower() == ".json" else _parse_yaml(text)
        return SkillGraph.from_dict(data, on_cycle=on_cycle)
    except GraphError as error:
        raise GraphError(f"{path}: {error}") from error


def decode_graph(data: bytes, where: str) -> SkillGraph:
    """The graph in the bytes of a JSON file, as a pool or a run keeps it; `where` names it in errors.

    Raises:
        GraphError: As `load_graph`.
    """
    try:
        return SkillGraph.from_dict(_parse_json(data.decode()))
    except UnicodeDecodeError as error:
        raise GraphError(f"{where}: not UTF-8: {error}; convert the file") from error
    except GraphError as error:
        raise GraphError(f"{where}: {error}") from error


def save_graph(graph: SkillGraph, path: str | os.PathLike[str]) -> None:
    """Write a graph: `.json` canonically, `.yaml` or `.yml` for people (defaults and empty fields left out).

    The file appears whole or not at all and replaces an older one.

    Raises:
        GraphError: Another suffix, or a path that cannot be written.
    """
    path = Path(path)
    _check_suffix(path)
    if path.suffix.lower() == ".json":
        write_whole(path, canonical_json(graph.to_dict()))
    else:
        write_whole(path, _yaml_text(graph).encode())


def save_edges(graph: SkillGraph, path: str | os.PathLike[str]) -> None:
    """Write the edges as CSV `prerequisite,target,weight`, which `load_edges` reads; skills without one are not in it.

    Raises:
        GraphError: The graph is not one of prerequisites, as which a CSV is read, or the path cannot be written.
    """
    if graph.kind != "prerequisite":
        raise GraphError(f"{path}: a CSV is read as prerequisites, this graph is of kind {graph.kind}; write .json")
    text = io.StringIO(newline="")
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["prerequisite", "target", "weight"])
    rows.writerows([edge.prerequisite, edge.target, repr(edge.weight)] for edge in graph.edges)
    write_whole(Path(path), text.getvalue().encode())


def load_edges(
    edges_csv: str | os.PathLike[str],
    skills: str | os.PathLike[str] | None = None,
    *,
    on_cycle: OnCycle = "error",
    kind: Kind = "prerequisite",
    on_unknown: Literal["error", "add"] = "error",
) -> SkillGraph:
    """Read an edge list `prerequisite,target[,weight]` (other columns are ignored), and the skills it is about.

    Args:
        edges_csv: CSV with a header, UTF-8.
        skills: `.jsonl` or `.jsonl.gz`, one object a line with `id` or `skill_id`, and where present `name` or `title`,
            `description`, `aliases`, `patterns`; other fields are ignored. None: the skills are the ids of the edges,
            in order of appearance.
        on_cycle: As in `SkillGraph`.
        kind: What an edge means.
        on_unknown: What an edge to a skill outside `skills` gets; `add` makes it a skill with nothing but its id.

    Raises:
        GraphError: With the file and the line or the edge.
    """
    edges_csv = Path(edges_csv)
    edges = list(_csv_edges(edges_csv))
    found = [] if skills is None else list(_jsonl_skills(Path(skills)))
    if skills is None or on_unknown == "add":
        known = {skill.id for skill in found}
        ends = dict.fromkeys(end for edge in edges for end in (edge.prerequisite, edge.target))
        found += [Skill(id=end) for end in ends if end not in known]
    try:
        return SkillGraph(kind, found, edges, on_cycle=on_cycle)
    except GraphError as error:
        source = f"{edges_csv}" if skills is None else f"{edges_csv} with the skills of {skills}"
        raise GraphError(f"{source}: {error}") from error


def read_text(path: Path) -> str:
    """The text of a UTF-8 file, a leading byte-order mark dropped, `.gz` unpacked.

    Raises:
        GraphError: Missing, unreadable, truncated or not UTF-8.
    """
    try:
        data = path.read_bytes()
        return (gzip.decompress(data) if path.suffix.lower() == ".gz" else data).decode("utf-8-sig")
    except (OSError, EOFError, zlib.error) as error:
        raise GraphError(f"{path}: cannot be read: {error}") from error
    except UnicodeDecodeError as error:
        raise GraphError(f"{path}: not UTF-8: {error}; convert the file") from error


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that a reader sees the old content or the new, never a part.

    Raises:
        GraphError: The path cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        try:
            with open(temporary, "xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise GraphError(f"{path}: cannot be written: {error}") from error


def _check_suffix(path: Path) -> None:
    if path.suffix.lower() not in _SUFFIXES:
        raise GraphError(
            f"{path}: a graph file ends in {', '.join(_SUFFIXES)}, got {path.suffix!r}; see load_edges for CSV"
        )


def _parse_json(text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_unique_keys)
    except (ValueError, RecursionError) as error:
        raise GraphError(f"not JSON: {error}") from error


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise GraphError(f"key {key!r} appears twice in one object; keep one of them")
        found[key] = value
    return found


def _parse_yaml(text: str) -> Any:
    yaml = _import_yaml()
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            raise GraphError("the file is empty")
        _check_yaml(yaml, node)
        return loader.construct_document(node)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        if isinstance(error, GraphError):
            raise
        raise GraphError(f"not plain YAML: {' '.join(str(error).split())}") from error
    finally:
        loader.dispose()


def _check_yaml(yaml: Any, root: Any) -> None:
    # the safe loader alone would take !!binary and !!set, expand aliases (a few lines can become gigabytes) and let the
    # last of two equal keys win in silence
    seen_nodes: set[int] = set()
    stack = [root]
    while stack:
        node = stack.pop()
        line = node.start_mark.line + 1
        if id(node) in seen_nodes:
            raise GraphError(f"line {line}: YAML aliases are refused; write the value out a second time")
        seen_nodes.add(id(node))
        if node.tag.removeprefix("tag:yaml.org,2002:") not in _YAML_TYPES:
            raise GraphError(f"line {line}: the YAML tag {node.tag!r} is refused; a graph is plain lists and texts")
        if isinstance(node, yaml.SequenceNode):
            stack.extend(node.value)
        elif isinstance(node, yaml.MappingNode):
            keys: set[str] = set()
            for key, value in node.value:
                if not isinstance(key, yaml.ScalarNode) or key.value in keys:
                    raise GraphError(
                        f"line {key.start_mark.line + 1}: the key {key.value!r} is not text or appears twice"
                    )
                keys.add(key.value)
                stack += [key, value]


def _yaml_text(graph: SkillGraph) -> str:
    yaml = _import_yaml()
    data = graph.to_dict()
    for skill in data["skills"]:
        if skill["name"] == skill["id"]:
            del skill["name"]
        for key in ("description", "aliases", "patterns"):
            if not skill[key]:
                del skill[key]
    for edge in data["edges"]:
        if edge["weight"] == 1.0:
            del edge["weight"]

    class Dumper(yaml.SafeDumper):  # type: ignore[name-defined]
        pass

    def as_scalar(dumper: Any, text: str) -> Any:
        # PyYAML's single-quoted style loses some line breaks (U+2028 and others); the double-quoted one escapes them
        style = None if text.isprintable() else '"'
        return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)

    Dumper.add_representer(str, as_scalar)
    return yaml.dump(data, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=120, default_flow_style=None)


def _import_yaml() -> Any:
    try:
        import yaml
    except ImportError as error:
        raise GraphError("YAML needs PyYAML: pip install 'prereq[jobs]', or use a .json graph") from error
    return yaml


def _csv_edges(path: Path) -> Iterator[Edge]:
    reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        for column in ("prerequisite", "target"):
            if column not in header:
                hint = nearest(column, header)
                raise GraphError(f"{path}: no column {column!r} in the header {','.join(header)!r}{hint}")
        if len(set(header)) != len(header):
            raise GraphError(f"{path}: a column appears twice in the header {','.join(header)!r}")
        for row in reader:
            where = f"{path} line {reader.line_num}"
            if row and len(row) != len(header):
                raise GraphError(f"{where}: {len(row)} cells, the header has {len(header)}; quote cells with commas")
            if row:
                yield _csv_edge(dict(zip(header, row, strict=True)), where)
    except csv.Error as error:
        raise GraphError(f"{path} line {reader.line_num}: not CSV: {error}") from error


def _csv_edge(cells: dict[str, str], where: str) -> Edge:
    for column in ("prerequisite", "target"):
        if not cells[column].strip():
            raise GraphError(f"{where}: {column} is empty; fill it in or remove the line")
    try:
        weight = float(cells.get("weight", "1"))
    except ValueError as error:
        raise GraphError(f"{where}: weight is {cells['weight']!r}, expected a number") from error
    try:
        return Edge(prerequisite=cells["prerequisite"].strip(), target=cells["target"].strip(), weight=weight)
    except GraphError as error:
        raise GraphError(f"{where}: {error}") from error


def _jsonl_skills(path: Path) -> Iterator[Skill]:
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if not line.strip():
            continue
        try:
            yield _jsonl_skill(_parse_json(line))
        except GraphError as error:
            raise GraphError(f"{path} line {number}: {error}") from error


def _jsonl_skill(entry: Any) -> Skill:
    if not isinstance(entry, dict):
        raise GraphError(f"expected an object, got {type(entry).__name__}")
    fields = {key: entry[key] for key in ("description", "aliases", "patterns") if key in entry}
    for field, names in (("id", ("id", "skill_id")), ("name", ("name", "title"))):
        present = [entry[name] for name in names if name in entry]
        fields.update({field: present[0]} if present else {})
    if "id" in entry and "skill_id" in entry and entry["id"] != entry["skill_id"]:
        raise GraphError(f"id is {entry['id']!r} and skill_id is {entry['skill_id']!r}; keep one of them")
    if "id" not in fields:
        raise GraphError("neither 'id' nor 'skill_id' in the object")
    return Skill(**fields)
