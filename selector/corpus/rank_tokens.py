"""Byte-pair vocabularies as tiktoken reads them: a file of ranks, and beside it the pattern that goes with them."""

import base64
import binascii
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from prereq.graph.canonical import sha256_hex
from prereq.graph.errors import ConfigError

RANKS, PATTERN = ".tiktoken", ".pattern"  # suffixes: of a file of ranks, and behind it, of its pattern


class RankTokenizer:
    """A vocabulary of ranks, run by the library `tiktoken` (extra `tiktoken`), which counts as it does elsewhere.

    The file NAME.tiktoken has a token in base64 and its rank a line; NAME.tiktoken.pattern holds the regular expression
    that cuts texts before pairs are merged, which the ranks do not say. Special tokens are not in such files: what
    looks like one is plain text.
    """

    def __init__(self, path: str, data: bytes, pattern: str) -> None:
        try:
            import tiktoken
        except ImportError as error:
            raise ConfigError(f"tokenizer {path}: needs the library tiktoken; install prereq[tiktoken]") from error
        ranks = _ranks(path, data)
        try:
            self._engine: Any = tiktoken.Encoding(path, pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
        except ValueError as error:
            raise ConfigError(f"tokenizer {path}{PATTERN}: is not a pattern that can be used: {error}") from error
        self.name = path
        self.vocabulary = max(ranks.values()) + 1

    def count(self, text: str) -> int:
        """Number of tokens of a text."""
        return len(self._engine.encode_ordinary(text))

    def counts(self, texts: Sequence[str]) -> npt.NDArray[np.int64]:
        """Number of tokens of each text, `(n,)`."""
        return np.fromiter(map(self.count, texts), dtype=np.int64, count=len(texts))

    def encode(self, text: str) -> npt.NDArray[np.int32]:
        """The tokens of a text, `(count,)`."""
        return np.asarray(self._engine.encode_ordinary(text), dtype=np.int32)

    def number(self, token: str) -> int:
        """The rank of an ordinary token; ranks name no special ones."""
        try:
            return int(self._engine.encode_single_token(token))
        except KeyError:
            raise ConfigError(f"tokenizer {self.name}: has no token {token!r}; give its number") from None


def read_ranks(path: str) -> tuple[bytes, str]:
    """The bytes of a file of ranks and its pattern.

    Raises:
        ConfigError: One of the two cannot be read.
    """
    hint = f"; NAME{RANKS}{PATTERN} holds the regular expression that goes with the ranks"
    data = _read(path, "")
    try:
        return data, _read(path + PATTERN, hint).decode().removesuffix("\n")
    except UnicodeDecodeError as error:
        raise ConfigError(f"tokenizer {path}{PATTERN}: is not UTF-8 ({error})") from error


def ranks_identity(path: str) -> str:
    """What makes two such vocabularies the same, wherever they lie.

    Raises:
        ConfigError: As `read_ranks`.
    """
    data, pattern = read_ranks(path)
    return f"tiktoken sha256:{sha256_hex(data)} pattern sha256:{sha256_hex(pattern.encode())}"


def _read(path: str, hint: str) -> bytes:
    try:
        return Path(path).expanduser().read_bytes()
    except OSError as error:
        raise ConfigError(f"tokenizer {path}: cannot be read ({error.strerror}, from {os.getcwd()}){hint}") from error


def _ranks(path: str, data: bytes) -> dict[bytes, int]:
    """Token -> rank; every single byte must be a token, or a text could not be encoded."""
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(data.splitlines(), start=1):
        try:
            token, rank = line.split()
            ranks[base64.b64decode(token, validate=True)] = int(rank)
        except (ValueError, binascii.Error) as error:
            raise ConfigError(
                f"tokenizer {path}:{number}: a line holds a token in base64 and its rank, this one {line[:40]!r}"
            ) from error
        if not 0 <= int(rank) < 2**31 or len(ranks) != number:
            raise ConfigError(f"tokenizer {path}:{number}: the rank is out of range or the token is there twice")
    if len(set(ranks.values())) != len(ranks) or any(bytes([byte]) not in ranks for byte in range(256)):
        raise ConfigError(f"tokenizer {path}: two tokens share a rank, or a single byte is no token; get the file anew")
    return ranks
