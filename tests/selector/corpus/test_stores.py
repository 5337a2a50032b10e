"""Object stores, against a real S3-compatible server on loopback."""

import gzip
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest

from prereq.graph.errors import ConfigError
from prereq.jobs.executor import InProcessExecutor
from prereq.jobs.progress import Progress
from prereq.jobs.stages.ingest import ingest
from prereq.jobs.stages.runner import Bench
from prereq.selector.corpus.documents import IngestConfig, SourceConfig
from prereq.selector.corpus.inputs import find_inputs, open_input
from prereq.selector.corpus.stores import open_store, public_name, store_path

server = pytest.importorskip("moto.server")
KEYS = ("a.jsonl.gz", "sub/b c%20d.jsonl", "sub/deep/c.jsonl", "sub/.hidden.jsonl", "sub/notes.csv")


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """A running server's port."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    yield running.get_host_and_port()[1]
    running.stop()


@pytest.fixture
def bucket(port: int, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> tuple[Any, str]:
    """(file system, name) of a bucket of the test's own; the environment names the server."""
    for name, value in {
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
    }.items():
        monkeypatch.setenv(name, value)
    name = "bucket-" + request.node.name.replace("_", "-")[:40].strip("-")
    filesystem = pafs.S3FileSystem(
        endpoint_override=f"127.0.0.1:{port}", scheme="http", region="us-east-1", allow_bucket_creation=True
    )
    filesystem.create_dir(name)
    for number, key in enumerate(KEYS):
        row = json.dumps({"id": f"d{number}", "text": f"text {number}"}).encode() + b"\n"
        write(filesystem, f"{name}/corpus/{key}", gzip.compress(row, mtime=0) if key.endswith(".gz") else row)
    return filesystem, name


def write(filesystem: Any, path: str, data: bytes) -> None:
    with filesystem.open_output_stream(path, compression=None) as stream:
        stream.write(data)


def names(*paths: str) -> list[str]:
    return [file.name for file in find_inputs(SourceConfig(name="s", paths=paths))]


def test_a_folder_a_glob_and_an_object_are_found(bucket: tuple[Any, str]):
    root = f"s3://{bucket[1]}/corpus"
    everything = [f"{root}/a.jsonl.gz", f"{root}/sub/b c%20d.jsonl", f"{root}/sub/deep/c.jsonl"]
    assert names(root) == names(f"{root}/") == everything
    assert names(f"{root}/*.jsonl.gz") == [f"{root}/a.jsonl.gz"]
    assert names(f"{root}/sub/*.jsonl") == [f"{root}/sub/.hidden.jsonl", f"{root}/sub/b c%20d.jsonl"]
    assert names(f"{root}/**/c.jsonl", f"{root}/sub/deep/c.jsonl") == [f"{root}/sub/deep/c.jsonl"]
    assert names(f"s3://{bucket[1]}/*/a.*") == [f"{root}/a.jsonl.gz"]
    with pytest.raises(ConfigError, match=r"no input file matches .*nothing"):
        names(f"{root}/nothing/*.jsonl")


