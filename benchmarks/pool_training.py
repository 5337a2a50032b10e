"""A run of the reference trainer inside one process: rounds of a pool, a mixer, an evaluation after every round.

The same pieces as `prereq run` (the sampler's plan and order, the trainer's windows and steps, reports of the control
split and the signals that the mixer asks for) without shards and processes, because an experiment makes a hundred short
runs. Beyond what `prereq run` does, the report split is evaluated along the way; no mixer sees it.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from token_ratios import Curve, FloatArray

from prereq.graph.influence import Influence
from prereq.jobs.config import RunConfig
from prereq.jobs.train.arm_texts import ArmTexts
from prereq.jobs.train.evaluate import Evaluation, EvaluationSet, evaluate, prepare
from prereq.jobs.train.model import ByteTransformer, make_optimizer
from prereq.jobs.train.pool_rounds import PoolRounds
from prereq.jobs.train.signals import Measured, Signals
from prereq.jobs.train.trainer import pin_arithmetic
from prereq.jobs.train.update import train_on
from prereq.jobs.train.windows import training_windows
from prereq.selector.feed import HoldoutDocument
from prereq.selector.mixers import Mixer, Observation, make_mixer
from prereq.selector.rounds.pool import Pool, read_holdout
from prereq.selector.rounds.run import RunInfo
from prereq.selector.storage import Folder


class _Drawn(ArmTexts):
    """Documents by arm, of rounds that were drawn in memory."""

    def __init__(self, info: RunInfo, tokens: int, rounds: PoolRounds) -> None:
        super().__init__(Folder("."), info, tokens)
        self._rounds = rounds

    def drawn(self, number: int) -> dict[str, list[str]]:
        return self.first_of(self._rounds.drawn)


class Lab:
    """A pool opened for many runs."""

    def __init__(self, pool_dir: str) -> None:
        self.pool = Pool(pool_dir)
        self.arms = self.pool.arms()
        self._rows = read_holdout(self.pool.folder).select(["id", "text", "skills", "split"]).to_pylist()

    def split(self, split: str, skills: Sequence[str], seq_len: int, tokens_per_skill: int | None) -> EvaluationSet:
        """A split's documents of some skills, ready for evaluation."""
        return prepare(self._held(split, skills), skills, seq_len, tokens_per_skill)

    def _held(self, split: str, skills: Sequence[str]) -> list[HoldoutDocument]:
        return [
            HoldoutDocument(row["id"], row["text"], tuple(row["skills"]))
            for row in self._rows
            if row["split"] == split and set(row["skills"]) & set(skills)
        ]

    def _signals(self, config: RunConfig, mixer: Mixer, rounds: PoolRounds) -> Signals:
        """What the reference trainer would report beside losses, for rounds that have no folder."""
        info = RunInfo(
            config="",
            pool_path=config.pool_dir,
            pool="",
            seed=config.seed,
            global_batch=config.global_batch,
            batches_per_round=config.batches_per_round,
            lookahead=0,
            report_every=1,
            policy="wait",
            initial_evaluation=True,
            kind="text",
            mixer=mixer.name,
            parameters=dict(config.mixer.parameters),
            uses_feedback=mixer.uses_feedback,
            signals=tuple(mixer.required_signals),
            skills=self.arms.skills,
        )
        texts = _Drawn(info, config.train.signal_tokens, rounds)
        return Signals(Folder("."), info, config.train, self._held("control", self.arms.skills), texts)

    def run(
        self,
        config: RunConfig,
        influence: Influence | None,
        *,
        reported: Sequence[str],
        report_tokens: int | None,
        watched: Sequence[str],
        from_tokens: float = 0.0,
        enough: Callable[[Curve], bool] = lambda curve: False,
        judged: str = "report",
    ) -> Curve:
        """Train to the budget `config.tokens`, or until it is enough.

        Args:
            config: mixer, seed, train, batches_per_round, global_batch, max_epochs, tokens; lookahead counts as 0.
            influence: What the mixer is made with.
            reported: Skills of the curve.
            report_tokens: Of the judging split per skill, about; None: all.
            watched: Skills of the control split whose losses the mixer gets; targets are enough where it has some.
            from_tokens: The judging split is evaluated after every fourth round before, after each from there.
            enough: Asked after each evaluation.
            judged: The split of the curve; `control` for runs that a choice is made from.
        """
        begin, train = time.process_time(), config.train
        pin_arithmetic(train)
        model = ByteTransformer(train)
        optimizer, updates = make_optimizer(model, train), 0
        control = self.split("control", watched, train.seq_len, train.eval_tokens_per_skill)
        report = self.split(judged, reported, train.seq_len, report_tokens)
        mixer = make_mixer(config.mixer.name, config.mixer.parameters, self.arms, influence)
        state = mixer.init()
        documents = config.batches_per_round * config.global_batch
        rounds = PoolRounds(
            self.pool,
            self.arms,
            config.seed,
            documents=documents,
            batch=config.global_batch,
            max_epochs=config.max_epochs,
        )
        signals = self._signals(config, mixer, rounds)
        curve, tokens, number = Curve([], [], list(reported)), 0, 0
        total, drawn = np.zeros(len(self.arms.ids)), np.zeros(len(self.arms.ids))
        while True:
            if mixer.uses_feedback:
                seen = evaluate(model, control, train.eval_windows)
                more = signals.measure(model, number - 1) if number else signals.untrained()
                state = mixer.update(state, _observed(seen, more, number, drawn, tokens))
            texts, realised = rounds.draw(mixer.mixture(state))
            updates = train_on(model, optimizer, training_windows(texts, train.seq_len), train, updates)
            drawn = realised.astype(np.float64)
            total, tokens, number = total + drawn, tokens + int(realised.sum()), number + 1
            last = tokens >= (config.tokens or 0)
            if last or tokens >= from_tokens or number % 4 == 0:
                losses = evaluate(model, report, train.eval_windows).losses
                curve.tokens.append(tokens)
                curve.losses.append([_measured(losses, skill) for skill in reported])
                if last or enough(curve):
                    break
        shares = self.arms.skill_weights(total / total.sum())
        return Curve(curve.tokens, curve.losses, curve.skills, time.process_time() - begin, shares)


def _observed(seen: Evaluation, more: Measured, number: int, drawn: FloatArray, tokens: int) -> Observation:
    """The report before round `number`, as the sampler would hand it to the mixer."""
    return Observation(
        round=None if number == 0 else number - 1,
        losses=seen.losses,
        eval_tokens=seen.eval_tokens,
        arm_losses=more.arm_losses,
        signals=more.signals or {},
        drawn_tokens=drawn,
        tokens_seen=tokens,
    )


def _measured(losses: dict[str, Any], skill: str) -> float:
    if losses[skill] is None:
        raise ValueError(f"the judging split has no token of {skill}")
    return float(losses[skill])
