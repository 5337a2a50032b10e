"""`prereq inspect`: what a pool or a run holds, in lines or as JSON; whether digests hold; a run live; diversity.

Only reads. Exit code 2 when `--verify` finds something that does not hold.
"""

import argparse
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from prereq.graph.errors import ConfigError, ManifestError
from prereq.jobs.diversity import describe, find_vectors, measure, plain
from prereq.jobs.drawn import drawn_by_skill
from prereq.jobs.facts import mean, variation
from prereq.jobs.pace import pace, pace_facts, staleness
from prereq.jobs.padding import of_round, padding_facts, padding_line
from prereq.jobs.summary import pool_counts, pool_notes
from prereq.jobs.table import printable
from prereq.jobs.verify import Findings, verify_pool, verify_run
from prereq.selector.mixers.shares import NO_SKILL
from prereq.selector.rounds.feedback import read_feedback
from prereq.selector.rounds.manifest import RoundManifest, read_chain, read_manifest
from prereq.selector.rounds.pool import Pool
from prereq.selector.rounds.run import read_done, read_run
from prereq.selector.storage import Folder

if TYPE_CHECKING:
    from prereq.jobs.config import RunConfig

Kind = Literal["run", "pool"]
_POLL_S = 0.5  # between two looks for a new round
_LISTED = 8  # names on one line


def kind_of(path: str) -> Kind | None:
    """What a folder holds: a run, a finished pool, or neither."""
    folder = Folder(path)
    if folder.exists("run.json"):
        return "run"
    return "pool" if folder.exists("manifest.json") else None


def run_facts(path: str) -> dict[str, Any]:
    """What a run holds, plain values.

    Raises:
        ManifestError: There is no run, or its chain does not hold together.
        FeedbackError: A report on disk is malformed.
    """
    run = Folder(path)
    info = read_run(run)
    if info is None:
        raise ManifestError(f"{run.name}: no run (run.json is missing)")
    chain, done = read_chain(run), read_done(run)
    names = run.names("feedback")
    reported = sorted(number for name in names if isinstance(number := _number(name), int))
    applied = [entry["round"] for manifest in chain for entry in manifest.feedback if entry["round"] != "initial"]
    newest = read_feedback(run, reported[-1]) if reported else read_feedback(run, "initial")
    return {
        "kind": "run",
        "path": path,
        "mixer": info.mixer,
        "uses_feedback": info.uses_feedback,
        "config": info.config,
        "pool": info.pool_path,
        "pool_sha256": info.pool,
        "seed": info.seed,
        "global_batch": info.global_batch,
        "lookahead": info.lookahead,
        "policy": info.policy,
        "rounds": len(chain),
        "documents": sum(manifest.documents for manifest in chain),
        "tokens": sum(manifest.tokens for manifest in chain),
        "bytes": sum(manifest.bytes for manifest in chain),
        "padding": padding_facts(chain),
        "last": chain[-1].sha256 if chain else None,
        "mixture": chain[-1].mixture["skills"] if chain else {},
        **_drawn_facts(run, chain),
        "done": None if done is None else done.reason,
        "reports": {
            "initial": "initial.json" in names,
            "rounds": reported,
            "late": [name for name in names if name.endswith(".late.json")],
            "newest_mean_loss": mean(newest.losses.values()) if newest else None,
        },
        "last_applied": max(applied) if applied else None,
        "staleness": chain[-1].round - max(applied) if applied else None,
        "readers": {name.removesuffix(".json"): _reader(run, name) for name in run.names("readers")},
        "pace": pace_facts(run),
        "deleted": [m.round for m in chain if run.exists(f"rounds/{m.round:06d}/deleted.json")],
    }


def _drawn_facts(run: Folder, chain: Sequence[RoundManifest]) -> dict[str, Any]:
    """What was drawn beside what rounds stated, in shares of tokens: of the newest by skill, of all by arm."""
    if not chain:
        return {"realised": {}, "arms": [], "off": 0.0}
    newest = drawn_by_skill(run, chain[-1], None)
    skills = {skill: tokens / max(1, chain[-1].tokens) for skill, tokens in newest.tokens.items()}
    tokens = sum(manifest.tokens for manifest in chain)
    names = sorted({arm for manifest in chain for arm in manifest.mixture["arms"]})
    stated = {a: math.fsum(m.mixture["arms"].get(a, 0.0) * m.tokens for m in chain) / max(1, tokens) for a in names}
    drawn = {a: sum(m.realised.get(a, 0) for m in chain) / max(1, tokens) for a in names}
    arms = [{"id": arm, "stated": stated[arm], "realised": drawn[arm]} for arm in names]
    return {"realised": skills if newest.exact else {}, "arms": arms, "off": variation(stated, drawn)}


