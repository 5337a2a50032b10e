"""`prereq build`: corpus files in, pool out, through the stages in `jobs.stages`; resumable, and finds what is done."""

import argparse
import json
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from prereq.graph.canonical import canonical_json, digest
from prereq.graph.errors import ConfigError, ManifestError
from prereq.graph.skill_graph import SkillGraph
from prereq.jobs.config import RunConfig, read_graph
from prereq.jobs.executor import Executor, make_executor
from prereq.jobs.progress import Progress
from prereq.jobs.stages.arms import Labelling
from prereq.jobs.stages.cluster import cluster
from prereq.jobs.stages.decontaminate import decontaminate, decontamination_path, references_digest
from prereq.jobs.stages.dedup import deduplicate, duplicates_path
from prereq.jobs.stages.embed import embed
from prereq.jobs.stages.holdout import Parts
from prereq.jobs.stages.ingest import ingest
from prereq.jobs.stages.layout import Layout, lay_out
from prereq.jobs.stages.publish import publish
from prereq.jobs.stages.regroup import pruned_path
from prereq.jobs.stages.runner import Bench, StageResult
from prereq.jobs.stages.score import Scored, filtered_path, score
from prereq.jobs.stages.score import references_digest as scoring_digest
from prereq.jobs.stages.semantic import Clustered, drop_semantic, semantic_path
from prereq.jobs.stages.tag import tag
from prereq.selector.corpus.evaluation_set import file_digest
from prereq.selector.corpus.layout import UNTAGGED
from prereq.selector.storage import Folder

STAGES = "ingest, dedup, embed, cluster, tag, holdout, layout"
_CONFIG = "stages/config.json"
_INPUTS = "stages/inputs.json"
_NAMED_AT_MOST = 8  # skills named in a warning
_TELLING = 0.7  # share of held-back examples that a classifier must get right; half is chance


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSummary:
    """What a pool holds and how it came about."""

    documents: int
    tokens: int
    arms: int
    skills: dict[str, dict[str, int]]  # documents per skill: pool, control, report
    counts: dict[str, dict[str, int]]  # per stage
    warnings: tuple[str, ...]
    was_done: bool  # the pool was there already, nothing was done


def build(config: RunConfig, progress: Progress) -> PoolSummary:
    """Build the pool of a configuration, or find it finished.

    Args:
        config: Sources, stages, pool folder.
        progress: Shows each stage.

    Raises:
        ConfigError: The pool's folder cannot be written or belongs to another configuration or input.
        GraphError: The graph cannot be used.
        TableError: The input cannot be used; what is done stays done.
    """
    graph = read_graph(config.graph)
    settings = config.pool_settings(graph)
    pool = Folder(config.pool_dir)
    stages = _stages_folder(pool, config.work_dir)
    pool.check_writable()
    if not _claim(pool, settings, progress):
        return _read_summary(pool)
    references = _reference_digests(config)  # first, so that a missing file costs no work
    with _Lazy(lambda: make_executor(config.ray, stages, _local_inputs(config))) as executor:
        bench = Bench(stages=stages, executor=executor, progress=progress, seed=config.pool.seed)
        documents = ingest(bench, config.sources, config.ingest)
        inputs = references | {"documents": digest([file.sha256 for file in documents.matching("part-")])}
        if _is_finished(pool, inputs):
            return _read_summary(pool)
        layout, results = _run_stages(bench, documents, graph, config)
        return _publish(bench, pool, layout, results, graph, settings, inputs)


def _stages_folder(pool: Folder, work_dir: str | None) -> Path:
    """Where the stages work.

    Raises:
        ConfigError: The pool is on an object store and no folder was given.
    """
    if work_dir is not None:
        return Path(work_dir) / "stages"
    if not pool.is_local:
        raise ConfigError(
            f"{pool.name}: stages need a local or mounted folder beside a pool on an object store; set work_dir, which "
            "every node must see and which may be deleted behind the build"
        )
    return Path(pool.path("stages"))


