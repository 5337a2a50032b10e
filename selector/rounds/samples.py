"""What a row of a shard is: a document as text, a document as tokens, or a row of `seq_len` tokens packed with pieces.

Columns of packed rows, one entry per piece in the lists: `input_ids` (seq_len of them, the unused end holds `pad`),
`lengths`, `ids`, `arms`, `skills`, `n_tokens` (tokens of the document itself: without bos and eos) and `starts` (where
in its document, bos included, a piece begins).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from prereq.graph.errors import ConfigError, ManifestError
from prereq.selector.rounds.order import IntArray
from prereq.selector.rounds.packing import Packing

Kind = Literal["text", "tokens", "packed"]
Tokens = npt.NDArray[np.int32]
Encode = Callable[[str], Tokens]  # a text -> its tokens `(n,)`, without bos and eos
PACKED_COLUMNS = ("input_ids", "lengths", "ids", "arms", "skills", "n_tokens", "starts")
_LARGEST = 2**31  # token numbers are int32


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplesConfig:
    """What a sample of a run is; the key `samples` of a configuration file."""

    kind: Kind = "text"  # text: a document; tokens: a document with input_ids; packed: seq_len tokens of documents
    seq_len: int = 2048  # tokens in a packed row
    bos: int | str | None = None  # token put before each document: its number, or its name in the tokenizer's file
    eos: int | str | None = None  # token put behind each document, likewise
    pad: int | str = 0  # token in the unused end of packed rows, likewise; it carries no weight

    def __post_init__(self) -> None:
        if self.kind not in ("text", "tokens", "packed"):
            raise ConfigError(f"samples.kind: {self.kind!r} is not one of text, tokens, packed")
        if self.seq_len < 2:
            raise ConfigError(f"samples.seq_len: must be 2 or more tokens, got {self.seq_len}")
        for name in ("bos", "eos", "pad"):
            value = getattr(self, name)
            if isinstance(value, int) and not 0 <= value < _LARGEST:
                raise ConfigError(f"samples.{name}: must be a token number from 0 to 2**31 - 1, got {value}")
        if self.kind == "text" and not (self.bos is None and self.eos is None):
            raise ConfigError("samples.bos, samples.eos: go with samples.kind tokens or packed; text has no tokens")

    @property
    def special(self) -> int:
        """Tokens that each document gets beside its own."""
        return (self.bos is not None) + (self.eos is not None)

    def numbered(self, number: Callable[[str], int]) -> "SamplesConfig":
        """The same with numbers for names; `number` raises ConfigError for a name that the tokenizer does not know."""
        bos, eos, pad = (number(v) if isinstance(v, str) else v for v in (self.bos, self.eos, self.pad))
        return SamplesConfig(kind=self.kind, seq_len=self.seq_len, bos=bos, eos=eos, pad=0 if pad is None else pad)

    def drawing_keys(self) -> dict[str, Any]:
        """The keys that change a shard, with numbers for names; beside them stands the tokenizer's identity."""
        keys: dict[str, Any] = {"kind": self.kind, "bos": self.bos, "eos": self.eos}
        return keys if self.kind == "tokens" else {**keys, "seq_len": self.seq_len, "pad": self.pad}


@dataclass(frozen=True, slots=True)
class Encoded:
    """Tokens of documents end to end, bos and eos included."""

    flat: Tokens  # (tokens,)
    ends: IntArray  # (documents,) behind each document


