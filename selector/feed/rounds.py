"""The rounds of a run as a reader follows them: wait for the next manifest, check its link, know the end."""

from collections.abc import Callable
from dataclasses import dataclass

from prereq.graph.errors import FeedbackError, ManifestError, PrereqError
from prereq.selector.feed.waiting import Waiter
from prereq.selector.rounds.feedback import feedback_name
from prereq.selector.rounds.manifest import RoundManifest, manifest_name, read_manifest
from prereq.selector.rounds.run import RunInfo, read_done, read_run
from prereq.selector.storage import Folder

_START_NOTICE_S = 2.0  # seconds of silence at a start: a misspelt folder looks like a sampler that is starting


@dataclass(frozen=True, slots=True)
class _Found:
    """What a look found: the next round, or None where done.json says that there is none."""

    manifest: RoundManifest | None


def wait_for_run(run: Folder, waiter: Waiter, timeout_s: float | None) -> RunInfo:
    """Read `run.json`, waiting for a sampler that is just starting.

    Raises:
        PrereqError: There is none in time, or the caller stopped.
    """
    where = run.path("run.json")
    advice = "is this the run_dir of a configuration whose `prereq sample` was started?"
    info = waiter.wait(lambda: read_run(run), where, timeout_s, advice, first_notice_s=_START_NOTICE_S)
    if info is None:
        raise PrereqError(f"{where}: stopped while waiting for it")
    return info


def next_round(
    run: Folder,
    info: RunInfo,
    waiter: Waiter,
    timeout_s: float | None,
    previous: RoundManifest | None,
    *,
    reports: bool,
) -> RoundManifest | None:
    """Wait for the round behind `previous`.

    Args:
        run: The run's folder.
        info: Its run.json.
        waiter: How to wait.
        timeout_s: Seconds before giving up.
        previous: The round just read; None at the start.
        reports: Whether the reports that the round waits for can come from nobody but the caller.

    Returns:
        The manifest; None at the end of the run, or when the caller stopped.

    Raises:
        ManifestError: The link to the previous round does not hold.
        FeedbackError: It would wait for ever, because the caller itself has not reported.
    """
    number = 0 if previous is None else previous.round + 1
    probe = _probe(run, number, previous)
    found = probe()
    if found is None:
        if reports:
            refuse_deadlock(run, info, number)
        advice = "is `prereq sample` running, and has every finished round been reported?"
        found = waiter.wait(probe, run.path(manifest_name(number)), timeout_s, advice)
    if found is None or found.manifest is None:
        return None
    check_link(run, info, found.manifest, previous)
    return found.manifest


def _probe(run: Folder, number: int, previous: RoundManifest | None) -> Callable[[], _Found | None]:
    def look() -> _Found | None:
        manifest = read_manifest(run, number)
        if manifest is not None:
            return _Found(manifest)
        done = read_done(run)
        if done is None:
            return None
        # done.json is written behind the last manifest: one that came between the two looks is there now
        manifest = read_manifest(run, number)
        if manifest is not None:
            return _Found(manifest)
        last = None if previous is None else previous.sha256
        if done.rounds != number or done.last != last:
            raise ManifestError(
                f"{run.path(manifest_name(number))}: is missing, and done.json says {done.rounds} rounds with the last "
                f"manifest {done.last}, this reader has read {number} rounds up to {last}; restore the files of the run"
            )
        return _Found(None)

    return look


def refuse_deadlock(run: Folder, info: RunInfo, number: int) -> None:
    """Raise when a round that is not written waits for a report that was never made."""
    if info.policy != "wait":
        return
    missing = [r for r in info.awaited_by(number) if not run.exists(feedback_name(r))]
    if not missing:
        return
    if missing[0] == "initial":
        what, how = "the evaluation of the untrained model", "call feed.report_initial(...) before the loop"
    else:
        what = f"the report of round {missing[0]}"
        how = "call feed.report(...) wherever feed.round_ended is true, after load_state_dict before the loop too"
    raise FeedbackError(
        f"{run.name}: round {number} waits for {what}, which was not made, so this feed would wait for ever; {how} "
        "(a feed beside another process that reports takes reporter=False)"
    )


def check_link(run: Folder, info: RunInfo, manifest: RoundManifest, previous: RoundManifest | None) -> None:
    """Check that a round belongs to the run and follows `previous`.

    Raises:
        ManifestError: Names the key, what was found and what was expected.
    """
    expected: dict[str, object] = {
        "config": info.config_of(manifest.round),
        "pool": info.pool,
        "global_batch": info.global_batch,
        "parent": None if previous is None else previous.sha256,
    }
    where = run.path(manifest_name(manifest.round))
    for key, value in expected.items():
        if getattr(manifest, key) != value:
            raise ManifestError(
                f"{where}: {key} is {getattr(manifest, key)}, expected {value}; "
                "rounds of two runs were mixed, or a manifest was changed after it was written: restore it"
            )
    check_counts(manifest, where)


def check_counts(manifest: RoundManifest, where: str) -> None:
    """Check that a round is whole global batches and that its shards hold its rows."""
    rows = sum(shard.samples for shard in manifest.shards)
    if manifest.samples < 1 or manifest.samples % manifest.global_batch or rows != manifest.samples:
        raise ManifestError(
            f"{where}: {manifest.samples} samples in shards of {rows}, expected the same number and a multiple of "
            f"global_batch {manifest.global_batch}; restore the file"
        )
