"""The sampler: waits for feedback, moves the mixture, draws a round, commits it; starts again from files alone.

There is no broker and no lock. A round is committed by creating its manifest, which only one sampler can do; everything
a sampler knows is a function of the configuration, the committed manifests and the feedback that they name.
"""

import errno
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from prereq.graph.canonical import sha256_hex
from prereq.graph.errors import FeedbackError, ManifestError, PrereqError
from prereq.selector.mixers.protocol import Mixer, State
from prereq.selector.mixers.simplex import FloatArray, check_simplex
from prereq.selector.rounds.config import SamplerConfig
from prereq.selector.rounds.drawing import draw_round, plan_samples
from prereq.selector.rounds.feedback import Feedback, check_feedback, read_feedback
from prereq.selector.rounds.manifest import RoundManifest, manifest_name, read_chain, round_folder
from prereq.selector.rounds.order import IntArray
from prereq.selector.rounds.plan import Cursor, Plan, next_carry, plan_round
from prereq.selector.rounds.pool import Pool
from prereq.selector.rounds.progress import Clock
from prereq.selector.rounds.retention import delete_behind
from prereq.selector.rounds.run import Done, Reason, RunInfo, commit_done, read_done
from prereq.selector.rounds.samples import Encode
from prereq.selector.rounds.shards import DrawnRound, PoolStock, repair_shards, write_shards
from prereq.selector.rounds.state import FILE as STATE_FILE
from prereq.selector.rounds.state import encode_state
from prereq.selector.rounds.trial import observe
from prereq.selector.rounds.turn import Event, Turns, beaten
from prereq.selector.rounds.withdrawal import Withdrawal, matching_rows, read_from, recorded
from prereq.selector.storage import Folder

_STALE_S = 60.0  # age at which a temporary file can only belong to a writer that was killed

Report = int | Literal["initial"]


@dataclass(slots=True)
class _Position:
    """Everything that moves while rounds are drawn; rebuilt from manifests and feedback at a start."""

    state: State
    carry: FloatArray
    cursors: list[Cursor]
    realised: list[IntArray]  # tokens per arm of each round
    observed: int  # rounds before this one are covered by applied reports
    tokens: int
    last: str | None  # sha256 of the last manifest
    withdrawn: int = 0  # lists of withdrawn documents that were applied