def test_the_endpoint_may_stand_in_the_url_and_leaves_no_trace(
    bucket: tuple[Any, str], port: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    url = f"s3://{bucket[1]}/corpus/*.gz?endpoint_override=127.0.0.1:{port}&scheme=http"
    (file,) = find_inputs(SourceConfig(name="s", paths=(url,)))
    assert file.name == f"s3://{bucket[1]}/corpus/a.jsonl.gz"
    with open_input(file) as stream:
        assert gzip.decompress(stream.read()) == b'{"id": "d0", "text": "text 0"}\n'


def test_a_fingerprint_follows_the_content_and_not_the_time(bucket: tuple[Any, str]):
    filesystem, name = bucket

    def fingerprint(data: bytes) -> tuple[int, str]:
        write(filesystem, f"{name}/one.jsonl", data)
        (file,) = find_inputs(SourceConfig(name="s", paths=(f"s3://{name}/one.jsonl",)))
        return file.bytes, file.fingerprint

    first = fingerprint(b"{}\n")
    assert first[0] == 3
    assert fingerprint(b"[]\n") != first
    assert fingerprint(b"{}\n") == first


def test_documents_are_read_as_from_a_folder(bucket: tuple[Any, str], tmp_path: Path):
    bench = Bench(stages=tmp_path, executor=InProcessExecutor(), progress=Progress(quiet=True), seed=1)
    write(bucket[0], f"{bucket[1]}/corpus/damaged.jsonl.gz", gzip.compress(b'{"id": "z", "text": "y"}\n')[:-9])
    result = ingest(
        bench, [SourceConfig(name="s", paths=(f"s3://{bucket[1]}/corpus",))], IngestConfig(max_rejected=0.9)
    )
    (part,) = result.matching("part-")
    rows = pq.read_table(part.path).to_pylist()
    assert [(row["id"], row["place"].rpartition("corpus/")[2]) for row in rows if row["id"] != "z"] == [
        ("d0", "a.jsonl.gz:1"),
        ("d1", "sub/b c%20d.jsonl:1"),
        ("d2", "sub/deep/c.jsonl:1"),
    ]
    assert result.counts["rejected"] == 1


def test_a_large_object_is_read_in_pieces(bucket: tuple[Any, str], tmp_path: Path):
    bench = Bench(stages=tmp_path, executor=InProcessExecutor(), progress=Progress(quiet=True), seed=1)
    lines = [b'{"id": "d%d", "text": "%s"}\n' % (number, b"x" * 5_000) for number in range(500)]
    write(bucket[0], f"{bucket[1]}/large/a.jsonl", b"".join(lines))
    source = SourceConfig(name="s", paths=(f"s3://{bucket[1]}/large",))
    result = ingest(bench, [source], IngestConfig(part_mib=1))
    rows = [row for part in result.matching("part-") for row in pq.read_table(part.path).to_pylist()]
    assert len(result.tasks) == 3
    assert [row["id"] for row in rows] == [f"d{number}" for number in range(500)]
    assert [int(row["place"].rpartition(":")[2]) for row in rows] == list(range(1, 501))


def test_parquet_and_arrow_lie_in_stores_too(bucket: tuple[Any, str]):
    import pyarrow as pa

    filesystem, name = bucket
    table = pa.table({"id": ["a"], "text": ["x"]})
    with filesystem.open_output_stream(f"{name}/set/x.arrow") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    write(filesystem, f"{name}/set/state.json", b'{"_data_files": [{"filename": "x.arrow"}]}')
    write(filesystem, f"{name}/set/dataset_info.json", b"{\n}")
    pq.write_table(table, f"{name}/other/y.parquet", filesystem=filesystem)
    files = find_inputs(SourceConfig(name="s", paths=(f"s3://{name}/set", f"s3://{name}/other")))
    assert [file.format for file in files] == ["parquet", "arrow"]
    with open_input(files[0]) as stream:
        assert pq.read_table(stream).num_rows == 1
    with open_input(files[1]) as stream:
        assert pa.ipc.open_stream(stream).read_all() == table


@pytest.mark.slow  # the client tries several times
def test_a_store_that_cannot_be_reached_is_one_line(monkeypatch: pytest.MonkeyPatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "x")
    url = "s3://user:word@bucket/x/*.jsonl?endpoint_override=127.0.0.1:9&scheme=http&region=us-east-1"
    with pytest.raises(ConfigError, match=r"s3://bucket/x/\*.jsonl: cannot be listed: .*; check the address") as caught:
        names(url)
    assert "word" not in str(caught.value)


def test_urls_are_taken_apart():
    url = "s3://user:word@bucket/a b/%41.jsonl?region=x"
    assert store_path(url) == "bucket/a b/%41.jsonl"
    assert public_name(url) == "s3://bucket/a b/%41.jsonl"
    assert public_name("file:///x?y") == "file:///x?y"
    assert store_path("s3://bucket/") == store_path("s3://bucket") == "bucket"
    with pytest.raises(ConfigError, match="names no bucket"):
        store_path("s3:///x")
    with pytest.raises(ConfigError, match="cannot be opened"):
        open_store("s3://bucket/x?nosuchoption=1")
