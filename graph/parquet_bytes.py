"""Parquet files that are held as bytes, read in the thread that asks.

pyarrow's own threads can outlive a read by a moment. One that lets go of a file's bytes then needs the interpreter, and
where that is ending, the process is aborted ("terminate called without an active exception"): 30 of 360 short programs
ended so that read eight small files with `pyarrow.parquet.read_table`, on two busy cores.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq


def open_parquet(data: bytes) -> "pq.ParquetFile":
    """The file in these bytes; read it with `use_threads=False`.

    Raises:
        pyarrow.ArrowException: They are no Parquet file.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    return pq.ParquetFile(pa.BufferReader(data), pre_buffer=False)


def read_parquet(data: bytes, columns: Sequence[str] | None = None) -> "pa.Table":
    """The rows in the bytes of a file.

    Args:
        data: The file.
        columns: Those to read; None: all.

    Raises:
        OSError, pyarrow.ArrowException: They are no Parquet file, or a damaged one.
    """
    return open_parquet(data).read(columns=None if columns is None else list(columns), use_threads=False)
