"""Round manifests: the only thing that commits a round, and the chain that binds them to one configuration and pool.

    RUN/rounds/000007/manifest.json      canonical JSON, `prereq.round/1`, no clock time in it

Reading checks the shape; `read_chain` checks the links. What a shard holds is checked where shards are read.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from prereq.graph.canonical import canonical_json, sha256_hex
from prereq.graph.errors import ManifestError
from prereq.selector.rounds.shape import Spec, misfit
from prereq.selector.storage import Folder

FORMAT = "prereq.round/1"

Bytes = bytes  # the dataclasses below have a field of that name


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """One Parquet file of a round."""

    path: str  # a name in the round's folder
    samples: int
    documents: int
    tokens: int
    bytes: int  # of the file
    sha256: str  # of the file
    groups: tuple[str, ...] | None = None  # of each row group's bytes, 32 hex digits; None: only the whole is known
    footer: str | None = None  # of all bytes behind the last row group, likewise


def same_shard(one: Shard, other: Shard) -> bool:
    """Whether two entries name the same content; manifests of before row groups had digests lack those."""
    return replace(one, groups=None, footer=None) == replace(other, groups=None, footer=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundManifest:
    """What a round was drawn from and by, and what it holds; fields as in `prereq.round/1`."""

    format: str = FORMAT
    round: int
    parent: str | None  # sha256 of the parent manifest's bytes
    config: str  # sha256 of the keys that change the draw
    pool: str  # sha256 of the pool's manifest
    seed: int
    global_batch: int
    feedback: list[dict[str, Any]]  # [{round or "initial", sha256}] newly applied by this round
    mixer: dict[str, Any]  # name, state, and where arrays are large: arrays {path, sha256}
    mixture: dict[str, dict[str, float]]  # requested, arms, skills
    realised: dict[str, int]  # tokens per arm
    draws: dict[str, list[dict[str, int]]]  # arm -> [{epoch, start, stop}]
    samples: int
    documents: int
    tokens: int
    bytes: int  # of all shard files
    order: str  # sha256 of the document ids in order, joined by newlines
    shards: tuple[Shard, ...]
    packing: dict[str, int] | None = None  # of packed rows: seq_len, pieces, special, padding (tokens)
    withdrawn: list[dict[str, str]] | None = None  # [{path, sha256}] lists of documents newly taken out by this round

    def to_bytes(self) -> "Bytes":
        """The canonical bytes, of which the sha256 is the round's identity."""
        value = {field.name: getattr(self, field.name) for field in fields(self)}
        value["shards"] = [_given(asdict(shard), _SHARD_OPTIONAL) for shard in self.shards]
        value = _given(value, _OPTIONAL)
        return canonical_json(value)

    @property
    def sha256(self) -> str:
        """Hex sha256 of the manifest's bytes."""
        return sha256_hex(self.to_bytes())


def _given(value: dict[str, Any], optional: frozenset[str]) -> dict[str, Any]:
    """Without the optional keys that say nothing."""
    return {key: item for key, item in value.items() if item is not None or key not in optional}


_OPTIONAL = frozenset({"packing", "withdrawn"})
_SHARD_OPTIONAL = frozenset({"groups", "footer"})
_KEYS = frozenset(field.name for field in fields(RoundManifest)) - _OPTIONAL
_SHARD_KEYS = frozenset(field.name for field in fields(Shard)) - _SHARD_OPTIONAL
_SHAPE = {
    "round": int,
    "parent": (str, None),
    "config": str,
    "pool": str,
    "seed": int,
    "global_batch": int,
    "feedback": [{"round": (int, str), "sha256": str}],
    "mixer": {"name": str, "state": dict},
    "mixture": {"requested": {str: float}, "arms": {str: float}, "skills": {str: float}},
    "realised": {str: int},
    "draws": {str: [{"epoch": int, "start": int, "stop": int}]},
    "samples": int,
    "documents": int,
    "tokens": int,
    "bytes": int,
    "order": str,
    "shards": [{"path": str, "samples": int, "documents": int, "tokens": int, "bytes": int, "sha256": str}],
}
_PACKING_SHAPE = {"seq_len": int, "pieces": int, "special": int, "padding": int}
_GROUPS_SHAPE = {"groups": [str], "footer": str}


def round_folder(number: int) -> str:
    """The folder of a round, relative to the run."""
    return f"rounds/{number:06d}"


def manifest_name(number: int) -> str:
    """The manifest of a round, relative to the run."""
    return f"{round_folder(number)}/manifest.json"


def read_manifest(run: Folder, number: int) -> RoundManifest | None:
    """Read one round's manifest, or None when the round is not committed.

    Raises:
        ManifestError: The file is not canonical JSON of the format, or belongs to another round.
    """
    name = manifest_name(number)
    try:
        data = run.read(name)
    except FileNotFoundError:
        return None
    return parse_manifest(data, number, run.path(name))


