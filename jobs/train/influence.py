"""Influence of single documents on the control loss, on a sample inside each arm (Quad), with a run's trained model.

The value of a document z is v . grad L(z), L(z) the mean loss of its tokens and v = H^-1 sum_s grad L_s over the target
skills s: how much, to first order, a step on the document lowers their control losses. Larger is more useful.
"""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from prereq.graph.canonical import sha256_hex
from prereq.graph.errors import ConfigError, ManifestError, PrereqError
from prereq.graph.skill import nearest
from prereq.jobs.train.checkpoint import NAME, read_weights
from prereq.jobs.train.config import TrainConfig
from prereq.jobs.train.evaluate import prepare
from prereq.jobs.train.gradients import evenly
from prereq.jobs.train.kronecker import along, target_gradient, wanted_step
from prereq.jobs.train.model import ByteTransformer
from prereq.jobs.train.trainer import pin_arithmetic
from prereq.jobs.train.windows import IGNORE, Windows, training_windows
from prereq.selector.feed import HoldoutDocument
from prereq.selector.rounds.plan import Draw
from prereq.selector.rounds.pool import Pool, read_holdout
from prereq.selector.rounds.run import RunInfo, read_run
from prereq.selector.rounds.shards import PoolStock
from prereq.selector.storage import Folder

_DIGITS = 6  # significant: what is written depends on no rounding of sums
Arrays = dict[str, NDArray[Any]]


class ArmInfluence(NamedTuple):
    """What was found for the documents of one arm, in stored order."""

    values: NDArray[np.float64]  # (rows,), those of the sample measured, the others its mean
    measured: NDArray[np.bool_]  # (rows,)


@dataclass(frozen=True, slots=True, kw_only=True)
class InfluenceSource:
    """Everything that decides the influence of a run's documents."""

    run: str  # folder with a checkpoint of the reference trainer
    pool: str  # the run's
    seed: int  # order of an arm's documents, whose first are the sample
    per_arm: int | None  # documents of the sample; None: all
    targets: tuple[str, ...]  # skills whose control loss counts
    checkpoint: str  # sha256 of the file with the run's trained model


def find_source(run: str, per_arm: int | None, targets: Sequence[str] | None) -> InfluenceSource:
    """Look up a run; reads no weights.

    Raises:
        ManifestError: There is no run, or its pool is another one now.
        ConfigError: A target is no skill of the run, or the sample is empty.
        PrereqError: The run was not trained.
    """
    folder = Folder(run)
    info = read_run(folder)
    if info is None:
        raise ManifestError(f"{run}: no run (run.json is missing)")
    if not folder.exists(NAME):
        raise PrereqError(f"{folder.path(NAME)}: is missing; train the run first (prereq train or prereq run)")
    _check_pool(info)
    for target in targets or ():
        if target not in info.skills:
            raise ConfigError(f"--targets: {run} has no skill {target!r}{nearest(target, info.skills)}")
    if per_arm is not None and per_arm < 1:
        raise ConfigError(f"--per-arm is {per_arm}; expected 1 or more documents, or all")
    named = tuple(sorted(set(targets))) if targets else info.skills
    checkpoint = sha256_hex(folder.read(NAME))
    return InfluenceSource(
        run=run, pool=info.pool_path, seed=info.seed, per_arm=per_arm, targets=named, checkpoint=checkpoint
    )


def _check_pool(info: RunInfo) -> None:
    if Pool(info.pool_path).sha256 != info.pool:
        raise ManifestError(f"{info.pool_path}: is not the pool that the run was drawn from any more; restore it")


def document_values(
    model: nn.Module, step: Mapping[str, Tensor], texts: Sequence[str], config: TrainConfig
) -> NDArray[np.float64]:
    """v . grad of the mean loss of each text's tokens, `(texts,)`, many texts in one pass.

    Of a long text `config.signal_windows` windows count, evenly spread.
    """
    cut = [training_windows([text], config.seq_len) for text in texts]
    chosen = [evenly(len(windows.inputs), config.signal_windows) for windows in cut]
    sides = zip(*((w.inputs[rows], w.targets[rows]) for w, rows in zip(cut, chosen, strict=True)), strict=True)
    windows = Windows(*(np.concatenate(side) for side in sides))
    owner = np.repeat(np.arange(len(texts)), [len(rows) for rows in chosen])
    found, tokens = np.zeros(len(texts)), np.zeros(len(texts))
    np.add.at(found, owner, along(model, windows, step, config.eval_windows))
    np.add.at(tokens, owner, (windows.targets != IGNORE).sum(axis=1))
    return found / tokens


