"""Deleting shards that every reader has left behind (never manifests)."""

from prereq.graph.canonical import canonical_json
from prereq.graph.errors import ManifestError
from prereq.selector.rounds.manifest import read_manifest, round_folder
from prereq.selector.rounds.progress import checkpoints
from prereq.selector.storage import Folder


def delete_behind(run: Folder, keep_rounds: int, last: int) -> list[int]:
    """Delete the shards of rounds more than `keep_rounds` behind the slowest reader; return those rounds.

    Without a reader's checkpoint nothing is deleted. What was deleted is recorded in `rounds/N/deleted.json`, so that a
    reader that comes later gets a clear error and not a missing file.

    Args:
        run: The run.
        keep_rounds: Rounds that stay behind the slowest reader.
        last: The newest committed round.
    """
    reader = min(checkpoints(run).values(), default=None)
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
