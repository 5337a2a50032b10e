"""`Feed`: the rounds of a run as one endless-looking stream of global batches, with an exact position.

Global batch s is rows [sB, (s+1)B) of the rounds laid end to end; rank r of W gets rows [rB/W, (r+1)B/W) of each. No
batch crosses a round. Nothing here depends on the world size but the slice, so every world size that divides B sees
the same global batches, and a state moves between world sizes.
"""

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from prereq.graph.canonical import canonical_json
from prereq.graph.errors import ConfigError, FeedbackError, ManifestError
from prereq.selector.feed.batch import Batch, HoldoutDocument
from prereq.selector.feed.making import make_batch
from prereq.selector.feed.place import ReaderPlace
from prereq.selector.feed.reading import ShardReader
from prereq.selector.feed.reporting import Reporter, make_feedback, tokens_through
from prereq.selector.feed.rounds import check_counts, next_round, wait_for_run
from prereq.selector.feed.shard_file import Verify
from prereq.selector.feed.state import FeedState, parse_state
from prereq.selector.feed.waiting import WaitConfig, Waiter
from prereq.selector.rounds.feedback import Outcome
from prereq.selector.rounds.manifest import RoundManifest, manifest_name, read_manifest
from prereq.selector.storage import Folder

READER_FORMAT = "prereq.reader/1"


