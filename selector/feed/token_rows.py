"""Rows of tokens as rectangles, with what masks and losses need: where documents begin, and what is padding."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from prereq.graph.errors import ConfigError

Tokens = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class TokenRows:
    """Rows of documents' tokens.

    Attributes:
        input_ids: int32 `(rows, width)`; behind the last document of a row lies padding.
        lengths: Per row, int32 `(pieces,)` tokens of each document or piece of one, from the left.
        starts: Per row, int32 `(pieces,)` the token of its document at which each begins: 0, or more where a document
            was cut.
    """

    input_ids: Tokens
    lengths: Sequence[Tokens]
    starts: Sequence[Tokens]

    def segments(self) -> Tokens:
        """Which document of its row each token belongs to: 1, 2, ...; 0 for padding. int32 `(rows, width)`."""
        owner, out = self._owners(), np.zeros(self.input_ids.size, dtype=np.int32)
        lengths, _, counts = self._flat()
        number = np.arange(len(lengths)) - np.repeat(np.cumsum(counts) - counts, counts) + 1
        out[owner[0]] = np.repeat(number, lengths)
        return out.reshape(self.input_ids.shape)

    def positions(self, *, in_document: bool = False) -> Tokens:
        """Position of each token from the beginning of its piece; 0 for padding. int32 `(rows, width)`.

        Args:
            in_document: Count from the beginning of its document, for pieces that do not begin one.
        """
        at, first = self._owners()
        lengths, starts, _ = self._flat()
        out = np.zeros(self.input_ids.size, dtype=np.int32)
        out[at] = at - first + (np.repeat(starts, lengths) if in_document else 0)
        return out.reshape(self.input_ids.shape)

    def loss_mask(self, *, across: bool = False) -> npt.NDArray[np.bool_]:
        """Which tokens are to be predicted from the tokens before them in their row; bool `(rows, width)`.

        The first token of a row never is, padding never is, and the first token of a document only with `across`.
        """
        at, first = self._owners()
        width = self.input_ids.shape[1]
        out = np.zeros(self.input_ids.size, dtype=np.bool_)
        out[at] = (at % width != 0) if across else (at != first)
        return out.reshape(self.input_ids.shape)

    def attention_mask(self) -> npt.NDArray[np.bool_]:
        """Causal and inside documents: bool `(rows, width, width)`, [r, i, j] is whether token i sees token j.

        Padding sees itself alone, so that no row of a softmax is empty. Large: for kernels that want it whole.
        """
        segments, width = self.segments(), self.input_ids.shape[1]
        same = (segments[:, :, None] == segments[:, None, :]) & (segments[:, :, None] > 0)
        causal = np.tri(width, dtype=np.bool_)
        return (same & causal) | np.eye(width, dtype=np.bool_)

    def borders(self) -> npt.NDArray[np.int32]:
        """Where documents begin in the rows laid end to end, padding as a document of its own; int32, from 0 to size.

        What kernels for sequences of unequal length call cu_seqlens.
        """
        at, first = self._owners()
        width = self.input_ids.shape[1]
        used = np.array([int(row.sum()) for row in self.lengths], dtype=np.int64)
        padding = np.arange(len(used)) * width + used
        edges = np.concatenate([first[at == first], padding[used < width], [self.input_ids.size]])
        return np.unique(edges).astype(np.int32)

    def _flat(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Lengths and starts of all pieces, and pieces per row."""
        counts = np.array([len(row) for row in self.lengths], dtype=np.int64)
        empty = np.empty(0, dtype=np.int64)
        lengths = np.concatenate([empty, *self.lengths]).astype(np.int64)
        return lengths, np.concatenate([empty, *self.starts]).astype(np.int64), counts

    def _owners(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Of every token that is no padding: its place in the rows end to end, and that of its piece's first token."""
        lengths, _, counts = self._flat()
        row = np.repeat(np.arange(len(counts)), counts)
        before = np.cumsum(lengths) - lengths
        used = np.bincount(row, weights=lengths, minlength=len(counts)).astype(np.int64)
        in_row = before - (np.cumsum(used) - used)[row]
        first = row * self.input_ids.shape[1] + in_row
        begin = np.repeat(first, lengths)
        return begin + np.arange(len(begin)) - np.repeat(before, lengths), begin


def pad_rows(rows: Sequence[Tokens], pad: int, width: int | None) -> TokenRows:
    """Documents as rows of equal width, one each.

    Args:
        rows: Tokens of each document.
        pad: Token in the unused end.
        width: Tokens of a row; longer documents are cut off there. None: the longest document's.

    Raises:
        ConfigError: The width is below 1.
    """
    if width is not None and width < 1:
        raise ConfigError(f"rows of {width} tokens were asked for; 1 is the least")
    widest = max((len(row) for row in rows), default=0) if width is None else width
    out = np.full((len(rows), widest), pad, dtype=np.int32)
    lengths = [min(len(row), widest) for row in rows]
    for index, (row, length) in enumerate(zip(rows, lengths, strict=True)):
        out[index, :length] = row[:length]
    sizes = [np.array([length], dtype=np.int32) for length in lengths]
    return TokenRows(out, sizes, [np.zeros(1, dtype=np.int32)] * len(rows))
