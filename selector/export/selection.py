"""The committed rounds of a run, or some of them, as tables in the run's order, checked as they are read.

One shard is in memory at a time. Each is compared with its manifest's digest, and each round's counts and the order of
its documents with the manifest, so that an export that ends holds exactly what the run says.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from prereq.graph.errors import ConfigError, ManifestError
from prereq.graph.parquet_bytes import open_parquet
from prereq.selector.rounds.manifest import RoundManifest, Shard, check_shard_bytes, read_chain, round_folder
from prereq.selector.rounds.run import RunInfo, read_run
from prereq.selector.storage import Folder

_PACKED = "ids"  # the column that only packed rows have


@dataclass(frozen=True, slots=True)
class Selection:
    """Some consecutive rounds of a run, and what their rows are."""

    run: Folder
    info: RunInfo
    manifests: tuple[RoundManifest, ...]
    kind: str  # text, tokens or packed
    bos: int | None  # token before each document, where rows hold tokens
    eos: int | None  # token behind each document, where rows hold tokens
    tokenizer: str | None  # as the run's configuration names it; None where run.json does not say

    @property
    def samples(self) -> int:
        """Rows of all rounds."""
        return sum(manifest.samples for manifest in self.manifests)

    @property
    def documents(self) -> int:
        """Documents of all rounds."""
        return sum(manifest.documents for manifest in self.manifests)

    @property
    def tokens(self) -> int:
        """Tokens of all documents, as the pool counted them."""
        return sum(manifest.tokens for manifest in self.manifests)

    def tables(self) -> Iterator[pa.Table]:
        """The rows in order, a row group at a time.

        Raises:
            ManifestError: A shard is missing or damaged, or a round does not hold what its manifest says.
        """
        for manifest in self.manifests:
            check = _RoundCheck(manifest, self.run)
            for shard in manifest.shards:
                file = open_parquet(self._bytes(manifest, shard))
                for group in range(file.num_row_groups):
                    table = file.read_row_group(group, use_threads=False)
                    check.add(table)
                    yield table
            check.finish()

    def schema(self) -> pa.Schema:
        """The columns of the rows; all shards of a run have the same."""
        manifest = self.manifests[0]
        return open_parquet(self._bytes(manifest, manifest.shards[0])).schema_arrow

    def _bytes(self, manifest: RoundManifest, shard: Shard) -> bytes:
        name = f"{round_folder(manifest.round)}/{shard.path}"
        where = self.run.path(name)
        try:
            data = self.run.read(name)
        except FileNotFoundError:
            gone = self.run.exists(f"{round_folder(manifest.round)}/deleted.json")
            why = "retention (keep_rounds) deleted it behind the readers" if gone else "it was lost"
            raise ManifestError(
                f"{where}: is missing: {why}; export later rounds, or run `prereq sample --repair {manifest.round}` "
                "with this run's configuration to draw it again"
            ) from None
        check_shard_bytes(data, shard, where, manifest.round)
        return data


class _RoundCheck:
    """Counts a round's rows and follows the order of its documents."""

    def __init__(self, manifest: RoundManifest, run: Folder) -> None:
        self._manifest, self._run = manifest, run
        self._rows, self._order, self._first = 0, hashlib.sha256(), True

    def add(self, table: pa.Table) -> None:
        packed = _PACKED in table.column_names
        ids = pc.list_flatten(table[_PACKED]) if packed else table["id"]
        joined = "\n".join(ids.to_pylist()).encode()
        if len(ids):
            self._order.update(joined if self._first else b"\n" + joined)
            self._first = False
        self._rows += table.num_rows

    def finish(self) -> None:
        manifest = self._manifest
        found, expected = (self._rows, self._order.hexdigest()), (manifest.samples, manifest.order)
        if found != expected:
            raise ManifestError(
                f"{self._run.name}: round {manifest.round} holds {found[0]} rows whose documents have the order "
                f"{found[1]}, its manifest says {expected[0]} and {expected[1]}; restore its files"
            )


def select_rounds(run_dir: str, rounds: tuple[int, int | None] = (0, None)) -> Selection:
    """Open rounds of a finished or running run: what is committed now.

    Args:
        run_dir: The run.
        rounds: First round, and the one behind the last; None: to the end.

    Raises:
        ManifestError: There is no run, or its chain does not hold together.
        ConfigError: The rounds are not there.
    """
    run = Folder(run_dir)
    info = read_run(run)
    if info is None:
        raise ManifestError(f"{run.name}: no run (run.json is missing)")
    chain = read_chain(run)
    first, stop = rounds[0], len(chain) if rounds[1] is None else rounds[1]
    if not 0 <= first < stop <= len(chain):
        raise ConfigError(
            f"{run.name}: rounds {first} to {stop - 1} were asked for, "
            + (f"rounds 0 to {len(chain) - 1} are committed" if chain else "no round is committed yet")
        )
    written: dict[str, Any] = json.loads(run.read("run.json"))
    samples = written["drawing"].get("samples", {"kind": "text"})
    return Selection(
        run=run,
        info=info,
        manifests=tuple(chain[first:stop]),
        kind=samples["kind"],
        bos=samples.get("bos"),
        eos=samples.get("eos"),
        tokenizer=written.get("config", {}).get("tokenizer"),
    )
