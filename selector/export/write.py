"""Writing an export: whole or not at all, with `export.json` that says what it holds.

    OUT/export.json                prereq.export/1: of which run and rounds, by what settings, and every file's digest
    OUT/...                        as the format wants it

Everything is written into a folder beside OUT and renamed. An export that is there already and holds the same is left.
"""

import hashlib
import json
import os
import secrets
import shutil
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from prereq.graph.canonical import canonical_json, digest
from prereq.graph.errors import ConfigError, ManifestError
from prereq.selector.export.hf_datasets import write_arrow, write_parquet
from prereq.selector.export.mds import write_mds
from prereq.selector.export.megatron import write_megatron
from prereq.selector.export.nanogpt import write_nanogpt
from prereq.selector.export.selection import Selection, select_rounds
from prereq.selector.export.token_stream import Tokens, TokenStream, open_tokens
from prereq.selector.rounds.pool import Pool, read_holdout

FORMAT = "prereq.export/1"
TOKEN_FORMATS = ("megatron", "nanogpt")
ROW_FORMATS = ("mds", "datasets", "parquet")
FORMATS = (*TOKEN_FORMATS, *ROW_FORMATS)
_NAME = "export.json"
_BLOCK = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportRequest:
    """What to export, and as what."""

    run_dir: str  # a run, finished or not
    to: str  # one of FORMATS
    out: str  # folder that is made; local
    rounds: tuple[int, int | None] = (0, None)  # first, and behind the last; none: all that are committed
    tokenizer: str | None = None  # of token formats; none: the run's
    eod: int | str | None = None  # token behind each document: number, name or "none"; none: see `open_tokens`

    def __post_init__(self) -> None:
        if self.to not in FORMATS:
            raise ConfigError(f"export: {self.to!r} is not one of {', '.join(FORMATS)}")
        if self.to in ROW_FORMATS and not (self.tokenizer is None and self.eod is None):
            raise ConfigError(f"export: {self.to} takes rows as they are; tokenizer and eod go with {TOKEN_FORMATS}")
        if "://" in self.out:
            raise ConfigError(f"export: {self.out} is not a local folder; write to one and copy it")


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export holds, as in its `export.json`, and whether it was there before."""

    facts: dict[str, Any]
    was_there: bool


def export(request: ExportRequest) -> Exported:
    """Write committed rounds of a run in another format.

    Raises:
        ManifestError: A file of the run is missing, damaged, or not what a manifest says.
        ConfigError: The request does not fit the run, or OUT holds something else.
    """
    selection = select_rounds(request.run_dir, request.rounds)
    stream = open_tokens(selection, request.tokenizer, request.eod) if request.to in TOKEN_FORMATS else None
    facts = _facts(selection, request, stream)
    out = Path(request.out)
    before = _before(out, facts)
    if before is not None:
        return Exported(before, True)
    partial = _make_partial(out)
    try:
        facts["written"] = _write(partial, request.to, selection, stream)
        facts["files"] = list(_files(partial))
        (partial / _NAME).write_bytes(canonical_json(facts))
        os.replace(partial, out)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return Exported(facts, False)


def _write(folder: Path, to: str, selection: Selection, stream: TokenStream | None) -> dict[str, Any]:
    if stream is None:
        rows: dict[str, Callable[[], dict[str, Any]]] = {
            "mds": lambda: write_mds(folder, selection.schema(), selection.tables()),
            "datasets": lambda: write_arrow(folder, selection.schema(), selection.tables(), _fingerprint(selection)),
            "parquet": lambda: write_parquet(folder, selection.schema(), selection.tables()),
        }
        return rows[to]()
    if to == "megatron":
        return write_megatron(folder, stream.documents(), stream.vocabulary)
    is_bytes = stream.tokenizer is not None and stream.tokenizer.name == "bytes"
    return write_nanogpt(folder, stream.documents(), stream.vocabulary, _held_out(stream), is_bytes=is_bytes)


def _held_out(stream: TokenStream) -> Iterator[Tokens] | None:
    """The control split, which is in no round; None where the pool or the tokenizer is not here."""
    info, tokenizer = stream.selection.info, stream.tokenizer
    if tokenizer is None:
        return None
    try:
        pool = Pool(info.pool_path)
    except ManifestError:
        return None
    if pool.sha256 != info.pool:
        return None
    ending = stream.eod if stream.eod is not None else stream.selection.eos
    end = np.array([] if ending is None else [ending], dtype=np.int32)
    texts = read_holdout(pool.folder, "control")["text"].to_pylist()
    return (np.concatenate([tokenizer.encode(text), end]) for text in texts)


def _facts(selection: Selection, request: ExportRequest, stream: TokenStream | None) -> dict[str, Any]:
    manifests = selection.manifests
    return {
        "format": FORMAT,
        "to": request.to,
        "config": selection.info.config,
        "pool": selection.info.pool,
        "rounds": [manifests[0].round, manifests[-1].round + 1],
        "last": manifests[-1].sha256,
        "kind": selection.kind,
        "samples": selection.samples,
        "documents": selection.documents,
        "tokens": selection.tokens,
        "tokenizer": None if stream is None or stream.tokenizer is None else stream.tokenizer.name,
        "eod": None if stream is None else stream.eod,
    }


def _fingerprint(selection: Selection) -> str:
    return digest([selection.info.config, [manifest.sha256 for manifest in selection.manifests]])[:16]


def _before(out: Path, facts: dict[str, Any]) -> dict[str, Any] | None:
    """What an earlier export of the same holds; None where there is none.

    Raises:
        ConfigError: OUT holds something else.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return None
    try:
        found: dict[str, Any] = json.loads((out / _NAME).read_bytes())
        same = all(found[key] == value for key, value in facts.items())
    except (OSError, ValueError, KeyError, TypeError):
        raise ConfigError(f"{out}: is not empty and not an export; choose another folder") from None
    if not same:
        changed = [key for key, value in facts.items() if found[key] != value]
        raise ConfigError(f"{out}: holds another export (it differs in {', '.join(changed)}); choose another folder")
    sizes = all(
        (out / file["path"]).is_file() and (out / file["path"]).stat().st_size == file["bytes"]
        for file in found["files"]
    )
    if not sizes:
        raise ConfigError(f"{out}: files of this export are missing or cut; delete the folder and export again")
    return found


def _make_partial(out: Path) -> Path:
    """A fresh folder beside OUT; those that killed exports of this machine left are removed."""
    mark = f".{out.name}.partial-{socket.gethostname()}-"
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        for left in out.parent.glob(f"{mark}*"):
            if not _is_alive(left.name.removeprefix(mark).partition("-")[0]):
                shutil.rmtree(left, ignore_errors=True)
        partial = out.parent / f"{mark}{os.getpid()}-{secrets.token_hex(4)}"
        partial.mkdir()
    except OSError as error:
        raise ConfigError(f"{out}: cannot be written ({error.strerror}); choose another folder or mend it") from error
    return partial


def _is_alive(process: str) -> bool:
    try:
        os.kill(int(process), 0)
    except (ProcessLookupError, ValueError):
        return False
    except PermissionError:
        return True
    return True


def _files(folder: Path) -> Iterator[dict[str, Any]]:
    """Every file with its size and digest, and synced: the rename must not come before them."""
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        sha256, size = hashlib.sha256(), 0
        with open(path, "rb") as file:
            while block := file.read(_BLOCK):
                sha256.update(block)
                size += len(block)
            os.fsync(file.fileno())
        yield {"path": path.relative_to(folder).as_posix(), "bytes": size, "sha256": sha256.hexdigest()}
