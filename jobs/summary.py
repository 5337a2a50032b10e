"""What a run came to, read from its files alone: skills, arms, rounds, reports and warnings.

Works at any time: before the first round, in the middle, without feedback, after the shards were deleted, and without
the pool (what only the pool knows is then missing, and a warning says so). Nothing is written here.
"""

import json
import math
import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from prereq.graph.errors import GraphError, ManifestError
from prereq.graph.load import decode_graph
from prereq.graph.skill_graph import SkillGraph
from prereq.jobs.drawn import EXACT_DOCUMENTS, drawn_by_skill
from prereq.jobs.facts import ArmSummary, ReportSummary, RoundSummary, RunSummary, SkillSummary, mean, variation
from prereq.jobs.table import table
from prereq.selector.mixers.protocol import Arms
from prereq.selector.mixers.shares import NO_SKILL
from prereq.selector.rounds.feedback import Feedback, read_feedback
from prereq.selector.rounds.manifest import RoundManifest, read_chain
from prereq.selector.rounds.pool import Pool
from prereq.selector.rounds.run import RunInfo, read_done, read_run
from prereq.selector.storage import Folder

__all__ = ["read_final", "summarise", "table"]

FINAL, FINAL_FORMAT = "train/final.json", "prereq.final/1"
_NAMED = 6  # ids in one warning


def summarise(run_dir: str | os.PathLike[str]) -> RunSummary:
    """Read a run.

    Args:
        run_dir: The run's folder; its pool is looked for where `run.json` says.

    Raises:
        ManifestError: There is no run, or its chain does not hold together.
        FeedbackError: A report on disk is malformed.
    """
    run = Folder(run_dir)
    info = read_run(run)
    if info is None:
        raise ManifestError(f"{run.name}: no run (run.json is missing); start one with `prereq run` or `prereq sample`")
    warnings: list[str] = []
    chain = read_chain(run)
    pool = _open_pool(info, warnings)
    arms = pool.arms() if pool else None
    graph = _open_graph(run, warnings)
    reports = _reports(run, chain)
    rounds = _rounds(run, chain, arms, warnings)
    summary = RunSummary(
        run_dir=run.name,
        info=info,
        settings=json.loads(run.read("run.json")),
        done=read_done(run),
        graph=graph,
        skills=_skills(run, info, pool, arms, graph, reports, rounds),
        arms=_arms(chain, pool),
        rounds=rounds,
        reports=reports,
        untagged=math.fsum(entry.drawn.tokens.get(NO_SKILL, 0.0) for entry in rounds),
        exact=all(entry.drawn.exact for entry in rounds),
        warnings=(),
    )
    told = [f"pool: {line}" for line in pool_notes(pool)["warnings"]] if pool else []
    found = [*warnings, *told, *_warnings(run, summary)]
    return replace(summary, warnings=tuple(found))


def read_final(run: Folder) -> dict[str, Any] | None:
    """What the reference trainer wrote about the report split, or None.

    Raises:
        ManifestError: The file is there but not of the format.
    """
    try:
        value = json.loads(run.read(FINAL))
        if value["format"] != FINAL_FORMAT:
            raise ManifestError(f"{run.path(FINAL)}: format is {value['format']!r}, expected {FINAL_FORMAT!r}")
        losses = {when: dict(value[when]["losses"]) for when in ("initial", "final")}
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise ManifestError(f"{run.path(FINAL)}: is not a {FINAL_FORMAT} file ({error}); train again") from error
    return {**value, "losses": losses}


def _open_pool(info: RunInfo, warnings: list[str]) -> Pool | None:
    try:
        pool = Pool(info.pool_path)
    except ManifestError as error:
        warnings.append(f"the pool cannot be read, so its documents are not counted: {error}")
        return None
    if pool.sha256 != info.pool:
        warnings.append(f"{info.pool_path}: is not the pool of this run any more, so its documents are not counted")
        return None
    return pool


def _open_graph(run: Folder, warnings: list[str]) -> SkillGraph | None:
    if not run.exists("graph.json"):
        return None
    try:
        return decode_graph(run.read("graph.json"), run.path("graph.json"))
    except GraphError as error:
        warnings.append(f"the graph is not shown: {error}")
        return None