def _run_stages(
    bench: Bench, documents: StageResult, graph: SkillGraph, config: RunConfig
) -> tuple[Layout, dict[str, StageResult]]:
    unique = deduplicate(bench, documents, config.dedup)
    clean = decontaminate(bench, unique, config.decontaminate)
    vectors = embed(bench, clean, config.embedding)
    scored = score(bench, clean, vectors, config.scoring, graph, config.embedding)
    grouped = _group(bench, scored, graph, config)
    kept, vectors = grouped.documents, grouped.vectors
    tags = tag(bench, kept, graph, config.tagging, (vectors, config.embedding))
    files = (kept.matching("part-"), vectors.matching("part-"), tags.matching("part-"), grouped.clusters)
    layout = lay_out(
        bench,
        [Parts(*part) for part in zip(*files, strict=True)],
        Labelling(grouped.names, graph.ids, scored.names),
        sources=sorted(source.name for source in config.sources),
        tokenizer=config.tokenizer,
        holdout=config.holdout,
        layout=config.layout,
    )
    results = {"ingest": documents, "dedup": unique, "tag": tags, "holdout": layout.holdout, "layout": layout.arms}
    further = {"decontaminate": clean} if clean is not unique else {}
    return layout, results | further | scored.results | grouped.results


@dataclass(frozen=True, slots=True)
class _Grouped:
    """What arms are made from."""

    documents: StageResult
    vectors: StageResult
    clusters: Sequence[Any]  # a file per part, or None where arms are no clusters
    names: tuple[str, ...]  # of the arms to be
    results: dict[str, StageResult]


def _group(bench: Bench, scored: Scored, graph: SkillGraph, config: RunConfig) -> _Grouped:
    """Cluster the documents, where arms are clusters, and leave out those that pruning and likeness drop."""
    before, vectors = scored.documents, scored.vectors
    if config.layout.arms != "cluster":
        of_skills = (*(graph.skill(skill).name for skill in graph.ids), UNTAGGED)
        of_sources = tuple(sorted(source.name for source in config.sources))
        names = of_skills if config.layout.arms == "skill" else of_sources
        return _Grouped(before, vectors, [None] * len(before.matching("part-")), names, {})
    found = cluster(bench, before, vectors, config.clustering)
    results = {"prune": found.documents} if found.documents is not before else {}
    parts = Clustered(found.documents, found.vectors, found.parts)
    if config.dedup.semantic is not None:
        parts = drop_semantic(bench, parts, config.dedup.semantic, config.dedup.keep, config.dedup.score)
        results["semantic"] = parts.documents
    return _Grouped(parts.documents, parts.vectors, parts.clusters.matching("part-"), found.names, results)


def _publish(
    bench: Bench,
    pool: Folder,
    layout: Layout,
    results: Mapping[str, StageResult],
    graph: SkillGraph,
    settings: Mapping[str, Any],
    inputs: Mapping[str, Any],
) -> PoolSummary:
    skills = json.loads(Path(layout.holdout.matching("skills.json")[0].path).read_bytes())
    counts = {stage: result.counts for stage, result in results.items()}
    arms = json.loads(Path(layout.arms.matching("stats.json")[0].path).read_bytes())
    summary = {"skills": skills, "counts": counts, "warnings": _warnings(skills, counts), "arms": arms}
    extras: dict[str, bytes | Path] = {
        "graph.json": canonical_json(graph.to_dict()),
        "summary.json": canonical_json(summary),
        "duplicates.parquet": semantic_path(bench) if "semantic" in results else duplicates_path(bench),
    }
    if "decontaminate" in results:
        extras["decontamination.parquet"] = decontamination_path(bench)
    if "filter" in results:
        extras["filtered.parquet"] = filtered_path(bench)
    if "prune" in results:
        extras["pruned.parquet"] = pruned_path(bench)
    publish(
        pool,
        layout,
        config=digest(dict(settings)),
        seed=settings["pool"]["seed"],
        skills=graph.ids,
        extras=extras,
        rejects=results["ingest"].matching("rejects"),
    )
    pool.replace(_INPUTS, canonical_json(dict(inputs)))
    return _read_summary(pool, was_done=False)


