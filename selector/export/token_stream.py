"""The documents of a selection as token numbers, each ended by one token, for formats that know nothing but tokens.

Packed rows hold pieces of documents; each piece is a document of the export, in the order of the rows, with what the
run put around documents (samples.bos, samples.eos) and nothing more. Padding is left out.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from prereq.graph.errors import ConfigError, ManifestError
from prereq.selector.corpus.tokens import Tokenizer, make_tokenizer
from prereq.selector.export.selection import Selection

Tokens = npt.NDArray[np.int32]
BYTES_EOD = 256  # the first number that is no byte


@dataclass(frozen=True, slots=True)
class TokenStream:
    """How the rows of a selection become tokens."""

    selection: Selection
    tokenizer: Tokenizer | None  # None: rows hold tokens, and what made them is not known
    eod: int | None  # put behind each document; None: nothing is
    vocabulary: int | None  # token numbers are below it, `eod` included; None: not known

    def documents(self) -> Iterator[Tokens]:
        """The documents (or pieces) in order, `(tokens,)` each.

        Raises:
            ManifestError: Tokens do not add up to what the manifests say.
            ConfigError: A token number is not in the vocabulary.
        """
        total = 0
        for table in self.selection.tables():
            for ids in self._of(table):
                if self.vocabulary is not None and len(ids) and int(ids.max()) >= self.vocabulary:
                    raise ConfigError(
                        f"{self.selection.run.name}: holds token {int(ids.max())}, the vocabulary of "
                        f"{self.vocabulary} ends before; name the tokenizer that the run was made with"
                    )
                total += len(ids)
                yield ids if self.eod is None else np.append(ids, np.int32(self.eod))
        self._check(total)

    def _of(self, table: pa.Table) -> Iterator[Tokens]:
        if self.selection.kind == "packed":
            yield from _pieces(table)
        elif self.selection.kind == "tokens":
            for chunk in table["input_ids"].chunks:
                flat, offsets = chunk.values.to_numpy(zero_copy_only=False), chunk.offsets.to_numpy()
                for start, stop in pairwise(offsets.tolist()):
                    yield flat[start:stop]
        else:
            assert self.tokenizer is not None
            for text in table["text"].to_pylist():
                yield self.tokenizer.encode(text)

    def _check(self, total: int) -> None:
        """Compare with what the manifests say, except where another tokenizer than the run's makes its own tokens."""
        selection = self.selection
        if selection.kind == "text":
            if self.tokenizer is None or self.tokenizer.name != selection.tokenizer:
                return
            expected = selection.tokens
        else:
            special = (selection.bos is not None) + (selection.eos is not None)
            expected = selection.tokens + special * selection.documents
        if total != expected:
            raise ManifestError(
                f"{selection.run.name}: rounds {selection.manifests[0].round} to {selection.manifests[-1].round} hold "
                f"{total} tokens, their manifests say {expected}; is this the tokenizer that the run was made with?"
            )


def _pieces(table: pa.Table) -> Iterator[Tokens]:
    for row, lengths in zip(table["input_ids"], table["lengths"].to_pylist(), strict=True):
        ids = row.values.to_numpy(zero_copy_only=False)
        start = 0
        for length in lengths:
            yield ids[start : start + length]
            start += length


def open_tokens(selection: Selection, tokenizer: str | None, eod: int | str | None) -> TokenStream:
    """Decide how a selection becomes tokens.

    Args:
        selection: The rounds.
        tokenizer: `bytes` or a tokenizer.json; None: the one that the run was made with.
        eod: Token behind each document, by number or by its name in the tokenizer; "none": nothing; None: what the rows
            have already, else 256 with bytes.

    Raises:
        ConfigError: The tokenizer is not known, or what ends a document must be said.
    """
    named = tokenizer or selection.tokenizer
    if named is None and selection.kind == "text":
        raise ConfigError(f"{selection.run.name}: run.json names no tokenizer; give one: --tokenizer")
    if tokenizer is not None and selection.kind != "text" and tokenizer != selection.tokenizer:
        raise ConfigError(
            f"{selection.run.name}: its rows hold tokens of {selection.tokenizer}, and --tokenizer {tokenizer} "
            "cannot change them; leave it out"
        )
    made = None if named is None else _make(named, selection)
    number = _eod_number(selection, made, eod)
    special = [token + 1 for token in (number, selection.bos, selection.eos) if token is not None]
    return TokenStream(selection, made, number, None if made is None else max(made.vocabulary, *special, 1))


def _make(name: str, selection: Selection) -> Tokenizer | None:
    try:
        return make_tokenizer(name)
    except ConfigError:
        if selection.kind == "text":
            raise
        return None  # the rows hold tokens: only the vocabulary's size and its names are not known


def _eod_number(selection: Selection, tokenizer: Tokenizer | None, eod: int | str | None) -> int | None:
    if eod == "none":
        return None
    if selection.kind == "packed" and (eod is not None or selection.eos is None):
        raise ConfigError(
            f"{selection.run.name}: packed rows do not say where a document that was cut ends; give --eod none: each "
            "piece then stands for itself" + (", with the run's own eos" if selection.eos is not None else "")
        )
    if isinstance(eod, str) and not eod.isdigit():
        if tokenizer is None:
            raise ConfigError(f"--eod {eod}: no tokenizer is here that knows this name; give the token's number")
        return tokenizer.number(eod)
    if eod is not None:
        return int(eod)
    if selection.eos is not None:
        return None
    if tokenizer is not None and tokenizer.name == "bytes":
        return BYTES_EOD
    raise ConfigError(
        f"{selection.run.name}: what ends a document is not known; give --eod NUMBER (or its name in the tokenizer), "
        "or --eod none"
    )