def _reports(run: Folder, chain: Sequence[RoundManifest]) -> tuple[ReportSummary, ...]:
    found = [read_feedback(run, "initial"), *(read_feedback(run, manifest.round) for manifest in chain)]
    return tuple(_report(feedback) for feedback in found if feedback is not None)


def _report(feedback: Feedback) -> ReportSummary:
    number = None if feedback.round == "initial" else feedback.round
    return ReportSummary(round=number, losses=feedback.losses, mean=mean(feedback.losses.values()))


def _rounds(
    run: Folder, chain: Sequence[RoundManifest], arms: Arms | None, warnings: list[str]
) -> tuple[RoundSummary, ...]:
    read_shards = sum(manifest.documents for manifest in chain) <= EXACT_DOCUMENTS
    rounds: list[RoundSummary] = []
    for manifest in chain:
        drawn = drawn_by_skill(run, manifest, arms, read_shards=read_shards)
        if drawn.note:
            warnings.append(drawn.note)
        requested, weights = manifest.mixture["requested"], manifest.mixture["arms"]
        total = sum(manifest.realised.values())
        realised = {arm: manifest.realised.get(arm, 0) / total if total else 0.0 for arm in requested}
        rounds.append(
            RoundSummary(
                round=manifest.round,
                documents=manifest.documents,
                tokens=manifest.tokens,
                applied=tuple(str(entry["round"]) for entry in manifest.feedback),
                moved=variation(requested, rounds[-1].requested) if rounds else None,
                capped=variation(requested, weights),
                off=variation(weights, realised),
                requested=requested,
                weights=weights,
                realised=realised,
                drawn=drawn,
            )
        )
    return tuple(rounds)


def _skills(
    run: Folder,
    info: RunInfo,
    pool: Pool | None,
    arms: Arms | None,
    graph: SkillGraph | None,
    reports: Sequence[ReportSummary],
    rounds: Sequence[RoundSummary],
) -> tuple[SkillSummary, ...]:
    documents, held = pool_counts(pool) if pool else ({}, {})
    pool_shares = arms.skill_weights(arms.proportions) if arms else {}
    final = read_final(run) or {"losses": {"initial": {}, "final": {}}}
    tokens = {skill: math.fsum(entry.drawn.tokens.get(skill, 0.0) for entry in rounds) for skill in info.skills}
    total = sum(entry.tokens for entry in rounds)
    skills = []
    for skill in info.skills:
        measured = [loss for report in reports if (loss := report.losses.get(skill)) is not None]
        skills.append(
            SkillSummary(
                id=skill,
                name=graph.skill(skill).name if graph and skill in graph else skill,
                documents=documents.get(skill, 0) if pool else None,
                held=held.get(skill, 0) if pool else None,
                tokens=tokens[skill],
                share=tokens[skill] / total if total else 0.0,
                pool_share=pool_shares.get(skill),
                first_loss=measured[0] if measured else None,
                last_loss=measured[-1] if len(measured) > 1 else None,
                first_report_loss=final["losses"]["initial"].get(skill),
                last_report_loss=final["losses"]["final"].get(skill),
            )
        )
    return tuple(skills)


