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

from prereq.graph.errors import ManifestError

DIGITS = 32  # hex digits kept of a range's sha256: 128 bits
_TAIL = 8  # bytes: length of the footer, magic word
_MAGIC = b"PAR1"


def range_digest(data: bytes | memoryview) -> str:
    """The digest of a range as manifests hold it."""
    return hashlib.sha256(data).hexdigest()[:DIGITS]


def footer_start(tail: bytes | memoryview, size: int, where: str) -> int:
    """Where the footer of a Parquet file begins.

    Args:
        tail: The last bytes of the file, 8 or more.
        size: Bytes of the file.
        where: Its name, for errors.

    Raises:
        ManifestError: It does not end as a Parquet file does.
    """
    length, magic = struct.unpack("<I4s", bytes(tail[-_TAIL:]))
    start = size - _TAIL - length
    if magic != _MAGIC or start < len(_MAGIC):
        raise ManifestError(f"{where}: does not end as a Parquet file does; it was changed after it was written")
    return int(start)


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


def digest_ranges(data: bytes, where: str) -> tuple[tuple[str, ...], str]:
    """The digests of the row groups and of the footer (all behind the last row group) of a whole file."""
    view = memoryview(data)
    footer = footer_start(view[-_TAIL:], len(data), where)
    borders = [*group_starts(pq.read_metadata(pa.BufferReader(data))), footer]
    groups = tuple(range_digest(view[a:b]) for a, b in pairwise(borders))
    return groups, range_digest(view[footer:])