def _reader(run: Folder, name: str) -> int:
    try:
        return int(json.loads(run.read(f"readers/{name}"))["round"])
    except (ValueError, KeyError, TypeError) as error:
        where = run.path(f"readers/{name}")
        raise ManifestError(f"{where}: not a reader's state ({error}); delete it if that reader is gone") from error


def pool_facts(path: str) -> dict[str, Any]:
    """What a pool holds, plain values; ManifestError when there is no finished pool."""
    pool = Pool(path)
    documents, held = pool_counts(pool)
    names = pool.names()
    told = pool_notes(pool)
    return {
        "kind": "pool",
        "path": path,
        "sha256": pool.sha256,
        "config": pool.manifest["config"],
        "seed": pool.manifest["seed"],
        "documents": pool.manifest["documents"],
        "tokens": pool.manifest["tokens"],
        "arms": [{"id": a.id, "name": names[a.id], "documents": a.rows, "tokens": a.tokens} for a in pool.layouts],
        "skills": [{"id": s, "documents": documents.get(s, 0), "control": held.get(s, 0)} for s in pool.skills],
        "counts": told["counts"],
        "warnings": told["warnings"],
    }


def describe_run(facts: Mapping[str, Any]) -> list[str]:
    """The facts of a run as lines for a terminal."""
    reports, readers = facts["reports"], facts["readers"]
    rounds = reports["rounds"]
    told = [*(["untrained"] if reports["initial"] else []), *([f"{len(rounds)} rounds"] if rounds else [])]
    loss = reports["newest_mean_loss"]
    stale = "no report was applied yet" if facts["staleness"] is None else f"{facts['staleness']} rounds"
    lines = {
        "run": facts["path"],
        "state": f"done ({facts['done']})" if facts["done"] else "going on, or stopped: not done",
        "mixer": f"{facts['mixer']}, lookahead {facts['lookahead']}, policy {facts['policy']}, seed {facts['seed']}",
        "pool": facts["pool"],
        "rounds": f"{facts['rounds']:,}: {facts['documents']:,} documents, {facts['tokens']:,} tokens, "
        f"{facts['bytes']:,} bytes" + (f"; shards of {len(facts['deleted'])} deleted" if facts["deleted"] else ""),
        **({"packing": padding_line(facts["padding"])} if facts["padding"] else {}),
        "mixture": _largest(facts["mixture"]),
        "drawn": _largest(facts["realised"]) if facts["realised"] else "the newest round's shards are gone",
        "off": _off(facts["arms"], facts["off"]),
        "reports": (" and ".join(told) or "none")
        + (f"; newest mean loss {loss:.4f}" if loss is not None else "")
        + (f"; {len(reports['late'])} late" if reports["late"] else ""),
        "staleness": stale if facts["uses_feedback"] else "the mixer uses no reports",
        "readers": ", ".join(f"{name} at round {number}" for name, number in readers.items()) or "none",
        "pace": pace(Folder(facts["path"])) or "nobody has written how fast it goes",
    }
    return [f"{key:<10} {printable(value)}" for key, value in lines.items()]


def _off(arms: Sequence[Mapping[str, Any]], off: float) -> str:
    """How far what was drawn is from what the rounds stated."""
    if not arms:
        return "nothing was drawn yet"
    worst = max(arms, key=lambda arm: (abs(arm["stated"] - arm["realised"]), arm["id"]))
    missed = [arm["id"] for arm in arms if arm["stated"] > 0 and not arm["realised"]]
    never = (
        f"; {len(missed)} arms of some weight are not drawn from yet: {', '.join(missed[:_LISTED])}" if missed else ""
    )
    return (
        f"{off:.2%} of the tokens so far went to other arms than the rounds stated; largest gap: {worst['id']} "
        f"{worst['stated']:.2%} stated, {worst['realised']:.2%} drawn{never}"
    )