def encode_documents(documents: pa.Table, samples: SamplesConfig, encode: Encode) -> Encoded:
    """Encode the texts of a table of documents.

    Raises:
        ManifestError: A document has another number of tokens than the pool says.
        ConfigError: `samples` still has names for tokens.
    """
    first, last = _number(samples.bos, "bos"), _number(samples.eos, "eos")
    head = [] if first is None else [np.array([first], dtype=np.int32)]
    tail = [] if last is None else [np.array([last], dtype=np.int32)]
    pieces: list[Tokens] = []
    lengths = np.empty(documents.num_rows, dtype=np.int64)
    counts = documents["n_tokens"].to_numpy()
    for index, text in enumerate(documents["text"].to_pylist()):
        ids = encode(text)
        if len(ids) != counts[index]:
            raise ManifestError(
                f"document {documents['id'][index].as_py()!r}: the tokenizer gives {len(ids)} tokens, the pool was "
                f"counted with {counts[index]}; use the tokenizer that the pool was built with, or build a pool with "
                "this one"
            )
        pieces += [*head, ids, *tail]
        lengths[index] = len(ids) + samples.special
    flat = np.concatenate(pieces) if pieces else np.empty(0, dtype=np.int32)
    return Encoded(flat.astype(np.int32, copy=False), np.cumsum(lengths))


def with_tokens(documents: pa.Table, samples: SamplesConfig, encode: Encode) -> pa.Table:
    """Documents with a column `input_ids` behind the others."""
    encoded = encode_documents(documents, samples, encode)
    return documents.append_column("input_ids", _lists(encoded.ends, pa.array(encoded.flat)))


def packed_rows(documents: pa.Table, packing: Packing, rows: int, samples: SamplesConfig, encode: Encode) -> pa.Table:
    """The packed rows of a round.

    Args:
        documents: In the order that the packing counts them in.
        packing: Where each piece lies.
        rows: Rows of the round.
        samples: Row length and special tokens.
        encode: Text to tokens.

    Returns:
        A table of `rows` rows with `PACKED_COLUMNS`.
    """
    encoded = encode_documents(documents, samples, encode)
    starts = np.concatenate([[0], encoded.ends[:-1]])
    origin = starts[packing.document] + packing.start
    flat = np.full(rows * samples.seq_len, _number(samples.pad, "pad"), dtype=np.int32)
    target = packing.row * samples.seq_len + packing.column
    places = zip(origin.tolist(), target.tolist(), packing.length.tolist(), strict=True)
    for at, to, length in places:
        flat[to : to + length] = encoded.flat[at : at + length]
    ends = np.searchsorted(packing.row, np.arange(rows), side="right")  # pieces up to the end of each row
    taken = documents.select(["id", "arm", "skills"]).take(pa.array(packing.document)).combine_chunks()
    ids, arms, skills = (_one(taken[name]) for name in ("id", "arm", "skills"))
    lists = {
        "input_ids": pa.ListArray.from_arrays(_offsets(np.arange(1, rows + 1) * samples.seq_len), pa.array(flat)),
        "lengths": _lists(ends, pa.array(packing.length.astype(np.int32))),
        "ids": _lists(ends, ids),
        "arms": _lists(ends, arms),
        "skills": _lists(ends, skills),
        "n_tokens": _lists(ends, pa.array(_own_tokens(packing, encoded, starts, samples).astype(np.int32))),
        "starts": _lists(ends, pa.array(packing.start.astype(np.int32))),
    }
    return pa.table({name: lists[name] for name in PACKED_COLUMNS})


def _own_tokens(packing: Packing, encoded: Encoded, starts: IntArray, samples: SamplesConfig) -> IntArray:
    """Tokens of each piece without bos and eos."""
    length = (encoded.ends - starts)[packing.document]
    own = packing.length.copy()
    if samples.bos is not None:
        own -= packing.start == 0
    if samples.eos is not None:
        own -= packing.start + packing.length == length
    return own


def _number(value: int | str | None, name: str) -> int | None:
    if isinstance(value, str):
        raise ConfigError(f"samples.{name}: the token {value!r} needs its number; the tokenizer knows it")
    return value


def _one(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks)


def _offsets(ends: Sequence[int] | IntArray) -> pa.Array:
    offsets = np.concatenate([[0], ends])
    if offsets[-1] >= _LARGEST:
        raise ConfigError(
            f"a round holds {offsets[-1]} tokens, lists in a shard hold 2**31; lower batches_per_round or seq_len"
        )
    return pa.array(offsets.astype(np.int32))


def _lists(ends: IntArray, values: pa.Array) -> pa.Array:
    return pa.ListArray.from_arrays(_offsets(ends), values)
