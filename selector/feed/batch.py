"""What a feed hands out: one rank's share of one global batch."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from prereq.graph.errors import ConfigError
from prereq.selector.feed.token_rows import TokenRows, pad_rows

Tokens = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Rows of one global step, in the run's order; every column has an entry per row.

    Columns are sequences that turn into Python values when they are first looked at. Of packed rows `ids`, `arms` and
    `skills` hold a list per row, with an entry per piece of a document.
    """

    ids: Sequence[Any]  # str, or of packed rows list[str]
    arms: Sequence[Any]  # str, or list[str]
    skills: Sequence[Any]  # list[str] of the document, or one such list per piece
    n_tokens: Sequence[int]  # tokens of the row's documents themselves: no bos, eos or padding
    texts: Sequence[str] | None  # None where the shards carry input_ids, or the text was not asked for
    input_ids: Tokens | Sequence[Tokens] | None  # packed: (rows, seq_len); else a document's tokens each; None: text
    lengths: Sequence[Tokens] | None = None  # of packed rows: tokens of each piece, bos and eos included
    starts: Sequence[Tokens] | None = None  # of packed rows: token of its document at which each piece begins
    extra: dict[str, Sequence[Any]] = field(default_factory=dict)  # other columns that were asked for, by name
    step: int  # global step s: this is a share of rows [s B, (s + 1) B) of the rounds laid end to end
    round: int
    last_of_round: bool
    state: dict[str, Any] | None  # the feed's state behind this batch; None inside an accumulation
    micro_batch: int | None = None  # rows of a micro-batch; None: the whole share

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def packed(self) -> bool:
        """Whether rows are packed with pieces of documents."""
        return self.lengths is not None

    def token_rows(self, *, pad: int = 0, width: int | None = None) -> TokenRows:
        """The tokens as a rectangle with document borders, for masks and losses.

        Args:
            pad: Token in the unused end of rows that are not packed; packed ones have the run's.
            width: Tokens of rows that are not packed, longer documents are cut off; None: the longest document's.

        Raises:
            ConfigError: The rows hold no tokens, or a width was asked for of packed rows.
        """
        if self.input_ids is None:
            raise ConfigError("batch: its rows hold no input_ids; sample the run with samples.kind tokens or packed")
        if not isinstance(self.input_ids, np.ndarray):
            return pad_rows(self.input_ids, pad, width)
        if self.lengths is None or self.starts is None:
            raise ConfigError("batch: packed rows need the columns lengths and starts; let the feed read them")
        if width not in (None, self.input_ids.shape[1]):
            raise ConfigError(f"batch: its rows are packed to {self.input_ids.shape[1]} tokens, not {width}")
        return TokenRows(self.input_ids, self.lengths, self.starts)

    def columns(self) -> dict[str, Sequence[Any]]:
        """The columns that are there, by name: id, arm, skills, n_tokens; text, input_ids, lengths, starts; others."""
        own: dict[str, Any] = {"id": self.ids, "arm": self.arms, "skills": self.skills, "n_tokens": self.n_tokens}
        own |= {"text": self.texts, "input_ids": self.input_ids, "lengths": self.lengths, "starts": self.starts}
        return {name: values for name, values in {**own, **self.extra}.items() if values is not None}

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
            lengths=None if self.lengths is None else self.lengths[start:stop],
            starts=None if self.starts is None else self.starts[start:stop],
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