def describe_pool(facts: Mapping[str, Any]) -> list[str]:
    """The facts of a pool as lines for a terminal."""
    arms, skills, holdout = facts["arms"], facts["skills"], facts["counts"].get("holdout", {})
    total = facts["tokens"] or 1
    fewest = sorted(skills, key=lambda skill: (skill["documents"], skill["id"]))[:_LISTED]
    lines = {
        "pool": facts["path"],
        "holds": f"{facts['documents']:,} documents, {facts['tokens']:,} tokens",
        "arms": f"{len(arms)}; largest: "
        + _largest({f"{arm['name']} ({arm['id']})": arm["tokens"] / total for arm in arms}, "; ", 4),
        "skills": f"{len(skills)}; fewest documents: " + ", ".join(f"{s['id']} {s['documents']:,}" for s in fewest),
        "holdout": f"{holdout['control']:,} control, {holdout['report']:,} report documents" if holdout else "",
        "sha256": facts["sha256"],
    }
    shown = [f"{key:<10} {printable(value)}" for key, value in lines.items() if value]
    return shown + [f"warning: {printable(line)}" for line in facts["warnings"]]


def _largest(shares: Mapping[str, float], between: str = ", ", most: int = _LISTED) -> str:
    order = sorted((name for name in shares if name != NO_SKILL), key=lambda name: (-shares[name], name))
    more = f"{between}{len(order) - most} more" if len(order) > most else ""
    return between.join(f"{name} {shares[name]:.1%}" for name in order[:most]) + more or "none"


def follow(path: str, *, poll_s: float = _POLL_S, sleep: Callable[[float], None] = time.sleep) -> Iterator[str]:
    """A line per round and per report of a run, those that are there first, until the run is done.

    Behind the rounds of each look comes a line with the pace of both sides, where it has changed.

    Args:
        path: A run.
        poll_s: Seconds between two looks.
        sleep: Waits.
    """
    run = Folder(path)
    if read_run(run) is None:
        raise ManifestError(f"{run.name}: no run to follow (run.json is missing)")
    rounds, told, newest, last_pace = 0, set[str](), None, ""
    while True:
        done = read_done(run)  # before the rounds: nothing comes behind it
        names = {name for name in run.names("feedback") if _number(name) is not None} - told
        early = sorted(names, key=lambda name: (name != "initial.json", name))
        yield from (_report_line(run, name) for name in early if _number(name) in {"initial", *range(rounds)})
        while (manifest := read_manifest(run, rounds)) is not None:
            newest = max((e["round"] for e in manifest.feedback if e["round"] != "initial"), default=newest)
            yield _round_line(manifest, staleness(manifest, newest))
            if (name := f"{rounds:06d}.json") in names:
                yield _report_line(run, name)
            rounds += 1
        if (now := pace(run)) and now != last_pace:
            yield printable(f"pace: {now}")
            last_pace = now
        told |= {name for name in names if _number(name) in {"initial", *range(rounds)}}
        if done is not None:
            yield f"done: {done.rounds} rounds ({done.reason})"
            return
        sleep(poll_s)


def _number(name: str) -> int | Literal["initial"] | None:
    """Which round a file in `feedback/` reports; None: it is no report that is applied."""
    stem = name.removesuffix(".json")
    if not name.endswith(".json") or not (stem == "initial" or stem.isdigit()):
        return None
    return "initial" if stem == "initial" else int(stem)


def _round_line(manifest: RoundManifest, stale: str) -> str:
    applied = ", ".join(str(entry["round"]) for entry in manifest.feedback) or "none"
    return printable(
        f"round {manifest.round}: {manifest.documents:,} documents, {manifest.tokens:,} tokens{of_round(manifest)}, "
        f"reports applied: {applied} ({stale}); {_largest(manifest.mixture['skills'], most=3)}"
    )


def _report_line(run: Folder, name: str) -> str:
    number = _number(name)
    report = None if number is None else read_feedback(run, number)
    loss = mean(report.losses.values()) if report else None
    which = "of the untrained model" if number == "initial" else f"of round {number}"
    return f"report {which}: mean loss {'-' if loss is None else f'{loss:.4f}'}"


