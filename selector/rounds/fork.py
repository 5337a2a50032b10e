"""A run that begins as another one did: its first rounds are the other's, later ones are drawn by another mixer.

The fork's folder holds the shared rounds itself: manifests byte for byte, shards as hard links where that is possible,
the reports and withdrawn lists behind them. So a trainer's checkpoint from before the fork goes on in the new run, and
the old one may be deleted.
"""

import os
from collections.abc import Mapping
from typing import Any

from prereq.graph.errors import ConfigError, ManifestError
from prereq.selector.rounds.feedback import feedback_name
from prereq.selector.rounds.manifest import RoundManifest, manifest_name, read_chain, round_folder
from prereq.selector.rounds.run import read_drawing
from prereq.selector.storage import Folder

MAY_DIFFER = frozenset({"mixer", "influence", "policy", "fork"})


def fork_entry(run: Folder, parent: Folder, number: int, drawing: Mapping[str, Any]) -> dict[str, Any]:
    """What the drawing keys of a fork say of where it comes from.

    Args:
        run: The fork's folder; one that was forked before keeps its entry, the parent is not looked at again.
        parent: The run that it is forked from.
        number: The first round that is the fork's own.
        drawing: The fork's other drawing keys.

    Returns:
        `{round, manifest, configs}`: `manifest` is the sha256 of the last shared one, `configs` lists `[first round,
        configuration]` of the shared rounds.

    Raises:
        ConfigError: The parent has not so many rounds, or differs in a key that a fork must share.
    """
    known = read_drawing(run)
    if known is not None and known.get("fork", {}).get("round") == number and run.exists(manifest_name(number - 1)):
        entry: dict[str, Any] = known["fork"]
        return entry
    theirs, chain = read_drawing(parent), read_chain(parent)
    if theirs is None or not 1 <= number <= len(chain):
        raise ConfigError(
            f"fork: {parent.name} has {len(chain)} rounds and cannot be forked at round {number}; "
            f"choose 1 to {len(chain)}"
        )
    unlike = sorted(key for key in {*theirs, *drawing} - MAY_DIFFER if theirs.get(key) != drawing.get(key))
    if unlike:
        raise ConfigError(
            f"fork: {unlike[0]} is {drawing.get(unlike[0])!r}, {parent.name} has {theirs.get(unlike[0])!r}; a fork "
            f"shares all but {', '.join(sorted(MAY_DIFFER - {'fork'}))}, this one differs in {', '.join(unlike)}"
        )
    configs: list[list[Any]] = []
    for manifest in chain[:number]:
        if not configs or configs[-1][1] != manifest.config:
            configs.append([manifest.round, manifest.config])
    return {"round": number, "manifest": chain[number - 1].sha256, "configs": configs}


def copy_rounds(run: Folder, parent: Folder, entry: Mapping[str, Any]) -> None:
    """Bring the shared rounds into the fork; what is there already stays, so that a killed copy goes on.

    Raises:
        ManifestError: The parent's rounds are not the ones that the fork was made of.
    """
    number = int(entry["round"])
    if run.exists(manifest_name(number - 1)):
        return
    chain = read_chain(parent)[:number]
    if len(chain) < number or chain[-1].sha256 != entry["manifest"]:
        raise ManifestError(f"{parent.name}: round {number - 1} is not the one that {run.name} was forked from")
    names = [feedback_name("initial"), *(feedback_name(n) for n in range(number))]
    names += [one["path"] for manifest in chain for one in manifest.withdrawn or []]
    for name in names:
        if parent.exists(name):
            run.commit(name, parent.read(name))
    for manifest in chain:
        _copy_round(run, parent, manifest)
        run.commit(manifest_name(manifest.round), manifest.to_bytes())


def _copy_round(run: Folder, parent: Folder, manifest: RoundManifest) -> None:
    folder = round_folder(manifest.round)
    arrays = manifest.mixer.get("arrays")
    names = [shard.path for shard in manifest.shards] + ([arrays["path"]] if arrays else [])
    if parent.exists(f"{folder}/deleted.json"):
        run.commit(f"{folder}/deleted.json", parent.read(f"{folder}/deleted.json"))
        names = names[len(manifest.shards) :]
    for name in (f"{folder}/{name}" for name in names):
        if run.exists(name) and run.size(name) == parent.size(name):
            continue
        if not (run.is_local and parent.is_local and _linked(parent.path(name), run.path(name))):
            run.replace(name, parent.read(name))


def _linked(source: str, target: str) -> bool:
    """Whether the file could be hard-linked; another file system needs a copy."""
    os.makedirs(os.path.dirname(target), exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        return False
    return True
