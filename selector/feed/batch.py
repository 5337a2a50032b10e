"""What a feed hands out: one rank's share of one global batch."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Rows of one global step; lists of equal length, in the run's order."""

    ids: list[str]
    arms: list[str]
    skills: list[list[str]]  # per row, the skills of the document
    n_tokens: list[int]
    texts: list[str] | None  # None where the shards carry input_ids, or the text was not asked for
    input_ids: list[list[int]] | None  # None where no tokenizer is configured
    extra: dict[str, list[Any]] = field(default_factory=dict)  # other columns that were asked for, by name
    step: int  # global step s: this is a share of rows [s B, (s + 1) B) of the rounds laid end to end
    round: int
    last_of_round: bool
    state: dict[str, Any] | None  # the feed's state behind this batch; None inside an accumulation
    micro_batch: int | None = None  # rows of a micro-batch; None: the whole share

    def __len__(self) -> int:
        return len(self.ids)

    def micro_batches(self) -> Iterator["Batch"]:
        """Pieces of `micro_batch` rows, for gradient accumulation.

        States exist at global steps only: the last piece alone has `state` and `last_of_round`.
        """
        size = self.micro_batch or len(self)
        for start in range(0, len(self), size):
            yield self._piece(start, start + size)

    def _piece(self, start: int, stop: int) -> "Batch":
        last = stop >= len(self)
        return Batch(
            ids=self.ids[start:stop],
            arms=self.arms[start:stop],
            skills=self.skills[start:stop],
            n_tokens=self.n_tokens[start:stop],
            texts=None if self.texts is None else self.texts[start:stop],
            input_ids=None if self.input_ids is None else self.input_ids[start:stop],
            extra={name: values[start:stop] for name, values in self.extra.items()},
            step=self.step,
            round=self.round,
            last_of_round=self.last_of_round and last,
            state=self.state if last else None,
        )


@dataclass(frozen=True, slots=True)
class HoldoutDocument:
    """A document that is never in a shard: it steers the mixer (control) or judges (report)."""

    id: str
    text: str
    skills: tuple[str, ...]