class Sampler:
    """Draws the rounds of one run.

    Args:
        run: The run's folder, with `run.json` in it.
        info: What `run.json` says.
        pool: The pool that it was started on.
        mixer: Turns losses into mixtures; arms as in `pool.arms()`.
        config: The run's rounds.
        on_event: Called with ("round", {...}) after a commit and ("waiting", {...}) when a wait begins.
        encode: Text to tokens; where `config.samples` asks for tokens.
    """

    def __init__(
        self,
        run: Folder,
        info: RunInfo,
        pool: Pool,
        mixer: Mixer,
        config: SamplerConfig,
        on_event: Event = lambda kind, facts: None,
        encode: Encode | None = None,
    ) -> None:
        self._run, self._info, self._pool, self._mixer, self._config = run, info, pool, mixer, config
        self._event, self._encode = on_event, encode
        self._arms = pool.arms()
        self._arm_index = {arm: index for index, arm in enumerate(self._arms.ids)}
        self._stock = PoolStock(pool, config.seed)
        self._turns = Turns(run, info, config, on_event)
        self._clock = Clock(run, None)

    @property
    def waited_s(self) -> float:
        """Seconds spent waiting for reports and readers."""
        return self._turns.waited_s

    def run(self, stop: Callable[[], bool] = lambda: False, *, patient: bool = True) -> Done | None:
        """Draw rounds until the budget is spent, the pool is exhausted or the caller stops it.

        Args:
            stop: Asked before every round, and while it waits for a report or for readers.
            patient: False: return where a round would have to wait.

        Returns:
            How the run ended; None when it was stopped and can go on later.

        Raises:
            ManifestError: The chain is damaged, or another sampler wrote a round first.
            FeedbackError: A report that is on disk is malformed or was changed.
        """
        self._sweep()
        chain = read_chain(self._run)
        done = read_done(self._run)
        if done is not None:
            return done
        position = self._replay(chain)
        while True:
            number = len(position.realised)
            reason = self._finished(number, position) or self._turns.wait(number, stop, patient=patient)
            if reason == "interrupted":
                return None
            if reason is None:
                reason = self._round(number, position)
            if reason is not None:
                done = Done(number, position.last, reason)
                commit_done(self._run, done)
                return done

    def repair(self, number: int) -> int:
        """Draw a committed round again and put back its missing or damaged shards; return how many.

        Raises:
            ManifestError: The round is not committed.
            PrereqError: What is drawn now differs from what was committed.
        """
        chain = read_chain(self._run)
        if not 0 <= number < len(chain):
            raise ManifestError(f"{self._run.name}: round {number} is not committed; rounds 0 to {len(chain) - 1} are")
        position = self._replay(chain[:number])
        manifest = chain[number]
        self._withdraw(position, self._lists_of(manifest, position))
        for entry in manifest.feedback:
            self._apply(position, self._recorded(entry), number)
        plan, _ = self._plan(position)
        if plan is None:
            raise PrereqError(f"round {number}: cannot be drawn again, the pool does not hold its documents any more")
        drawn = draw_round(self._pool, self._stock, plan, self._config, number, self._encode)
        return repair_shards(self._run, number, drawn, self._config, manifest.shards)

    # ------------------------------------------------------------------ one round

    def _round(self, number: int, position: _Position) -> Reason | None:
        """Apply the reports that are there, draw and commit; the reason when the run ends instead."""
        reports = [report for n in self._info.awaited_by(number) if (report := read_feedback(self._run, n)) is not None]
        for report in reports:
            check_feedback(report, self._info, self._arms.ids)
            self._apply(position, report, number)
        lists = read_from(self._run, position.withdrawn)
        self._withdraw(position, lists)
        plan, requested = self._plan(position)
        if plan is None:
            return "pool exhausted"
        drawn = draw_round(self._pool, self._stock, plan, self._config, number, self._encode)
        try:
            manifest, digest = self._commit(number, position, (reports, lists), requested, plan, drawn)
        except (OSError, PrereqError) as error:
            # a rival that committed this round may have swept our files away; a full disk is no rival
            swept = getattr(error.__cause__ or error, "errno", errno.ENOENT) == errno.ENOENT
            if swept and self._run.exists(manifest_name(number)):
                raise beaten(self._run, number) from None
            raise
        position.carry, position.cursors = plan.carry, list(plan.cursors)
        position.realised.append(plan.realised)
        position.tokens += drawn.tokens
        position.last = digest
        self._sweep_round(manifest)
        self._retain(number)
        self._clock.add(drawn.tokens)
        self._clock.write(number + 1, self._turns.waited_s, self._turns.waits)
        diagnostics = self._mixer.diagnostics(position.state)
        self._event("round", {"manifest": manifest, "diagnostics": diagnostics, "waited_s": self.waited_s})
        return None

    def _plan(self, position: _Position) -> tuple[Plan | None, FloatArray]:
        requested = check_simplex(self._mixer.mixture(position.state), size=len(self._arms.ids))
        tokens = self._stock.all_tokens()
        per_token = requested * self._arms.rows / np.maximum(1, self._arms.tokens)  # documents of each arm

        def plan(documents: int) -> Plan | None:
            return plan_round(
                requested,
                position.carry,
                position.cursors,
                self._stock,
                tokens,
                self._config.max_epochs,
                documents,
            )

        return plan_samples(self._config, self._stock, 1.0 / max(1e-9, float(per_token.sum())), plan), requested

    def _commit(
        self,
        number: int,
        position: _Position,
        inputs: tuple[list[Feedback], list[Withdrawal]],
        requested: FloatArray,
        plan: Plan,
        drawn: DrawnRound,
    ) -> tuple[RoundManifest, str]:
        reports, lists = inputs
        shards = write_shards(self._run, number, drawn, self._config)
        mixer, arrays = encode_state(
            self._mixer.name, position.state, write_arrays=number % self._config.state_every == 0
        )
        if arrays is not None:
            self._run.replace(f"{round_folder(number)}/{STATE_FILE}", arrays)
        ids = self._arms.ids
        drawn_arms = [a for a, draws in enumerate(plan.draws) if draws]
        manifest = RoundManifest(
            round=number,
            parent=position.last,
            config=self._info.config,
            pool=self._info.pool,
            seed=self._config.seed,
            global_batch=self._config.global_batch,
            feedback=[{"round": report.round, "sha256": report.sha256} for report in reports],
            withdrawn=[one.entry() for one in lists] or None,
            mixer=mixer,
            mixture={
                "requested": dict(zip(ids, requested.tolist(), strict=True)),
                "arms": dict(zip(ids, plan.weights.tolist(), strict=True)),
                "skills": self._arms.skill_weights(plan.weights),
            },
            realised={ids[a]: int(plan.realised[a]) for a in drawn_arms},
            draws={
                ids[a]: [{"epoch": d.epoch, "start": d.start, "stop": d.stop} for d in plan.draws[a]]
                for a in drawn_arms
            },
            samples=self._config.samples_per_round,
            documents=drawn.documents,
            tokens=drawn.tokens,
            bytes=sum(shard.bytes for shard in shards),
            order=drawn.order,
            shards=shards,
            packing=drawn.packing,
        )
        data = manifest.to_bytes()
        if not self._run.commit(manifest_name(number), data):
            raise beaten(self._run, number)
        return manifest, sha256_hex(data)  # encoded once: a manifest over many arms is megabytes

    # ------------------------------------------------------------------ the end

    def _finished(self, number: int, position: _Position) -> Reason | None:
        rounds, tokens = self._config.rounds, self._config.tokens
        spent = number >= rounds if rounds is not None else position.tokens >= (tokens or 0)
        return "budget" if spent else None

    # ------------------------------------------------------------------ starting again

    def _replay(self, chain: list[RoundManifest]) -> _Position:
        """Rebuild the position from manifests and feedback, checking each against the other."""
        count = len(self._arms.ids)
        self._stock = PoolStock(self._pool, self._config.seed)  # without withdrawals of a replay before
        position = _Position(self._mixer.init(), np.zeros(count), [Cursor()] * count, [], 0, 0, None)
        for manifest in chain:
            where = self._run.path(manifest_name(manifest.round))
            config = self._info.config_of(manifest.round)
            for key, ours in (("config", config), ("pool", self._info.pool), ("seed", self._config.seed)):
                if getattr(manifest, key) != ours:
                    raise ManifestError(
                        f"{where}: {key} is {getattr(manifest, key)}, this run has {ours}; choose another run_dir"
                    )
            for entry in manifest.feedback:
                self._apply(position, self._recorded(entry), manifest.round)
            if manifest.round >= self._info.own_from and (
                encode_state(self._mixer.name, position.state, write_arrays=False)[0]["state"]
                != manifest.mixer["state"]
            ):
                raise ManifestError(
                    f"{where}: replaying the feedback gives another mixer state than the manifest holds; "
                    "go on with the versions in run.json and the same CPU family"
                )
            self._withdraw(position, self._lists_of(manifest, position))
            self._follow(position, manifest)
        return position

    def _lists_of(self, manifest: RoundManifest, position: _Position) -> list[Withdrawal]:
        where = self._run.path(manifest_name(manifest.round))
        return recorded(self._run, manifest.withdrawn or [], position.withdrawn, where)

    def _withdraw(self, position: _Position, lists: list[Withdrawal]) -> None:
        """Take the documents of these lists out of every arm's order."""
        if not lists:
            return
        for arm, cursor in enumerate(position.cursors):
            gone = matching_rows(self._pool, arm, lists)
            position.cursors[arm] = self._stock.withdraw(arm, gone, cursor)
        position.withdrawn += len(lists)

    def _follow(self, position: _Position, manifest: RoundManifest) -> None:
        """Move cursors, carry and counts past a committed round."""
        realised = np.zeros(len(self._arms.ids), dtype=np.int64)
        for arm, draws in manifest.draws.items():
            index = self._arm_index[arm]
            realised[index] = manifest.realised[arm]
            end = draws[-1]
            rows = self._stock.rows(index)
            position.cursors[index] = (
                Cursor(end["epoch"] + 1, 0) if end["stop"] == rows else Cursor(end["epoch"], end["stop"])
            )
        weights = np.array([manifest.mixture["arms"][arm] for arm in self._arms.ids])
        spent = np.array([cursor.epoch >= self._config.max_epochs for cursor in position.cursors])
        position.carry = next_carry(position.carry, weights, realised, spent)
        position.realised.append(realised)
        position.tokens += manifest.tokens
        position.last = manifest.sha256

    def _recorded(self, entry: dict[str, Any]) -> Feedback:
        """A report that a manifest names, with its digest checked."""
        report = read_feedback(self._run, entry["round"])
        if report is None or report.sha256 != entry["sha256"]:
            found = "missing" if report is None else f"sha256 {report.sha256}"
            raise FeedbackError(
                f"{self._run.name}: the report of round {entry['round']} is {found}, a manifest applied the one with "
                f"sha256 {entry['sha256']}; restore the file: without it the mixture cannot be rebuilt"
            )
        return report

    def _apply(self, position: _Position, report: Feedback, number: int) -> None:
        """Move the mixer's state by one report."""
        covered = 0 if report.round == "initial" else report.round + 1
        drawn = np.zeros(len(self._arms.ids))
        for realised in position.realised[position.observed : covered]:
            drawn += realised
        position.observed = max(position.observed, covered)
        try:
            position.state = self._mixer.update(position.state, observe(report, drawn))
        except PrereqError as error:
            error.add_note(f"while round {number} applied the report of round {report.round}")
            raise

    def _sweep(self) -> None:
        """Remove what killed writers left: anything unlisted beside a manifest, and old temporary files."""
        for sub in ("", "feedback", "readers", "progress"):
            self._run.sweep(sub, older_than_s=_STALE_S)
        for manifest in read_chain(self._run):
            self._sweep_round(manifest)

    def _sweep_round(self, manifest: RoundManifest) -> None:
        # only behind a manifest: the files of an uncommitted round may be a rival's, or ours of before
        folder = round_folder(manifest.round)
        listed = {"manifest.json", "deleted.json", STATE_FILE, *(shard.path for shard in manifest.shards)}
        for name in self._run.names(folder):
            if name not in listed:
                self._run.delete(f"{folder}/{name}")
        self._run.sweep(folder)

    def _retain(self, number: int) -> None:
        if self._config.keep_rounds is not None:
            delete_behind(self._run, self._config.keep_rounds, number)
