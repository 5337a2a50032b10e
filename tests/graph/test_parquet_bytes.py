"""Parquet files held as bytes: what is read, and in whose thread."""

import io
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prereq.graph.parquet_bytes import open_parquet, read_parquet

_THREADS = """
import os, sys
import pyarrow.parquet
from prereq.graph.parquet_bytes import open_parquet, read_parquet

data = sys.stdin.buffer.read()
before = len(os.listdir("/proc/self/task"))
read_parquet(data), read_parquet(data, ["a"]), open_parquet(data).read_row_group(1, use_threads=False)
print(len(os.listdir("/proc/self/task")) - before)
"""


@pytest.fixture
def data():
    table = pa.table({"a": list(range(100)), "b": [f"text {i}" for i in range(100)], "c": [[i] for i in range(100)]})
    with io.BytesIO() as file:
        pq.write_table(table, file, row_group_size=30)
        return file.getvalue()


def test_it_reads_what_was_written(data):
    assert read_parquet(data).equals(pq.read_table(pa.BufferReader(data)))
    assert read_parquet(data, ["c", "a"]).column_names == ["c", "a"]
    assert open_parquet(data).num_row_groups == 4
    assert read_parquet(data).schema.metadata == pq.read_schema(pa.BufferReader(data)).metadata


def test_damaged_bytes_are_refused(data):
    with pytest.raises(pa.ArrowInvalid):
        read_parquet(data[:-1])
    with pytest.raises((OSError, pa.ArrowException)):
        read_parquet(data[:8] + b"\0" * 200 + data[208:])


@pytest.mark.skipif(sys.platform != "linux", reason="counts threads in /proc")
def test_no_thread_of_pyarrow_ever_holds_the_bytes(data):
    """One that did could abort the process at its end; none is started, so none is left."""
    done = subprocess.run([sys.executable, "-c", _THREADS], input=data, stdout=subprocess.PIPE, check=True)
    assert int(done.stdout) == 0
