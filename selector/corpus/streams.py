"""The bytes of an input file: decompressed in small steps, cut into lines, each of bounded length.

Damage is raised behind everything that could be read before it.
"""

import bz2
import zlib
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, Protocol, cast

import pyarrow as pa

_BLOCK = 2**16  # bytes read at a time
_COUNTED = 2**20  # bytes read at a time where line ends are counted
_STEP = 2**10  # compressed bytes per step: bounds what one step can swell to, and what is lost with a damaged one


class Damaged(Exception):
    """The bytes of a file end too early, do not decompress or cannot be read."""


class Engine(Protocol):
    """What the decompressors of zlib, bz2 and zstandard have in common."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, /) -> bytes: ...


def blocks(stream: BinaryIO, compression: str) -> Iterator[bytes]:
    """Yield the file's bytes, decompressed (gzip, zstd, bz2; empty: as they are).

    Raises:
        Damaged: When the next bytes cannot be had; everything before them was yielded.
    """
    try:
        if compression:
            yield from _decompressed(stream, _engine(compression))
        else:
            while block := stream.read(_BLOCK):
                yield block
    except (OSError, pa.ArrowException, zlib.error) as error:
        raise Damaged(str(error)) from error


def range_blocks(stream: BinaryIO, start: int, stop: int) -> Iterator[bytes]:
    r"""Yield the bytes of the lines that begin in [start, stop) of an uncompressed file; the last may end behind it.

    Raises:
        Damaged: When the next bytes cannot be had; everything before them was yielded.
    """
    try:
        place = max(0, start - 1)  # a line begins at `start` where the byte before it ends one
        stream.seek(place)
        inside = start == 0
        while block := stream.read(_BLOCK):
            if not inside:
                end = block.find(b"\n") + 1
                place += end or len(block)
                if place >= stop:
                    return
                inside, block = end > 0, block[end:]
            if inside and place + len(block) >= stop:
                end = block.find(b"\n", max(0, stop - 1 - place)) + 1
                yield block[:end] if end else block
                if end:
                    return
            elif inside:
                yield block
            if inside:
                place += len(block)
    except (OSError, pa.ArrowException) as error:
        raise Damaged(str(error)) from error


def line_ends(stream: BinaryIO, start: int, stop: int) -> int:
    r"""The number of \n in [start, stop) of a file, as far as it can be read."""
    found = 0
    try:
        stream.seek(start)
        while start < stop and (block := stream.read(min(_COUNTED, stop - start))):
            found += block.count(b"\n")
            start += len(block)
    except (OSError, pa.ArrowException):  # whoever reads the lines says so; their numbers count what was there
        return found
    return found


def lines(source: Iterator[bytes], max_bytes: int) -> Iterator[bytes | int]:
    r"""Yield each line without its \n; for a line over `max_bytes`, which is never held, its length in bytes.

    Raises:
        Damaged: From `source`, behind the last line that is whole.
    """
    size = 0
    parts: list[bytes] = []  # of the line that is not complete yet; dropped while it is too long
    for block in source:
        *ended, rest = block.split(b"\n")
        for piece in ended:
            yield _line(parts, size + len(piece), piece, max_bytes)
            size, parts = 0, []
        size += len(rest)
        if size > max_bytes:
            parts = []
        else:
            parts.append(rest)
    if size:
        yield _line(parts, size, b"", max_bytes)


def _line(parts: list[bytes], size: int, piece: bytes, max_bytes: int) -> bytes | int:
    if size > max_bytes:
        return size
    return b"".join([*parts, piece]) if parts else piece


def _decompressed(stream: BinaryIO, make: Callable[[], Engine]) -> Iterator[bytes]:
    """Decompress one or more members (gzip), frames (zstd) or streams (bz2) laid end to end."""
    engine, inside, members = make(), False, 0
    while block := stream.read(_BLOCK):
        for start in range(0, len(block), _STEP):
            data = block[start : start + _STEP]
            while data:
                if members and not inside:
                    data = data.lstrip(b"\0")  # gzip files on tapes are padded with zeros
                    if not data:
                        break
                inside = True
                yield engine.decompress(data)
                data = b""
                if engine.eof:
                    data, engine, inside, members = engine.unused_data, make(), False, members + 1
    if inside or not members:
        raise Damaged("the compressed data end too early")


def _engine(compression: str) -> Callable[[], Engine]:
    if compression == "gzip":
        return lambda: zlib.decompressobj(wbits=31)  # 31: with gzip's header and checksum
    if compression == "bz2":
        return bz2.BZ2Decompressor
    import zstandard

    return lambda: _ZstdEngine(zstandard)


class _ZstdEngine:
    """zstandard's decompressor with its own error turned into the OSError that bz2 raises."""

    def __init__(self, module: Any) -> None:
        self._error, self._engine = module.ZstdError, cast(Engine, module.ZstdDecompressor().decompressobj())

    @property
    def eof(self) -> bool:
        return self._engine.eof

    @property
    def unused_data(self) -> bytes:
        return self._engine.unused_data

    def decompress(self, data: bytes, /) -> bytes:
        try:
            return self._engine.decompress(data)
        except self._error as error:
            raise OSError(str(error)) from error
