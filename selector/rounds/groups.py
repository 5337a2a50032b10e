"""Digests of a shard's row groups, so that a rank checks what it reads and reads no more.

A Parquet file is a magic word, the row groups one behind the other, and the footer. The manifest holds the sha256 of
each of those ranges beside that of the whole file; a reader takes the footer and its own row groups, and every byte it
uses is checked.
"""

import hashlib
import struct
from itertools import pairwise

import pyarrow as pa
import pyarrow.parquet as pq

DIGITS = 32  # hex digits kept of a range's sha256: 128 bits
TAIL = 8  # bytes: length of the footer, magic word
MAGIC = b"PAR1"


def range_digest(data: bytes | bytearray | memoryview) -> str:
    """The digest of a range as manifests hold it."""
    return hashlib.sha256(data).hexdigest()[:DIGITS]


def footer_start(tail: bytes | bytearray | memoryview, size: int) -> int | None:
    """Where the footer of a Parquet file begins; None where it does not end as a Parquet file does.

    Args:
        tail: The last 8 bytes of the file.
        size: Bytes of the file.
    """
    length, magic = struct.unpack("<I4s", tail)
    start = size - TAIL - length
    return start if magic == MAGIC and start >= len(MAGIC) else None


def group_starts(metadata: pq.FileMetaData) -> list[int]:
    """The first byte of each row group."""
    starts = []
    for group in range(metadata.num_row_groups):
        row_group = metadata.row_group(group)
        offsets = []
        for index in range(row_group.num_columns):
            column = row_group.column(index)
            offsets.append(column.data_page_offset)
            if column.has_dictionary_page and column.dictionary_page_offset:
                offsets.append(column.dictionary_page_offset)
        starts.append(int(min(offsets)))
    return starts


def digest_ranges(data: bytes) -> tuple[tuple[str, ...], str]:
    """The digests of the row groups, and of all that is behind the last, of a whole Parquet file."""
    view = memoryview(data)
    footer = footer_start(view[-TAIL:], len(data))
    if footer is None:
        raise AssertionError("what was just written is a Parquet file")
    borders = [*group_starts(pq.read_metadata(pa.BufferReader(data))), footer]
    return tuple(range_digest(view[a:b]) for a, b in pairwise(borders)), range_digest(view[footer:])
