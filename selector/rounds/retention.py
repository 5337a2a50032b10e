"""How far readers are, and deleting shards that every reader has left behind (never manifests)."""

import json

from prereq.graph.canonical import canonical_json
from prereq.graph.errors import ManifestError
from prereq.selector.rounds.manifest import read_manifest, round_folder
from prereq.selector.storage import Folder


def slowest_reader(run: Folder) -> int | None:
    """The smallest round that a reader's last checkpoint still needs, or None without readers.

    Raises:
        ManifestError: A reader's file cannot be understood; guessing could delete what it still reads.
    """
    rounds = []
    for name in run.names("readers"):
        where = run.path(f"readers/{name}")
        try:
            value = json.loads(run.read(f"readers/{name}"))
            rounds.append(int(value["round"]))
        except (ValueError, KeyError, TypeError) as error:
            raise ManifestError(f"{where}: not a reader's state ({error}); delete it if that reader is gone") from error
    return min(rounds, default=None)


def delete_behind(run: Folder, keep_rounds: int, last: int) -> list[int]:
    """Delete the shards of rounds more than `keep_rounds` behind the slowest reader; return those rounds.

    Without a reader's checkpoint nothing is deleted. What was deleted is recorded in `rounds/N/deleted.json`, so that a
    reader that comes later gets a clear error and not a missing file.

    Args:
        run: The run.
        keep_rounds: Rounds that stay behind the slowest reader.
        last: The newest committed round.
    """
    reader = slowest_reader(run)
    if reader is None:
        return []
    deleted = []
    for number in range(min(reader - keep_rounds, last) - 1, -1, -1):
        record = f"{round_folder(number)}/deleted.json"
        if run.exists(record):
            break  # older rounds went before this one
        manifest = read_manifest(run, number)
        if manifest is None:
            raise ManifestError(f"{run.name}: round {number} lies behind every reader but has no manifest; restore it")
        names = [shard.path for shard in manifest.shards]
        # the record goes first: a reader must never meet a shard that is gone without a word
        run.commit(record, canonical_json({"format": "prereq.deleted/1", "reader": reader, "shards": names}))
        for name in names:
            if run.exists(f"{round_folder(number)}/{name}"):
                run.delete(f"{round_folder(number)}/{name}")
        deleted.append(number)
    return deleted
