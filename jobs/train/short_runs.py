"""Influence learned by short runs of the reference trainer, one for each training skill, from a common start.

A short run trains on one skill's documents for a few steps; what it does to the control loss of every skill is that
skill's row. Nothing of a run's folder is read or written.
"""

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from prereq.graph.errors import PrereqError
from prereq.graph.influence import Influence
from prereq.jobs.train.config import LearnConfig, TrainConfig
from prereq.jobs.train.evaluate import Evaluation, evaluate, prepare
from prereq.jobs.train.model import ByteTransformer, make_optimizer
from prereq.jobs.train.pool_rounds import PoolRounds
from prereq.jobs.train.trainer import pin_arithmetic
from prereq.jobs.train.update import train_on
from prereq.jobs.train.windows import Windows, training_windows
from prereq.selector.feed import HoldoutDocument
from prereq.selector.mixers.protocol import Arms
from prereq.selector.mixers.simplex import FloatArray
from prereq.selector.rounds.pool import Pool, read_holdout

Row = dict[str, float]
_BATCH = 16  # documents over which the arms are spread evenly
_MANY_EPOCHS = 1_000_000  # a small skill is repeated rather than refused
_DIGITS = 6  # of a drop, as of the losses


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnedFrom:
    """What short runs of one pool need: everything that decides their result."""

    pool: Pool
    arms: Arms
    train: TrainConfig
    learn: LearnConfig
    seed: int  # order of the documents

    @property
    def skills(self) -> tuple[str, ...]:
        """Skills with tokens to train on, in the pool's order."""
        amounts = self.arms.skill_tokens
        return tuple(skill for skill, tokens in zip(self.arms.skills, amounts, strict=False) if tokens > 0)

    def mixture(self, skill: str) -> FloatArray:
        """Shares of tokens `(n,)` of a short run: `own_share` for one skill, the rest in even shares."""
        own = self._spread([skill])
        if self.learn.own_share == 1.0:
            return own
        return self.learn.own_share * own + (1.0 - self.learn.own_share) * self.even

    @property
    def even(self) -> FloatArray:
        """The same share for every skill with tokens, `(n,)`."""
        return self._spread(self.skills)

    def _spread(self, skills: tuple[str, ...] | list[str]) -> FloatArray:
        wanted = np.array([float(column in skills) for column in self.arms.shares.columns])
        weights = self.arms.spread_skills(wanted)
        return weights / weights.sum()


class ShortRuns:
    """The common start, and a row of influence for each skill from there.

    Raises:
        PrereqError: The control split has no token of any skill.
    """

    def __init__(self, source: LearnedFrom) -> None:
        pin_arithmetic(source.train)
        self._source, config = source, source.train
        rows = read_holdout(source.pool.folder, "control").select(["id", "text", "skills"]).to_pylist()
        held = [HoldoutDocument(row["id"], row["text"], tuple(row["skills"])) for row in rows]
        self._control = prepare(held, source.arms.skills, config.seq_len, config.eval_tokens_per_skill)
        if not self._control.measures:
            raise PrereqError(
                f"{source.pool.folder.name}: the holdout's control split holds no tokens of any skill; build the pool "
                "with a larger holdout"
            )
        mean = max(1.0, float(source.arms.tokens.sum() / max(1, source.arms.rows.sum())))
        documents = _BATCH * max(1, round(config.windows_per_step * config.seq_len / mean / _BATCH))
        self._rounds = PoolRounds(
            source.pool, source.arms, source.seed, documents=documents, batch=_BATCH, max_epochs=_MANY_EPOCHS
        )
        self._model = ByteTransformer(config).to(config.device)
        self._optimizer = make_optimizer(self._model, config)
        self._updates = self._train_start()
        self._before = self._evaluate(self._model)

    def row(self, skill: str) -> Row:
        """Drop of each measured skill's control loss (nats per token, or its share) after a short run on `skill`."""
        model, rounds = copy.deepcopy(self._model), self._rounds.fork()
        optimizer = make_optimizer(model, self._source.train)
        optimizer.load_state_dict(copy.deepcopy(self._optimizer.state_dict()))
        config = self._source.train
        windows = _windows(rounds, self._source.mixture(skill), self._source.learn.steps, config)
        train_on(model, optimizer, windows, config, self._updates)
        return drops(self._before.losses, self._evaluate(model).losses, relative=self._source.learn.relative)

    @property
    def start_loss(self) -> float:
        """Mean control loss of the common start, nats per token."""
        return self._before.mean

    def _train_start(self) -> int:
        config, tokens, updates = self._source.train, self._source.learn.start_tokens, 0
        steps = math.ceil(tokens / (config.windows_per_step * config.seq_len))
        if steps:
            windows = _windows(self._rounds, self._source.even, steps, config)
            updates = train_on(self._model, self._optimizer, windows, config, updates)
        return updates

    def _evaluate(self, model: torch.nn.Module) -> Evaluation:
        return evaluate(model, self._control, self._source.train.eval_windows)


