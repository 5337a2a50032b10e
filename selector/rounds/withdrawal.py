"""Documents that a run must not draw any more: lists of ids and of sources, each applied from one round on.

    RUN/withdrawn/000000.json ...

A list takes effect in the next round that is drawn and is named by its manifest, so that a run with withdrawals is
replayed exactly. From that round on the order of every arm is the one it has without those documents, in every epoch;
an arm's position moves back by those that lay before it.
"""

import json
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np

from prereq.graph.canonical import canonical_json, sha256_hex
from prereq.graph.errors import ConfigError, ManifestError
from prereq.selector.rounds.pool import Pool
from prereq.selector.rounds.run import read_done
from prereq.selector.rounds.shape import misfit
from prereq.selector.storage import Folder

FORMAT = "prereq.withdrawn/1"
_SHAPE = {"ids": [str], "sources": [str]}


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """One list."""

    path: str  # relative to the run
    sha256: str
    ids: frozenset[str]
    sources: frozenset[str]

    def entry(self) -> dict[str, str]:
        """How a manifest names it."""
        return {"path": self.path, "sha256": self.sha256}


def name_of(number: int) -> str:
    """The file of a list, relative to the run."""
    return f"withdrawn/{number:06d}.json"


def read_withdrawal(run: Folder, number: int) -> Withdrawal | None:
    """One list, or None when there is none of that number.

    Raises:
        ManifestError: The file is not of the format.
    """
    name = name_of(number)
    try:
        data = run.read(name)
    except FileNotFoundError:
        return None
    where = run.path(name)
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ManifestError(
            f"{where}: not JSON ({error}); restore it, rounds were drawn without its documents"
        ) from error
    if not isinstance(value, dict) or value.get("format") != FORMAT or set(value) != {"format", *_SHAPE}:
        raise ManifestError(f"{where}: is not a {FORMAT} file with the keys {sorted(_SHAPE)}; restore it")
    fault = misfit(value, _SHAPE)
    if fault is not None:
        raise ManifestError(f"{where}: {fault}; restore the file")
    return Withdrawal(name, sha256_hex(data), frozenset(value["ids"]), frozenset(value["sources"]))


def read_from(run: Folder, number: int) -> list[Withdrawal]:
    """The lists from one number on, in order."""
    found: list[Withdrawal] = []
    while (one := read_withdrawal(run, number + len(found))) is not None:
        found.append(one)
    return found


def recorded(run: Folder, entries: list[dict[str, Any]], applied: int, where: str) -> list[Withdrawal]:
    """The lists that a manifest names, with their digests checked.

    Args:
        run: The run.
        entries: `withdrawn` of the manifest.
        applied: Lists that earlier rounds applied.
        where: The manifest, for errors.

    Raises:
        ManifestError: A list is missing or was changed, or is not the next one.
    """
    found = []
    for number, entry in enumerate(entries, applied):
        one = read_withdrawal(run, number)
        if one is None or one.entry() != entry:
            have = "missing" if one is None else f"sha256 {one.sha256}"
            raise ManifestError(
                f"{run.path(name_of(number))}: is {have}, {where} names {entry['path']} with sha256 {entry['sha256']}; "
                "restore the file: without it the draw cannot be followed"
            )
        found.append(one)
    return found


def matching_rows(pool: Pool, arm: int, lists: Collection[Withdrawal]) -> np.ndarray:
    """Which documents of an arm the lists name: bool `(rows,)` in stored order."""
    ids = frozenset[str]().union(*(one.ids for one in lists))
    sources = frozenset[str]().union(*(one.sources for one in lists))
    names, origins = pool.text_columns(arm, ("id", "source"))
    return np.array([n in ids or o in sources for n, o in zip(names, origins, strict=True)], dtype=np.bool_)


def withdraw(run: Folder, pool: Pool, ids: Collection[str], sources: Collection[str] = ()) -> tuple[str, int]:
    """Withdraw documents from the next round of a run on.

    Args:
        run: The run; a sampler may be drawing it.
        pool: Its pool.
        ids: Of documents.
        sources: Names of sources, all of whose documents are withdrawn.

    Returns:
        The list's file, relative to the run, and how many documents of the pool it names.

    Raises:
        ConfigError: Nothing was named, the pool has no such document or source, or the run is done.
    """
    wanted, origins = set(ids), set(sources)
    if not wanted and not origins:
        raise ConfigError("withdraw: name at least one id or source")
    if read_done(run) is not None:
        raise ConfigError(f"{run.name}: the run is done, no round will be drawn; withdraw from the corpus instead")
    count, seen_ids, seen_sources = 0, set[str](), set[str]()
    for arm in range(len(pool.layouts)):
        for name, source in zip(*pool.text_columns(arm, ("id", "source")), strict=True):
            count += name in wanted or source in origins
            seen_ids |= {name} & wanted
            seen_sources |= {source} & origins
    for kind, missing in (("id", wanted - seen_ids), ("source", origins - seen_sources)):
        if missing:
            named = ", ".join(repr(name) for name in sorted(missing)[:5])
            raise ConfigError(f"withdraw: the pool {pool.folder.name} has no {kind} {named}; nothing was withdrawn")
    data = canonical_json({"format": FORMAT, "ids": sorted(wanted), "sources": sorted(origins)})
    number = len(read_from(run, 0))
    while not run.commit(name_of(number), data):
        number += 1
    return name_of(number), count