def _warnings(skills: Mapping[str, Mapping[str, int]], counts: Mapping[str, Mapping[str, int]]) -> list[str]:
    """What a user should know before training on this pool."""
    found = []
    empty = [skill for skill, number in skills.items() if not number["pool"]]
    if empty:
        found.append(f"{len(empty)} of {len(skills)} skills have no document in the pool: {_some(empty)}")
    for split in ("control", "report"):
        without = [skill for skill, number in skills.items() if number["pool"] and not number[split]]
        if without:
            found.append(f"{len(without)} skills have no {split} document (too few documents): {_some(without)}")
    found += _weak_classifiers(counts.get("scorers", {}))
    found += _unmatched_scores(counts.get("scorers", {}))
    smallest = counts["layout"]["documents of the smallest arm"]
    if smallest == 1:
        found.append("the smallest arm holds one document, which is all that can be drawn of it in an epoch")
    return found


def _weak_classifiers(counts: Mapping[str, int]) -> list[str]:
    """Quality scores whose classifier was wrong too often on examples that it had not seen."""
    found = []
    for key in sorted(name for name in counts if name.endswith(": held back")):
        name = key.removesuffix(": held back")
        held, right = counts[key], counts[f"{name}: right"]
        if right < _TELLING * held:
            found.append(
                f"score {name}: its classifier tells {right} of {held} held-back examples right: it says little"
            )
    return found


def _unmatched_scores(counts: Mapping[str, int]) -> list[str]:
    """Scores from files whose rows are not those of the documents that there are."""
    said = {
        "rows of no document": "rows of its files are of no document (dropped as duplicates, or not of this corpus)",
        "documents without a row": "documents have no row in its files (scoring.N.missing)",
    }
    keys = [(name, key) for name in sorted(counts) for key in said if name.endswith(f": {key}") and counts[name]]
    return [f"score {name.partition(':')[0]}: {counts[name]} {said[key]}" for name, key in keys]


def _local_inputs(config: RunConfig) -> list[str]:
    """Absolute local paths that stages read on whatever node they run; of a glob, the folder before it."""
    patterns = [path for source in config.sources for path in source.paths]
    patterns += [path for each in config.scoring for path in (*each.paths, *each.negatives)]
    patterns += [*config.decontaminate.paths, *([config.tokenizer] if config.tokenizer != "bytes" else [])]
    if config.embedding.vectors is not None:
        patterns += config.embedding.vectors.paths
    if config.embedding.model_path is not None:
        patterns.append(config.embedding.model_path)
    local = [os.path.expanduser(pattern) for pattern in patterns if "://" not in pattern]
    fixed = [path if os.path.lexists(path) else re.split(r"[^/]*[*?\[]", path)[0] or "." for path in local]
    return sorted({os.path.abspath(path) for path in fixed if os.path.exists(path)})


def _some(names: Sequence[str]) -> str:
    more = len(names) - _NAMED_AT_MOST
    return ", ".join(names[:_NAMED_AT_MOST]) + (f" and {more} more" if more > 0 else "")


def _claim(pool: Folder, settings: Mapping[str, Any], progress: Progress) -> bool:
    """Bind the folder to the pool's settings; False when it is a finished pool whose stages were deleted.

    A folder whose pool was never published may change its settings: no run is bound to it, and a stage's parts are
    known by the settings that made them, so none of other settings gets in.

    Raises:
        ConfigError: The folder belongs to other settings (the keys are named) or holds something else.
    """
    data = canonical_json(dict(settings))
    if not pool.exists(_CONFIG):
        if pool.exists("manifest.json"):
            if json.loads(pool.read("manifest.json"))["config"] == digest(dict(settings)):
                return False
            raise ConfigError(f"{pool.name}: holds a pool made under another configuration; choose another pool_dir")
        others = [name for name in pool.names() if name != "stages"]
        if others:
            raise ConfigError(f"{pool.name}: is not empty and not a pool ({_some(others)}); choose another pool_dir")
        pool.commit(_CONFIG, data)
    found = json.loads(pool.read(_CONFIG))
    changed = sorted(_differences(found, json.loads(data)))
    if changed and not pool.exists("manifest.json"):
        progress.line(
            f"{pool.name}: no pool was published here yet, so the settings may change: {'; '.join(changed[:5])}; "
            "parts that do not depend on them stay"
        )
        pool.replace(_CONFIG, data)
    elif changed:
        raise ConfigError(
            f"{pool.name}: was made under another configuration: {'; '.join(changed[:5])}; "
            "choose another pool_dir, or delete this one to build it anew"
        )
    return True