def parse_manifest(data: bytes, number: int, where: str) -> RoundManifest:
    """Check and build a manifest from its bytes; `where` names the file in errors."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ManifestError(
            f"{where}: not JSON ({error}); restore the file, the run cannot go on without it"
        ) from error
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        found = value.get("format") if isinstance(value, dict) else type(value).__name__
        raise ManifestError(f"{where}: format is {found!r}, expected {FORMAT!r}; it was written by another version")
    _expect_keys(value, _KEYS, where, _OPTIONAL)
    fault = misfit(value, _SHAPE)
    if fault is not None:
        raise ManifestError(f"{where}: {fault}; the file was changed after it was written: restore it")
    for shard in value["shards"]:
        _expect_keys(shard, _SHARD_KEYS, f"{where}: shards", _SHARD_OPTIONAL)
        if _SHARD_OPTIONAL & set(shard):
            _expect_shape(shard, _GROUPS_SHAPE, f"{where}: shards")
    if "packing" in value:
        _expect_shape(value["packing"], _PACKING_SHAPE, f"{where}: packing")
    if "withdrawn" in value:
        _expect_shape(value["withdrawn"], [{"path": str, "sha256": str}], f"{where}: withdrawn")
    if value["round"] != number:
        raise ManifestError(f"{where}: says it is round {value['round']}, its folder says {number}; files were moved")
    manifest = RoundManifest(**{**value, "shards": tuple(map(_shard, value["shards"]))})
    if manifest.to_bytes() != data:
        raise ManifestError(f"{where}: is not canonical JSON, so it was changed after it was written; restore the file")
    return manifest


def _shard(value: Mapping[str, Any]) -> Shard:
    return Shard(**{**value, "groups": tuple(value["groups"])} if "groups" in value else value)


def _expect_shape(value: Any, shape: Spec, where: str) -> None:
    fault = misfit(value, shape)
    if fault is not None:
        raise ManifestError(f"{where}: {fault}; the file was changed after it was written: restore it")


def _expect_keys(
    value: Mapping[str, Any], keys: frozenset[str], where: str, optional: frozenset[str] = frozenset()
) -> None:
    if not keys <= set(value) <= keys | optional:
        missing, unknown = sorted(keys - set(value)), sorted(set(value) - keys - optional)
        raise ManifestError(f"{where}: missing keys {missing}, unknown keys {unknown}; the file was changed")


def read_chain(run: Folder) -> list[RoundManifest]:
    """All committed rounds, in order, with every link checked.

    Raises:
        ManifestError: A round is missing in the middle, or a parent, configuration or pool does not match.
    """
    chain: list[RoundManifest] = []
    while (manifest := read_manifest(run, len(chain))) is not None:
        where = run.path(manifest_name(manifest.round))
        if chain:
            for key in ("config", "pool", "seed", "global_batch"):
                if getattr(manifest, key) != getattr(chain[0], key) and not (
                    key == "config" and _forked(run, manifest)
                ):
                    raise ManifestError(
                        f"{where}: {key} is {getattr(manifest, key)}, round 0 says {getattr(chain[0], key)}; "
                        "rounds of two runs were mixed"
                    )
        expected = chain[-1].sha256 if chain else None
        if manifest.parent != expected:
            raise ManifestError(
                f"{where}: parent is {manifest.parent}, the manifest before it has sha256 {expected}; "
                "a manifest was changed after it was written: restore it"
            )
        chain.append(manifest)
    beyond = [name for name in run.names("rounds") if name.isdigit() and int(name) > len(chain)]
    late = [name for name in beyond if run.exists(f"rounds/{name}/manifest.json")]
    if late:
        raise ManifestError(
            f"{run.path(manifest_name(len(chain)))}: is missing, but round {late[0]} is there; restore it"
        )
    return chain


def _forked(run: Folder, manifest: RoundManifest) -> bool:
    """Whether `run.json` says that the run was forked, and this round has the configuration that it must have."""
    from prereq.selector.rounds.run import read_run  # only forks come here

    info = read_run(run)
    return info is not None and info.own_from > 0 and info.config_of(manifest.round) == manifest.config


def check_shard_bytes(data: bytes, shard: Shard, where: str, number: int) -> None:
    """Compare a shard file's bytes with what its manifest says.

    Raises:
        ManifestError: Size or digest differ; names the file, expected, found and what to do.
    """
    repair = f"run `prereq sample --repair {number}` with this run's configuration to draw it again"
    if len(data) != shard.bytes:
        raise ManifestError(f"{where}: has {len(data)} bytes, the manifest says {shard.bytes}; {repair}")
    found = sha256_hex(data)
    if found != shard.sha256:
        raise ManifestError(f"{where}: sha256 is {found}, the manifest says {shard.sha256}; {repair}")