def main_inspect(target: "RunConfig | str", args: argparse.Namespace) -> int:
    """The verb.

    Args:
        target: A configuration, of which the run and the pool are looked at, or the folder of one of them.
        args: `json`, `verify`, `follow`, `diversity`, `orders`.
    """
    found = {path: kind for path in _paths(target) if (kind := kind_of(path)) is not None}
    if not found:
        raise ManifestError(
            f"{' and '.join(_paths(target))}: neither a run (run.json) nor a finished pool (manifest.json) is there; "
            "start with `prereq run` or `prereq build`"
        )
    if args.follow:
        runs = [path for path, kind in found.items() if kind == "run"]
        if not runs:
            raise ConfigError(f"--follow: {next(iter(found))} is no run; there are no rounds to follow")
        for line in follow(runs[0]):
            print(line, flush=True)
        return 0
    facts: list[dict[str, Any]] = []
    failed = False
    for path, kind in found.items():
        if facts and not args.json:
            print()
        findings = None
        if args.verify:
            findings = verify_run(path) if kind == "run" else verify_pool(path)
            failed = failed or bool(findings.failures)
        facts.append(_show(path, kind, findings, quiet=args.json))
        if args.diversity and not (findings and findings.failures):
            facts[-1]["diversity"] = _show_diversity(path, kind, args, _work_dir(target, path, kind))
    if args.json:
        print(json.dumps(facts[0] if isinstance(target, str) else facts, indent=2))
    return 2 if failed else 0


def _show_diversity(path: str, kind: Kind, args: argparse.Namespace, work_dir: str | None) -> dict[str, Any]:
    """Print Vendi scores of a pool, or of a run's rounds beside its pool's.

    Raises:
        ConfigError: An order that is none, or vectors that were deleted.
    """
    run = Folder(path) if kind == "run" else None
    info = read_run(run) if run else None
    pool = Pool(info.pool_path if info else path)
    if info is not None and pool.sha256 != info.pool:
        raise ManifestError(f"{info.pool_path}: is not the pool of {path} any more")
    vectors = find_vectors(pool.folder, work_dir)
    if not vectors:
        raise ConfigError(
            f"--diversity: {pool.folder.name} has no vectors of its documents any more (stages/embed of the build)"
        )
    found = measure(pool, vectors, run, _orders(args.orders))
    if not args.json:
        print("\n".join(printable(line) for line in describe(found)))
    return plain(found)


def _orders(given: str) -> list[float]:
    try:
        orders = [float(value) for value in given.split(",")]
    except ValueError:
        orders = [-1.0]
    if not all(order >= 0 for order in orders):
        raise ConfigError(
            f"--orders {given}: expected numbers >= 0 or inf, with commas between them, such as 0.5,1,inf"
        )
    return orders


def _work_dir(target: "RunConfig | str", path: str, kind: Kind) -> str | None:
    """Where the pool's stages are, if not in the pool: as the configuration says, or the one in `run.json`."""
    if not isinstance(target, str):
        return target.work_dir
    settings = json.loads(Folder(path).read("run.json")) if kind == "run" else {}
    told = settings.get("config", {}).get("work_dir")
    return told if isinstance(told, str) else None


def _paths(target: "RunConfig | str") -> list[str]:
    return [target] if isinstance(target, str) else [target.run_dir, target.pool_dir]


def _show(path: str, kind: Kind, findings: Findings | None, *, quiet: bool) -> dict[str, Any]:
    """Print what a folder holds and what a check found; a damaged one is only told about by the check."""
    facts: dict[str, Any] = {"kind": kind, "path": path}
    if findings is None or not findings.failures:
        facts = run_facts(path) if kind == "run" else pool_facts(path)
        if not quiet:
            print("\n".join(describe_run(facts) if kind == "run" else describe_pool(facts)))
    if findings is not None:
        facts["verified"] = {
            "checked": findings.checked,
            "failures": findings.failures,
            "unchecked": findings.unchecked,
        }
        if not quiet:
            _print_findings(path, findings)
    return facts


def _print_findings(path: str, findings: Findings) -> None:
    for line in findings.failures:
        print(printable(f"FAILED {line}"))
    for line in findings.unchecked:
        print(printable(f"not checked: {line}"))
    outcome = f"{len(findings.failures)} failed" if findings.failures else "all hold"
    print(printable(f"{path}: {findings.checked} checks, {outcome}"))
