"""Tokenizers: what a token is when documents are counted, mixed and handed to a trainer."""

import os
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from prereq.graph.canonical import sha256_hex
from prereq.graph.errors import ConfigError
from prereq.selector.corpus.rank_tokens import RANKS, RankTokenizer, ranks_identity, read_ranks


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

    def number(self, token: str) -> int:
        """The number of a token by its name, for example of `<|endoftext|>`; ConfigError where there is none."""
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

    def number(self, token: str) -> int:
        """Bytes have no names."""
        raise _no_such_token(self, token)


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

    def number(self, token: str) -> int:
        """The number of a token of the file."""
        found = self._engine.token_to_id(token)
        if found is None:
            raise _no_such_token(self, token)
        return int(found)


class CallableTokenizer:
    """Any function from a text to token numbers, under a name that configurations can use once it is registered.

    Args:
        name: What `tokenizer:` says in a configuration.
        version: Changes whenever the function's results do; name and version are the tokenizer's identity.
        encode: Text -> token numbers; depends on nothing but the text.
        vocabulary: Token numbers are below it.
        names: Numbers of tokens by name, for `samples.bos`, `eos` and `pad`.
    """

    def __init__(
        self,
        name: str,
        version: str,
        encode: Callable[[str], Sequence[int] | npt.NDArray[np.integer[Any]]],
        vocabulary: int,
        names: Mapping[str, int] | None = None,
    ) -> None:
        if not name or name == BytesTokenizer.name or name.lower().endswith(".json") or not version:
            raise ConfigError(f"tokenizer {name!r}, version {version!r}: needs a name of its own, no .json, a version")
        self.name, self.version, self.vocabulary = name, version, vocabulary
        self._encode, self._names = encode, dict(names or {})

    def count(self, text: str) -> int:
        """Number of tokens of a text."""
        return len(self._encode(text))

    def counts(self, texts: Sequence[str]) -> npt.NDArray[np.int64]:
        """Number of tokens of each text, `(n,)`."""
        return np.fromiter(map(self.count, texts), dtype=np.int64, count=len(texts))

    def encode(self, text: str) -> npt.NDArray[np.int32]:
        """The tokens of a text, `(count,)`; ConfigError where a number is not of the vocabulary."""
        ids = np.asarray(self._encode(text), dtype=np.int64)
        if len(ids) and not 0 <= int(ids.min()) <= int(ids.max()) < self.vocabulary:
            raise ConfigError(
                f"tokenizer {self.name}: gave token numbers {ids.min()} to {ids.max()}, its vocabulary is "
                f"{self.vocabulary}"
            )
        return ids.astype(np.int32)

    def number(self, token: str) -> int:
        """The number of a token by its name."""
        if token not in self._names:
            raise _no_such_token(self, token)
        return self._names[token]


_registered: dict[str, CallableTokenizer] = {}


def register_tokenizer(tokenizer: CallableTokenizer) -> None:
    """Let configurations of this process name a tokenizer that is a function; build with `ray.num_cpus: 0`.

    Raises:
        ConfigError: Another version is registered under its name.
    """
    known = _registered.setdefault(tokenizer.name, tokenizer)
    if known.version != tokenizer.version:
        raise ConfigError(f"tokenizer {tokenizer.name}: version {known.version} is registered, not {tokenizer.version}")
    _registered[tokenizer.name] = tokenizer


def _no_such_token(tokenizer: Tokenizer, token: str) -> ConfigError:
    return ConfigError(f"tokenizer {tokenizer.name}: has no token named {token!r}; give its number")


def make_tokenizer(spec: str) -> Tokenizer:
    """The tokenizer that a configuration names.

    Args:
        spec: `bytes`, the path of a Hugging Face tokenizer file, which ends in .json, or of ranks as tiktoken reads
            them, which ends in .tiktoken, or a registered name.

    Raises:
        ConfigError: No tokenizer has that name, or its file or library is missing or cannot be used.
    """
    if spec == BytesTokenizer.name:
        return BytesTokenizer()
    if spec in _registered:
        return _registered[spec]
    if spec.lower().endswith(RANKS):
        return _load_ranks(spec, *read_ranks(spec))
    return _load(spec, _read(spec))


def tokenizer_identity(spec: str) -> str:
    """What makes two tokenizers the same: `bytes`, the sha256 of the file wherever it lies, or name and version.

    Raises:
        ConfigError: As `make_tokenizer`.
    """
    if spec in _registered:
        return f"callable {spec} version {_registered[spec].version}"
    if spec.lower().endswith(RANKS):
        return ranks_identity(spec)
    return spec if spec == BytesTokenizer.name else f"tokenizer.json sha256:{sha256_hex(_read(spec))}"


@lru_cache(maxsize=4)
def _load(path: str, data: bytes) -> FileTokenizer:
    """One per content: a large vocabulary takes a second to load, and every part asks for it."""
    return FileTokenizer(path, data)


@lru_cache(maxsize=4)
def _load_ranks(path: str, data: bytes, pattern: str) -> RankTokenizer:
    return RankTokenizer(path, data, pattern)


def _read(spec: str) -> bytes:
    if not spec.lower().endswith(".json"):
        raise ConfigError(
            f"tokenizer {spec!r} is unknown; the tokenizers are: {BytesTokenizer.name}, the path of a tokenizer.json "
            f"or of ranks (NAME{RANKS}), or what register_tokenizer was given in this process"
        )
    try:
        return Path(spec).expanduser().read_bytes()
    except OSError as error:
        raise ConfigError(f"tokenizer {spec}: cannot be read ({error.strerror}, from {os.getcwd()})") from error
