"""Checking every digest of a pool or a run; faults are collected, so that one does not hide another."""

import hashlib
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from prereq.graph.canonical import digest, sha256_hex
from prereq.graph.errors import ManifestError, PrereqError
from prereq.graph.influence import decode_influence
from prereq.graph.load import decode_graph
from prereq.graph.parquet_bytes import read_parquet
from prereq.selector.rounds.feedback import check_feedback, feedback_name, read_feedback
from prereq.selector.rounds.groups import digest_ranges
from prereq.selector.rounds.manifest import (
    RoundManifest,
    check_shard_bytes,
    manifest_name,
    read_chain,
    read_manifest,
    round_folder,
)
from prereq.selector.rounds.pool import Pool, read_holdout
from prereq.selector.rounds.run import RunInfo, read_done, read_run
from prereq.selector.rounds.shards import count_part
from prereq.selector.storage import Folder

T = TypeVar("T")
_PART = re.compile(r"part-\d+-([0-9a-f]{12})\.parquet")
_CHUNK = 2**22  # bytes read at a time
_FAULTS = (PrereqError, OSError, pa.ArrowException, ValueError, KeyError, TypeError)


@dataclass(slots=True)
class Findings:
    """What a check came to."""

    checked: int = 0  # files, links and digests that were looked at
    failures: list[str] = field(default_factory=list)  # one line each: what, where, expected and found
    unchecked: list[str] = field(default_factory=list)  # what could not be looked at, and why that is no fault

    def check(self, where: str, look: Callable[..., T], *args: Any) -> T | None:
        """Call `look(*args)`; a fault that it raises becomes a line. Returns its result, or None after a fault."""
        self.checked += 1
        try:
            return look(*args)
        except _FAULTS as error:
            words = " ".join((str(error) or type(error).__name__).split())
            self.failures.append(words if isinstance(error, PrereqError) else f"{where}: {words}")
            return None


def verify_pool(path: str) -> Findings:
    """Check a pool: every part against the digest in its name, arms and holdout against the manifest."""
    findings = Findings()
    pool = findings.check(path, Pool, path)
    if pool is None:
        return findings
    parts = sorted({part for layout in pool.layouts for part, _ in layout.groups})
    held = [f"holdout/{name}" for name in pool.folder.names("holdout") if name.startswith("part-")]
    refused = [f"rejects/{name}" for name in pool.folder.names("rejects") if name.startswith("part-")]
    for part in (*parts, *held, *refused):
        _check_part(findings, pool.folder, part)
    for index, layout in enumerate(pool.layouts):
        findings.check(f"{path}: arm {layout.id}", pool.tokens, index)
    findings.check(pool.folder.path("arms.parquet"), pool.arms)
    findings.check(pool.folder.path("holdout"), read_holdout, pool.folder)
    findings.check(pool.folder.path("graph.json"), _check_graph, pool.folder, pool.skills)
    return findings


def _check_part(findings: Findings, folder: Folder, name: str) -> None:
    named = _PART.fullmatch(name.rpartition("/")[2])
    if named is None:
        findings.unchecked.append(f"{folder.path(name)}: its name holds no digest")
        return
    found = findings.check(folder.path(name), _file_sha256, folder, name)
    if found is not None and not found.startswith(named[1]):
        findings.failures.append(
            f"{folder.path(name)}: sha256 is {found}, its name says {named[1]}...; build the pool again in a fresh "
            "pool_dir"
        )


def _file_sha256(folder: Folder, name: str) -> str:
    sha256 = hashlib.sha256()
    with folder.open(name) as file:
        while chunk := file.read(_CHUNK):
            sha256.update(chunk)
    return sha256.hexdigest()


def _check_graph(folder: Folder, skills: Iterable[str]) -> None:
    if not folder.exists("graph.json"):
        return
    graph = decode_graph(folder.read("graph.json"), folder.path("graph.json"))
    unknown = [skill for skill in skills if skill not in graph]
    if unknown:
        raise ManifestError(
            f"{folder.path('graph.json')}: lacks the skills {unknown[:5]} of the manifest beside it; restore the file"
        )


def verify_run(path: str) -> Findings:
    """Check a run: the chain, shards, reports, the mixer's arrays, and that its pool is the one it began with."""
    findings, run = Findings(), Folder(path)
    info = findings.check(run.path("run.json"), _read_run, run)
    if info is None:
        return findings
    chain = findings.check(run.path("rounds"), read_chain, run)
    known = chain if chain is not None else list(_readable(findings, run))
    for manifest in known:
        _check_round(findings, run, info, manifest)
    _check_reports(findings, run, info, known)
    if chain is not None:
        findings.check(run.path("done.json"), _check_done, run, chain)
    findings.check(run.path("graph.json"), _check_graph, run, info.skills)
    if run.exists("influence.parquet"):
        where = run.path("influence.parquet")
        findings.check(where, lambda: decode_influence(run.read("influence.parquet"), where))
    _check_pool(findings, info)
    return findings


def _read_run(run: Folder) -> RunInfo:
    info = read_run(run)
    if info is None:
        raise ManifestError(f"{run.name}: no run (run.json is missing)")
    found = digest(json.loads(run.read("run.json"))["drawing"])
    if found != info.config:
        raise ManifestError(
            f"{run.path('run.json')}: the sha256 of its drawing keys is {found}, it says {info.config}; restore it"
        )
    return info


