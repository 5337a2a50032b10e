"""Tokenizers: what a token is when documents are counted, mixed and handed to a trainer."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from prereq.graph.errors import ConfigError


class Tokenizer(Protocol):
    """Turns text into token numbers; `count(text) == len(encode(text))` always, and neither depends on other texts."""

    name: str  # what `make_tokenizer` was given
    vocabulary: int  # token numbers are below it

    def count(self, text: str) -> int:
        """Number of tokens of a text."""
        ...

    def counts(self, texts: Sequence[str]) -> npt.NDArray[np.int64]:
        """Number of tokens of each text, `(n,)`."""
        ...

    def encode(self, text: str) -> npt.NDArray[np.int32]:
        """The tokens of a text, `(count,)`."""
        ...


class BytesTokenizer:
    """UTF-8 bytes: 256 tokens, no model file, every text can be encoded."""

    name = "bytes"
    vocabulary = 256

    def count(self, text: str) -> int:
        """Number of UTF-8 bytes."""
        return len(text) if text.isascii() else len(text.encode())

    def counts(self, texts: Sequence[str]) -> npt.NDArray[np.int64]:
        """Number of UTF-8 bytes of each text, `(n,)`."""
        return np.fromiter(map(self.count, texts), dtype=np.int64, count=len(texts))

    def encode(self, text: str) -> npt.NDArray[np.int32]:
        """UTF-8 bytes as int32, `(count,)`."""
        return np.frombuffer(text.encode(), dtype=np.uint8).astype(np.int32)


def make_tokenizer(spec: str) -> Tokenizer:
    """The tokenizer that a configuration names.

    Args:
        spec: `bytes`.

    Raises:
        ConfigError: No tokenizer has that name.
    """
    if spec == BytesTokenizer.name:
        return BytesTokenizer()
    raise ConfigError(f"tokenizer {spec!r} is unknown; the tokenizers are: {BytesTokenizer.name}")