def _windows(rounds: PoolRounds, mixture: FloatArray, steps: int, config: TrainConfig) -> Windows:
    """Exactly as many full windows as some steps take."""
    wanted, parts, have = steps * config.windows_per_step, [], 0
    while have < wanted:
        part = training_windows(rounds.draw(mixture)[0], config.seq_len)
        parts.append(Windows(part.inputs[:-1], part.targets[:-1]) if len(part.inputs) > 1 else part)  # last: padded
        have += len(parts[-1].inputs)
    inputs, targets = (np.concatenate(side)[:wanted] for side in zip(*parts, strict=True))
    return Windows(inputs, targets)


def drops(before: Mapping[str, float | None], after: Mapping[str, float | None], *, relative: bool) -> Row:
    """What a short run did to each loss: before minus after, in nats per token.

    Args:
        before: Loss of each skill at the common start; None where not measured.
        after: The same behind the short run.
        relative: Divide by the loss before; a loss of 0 there has no share, so that skill is left out.

    Source:
        Chen et al. 2023, "Skill-it!", arXiv:2307.14430, section 3.1 (delta_j = L_j(f) - L_j(f_H)); the shares are ours,
        in the unit of their dynamics L' = L (1 - A'p).
    """
    found: Row = {}
    for name, loss in after.items():
        start = before.get(name)
        if start is None or loss is None or (relative and start == 0.0):
            continue
        found[name] = round((start - loss) / start if relative else start - loss, _DIGITS)
    return found


def learn_rows(
    source: LearnedFrom, known: Mapping[str, Row], keep: Callable[[dict[str, Row]], None], say: Callable[[str], None]
) -> dict[str, Row]:
    """Rows of all skills; those that are known are not run again.

    Args:
        source: What decides them.
        known: Rows of an earlier call with the same source.
        keep: Called with all rows so far after each short run.
        say: Called with a line about the common start.
    """
    rows = {skill: dict(known[skill]) for skill in source.skills if skill in known}
    if len(rows) == len(source.skills):
        return rows
    runs = ShortRuns(source)
    say(f"common start: mean control loss {runs.start_loss:.4f} after {source.learn.start_tokens:,} tokens")
    for skill in source.skills:
        if skill not in rows:
            rows[skill] = runs.row(skill)
            keep(rows)
    return rows


def as_influence(source: LearnedFrom, rows: Mapping[str, Row]) -> Influence:
    """The matrix: row i is the short run on skill i, column j the drop of skill j's loss.

    Source:
        Chen et al. 2023, "Skill-it!", arXiv:2307.14430, Algorithm 3 (approximate); negative drops are kept, as in the
        matrices that were published with it: a mixer's `negatives: clip` drops them.
    """
    train = source.skills
    columns = tuple(skill for skill in source.arms.skills if all(skill in rows[name] for name in train))
    return Influence(train, columns, np.array([[rows[name][skill] for skill in columns] for name in train]))