class Feed:
    """Iterates over a run's batches while later rounds are being made, and carries losses back.

    Args:
        run: The run's folder.
        rank: Data-parallel rank of this process.
        world_size: Number of data-parallel ranks; divides the run's global batch.
        global_batch: When given, must be the run's: it belongs to the run.
        micro_batch: Rows of the pieces that `Batch.micro_batches` gives; divides a rank's share.
        name: Of this reader, in `readers/<name>.json` and in its reports.
        columns: Shard columns to offer (`id` always is); None: `arm, skills, n_tokens`, and `input_ids` or else `text`;
            of packed rows all.
        verify: "sha256" compares the digest of every row group that is read; "size" compares sizes of shards.
        reporter: False where another process reports: this feed then waits for rounds that need reports.
        wait: Pauses and time-outs.
        pool: The pool's folder, where it is not the one that run.json names.
        stop: Asked before each batch and while waiting; when it answers true the iteration ends.

    Raises:
        ConfigError: The arguments do not fit the run.
        PrereqError: The run was not started in time.
    """

    def __init__(
        self,
        run: str | os.PathLike[str],
        *,
        rank: int = 0,
        world_size: int = 1,
        global_batch: int | None = None,
        micro_batch: int | None = None,
        name: str = "trainer",
        columns: Sequence[str] | None = None,
        verify: Verify = "sha256",
        reporter: bool = True,
        wait: WaitConfig | None = None,
        pool: str | os.PathLike[str] | None = None,
        stop: Callable[[], bool] | None = None,
    ) -> None:
        if not 0 <= rank < world_size:
            raise ConfigError(f"feed: rank {rank} is not one of the {world_size} ranks 0 to {world_size - 1}")
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
            raise ConfigError(f"feed: the reader's name {name!r} may hold letters, digits, dots, dashes, underscores")
        self._run = Folder(run)
        self._wait = wait or WaitConfig()
        self._waiter = Waiter(self._wait, stop)
        self._place = ReaderPlace(self._run, name) if reporter and rank == 0 else None
        self._info = wait_for_run(self._run, self._waiter, self._wait.start_timeout_s)
        self._rank, self._world_size, self._name, self._reporter = rank, world_size, name, reporter
        self._micro_batch = micro_batch
        self._check_sizes(global_batch)
        self._pool = os.fspath(pool) if pool is not None else self._info.pool_path
        self._reports = Reporter(self._run, self._info, self._pool)
        wanted = None if columns is None else tuple(dict.fromkeys(("id", *columns)))
        self._reader = ShardReader(self._run, wanted, verify)
        self._manifest: RoundManifest | None = None
        self._state = FeedState(run=self._info.config)
        self._ended = False  # the last batch was the last of a round that is still to be reported
        self._keep_ended = False  # since a load: the loop has had no chance to see it, so it stays until reported

    @property
    def global_batch(self) -> int:
        """Samples in a global batch, over all ranks."""
        return self._info.global_batch

    @property
    def batches_per_round(self) -> int:
        """Global batches in a round."""
        return self._info.batches_per_round

    @property
    def skills(self) -> tuple[str, ...]:
        """The ids that a report may name, in the graph's order."""
        return self._info.skills

    @property
    def uses_feedback(self) -> bool:
        """Whether the run's mixer moves with reports, so that rounds wait for them."""
        return self._info.uses_feedback

    @property
    def waited_s(self) -> float:
        """Seconds spent waiting for rounds."""
        return self._waiter.waited_s

    @property
    def waits(self) -> int:
        """Times that a round was not there when it was asked for."""
        return self._waiter.waits

    @property
    def bytes_read(self) -> int:
        """Bytes of shards read so far."""
        return self._reader.bytes_read

    @property
    def round_ended(self) -> bool:
        """Whether a round has been handed out whole and is to be reported: once per round, on every rank.

        After a load it stays true until the round is reported. Where `report_every` is above 1, rounds that are not
        reported do not set it; `Batch.last_of_round` marks every round's end.
        """
        return self._ended

    @property
    def unreported(self) -> int | None:
        """The finished round that is still to be reported."""
        return self._state.unreported

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        if self._waiter.stopping():
            raise StopIteration
        position = self._position()
        if position is None:
            self._reader.close()
            raise StopIteration
        batch = self._batch(*position)
        if batch.last_of_round and self._info.is_reported(batch.round):
            self._ended, self._keep_ended = True, False
        elif not self._keep_ended:
            self._ended = False
        return batch

    def state_dict(self) -> dict[str, Any]:
        """The position behind the last batch handed out, and the round that is to be reported; plain and small."""
        return self._state.to_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on behind the batch that a state was taken at; opens that round's manifest and no other.

        Raises:
            ManifestError: The state is of another run or format, or the round's manifest is not the one it was.
        """
        loaded = self._parsed(state)
        manifest = self._manifest_of(loaded)
        self._reader.close()
        self._manifest, self._state = manifest, loaded
        self._ended = self._keep_ended = loaded.unreported is not None

    def report(
        self,
        losses: Mapping[str, float | None],
        *,
        step: int | None = None,
        eval_tokens: Mapping[str, int] | None = None,
        arm_losses: Mapping[str, float] | None = None,
        signals: Mapping[str, Mapping[str, float]] | None = None,
        round: int | None = None,
    ) -> Outcome | None:
        """Report the losses after a finished round; rank 0 writes, the others do nothing.

        Args:
            losses: Skill -> nats per token over the control split; None: not measured.
            step: `Batch.step` of the last batch trained on; default: that of the last batch handed out. The report
                holds the number of global batches trained on, which is one more.
            eval_tokens: Skill -> tokens behind its loss.
            arm_losses: Arm -> nats per token.
            signals: Name -> {id: number}; those that the mixer declares must be there.
            round: The round, where it is not the one that has just ended.

        Returns:
            "recorded"; "already recorded" (the first report stands); "late" (kept, never applied); None on other ranks.

        Raises:
            FeedbackError: No round has ended, or a value is NaN, negative, infinite or of an unknown id.
        """
        number = self._reported_round(round)
        outcome: Outcome | None = None
        if self._rank == 0 and self._manifest is not None:
            feedback = make_feedback(
                number,
                self._state.next_step if step is None else int(step) + 1,
                tokens_through(self._run, self._manifest, self._state.tokens, number),
                losses,
                eval_tokens,
                arm_losses,
                signals,
                self._name,
            )
            outcome = self._reports.write(feedback)
        if number == self._state.unreported:
            self._state = self._state.moved(unreported=None)
            self._ended = self._keep_ended = False
        return outcome

    def report_initial(
        self,
        losses: Mapping[str, float | None],
        *,
        eval_tokens: Mapping[str, int] | None = None,
        arm_losses: Mapping[str, float] | None = None,
        signals: Mapping[str, Mapping[str, float]] | None = None,
    ) -> Outcome | None:
        """Report the untrained model's losses, before the first batch; arguments and result as in `report`."""
        if self._rank != 0:
            return None
        feedback = make_feedback("initial", 0, 0, losses, eval_tokens, arm_losses, signals, self._name)
        return self._reports.write(feedback)

    def holdout(self, split: str = "control") -> list[HoldoutDocument]:
        """The documents of a holdout split, in stored order: "control" to report on, "report" to judge by."""
        from prereq.selector.rounds.pool import read_holdout  # pulls in the mixers; a loop that never asks is lighter

        rows = read_holdout(Folder(self._pool), split).select(["id", "text", "skills"]).to_pylist()
        return [HoldoutDocument(row["id"], row["text"], tuple(row["skills"])) for row in rows]

    def checkpointed(self, state: Mapping[str, Any] | None = None) -> None:
        """Tell the sampler that a checkpoint with this state is safe on disk: what lies before it may be deleted.

        Args:
            state: The state in the checkpoint; default: the present one. Rank 0 writes, the others do nothing.
        """
        if self._rank != 0:
            return
        kept = self._state if state is None else self._parsed(state)
        manifest = self._manifest if kept.manifest == self._state.manifest else self._manifest_of(kept)
        finished = manifest is not None and kept.row == manifest.samples
        value = {
            "format": READER_FORMAT,
            "name": self._name,
            "round": kept.round + 1 if finished else kept.round,  # the first round that this reader may still read
            "state": kept.to_dict(),
        }
        self._run.replace(f"readers/{self._name}.json", canonical_json(value))

    def close(self) -> None:
        """Close the open shard; the feed can still report."""
        self._reader.close()

    def _parsed(self, state: Mapping[str, Any]) -> FeedState:
        return parse_state(state, self._info.config, self._run.name, self._info.config_of)

    def _check_sizes(self, global_batch: int | None) -> None:
        whole = self._info.global_batch
        if global_batch is not None and global_batch != whole:
            raise ConfigError(
                f"{self._run.name}: global_batch {global_batch} was asked for, the run has {whole}; "
                "it belongs to the run: use it, or sample a new run"
            )
        if whole % self._world_size:
            near = [size for size in range(1, whole + 1) if whole % size == 0]
            near = sorted(sorted(near, key=lambda size: abs(size - self._world_size))[:4])
            raise ConfigError(
                f"{self._run.name}: {self._world_size} ranks do not divide the global batch of {whole}; start "
                f"{' or '.join(map(str, near))} of them, or sample a run with another global_batch"
            )
        share = whole // self._world_size
        if self._micro_batch is not None and (self._micro_batch < 1 or share % self._micro_batch):
            raise ConfigError(
                f"{self._run.name}: micro_batch {self._micro_batch} does not divide a share of {share} rows"
            )

    def _position(self) -> tuple[RoundManifest, int, int] | None:
        """Round and row of the next batch and the tokens before that round, waiting if need be; None at the end."""
        current, state = self._manifest, self._state
        if current is not None and state.row < current.samples:
            return current, state.row, state.tokens
        reports = self._reporter and self._rank == 0
        if self._place is not None:
            self._place.ask(current, self._waiter)
        found = next_round(self._run, self._info, self._waiter, self._wait.timeout_s, current, reports=reports)
        if found is None:
            return None
        return found, 0, 0 if current is None else state.tokens + current.tokens

    def _batch(self, manifest: RoundManifest, row: int, tokens: int) -> Batch:
        whole, share = self._info.global_batch, self._info.global_batch // self._world_size
        start = row + self._rank * share
        rows = self._reader.read(manifest, start, start + share)
        last = row + whole == manifest.samples
        changes: dict[str, Any] = {"step": self._state.next_step, "row": row + whole}
        if manifest is not self._manifest:
            changes |= {"round": manifest.round, "manifest": manifest.sha256, "tokens": tokens}
        if last and self._info.is_reported(manifest.round):
            changes["unreported"] = manifest.round
        self._manifest, self._state = manifest, self._state.moved(**changes)
        if self._place is not None:
            self._place.handed(whole)
        seq_len = None if manifest.packing is None else manifest.packing["seq_len"]
        return make_batch(rows, seq_len, self._state, last, self._micro_batch)

    def _manifest_of(self, state: FeedState) -> RoundManifest | None:
        if state.manifest is None:
            return None
        manifest = read_manifest(self._run, state.round)
        where = self._run.path(manifest_name(state.round))
        found = None if manifest is None else manifest.sha256
        if manifest is None or found != state.manifest:
            raise ManifestError(
                f"{where}: sha256 is {found}, the feed's state says {state.manifest}; the state belongs to another run "
                "in this folder: load a checkpoint of this one, or restore the run"
            )
        check_counts(manifest, where)
        if state.row > manifest.samples or state.row % self._info.global_batch:
            raise ManifestError(f"{where}: has {manifest.samples} samples, the feed's state is at row {state.row}")
        return manifest

    def _reported_round(self, number: int | None) -> int:
        current = self._manifest
        finished = -1 if current is None else current.round - (self._state.row < current.samples)
        if number is None:
            ended = current is not None and self._state.row == current.samples
            number = self._state.unreported if self._state.unreported is not None else (finished if ended else None)
        if number is None or not 0 <= number <= finished:
            what = "no round has just ended" if number is None else f"round {number} has not been read to its end"
            raise FeedbackError(
                f"{self._run.name}: {what}; report where feed.round_ended is true "
                f"(rounds read to their end: {finished + 1})"
            )
        return number
