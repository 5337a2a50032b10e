"""Cuts a text that is too long into pieces at the best border there is."""

from collections.abc import Iterator

# best first; a cut goes behind the border, so that the pieces laid end to end are the text
_BORDERS = (b"\n\n", b"\n", b" ")


def split_text(text: str, max_bytes: int) -> Iterator[str]:
    """Yield pieces of at most `max_bytes` UTF-8 bytes (at least 4); joined they are `text`.

    Each cut is behind the last blank line in the second half of the next `max_bytes` bytes, else behind the last line
    end there, else behind the last space, else between two code points.
    """
    data = text.encode()
    start = 0
    while len(data) - start > max_bytes:
        stop = _cut(data, start, max_bytes)
        yield data[start:stop].decode()
        start = stop
    yield data[start:].decode()


def _cut(data: bytes, start: int, max_bytes: int) -> int:
    end = start + max_bytes
    for border in _BORDERS:
        found = data.rfind(border, start + max_bytes // 2, end)
        if found >= 0:
            return found + len(border)
    while data[end] & 0xC0 == 0x80:  # inside a code point
        end -= 1
    return end
