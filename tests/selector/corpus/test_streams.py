"""Bytes, decompressed and cut into lines: what is whole is kept, what is not is raised behind it."""

import bz2
import gzip
import io
import zlib
from collections.abc import Callable, Iterator

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from prereq.selector.corpus.streams import Damaged, blocks, lines

DATA = b"".join(b"line %d of some text that compresses\n" % number for number in range(5000))
PACK: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "zstd": lambda data: zstandard.ZstdCompressor(write_checksum=True).compress(data),
    "bz2": bz2.compress,
}


def read(data: bytes, compression: str) -> tuple[bytes, str]:
    """What can be had of a file, and the damage behind it."""
    found = []
    try:
        found += blocks(io.BytesIO(data), compression)
    except Damaged as error:
        return b"".join(found), str(error) or "damaged"
    return b"".join(found), ""


def test_plain_bytes_come_as_they_are():
    assert read(DATA, "") == (DATA, "")
    assert read(b"", "") == (b"", "")


@pytest.mark.parametrize("compression", PACK)
def test_one_member_or_several_come_whole(compression: str):
    pack = PACK[compression]
    assert read(pack(DATA), compression) == (DATA, "")
    assert read(pack(DATA) + pack(b"") + pack(b"tail"), compression) == (DATA + b"tail", "")
    assert read(pack(b""), compression) == (b"", "")


def test_zeros_behind_a_gzip_member_are_padding():
    assert read(gzip.compress(DATA) + b"\0" * 5000, "gzip") == (DATA, "")


@pytest.mark.parametrize("compression", PACK)
def test_a_truncated_file_gives_what_it_has_and_then_the_damage(compression: str):
    whole = PACK[compression](DATA)
    for cut in (0, 1, len(whole) // 2, len(whole) - 1):
        found, damage = read(whole[:cut], compression)
        assert damage
        assert DATA.startswith(found)
    if compression == "gzip":
        assert len(found) == len(DATA), "only the checksum was cut off"


@pytest.mark.parametrize("compression", PACK)
def test_what_is_not_compressed_is_damage(compression: str):
    assert read(b"just text", compression)[1]
    found, damage = read(PACK[compression](DATA) + b"rubbish", compression)
    assert found == DATA
    assert damage


def test_a_failing_device_is_damage_behind_what_was_read():
    class Failing(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            if self.tell():
                raise OSError(5, "Input/output error")
            return super().read(size)

    stream = blocks(Failing(b"x" * 200_000), "")
    assert next(stream) == b"x" * 65_536
    with pytest.raises(Damaged, match="Input/output error"):
        next(stream)


def test_a_decompression_bomb_is_read_in_bounded_pieces():
    bomb = zlib.compress(b"\0" * 50_000_000, wbits=31)
    sizes = [len(block) for block in blocks(io.BytesIO(bomb), "gzip")]
    assert sum(sizes) == 50_000_000
    assert max(sizes) < 2**21


def chunked(data: bytes, size: int) -> Iterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


@given(st.binary(max_size=60).map(lambda data: data.replace(b"a", b"\n")), st.integers(1, 9), st.integers(1, 12))
def test_lines_do_not_depend_on_the_blocks_that_they_come_in(data: bytes, size: int, limit: int):
    expected = data.split(b"\n")
    if not expected[-1]:
        expected.pop()
    found = list(lines(chunked(data, size), limit))
    assert found == [line if len(line) <= limit else len(line) for line in expected]


def test_a_giant_line_is_counted_and_never_held():
    held = 0

    def source() -> Iterator[bytes]:
        nonlocal held
        yield b"first\n"
        for _ in range(1000):
            yield b"x" * 100_000
        yield b"\nlast"

    found = list(lines(source(), 1_000_000))
    assert found == [b"first", 100_000_000, b"last"]


def test_damage_comes_behind_the_last_whole_line():
    def source() -> Iterator[bytes]:
        yield b"one\ntwo\nthr"
        raise Damaged("torn")

    found = lines(source(), 100)
    assert [next(found), next(found)] == [b"one", b"two"]
    with pytest.raises(Damaged, match="torn"):
        next(found)
