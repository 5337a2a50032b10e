"""Tokenizers: what a token is when documents are counted, mixed and handed to a trainer."""

import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from prereq.graph.canonical import sha256_hex
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


class FileTokenizer:
    """A Hugging Face `tokenizer.json`, run by the library `tokenizers` (extra `tokenizers`).

    Counts are of the text itself: no special tokens are added, nothing is cut or padded, and what looks like a special
    token inside a text is plain text, so that no document can write control tokens.
    """

    def __init__(self, path: str, data: bytes) -> None:
        try:
            from tokenizers import Tokenizer as Engine
        except ImportError as error:
            raise ConfigError(f"tokenizer {path}: needs the library tokenizers; install prereq[tokenizers]") from error
        try:
            self._engine: Any = Engine.from_buffer(data)
        except Exception as error:
            raise ConfigError(f"tokenizer {path}: is not a tokenizer.json that can be read: {error}") from error
        self._engine.no_truncation()
        self._engine.no_padding()
        self._engine.encode_special_tokens = True
        self.name = path
        self.vocabulary = int(self._engine.get_vocab_size(with_added_tokens=True))

    def count(self, text: str) -> int:
        """Number of tokens of a text."""
        return len(self._engine.encode(text, add_special_tokens=False))

    def counts(self, texts: Sequence[str]) -> npt.NDArray[np.int64]:
        """Number of tokens of each text, `(n,)`."""
        return np.fromiter(map(self.count, texts), dtype=np.int64, count=len(texts))

    def encode(self, text: str) -> npt.NDArray[np.int32]:
        """The tokens of a text, `(count,)`."""
        return np.asarray(self._engine.encode(text, add_special_tokens=False).ids, dtype=np.int32)


def make_tokenizer(spec: str) -> Tokenizer:
    """The tokenizer that a configuration names.

    Args:
        spec: `bytes`, or the path of a Hugging Face tokenizer file, which ends in .json.

    Raises:
        ConfigError: No tokenizer has that name, or its file or library is missing or cannot be used.
    """
    if spec == BytesTokenizer.name:
        return BytesTokenizer()
    return _load(spec, _read(spec))


def tokenizer_identity(spec: str) -> str:
    """What makes two tokenizers the same: `bytes`, or the sha256 of the file, wherever it lies.

    Raises:
        ConfigError: As `make_tokenizer`.
    """
    return spec if spec == BytesTokenizer.name else f"tokenizer.json sha256:{sha256_hex(_read(spec))}"


@lru_cache(maxsize=4)
def _load(path: str, data: bytes) -> FileTokenizer:
    """One per content: a large vocabulary takes a second to load, and every part asks for it."""
    return FileTokenizer(path, data)


def _read(spec: str) -> bytes:
    if not spec.lower().endswith(".json"):
        raise ConfigError(
            f"tokenizer {spec!r} is unknown; the tokenizers are: {BytesTokenizer.name}, or the path of a tokenizer.json"
        )
    try:
        return Path(spec).expanduser().read_bytes()
    except OSError as error:
        raise ConfigError(f"tokenizer {spec}: cannot be read ({error.strerror}, from {os.getcwd()})") from error
