"""Making a pool of finished stages: files under names that say their content, and the manifest last.

    POOL/part-NNNNN-<first 12 of its sha256>.parquet   holdout/part-...   rejects/part-...
    POOL/arms.parquet  graph.json  duplicates.parquet  summary.json       manifest.json

Files are hard links to the stages' files (copies where there are no links), so a pool costs its bytes once.
On an object store they are uploaded.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from prereq.graph.canonical import canonical_json
from prereq.graph.errors import ConfigError, TableError
from prereq.jobs.stages.layout import Layout, read_groups
from prereq.jobs.stages.runner import StageFile
from prereq.selector.storage import Folder

FORMAT = "prereq.pool/1"
_OURS = re.compile(r"part-\d{5}-[0-9a-f]{12}\.parquet")
_CHUNK = 2**20


def publish(
    pool: Folder,
    layout: Layout,
    *,
    config: str,
    seed: int,
    skills: Sequence[str],
    extras: Mapping[str, bytes | Path],
    rejects: Sequence[StageFile],
) -> dict[str, Any]:
    """Put the files of a pool in place and commit its manifest.

    Args:
        pool: The pool's folder.
        layout: The finished stages.
        config: sha256 of the pool's settings.
        seed: `pool.seed`.
        skills: Ids, graph order.
        extras: Further files by name: bytes, or the file to take.
        rejects: Files that list refused input.

    Returns:
        The manifest.

    Raises:
        TableError: A stage's file was changed after it was written.
        ConfigError: The folder holds a finished pool that differs.
    """
    parts = [(file, _named(index, file), groups) for index, (file, groups) in enumerate(read_groups(layout.gather))]
    held = [(file, f"holdout/{_named(i, file)}") for i, file in enumerate(layout.gather_holdout.matching("holdout-"))]
    refused = [(file, f"rejects/{_named(index, file)}") for index, file in enumerate(rejects)]
    files = [*((file, name) for file, name, _ in parts), *held, *refused]
    _sweep(pool, {name for _, name in files})
    for file, name in files:
        _place(file, pool, name)
    arms = layout.arms.matching("arms.parquet")[0]
    _place(arms, pool, "arms.parquet")
    for name, content in extras.items():
        pool.replace(name, content if isinstance(content, bytes) else content.read_bytes())
    manifest = {
        "format": FORMAT,
        "config": config,
        "seed": seed,
        **_arms(parts),
        "skills": list(skills),
        "holdout": _concatenated(pool, [name for _, name in held]),
    }
    _commit(pool, canonical_json(manifest))
    return manifest


def _named(index: int, file: StageFile) -> str:
    return f"part-{index:05d}-{file.sha256[:12]}.parquet"


def _arms(parts: Sequence[tuple[StageFile, str, list[Mapping[str, Any]]]]) -> dict[str, Any]:
    """Totals, and for each arm its row groups in stored order."""
    arms: dict[str, dict[str, Any]] = {}
    for _, name, groups in parts:
        for number, group in enumerate(groups):
            arm = arms.setdefault(group["arm"], {"id": group["arm"], "rows": 0, "tokens": 0, "parts": []})
            arm["rows"] += group["rows"]
            arm["tokens"] += group["tokens"]
            if not arm["parts"] or arm["parts"][-1]["path"] != name:
                arm["parts"].append({"path": name, "row_groups": []})
            arm["parts"][-1]["row_groups"].append(number)
    listed = [arms[key] for key in sorted(arms)]
    return {
        "documents": sum(arm["rows"] for arm in listed),
        "tokens": sum(arm["tokens"] for arm in listed),
        "arms": listed,
    }


def _sweep(pool: Folder, keep: set[str]) -> None:
    """Remove parts that an earlier, unfinished attempt left."""
    if pool.exists("manifest.json"):
        return
    for folder in ("", "holdout", "rejects"):
        for name in pool.names(folder):
            path = f"{folder}/{name}" if folder else name
            if _OURS.fullmatch(name) and path not in keep:
                pool.delete(path)


def _place(file: StageFile, pool: Folder, name: str) -> None:
    """Make `name` in the pool the stage's file, checked and on the disk or in the store."""
    if pool.exists(name):
        return
    _check_unchanged(file)
    if not pool.is_local:
        pool.replace(name, Path(file.path).read_bytes())
        return
    source, target = file.path, pool.path(name)
    os.makedirs(os.path.dirname(target), exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        temporary = f"{target}.tmp-{os.getpid()}"
        with open(source, "rb") as old, open(temporary, "wb") as new:
            shutil.copyfileobj(old, new, _CHUNK)
            new.flush()
            os.fsync(new.fileno())
        os.replace(temporary, target)


def _check_unchanged(file: StageFile) -> None:
    with open(file.path, "rb") as opened:
        found = hashlib.file_digest(opened, "sha256").hexdigest()
        os.fsync(opened.fileno())
    if found != file.sha256:
        shutil.rmtree(os.path.dirname(file.path))
        raise TableError(
            f"{file.path}: sha256 is {found}, its stage recorded {file.sha256}; it was changed later and has been "
            "removed: run the same command again"
        )


def _concatenated(pool: Folder, names: Sequence[str]) -> str:
    """sha256 over the bytes of files end to end."""
    sha = hashlib.sha256()
    for name in sorted(names):
        sha.update(pool.read(name))
    return sha.hexdigest()


def _commit(pool: Folder, data: bytes) -> None:
    if pool.commit("manifest.json", data):
        return
    old, new = json.loads(pool.read("manifest.json")), json.loads(data)
    if old != new:
        changed = [key for key in sorted({*old, *new}) if old.get(key) != new.get(key)]
        raise ConfigError(
            f"{pool.name}: holds a finished pool that differs in {', '.join(changed)}: its input has changed since; "
            "choose another pool_dir, or delete this one to build it anew"
        )
