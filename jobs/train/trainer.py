"""The reference trainer: reads a run's rounds while they are written, trains, evaluates, reports.

    RUN/train/checkpoint.pt   model, optimizer and the feed's state, at the end of rounds and when stopped
    RUN/train/log.jsonl       one line per global batch and per evaluation
    RUN/train/final.json      the report split before and after training (`prereq.final/1`)

Killed at any moment and started again, it reports the same bytes as if it had never been killed: every weight is a
function of the configuration and the batches so far, and a checkpoint holds both the weights and the feed's state.
"""

import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch

from prereq.graph.canonical import canonical_json
from prereq.graph.errors import ConfigError, PrereqError
from prereq.jobs.train.checkpoint import load_checkpoint, save_checkpoint
from prereq.jobs.train.config import TrainConfig
from prereq.jobs.train.evaluate import Evaluation, evaluate, prepare
from prereq.jobs.train.log import TrainingLog
from prereq.jobs.train.model import ByteTransformer, make_optimizer
from prereq.jobs.train.signals import Signals
from prereq.jobs.train.update import update
from prereq.jobs.train.windows import IGNORE, batch_windows, split_evenly
from prereq.selector.feed import Batch, Feed, WaitConfig
from prereq.selector.rounds.run import RunInfo, read_run
from prereq.selector.storage import Folder

FINAL_FORMAT = "prereq.final/1"
FINAL = "train/final.json"
_START_TIMEOUT_S = 120.0  # for a sampler that is started beside this trainer


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSummary:
    """What a call of `train` came to; counts are of the whole run, seconds of this call."""

    rounds: int  # rounds trained on to their end
    steps: int  # global batches
    updates: int  # optimizer steps
    tokens: int  # tokens of the rounds' documents trained on
    stopped: bool  # ended early because it was asked to
    initial_loss: float | None  # mean over skills, report split, untrained model
    final_loss: float | None  # mean over skills, report split
    seconds: float
    waited_s: float  # seconds of them spent waiting for rounds


def train(
    run_dir: str | os.PathLike[str],
    config: TrainConfig,
    *,
    stop: Callable[[], bool] = lambda: False,
    say: Callable[[str], None] = lambda line: None,
) -> TrainSummary:
    """Train on a run's rounds to its end, reporting the losses of the control split.

    Args:
        run_dir: The run; its sampler may still be starting.
        config: The trainer.
        stop: Asked at every global batch and while waiting; when it answers true, a checkpoint is written there.
        say: Takes lines of progress.

    Returns:
        What it came to. A run that was finished before is only looked up.

    Raises:
        PrereqError: The run, its pool or the checkpoint cannot be used, or no round came in time.
    """
    trainer = Trainer(run_dir, config, stop, say)
    finished = trainer.finished_before()
    if finished is not None:
        return finished
    return trainer.run()