def pool_notes(pool: Pool) -> dict[str, Any]:
    """What the build wrote down in `summary.json`, with counts, skills, warnings and arms; all empty without it.

    Raises:
        ManifestError: The file cannot be understood.
    """
    empty: dict[str, Any] = {"counts": {}, "skills": {}, "warnings": [], "arms": {}}
    if not pool.folder.exists("summary.json"):
        return empty
    try:
        told = {**empty, **json.loads(pool.folder.read("summary.json"))}
        told["skills"] = {s: {"pool": int(n["pool"]), "control": int(n["control"])} for s, n in told["skills"].items()}
        told["arms"] = {
            arm: {
                "cohesion": float(facts["cohesion"]),
                "scores": {str(name): float(value) for name, value in facts.get("scores", {}).items()},
            }
            for arm, facts in told["arms"].items()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ManifestError(
            f"{pool.folder.path('summary.json')}: is not a build's summary ({error!r}); delete it or restore it"
        ) from error
    return told


def pool_counts(pool: Pool) -> tuple[dict[str, int], dict[str, int]]:
    """Documents per skill in the pool and in its control split: from `summary.json`, or counted where it is absent."""
    listed = pool_notes(pool)["skills"]
    if listed:
        return ({s: n["pool"] for s, n in listed.items()}, {s: n["control"] for s, n in listed.items()})
    parts = sorted({part for layout in pool.layouts for part, _ in layout.groups})
    held = [f"holdout/{name}" for name in pool.folder.names("holdout") if name.startswith("part-")]
    return _count_documents(pool.folder, parts), _count_documents(pool.folder, held, split="control")


def _count_documents(folder: Folder, parts: Sequence[str], split: str | None = None) -> dict[str, int]:
    counts: dict[str, int] = {}
    for part in parts:
        with folder.open(part) as file:
            table = pq.read_table(file, columns=["skills", *(["split"] if split else [])])
        if split:
            table = table.filter(np.array(table["split"].to_pylist(), dtype=object) == split)
        for skills in table["skills"].to_pylist():
            for skill in skills or ():
                counts[skill] = counts.get(skill, 0) + 1
    return counts


def _arms(chain: Sequence[RoundManifest], pool: Pool | None) -> tuple[ArmSummary, ...]:
    layouts = {layout.id: layout for layout in pool.layouts} if pool else {}
    names = pool.names() if pool else {}
    told = pool_notes(pool)["arms"] if pool else {}
    drawn: dict[str, int] = dict.fromkeys(layouts or (chain[0].mixture["requested"] if chain else ()), 0)
    documents = dict.fromkeys(drawn, 0)
    for manifest in chain:
        for arm, tokens in manifest.realised.items():
            drawn[arm] = drawn.get(arm, 0) + tokens
            pieces = sum(draw["stop"] - draw["start"] for draw in manifest.draws[arm])
            documents[arm] = documents.get(arm, 0) + pieces
    total = sum(drawn.values())
    return tuple(
        ArmSummary(
            id=arm,
            name=names.get(arm, arm),
            documents=layouts[arm].rows if arm in layouts else None,
            pool_tokens=layouts[arm].tokens if arm in layouts else None,
            tokens=tokens,
            share=tokens / total if total else 0.0,
            epochs=documents[arm] / layouts[arm].rows if arm in layouts and layouts[arm].rows else None,
            cohesion=told[arm]["cohesion"] if arm in told else None,
            scores=told[arm]["scores"] if arm in told else {},
        )
        for arm, tokens in sorted(drawn.items())
    )


def _warnings(run: Folder, summary: RunSummary) -> list[str]:
    """What a reader of the figures should know."""
    info, found = summary.info, []
    if not summary.rounds:
        found.append("no round is committed yet")
    empty = [skill.id for skill in summary.skills if skill.documents == 0]
    blind = [skill.id for skill in summary.skills if skill.held == 0]
    unmeasured = [s.id for s in summary.skills if summary.reports and s.first_loss is None and s.held != 0]
    for ids, what in (
        (empty, "without a document in the pool"),
        (blind, "without a document in the control split, so their loss is not measured"),
        (unmeasured, "that no report has measured"),
    ):
        if ids:
            found.append(f"{len(ids)} {'skill' if len(ids) == 1 else 'skills'} {what}: {_listed(ids)}")
    most = summary.settings["drawing"].get("max_epochs")
    spent = [f"{arm.id} ({arm.name})" for arm in summary.arms if most and arm.epochs and arm.epochs >= most]
    if spent:
        found.append(f"{len(spent)} arms were drawn {most} times and are exhausted: {_listed(spent)}")
    late = [name for name in run.names("feedback") if name.endswith(".late.json")]
    if late:
        found.append(f"{len(late)} reports came too late and were not applied: {_listed(late)}")
    if info.uses_feedback and summary.rounds and not any(entry.applied for entry in summary.rounds):
        found.append(f"the mixer {info.mixer} uses losses, but no round has applied a report yet")
    missed = _missed(summary)
    if missed:
        found.append(f"{len(missed)} rounds were drawn without the report they wait for: {_listed(missed)}")
    if summary.rounds and not summary.exact:
        found.append("shards were deleted or not read: tokens per skill are estimated from the arms' shares")
    return found


def _missed(summary: RunSummary) -> list[str]:
    expected = {entry.round: {str(name) for name in summary.info.awaited_by(entry.round)} for entry in summary.rounds}
    return [str(entry.round) for entry in summary.rounds if expected[entry.round] - set(entry.applied)]


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
