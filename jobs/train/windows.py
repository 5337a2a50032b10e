"""Texts as windows of byte tokens. numpy only.

Token 0..255 is a byte of UTF-8; 256 separates documents. A target of IGNORE is padding and carries no loss.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from prereq.graph.errors import PrereqError
from prereq.selector.feed import Batch

SEPARATOR = 256
VOCABULARY = 257
IGNORE = -100  # what torch's cross_entropy leaves out by default

IntArray = npt.NDArray[np.int64]
Tokens = npt.NDArray[np.int32]


class Windows(NamedTuple):
    """Inputs and the token that follows each: both int64 `(windows, seq_len)`; padding has target IGNORE."""

    inputs: IntArray
    targets: IntArray


def encode(text: str) -> IntArray:
    """A text's bytes, int64 `(n,)`. Half characters (lone surrogates) have no UTF-8 and raise UnicodeEncodeError."""
    return np.frombuffer(text.encode(), dtype=np.uint8).astype(np.int64)


def training_windows(texts: Sequence[str], seq_len: int) -> Windows:
    """A batch's texts, end to end with separators around them, cut into windows.

    Every byte and the separator behind every text is a target exactly once; only the last window is padded.

    Args:
        texts: At least one.
        seq_len: Tokens in a window.
    """
    return _joined([encode(text) for text in texts], seq_len)


def batch_windows(batch: Batch, seq_len: int) -> Windows:
    """Windows of a batch of a feed, whether its rows are texts, tokens or packed."""
    if batch.input_ids is None:
        return training_windows(batch.texts or [], seq_len)
    return token_windows(batch.input_ids, batch.lengths or [None] * len(batch), seq_len)


def token_windows(rows: Iterable[Tokens], lengths: Sequence[Tokens | None], seq_len: int) -> Windows:
    """The same for rows of byte tokens; bos and eos give way to the separators, padding is left out.

    Args:
        rows: Tokens of each row.
        lengths: Per row, tokens of each document or piece of one in it; None: the row is one document.
        seq_len: Tokens in a window.

    Raises:
        PrereqError: There are tokens that are neither bytes nor the separator.
    """
    documents: list[Tokens] = []
    for row, parts in zip(rows, lengths, strict=True):
        documents += [row] if parts is None else np.split(row[: int(parts.sum())], np.cumsum(parts)[:-1])
    largest = max((int(document.max()) for document in documents if len(document)), default=0)
    if largest > SEPARATOR:
        raise PrereqError(
            f"the reference trainer reads bytes (tokens 0 to 255, {SEPARATOR} for bos and eos), a row has token "
            f"{largest}; train runs of another tokenizer in a loop of your own"
        )
    return _joined([document[document < SEPARATOR].astype(np.int64) for document in documents], seq_len)


def _joined(documents: Sequence[IntArray], seq_len: int) -> Windows:
    edge = np.array([SEPARATOR], dtype=np.int64)
    stream = np.concatenate([edge, *(part for document in documents for part in (document, edge))])
    return cut(stream[:-1], stream[1:], seq_len)


def cut(inputs: IntArray, targets: IntArray, seq_len: int) -> Windows:
    """Cut two aligned rows of tokens `(n,)` into windows of `seq_len`, the last padded."""
    windows = -(-len(inputs) // seq_len)
    padded = np.full(windows * seq_len, SEPARATOR, dtype=np.int64)
    aims = np.full(windows * seq_len, IGNORE, dtype=np.int64)
    padded[: len(inputs)], aims[: len(targets)] = inputs, targets
    return Windows(padded.reshape(windows, seq_len), aims.reshape(windows, seq_len))


def split_evenly(count: int, at_most: int) -> list[tuple[int, int]]:
    """Ranges that cover 0..count in pieces of nearly equal size, about `at_most` each, none much smaller."""
    pieces = max(1, -(-count // at_most))
    borders = [count * i // pieces for i in range(pieces + 1)]
    return list(pairwise(borders))