class Trainer:
    """A model, its optimizer and its feed, moving together.

    Args:
        run_dir: The run.
        config: The trainer.
        stop: As in `train`.
        say: As in `train`.
    """

    def __init__(
        self,
        run_dir: str | os.PathLike[str],
        config: TrainConfig,
        stop: Callable[[], bool],
        say: Callable[[str], None],
    ) -> None:
        pin_arithmetic(config)
        self._begin = time.monotonic()
        self._config, self._stop, self._say = config, stop, say
        self._run = Folder(run_dir)
        wait = WaitConfig(start_timeout_s=_START_TIMEOUT_S, timeout_s=config.wait_timeout_s)
        self._feed = Feed(run_dir, wait=wait, stop=stop)
        _refuse_other_tokens(self._run)
        self._log = TrainingLog(self._run)
        self._model = ByteTransformer(config).to(config.device)
        self._optimizer = make_optimizer(self._model, config)
        self._updates = 0
        self._tokens = 0
        self._initial: Evaluation | None = None  # control split, untrained
        self._latest: Evaluation | None = None  # control split, at the last evaluation
        held = self._feed.holdout("control")
        self._control = prepare(held, self._feed.skills, config.seq_len, config.eval_tokens_per_skill)
        self._signals = Signals(self._run, self._info(), config, held)
        if not self._control.measures and self._feed.uses_feedback:
            raise PrereqError(
                f"{self._run.name}: the mixer needs losses, but the holdout's control split holds no tokens of any "
                "skill; build the pool with a larger holdout, or choose a mixer that uses no feedback"
            )

    def _info(self) -> RunInfo:
        info = read_run(self._run)  # there, since the feed has read it
        if info is None:
            raise PrereqError(f"{self._run.name}: run.json has gone; restore it")
        return info

    def finished_before(self) -> TrainSummary | None:
        """The summary of a run that was trained to its end by an earlier call."""
        if not (self._run.exists(FINAL) and self._run.exists("done.json")):
            return None
        value = json.loads(self._run.read(FINAL))
        done = json.loads(self._run.read("done.json"))
        if value.get("format") != FINAL_FORMAT or value["rounds"] != done["rounds"]:
            return None
        self._updates, self._tokens = value["updates"], value["tokens"]
        self._say(f"{self._run.name}: was trained to its end before; nothing to do")
        return self._summary(value["rounds"], value["steps"], value)

    def run(self) -> TrainSummary:
        """Go on from the checkpoint, or from the start, to the end of the run."""
        self._resume()
        if self._feed.round_ended:
            self._end_round(self._feed.unreported or 0)
        for batch in self._feed:
            self._train(batch)
            if batch.last_of_round:
                self._end_round(batch.round)
        if self._stop():
            self._checkpoint()
            self._say(f"stopped behind step {self._feed.state_dict()['step']}; a checkpoint is written")
            return self._summary(self._rounds(), self._steps(), None, stopped=True)
        self._checkpoint()
        final = self._finish()
        return self._summary(self._rounds(), self._steps(), final)

    def _resume(self) -> None:
        value = load_checkpoint(self._run, self._config)
        if value is None:
            self._log.keep_through(-1)
            self._initial = self._latest = self._evaluate_control()
            if self._control.measures:
                self._feed.report_initial(
                    self._initial.losses,
                    eval_tokens=self._initial.eval_tokens,
                    signals=self._signals.untrained().signals,
                )
                self._log.evaluation("initial", None, self._initial.mean)
                self._say(f"untrained: mean control loss {self._initial.mean:.4f}")
            return
        self._feed.load_state_dict(value["feed"])
        self._model.load_state_dict(value["model"])
        self._optimizer.load_state_dict(value["optimizer"])
        self._updates, self._tokens = value["updates"], value["tokens"]
        self._initial, self._latest = Evaluation(**value["initial"]), Evaluation(**value["latest"])
        step = value["feed"]["step"]
        self._log.keep_through(-1 if step is None else step)
        self._say(f"{self._run.name}: going on behind step {step}, round {value['feed']['round']}")

    def _train(self, batch: Batch) -> None:
        """Train on every token of a global batch once, in optimizer steps of about `windows_per_step` windows."""
        begin = time.monotonic()
        windows = batch_windows(batch, self._config.seq_len)
        total, count = 0.0, int((windows.targets != IGNORE).sum())
        for start, stop in split_evenly(len(windows.inputs), self._config.windows_per_step):
            inputs = torch.from_numpy(windows.inputs[start:stop]).to(self._config.device)
            targets = torch.from_numpy(windows.targets[start:stop]).to(self._config.device)
            total += self._update(inputs, targets)
        self._tokens += sum(batch.n_tokens)
        if not math.isfinite(total):
            raise PrereqError(
                f"step {batch.step}: the training loss is {total / count}; lower train.learning_rate "
                f"({self._config.learning_rate}) and start in a fresh run_dir"
            )
        seconds = time.monotonic() - begin
        self._log.batch(batch.round, batch.step, total / count, count / seconds, self._feed.waited_s, self._updates)

    def _update(self, inputs: torch.Tensor, targets: torch.Tensor) -> float:
        """One optimizer step; returns the summed nll in nats."""
        total = update(self._model, self._optimizer, inputs, targets, self._config, self._updates)
        self._updates += 1
        return total

    def _end_round(self, number: int) -> None:
        """Evaluate and report where the round is reported, then write a checkpoint where one is due."""
        if self._feed.round_ended and self._control.measures:
            self._latest = self._evaluate_control()
            measured = self._signals.measure(self._model, number)
            outcome = self._feed.report(
                self._latest.losses,
                eval_tokens=self._latest.eval_tokens,
                arm_losses=measured.arm_losses,
                signals=measured.signals,
            )
            self._log.evaluation(number, self._feed.state_dict()["step"], self._latest.mean)
            self._say(
                f"round {number}: mean control loss {self._latest.mean:.4f}, {self._tokens:,} tokens, "
                f"waited {self._feed.waited_s:.1f} s, report {outcome}"
            )
        if (number + 1) % self._config.checkpoint_every == 0:
            self._checkpoint()

    def _evaluate_control(self) -> Evaluation:
        return evaluate(self._model, self._control, self._config.eval_windows)

    def _checkpoint(self) -> None:
        if self._initial is None or self._latest is None:
            return
        save_checkpoint(
            self._run,
            self._config,
            {
                "feed": self._feed.state_dict(),
                "model": self._model.state_dict(),
                "optimizer": self._optimizer.state_dict(),
                "updates": self._updates,
                "tokens": self._tokens,
                "initial": asdict(self._initial),
                "latest": asdict(self._latest),
            },
        )
        self._feed.checkpointed()

    def _finish(self) -> dict[str, Any]:
        """Judge on the report split, which nothing before has seen, and write `train/final.json`."""
        split = prepare(
            self._feed.holdout("report"),
            self._feed.skills,
            self._config.seq_len,
            self._config.report_tokens_per_skill,
        )
        untrained = ByteTransformer(self._config).to(self._config.device)
        value = {
            "format": FINAL_FORMAT,
            "rounds": self._rounds(),
            "steps": self._steps(),
            "updates": self._updates,
            "tokens": self._tokens,
            "initial": asdict(evaluate(untrained, split, self._config.eval_windows)),
            "final": asdict(evaluate(self._model, split, self._config.eval_windows)),
            "control": {
                "initial": asdict(self._initial) if self._initial else None,
                "final": asdict(self._evaluate_control()),
            },
        }
        self._run.replace(FINAL, canonical_json(value))
        return value

    def _steps(self) -> int:
        step = self._feed.state_dict()["step"]
        return 0 if step is None else int(step) + 1

    def _rounds(self) -> int:
        return self._steps() // self._feed.batches_per_round

    def _summary(self, rounds: int, steps: int, final: dict[str, Any] | None, *, stopped: bool = False) -> TrainSummary:
        return TrainSummary(
            rounds=rounds,
            steps=steps,
            updates=self._updates,
            tokens=self._tokens,
            stopped=stopped,
            initial_loss=_mean(final, "initial"),
            final_loss=_mean(final, "final"),
            seconds=time.monotonic() - self._begin,
            waited_s=self._feed.waited_s,
        )


def _refuse_other_tokens(run: Folder) -> None:
    """The model reads bytes; a run of other tokens needs a loop of its own."""
    tokenizer = json.loads(run.read("run.json"))["drawing"].get("tokenizer", "bytes")
    if tokenizer != "bytes":
        raise PrereqError(
            f"{run.name}: its rows are tokens of {tokenizer}, the reference trainer reads bytes; train it in a loop of "
            "your own (README, the feed), or sample with samples.kind: text"
        )


def _mean(final: dict[str, Any] | None, key: str) -> float | None:
    if final is None:
        return None
    mean = Evaluation(**final[key]).mean
    return None if math.isnan(mean) else mean


def pin_arithmetic(config: TrainConfig) -> None:
    """Make torch's sums depend on the configuration alone: threads pinned, deterministic kernels only.

    Raises:
        ConfigError: The device is not there.
    """
    if config.device == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is not reproducible without
        if not torch.cuda.is_available():
            raise ConfigError("train.device: cuda was asked for, torch finds none; set train.device to cpu")
    torch.set_num_threads(config.threads)
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # costs time, and nothing here reads unwritten memory