class InfluenceMeter:
    """A trained model and the step that its target wants.

    Raises:
        PrereqError: The control split has no token of a target, or the model diverged.
        ManifestError: The checkpoint is damaged.
    """

    def __init__(self, source: InfluenceSource, step: Arrays | None = None) -> None:
        self.source, run = source, Folder(source.run)
        found = read_weights(run)
        if found is None:
            raise PrereqError(f"{run.path(NAME)}: has gone; restore it")
        self.config, weights = found
        pin_arithmetic(self.config)
        self.model = ByteTransformer(self.config).to(self.config.device)
        try:
            self.model.load_state_dict(weights)
        except RuntimeError as error:
            raise ManifestError(
                f"{run.path(NAME)}: its weights are not those of its configuration; restore it"
            ) from error
        self.pool = Pool(source.pool)
        self._stock = PoolStock(self.pool, source.seed)
        device = self.config.device
        self.step = self._wanted() if step is None else {k: torch.from_numpy(v).to(device) for k, v in step.items()}

    def _wanted(self) -> dict[str, Tensor]:
        config, targets = self.config, self.source.targets
        rows = read_holdout(self.pool.folder, "control").select(["id", "text", "skills"]).to_pylist()
        held = [HoldoutDocument(row["id"], row["text"], tuple(row["skills"])) for row in rows]
        held = [document for document in held if set(document.skills) & set(targets)]
        control = prepare(held, targets, config.seq_len, config.signal_tokens)
        target = target_gradient(self.model, control, targets, config.signal_windows)
        if not target:
            raise PrereqError(
                f"{self.source.pool}: the holdout's control split holds no tokens of the target skills; name others, "
                "or build the pool with a larger holdout"
            )
        step = wanted_step(self.model, control, target, config)
        if not all(bool(torch.isfinite(value).all()) for value in step.values()):
            raise PrereqError(f"{self.source.run}: gradients of its model are not finite: training diverged")
        return step

    def arm(self, index: int) -> ArmInfluence:
        """The documents of one arm by its position."""
        rows = self.pool.layouts[index].rows
        sample = rows if self.source.per_arm is None else min(rows, self.source.per_arm)
        values, measured = np.zeros(rows), np.zeros(rows, dtype=np.bool_)
        if not rows:
            return ArmInfluence(values, measured)
        stored = np.sort(self._stock.stored_rows(index, Draw(0, 0, sample)))
        texts = self.pool.read_rows(index, stored)["text"].to_pylist()
        found = np.array([_rounded(value) for value in document_values(self.model, self.step, texts, self.config)])
        if not np.isfinite(found).all():
            raise PrereqError(f"{self.source.run}: the influence in arm {self.pool.layouts[index].id} is not finite")
        values[:], measured[stored] = _rounded(float(found.mean())), True
        values[stored] = found
        return ArmInfluence(values, measured)


def measure_arms(source: InfluenceSource, workers: int) -> Iterator[ArmInfluence]:
    """Every arm in the pool's order. An arm is measured by one process in the same steps, however many there are."""
    meter = InfluenceMeter(source)
    count = len(meter.pool.layouts)
    if workers <= 1 or count <= 1:
        yield from map(meter.arm, range(count))
        return
    step = {name: value.cpu().numpy() for name, value in meter.step.items()}
    # spawn: a process that was forked after torch began threads may hang
    with ProcessPoolExecutor(min(workers, count), get_context("spawn"), _open_worker, (source, step)) as processes:
        try:
            yield from processes.map(_measure_in_worker, range(count))
        except BrokenProcessPool as error:
            raise PrereqError(
                f"{source.run}: a worker process died (killed, or out of memory); run it again with fewer --workers"
            ) from error


_METERS: list[InfluenceMeter] = []  # of a worker process, one


def _open_worker(source: InfluenceSource, step: Arrays) -> None:
    _METERS[:] = [InfluenceMeter(source, step)]


def _measure_in_worker(index: int) -> ArmInfluence:
    return _METERS[0].arm(index)


def _rounded(value: float) -> float:
    return float(f"{value + 0.0:.{_DIGITS}g}")