def _readable(findings: Findings, run: Folder) -> Iterable[RoundManifest]:
    """Behind a broken chain: the manifests that can be read, so that their shards are still checked."""
    for name in run.names("rounds"):
        if name.isdigit() and run.exists(f"rounds/{name}/manifest.json"):
            try:
                manifest = read_manifest(run, int(name))
            except _FAULTS:
                continue  # the chain's own fault is already a line
            if manifest is not None:
                yield manifest


def _check_round(findings: Findings, run: Folder, info: RunInfo, manifest: RoundManifest) -> None:
    where = run.path(manifest_name(manifest.round))
    for key, ours in (("config", info.config_of(manifest.round)), ("pool", info.pool)):
        findings.checked += 1
        if getattr(manifest, key) != ours:
            findings.failures.append(f"{where}: {key} is {getattr(manifest, key)}, run.json says {ours}")
    for entry in manifest.feedback:
        findings.check(where, _check_applied, run, manifest.round, entry)
    for listed in manifest.withdrawn or []:
        findings.check(run.path(listed["path"]), _check_bytes, run, listed["path"], listed["sha256"])
    arrays = manifest.mixer.get("arrays")
    if arrays is not None:
        name = f"{round_folder(manifest.round)}/{arrays['path']}"
        findings.check(run.path(name), _check_bytes, run, name, arrays["sha256"])
    if run.exists(f"{round_folder(manifest.round)}/deleted.json"):
        findings.unchecked.append(f"round {manifest.round}: its shards were deleted behind every reader")
        return
    ids = [findings.check(where, _check_shard, run, manifest, shard) for shard in manifest.shards]
    whole = [part for part in ids if part is not None]
    if len(whole) == len(ids):
        findings.check(where, _check_order, manifest, whole, where)


def _check_applied(run: Folder, number: int, entry: dict[str, Any]) -> None:
    report = read_feedback(run, entry["round"])
    found = "missing" if report is None else report.sha256
    if found != entry["sha256"]:
        raise ManifestError(
            f"{run.path(feedback_name(entry['round']))}: sha256 is {found}, round {number} applied {entry['sha256']}; "
            "restore the file: without it the mixture cannot be rebuilt"
        )


def _check_bytes(run: Folder, name: str, expected: str) -> None:
    found = sha256_hex(run.read(name))
    if found != expected:
        raise ManifestError(f"{run.path(name)}: sha256 is {found}, the manifest says {expected}; restore the file")


def _check_shard(run: Folder, manifest: RoundManifest, shard: Any) -> list[str]:
    """The ids of a shard whose bytes are those of the manifest."""
    name = f"{round_folder(manifest.round)}/{shard.path}"
    if not run.exists(name):
        raise ManifestError(
            f"{run.path(name)}: is missing; run `prereq sample --repair {manifest.round}` with this run's "
            "configuration to draw it again"
        )
    data = run.read(name)
    check_shard_bytes(data, shard, run.path(name), manifest.round)
    if shard.groups is not None and digest_ranges(data) != (shard.groups, shard.footer):
        raise ManifestError(f"{run.path(name)}: the digests of its row groups are not those of the manifest")
    packed = manifest.packing is not None
    table = read_parquet(data, ["ids", "n_tokens", "starts"] if packed else ["id", "n_tokens"])
    documents, tokens = count_part(table)
    if (table.num_rows, documents, tokens) != (shard.samples, shard.documents, shard.tokens):
        raise ManifestError(
            f"{run.path(name)}: holds {table.num_rows} rows of {documents} documents and {tokens} tokens, the manifest "
            f"says {shard.samples}, {shard.documents} and {shard.tokens}"
        )
    return [str(name) for name in (pc.list_flatten(table["ids"]) if packed else table["id"]).to_pylist()]


def _check_order(manifest: RoundManifest, ids: list[list[str]], where: str) -> None:
    found = sha256_hex("\n".join(name for part in ids for name in part).encode())
    if found != manifest.order:
        raise ManifestError(f"{where}: the order of its documents has sha256 {found}, it says {manifest.order}")


def _check_reports(findings: Findings, run: Folder, info: RunInfo, chain: Iterable[RoundManifest]) -> None:
    arms: set[str] = set()
    for manifest in chain:
        arms |= set(manifest.mixture["requested"])
    for name in run.names("feedback"):
        stem = name.removesuffix(".json")
        if stem == "initial" or (stem.isdigit() and name.endswith(".json")):
            number: Any = stem if stem == "initial" else int(stem)
            report = findings.check(run.path(f"feedback/{name}"), read_feedback, run, number)
            if report is not None:
                findings.check(run.path(f"feedback/{name}"), check_feedback, report, info, arms)


def _check_done(run: Folder, chain: list[RoundManifest]) -> None:
    done = read_done(run)
    last = chain[-1].sha256 if chain else None
    if done is not None and (done.rounds, done.last) != (len(chain), last):
        raise ManifestError(
            f"{run.path('done.json')}: says {done.rounds} rounds ending in {done.last}, the chain has {len(chain)} "
            f"ending in {last}; restore the rounds"
        )


def _check_pool(findings: Findings, info: RunInfo) -> None:
    if not Folder(info.pool_path).exists("manifest.json"):
        findings.unchecked.append(f"{info.pool_path}: the pool is not there (looked for from the current folder)")
        return
    pool = findings.check(info.pool_path, Pool, info.pool_path)
    if pool is not None and pool.sha256 != info.pool:
        findings.failures.append(
            f"{info.pool_path}: its manifest has sha256 {pool.sha256}, the run began with {info.pool}; restore the pool"
        )