def _differences(old: Any, new: Any, path: str = "") -> Iterator[str]:
    """Dotted keys that differ, with both values."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in {*old, *new}:
            yield from _differences(old.get(key), new.get(key), f"{path}.{key}" if path else key)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for place, (left, right) in enumerate(zip(old, new, strict=True)):
            yield from _differences(left, right, f"{path}.{place}")
    elif old != new:
        yield f"{path} was {json.dumps(old)[:60]}, is {json.dumps(new)[:60]}"


def _reference_digests(config: RunConfig) -> dict[str, Any]:
    """What tells, beside the documents, whether a finished pool was made of the same input."""
    path = config.holdout.path
    references = {"references": references_digest(config.decontaminate)} if config.decontaminate.paths else {}
    if config.scoring:
        references["reference files of scores"] = scoring_digest(config.scoring)
    labelled = config.tagging.labelled
    if labelled is not None:
        references["labelled sample"] = file_digest(labelled, "tagging.labelled")
    return references | {"evaluation": None if path is None else file_digest(path)}


def _is_finished(pool: Folder, inputs: Mapping[str, Any]) -> bool:
    """Whether the pool is there, with all its files, and was made of this input.

    Raises:
        ConfigError: It was made of other input.
    """
    if not pool.exists("manifest.json") or not pool.exists(_INPUTS):
        return False
    found = json.loads(pool.read(_INPUTS))
    changed = [key for key, value in inputs.items() if found.get(key) != value]
    if changed:
        raise ConfigError(
            f"{pool.name}: the pool was made of other input ({' and '.join(changed)} changed since); "
            "choose another pool_dir, or delete this one to build it anew"
        )
    manifest = json.loads(pool.read("manifest.json"))
    parts = {part["path"] for arm in manifest["arms"] for part in arm["parts"]}
    return all(pool.exists(name) for name in (*sorted(parts), "arms.parquet", "graph.json", "summary.json"))


def _read_summary(pool: Folder, *, was_done: bool = True) -> PoolSummary:
    """The summary of a finished pool."""
    try:
        manifest, summary = json.loads(pool.read("manifest.json")), json.loads(pool.read("summary.json"))
    except FileNotFoundError as error:
        raise ManifestError(f"{error.filename}: is missing; delete {pool.name} and build the pool again") from error
    return PoolSummary(
        documents=manifest["documents"],
        tokens=manifest["tokens"],
        arms=len(manifest["arms"]),
        skills=summary["skills"],
        counts=summary["counts"],
        warnings=tuple(summary["warnings"]),
        was_done=was_done,
    )


class _Lazy(AbstractContextManager["_Lazy"]):
    """An executor that starts with its first task: a finished pool is found without starting Ray."""

    def __init__(self, make: Callable[[], Executor]) -> None:
        self._make = make
        self._started: Executor | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._started is not None:
            self._started.__exit__(kind, error, trace)

    def run(self, function: Callable[..., Any], tasks: Sequence[tuple[Any, ...]]) -> Iterator[tuple[int, Any]]:
        """As `Executor.run`."""
        if not tasks:
            return iter(())
        if self._started is None:
            before = signal.getsignal(signal.SIGTERM)
            self._started = self._make().__enter__()
            if before is not None and threading.current_thread() is threading.main_thread():
                signal.signal(
                    signal.SIGTERM, before
                )  # Ray takes SIGTERM for a crash: it prints stacks and exits with 1
        return self._started.run(function, tasks)


def main_build(config: RunConfig, args: argparse.Namespace) -> int:
    """The verb: build, then say what the pool holds."""
    summary = build(config, Progress())
    for warning in summary.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    if args.json:
        print(json.dumps(asdict(summary), indent=2))
        return 0
    held = summary.counts["holdout"]
    if summary.was_done:
        print(f"{config.pool_dir}: the pool is finished and its input unchanged; nothing to do")
    print(
        f"{config.pool_dir}: {summary.documents:,} documents, {summary.tokens:,} tokens in {summary.arms} arms; "
        f"holdout {held['control']:,} control and {held['report']:,} report documents"
    )
    return 0
