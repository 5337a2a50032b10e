"""Row fuzz_lost_unlisted: documents that 1,000 damaged files lose without a line in rejects.

Every file holds documents that carry a mark of their own many times over, in one of the formats that `ingest` reads,
and is damaged by a seeded fuzzer: bits flipped, bytes overwritten, inserted, deleted, zeroed, repeated, or the end cut
off, one to three times. It then goes through the stage's own task (`read_files`) in a process that is given a time
limit for each file; one that crashes or hangs loses all its documents.

What counts as lost: a document whose mark is in no document that came out, and for which no line of the rejects
stands. A line stands for its `documents`; for the rest of the file where it says that nothing behind it can be read;
for the file where its line is 0; for a batch where it says so (Arrow). A document that came out with every mark
overwritten is altered, not lost. Where a format has neither a length nor a checksum (JSON Lines, text and WARC as they
are, unpacked), only documents count of which the damaged file still holds a mark: of a file cut at the end of a line
nobody can know that it was longer.

    python benchmarks/corpus_fuzz.py FIRST STOP        the files of these numbers, a line of JSON each
"""

import bz2
import gzip
import io
import json
import os
import random
import selectors
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.ipc as ipc
import pyarrow.parquet as pq
import zstandard
from corpus_rows import Context, Found, Row

from prereq.graph.errors import PrereqError
from prereq.jobs.stages.ingest import read_files
from prereq.selector.corpus.documents import IngestConfig, SourceConfig
from prereq.selector.corpus.inputs import find_inputs

SEED = 20260101
FILES = {"check": 1000, "full": 1000}
DOCUMENTS = 40
BATCH = 10  # rows of a batch or a row group
LIMIT_S = 30.0  # for one file
BATCHED = ("damaged_rows",)  # reasons of which an Arrow line stands for a whole batch


def mark(number: int) -> str:
    """What names a document wherever it went."""
    return f"<{number:03d}>"


def rows(rng: random.Random) -> list[dict[str, Any]]:
    """Documents of mixed length, each with its mark in id and text."""
    words = ["alpha", "wörd", "日本", "line\nbreak", "tab\t", '"quoted"', "back\\slash", "plain"]
    return [
        {"id": mark(n), "text": " ".join(mark(n) + rng.choice(words) for _ in range(rng.randint(4, 30)))}
        for n in range(DOCUMENTS)
    ]


def jsonl(documents: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in documents).encode()


def parquet(documents: list[dict[str, Any]], **options: Any) -> bytes:
    sink = io.BytesIO()
    table = pa.Table.from_pylist(documents)
    pq.write_table(table, sink, **({"row_group_size": BATCH, "write_page_checksum": True} | options))
    return sink.getvalue()


def arrow(documents: list[dict[str, Any]], *, footed: bool, packing: str | None = None) -> bytes:
    sink = io.BytesIO()
    parts = [pa.RecordBatch.from_pylist(documents[at : at + BATCH]) for at in range(0, len(documents), BATCH)]
    make = ipc.new_file if footed else ipc.new_stream
    with make(sink, parts[0].schema, options=ipc.IpcWriteOptions(compression=packing)) as writer:
        for part in parts:
            writer.write_batch(part)
    return sink.getvalue()


def record(kind: str, media: str, number: int, content: bytes) -> bytes:
    head = f"WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Record-ID: <urn:uuid:{mark(number)}>\r\nContent-Type: {media}\r\n"
    return f"{head}WARC-Target-URI: http://x/{number}\r\nContent-Length: {len(content)}\r\n\r\n".encode() + content


def wet(documents: list[dict[str, Any]]) -> list[bytes]:
    texts = [row["text"].encode() for row in documents]
    return [record("conversion", "text/plain", n, text) + b"\r\n\r\n" for n, text in enumerate(texts)]


def pages(documents: list[dict[str, Any]]) -> list[bytes]:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n\r\n"
    bodies = [head + f"<html><body><p>{mark(n)} {n} page</p></body></html>".encode() * 3 for n in range(len(documents))]
    media = "application/http; msgtype=response"
    return [record("response", media, n, body) + b"\r\n\r\n" for n, body in enumerate(bodies)]


def text(documents: list[dict[str, Any]]) -> bytes:
    return str(documents[0]["text"]).encode()


Make = Callable[[list[dict[str, Any]]], bytes]
FORMATS: dict[str, Make] = {
    "rows.jsonl": jsonl,
    "rows.jsonl.gz": lambda found: gzip.compress(jsonl(found), mtime=0),
    "many.jsonl.gz": lambda found: b"".join(
        gzip.compress(jsonl(found[at : at + 5]), mtime=0) for at in range(0, 40, 5)
    ),
    "rows.jsonl.zst": lambda found: zstandard.ZstdCompressor(write_checksum=True).compress(jsonl(found)),
    "rows.jsonl.bz2": lambda found: bz2.compress(jsonl(found)),
    "rows.parquet": parquet,
    "plain.parquet": lambda found: parquet(found, compression="none", use_dictionary=False),
    "zstd.parquet": lambda found: parquet(found, compression="zstd", data_page_version="2.0"),
    "stream.arrow": lambda found: arrow(found, footed=False),
    "file.arrow": lambda found: arrow(found, footed=True),
    "packed.arrow": lambda found: arrow(found, footed=True, packing="zstd"),
    "set/data-00000-of-00001.arrow": lambda found: arrow(found, footed=False),
    "set/state.json": lambda found: json.dumps({"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}).encode(),
    "page.txt": text,
    "page.md": text,
    "page.txt.gz": lambda found: gzip.compress(text(found), mtime=0),
    "crawl.warc": lambda found: b"".join(pages(found)),
    "crawl.warc.gz": lambda found: b"".join(gzip.compress(page, mtime=0) for page in pages(found)),
    "crawl.wet": lambda found: b"".join(wet(found)),
    "crawl.wet.gz": lambda found: b"".join(gzip.compress(page, mtime=0) for page in wet(found)),
}
UNCHECKED = ("rows.jsonl", "page.txt", "page.md", "crawl.warc", "crawl.wet")  # no length or checksum of the whole
SINGLE = ("page.txt", "page.md", "page.txt.gz")


def damaged(data: bytes, rng: random.Random) -> bytes:
    """One to three kinds of damage, each at a place of its own."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        at, size = rng.randrange(len(data) + 1), rng.choice((1, 1, 4, 64, 500))
        kind = rng.choice(("flip", "flip", "overwrite", "insert", "delete", "zero", "repeat", "cut"))
        piece = data[at : at + size]
        if kind == "flip" and at < len(data):
            data = data[:at] + bytes([data[at] ^ (1 << rng.randrange(8))]) + data[at + 1 :]
        elif kind == "overwrite":
            data = data[:at] + rng.randbytes(len(piece)) + data[at + size :]
        elif kind == "insert":
            data = data[:at] + rng.randbytes(size) + data[at:]
        elif kind == "delete":
            data = data[:at] + data[at + size :]
        elif kind == "zero":
            data = data[:at] + bytes(len(piece)) + data[at + size :]
        elif kind == "repeat":
            data = data[:at] + piece + data[at:]
        elif kind == "cut":
            data = data[:at]
    return data


def ingested(folder: Path, name: str) -> tuple[list[str], list[dict[str, Any]]]:
    """Texts and ids that come out of the stage's task, and its rejects."""
    path = folder / "set" if name.startswith("set/") else folder / name
    key = "url" if ".warc" in name or ".wet" in name else "id"
    source = SourceConfig(name="fuzz", paths=(str(path),), id_field=key)
    out = folder / "out"
    out.mkdir()
    read_files(str(out), find_inputs(source), source, IngestConfig(ids="content"), ())
    parts = [pq.read_table(part, columns=["text"]).column(0).to_pylist() for part in sorted(out.glob("part-*"))]
    listed = out / "rejects.parquet"
    return [found for part in parts for found in part], pq.read_table(listed).to_pylist() if listed.exists() else []


def lost_unlisted(name: str, data: bytes, texts: list[str], rejects: list[dict[str, Any]]) -> int:
    """How many documents are gone without a line."""
    expected = {mark(n) for n in range(1 if name in SINGLE else DOCUMENTS)}
    if name in UNCHECKED:
        expected = {found for found in expected if found.encode() in data}
    came = "\0".join(texts)
    gone = sorted(found for found in expected if found not in came)
    if not gone or any(row["line"] == 0 or row["reason"] == "damaged_stream" for row in rejects):
        return 0
    altered = sum(not any(found in text for found in expected) for text in texts)
    if name.endswith(".arrow"):  # its texts are cut by offsets alone: a row may come out with another one's text
        altered = max(altered, len(texts) - (len(expected) - len(gone)))
    if name == "rows.jsonl":
        lines = data.split(b"\n")
        said = b"\n".join(lines[row["line"] - 1] for row in rejects)
        return max(0, sum(found.encode() not in said for found in gone) - altered)
    batches = sum(row["reason"] in BATCHED for row in rejects) if name.endswith(".arrow") else 0
    return max(0, len(gone) - altered - sum(row["documents"] for row in rejects) - BATCH * batches)


def fuzz_one(number: int, folder: Path) -> dict[str, Any]:
    """Make, damage and ingest the file of a number."""
    rng = random.Random(f"{SEED}:{number}")
    name = list(FORMATS)[number % len(FORMATS)]
    documents = rows(rng)
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    for beside in ("set/data-00000-of-00001.arrow", "set/state.json") if name.startswith("set/") else ():
        (folder / beside).write_bytes(FORMATS[beside](documents))
    data = damaged(FORMATS[name](documents), rng)
    (folder / name).write_bytes(data)
    try:
        texts, rejects = ingested(folder, name)
    except PrereqError as error:  # refused as a whole, in words
        return {"number": number, "name": name, "lost": 0, "refused": str(error)[:200]}
    lost = lost_unlisted(name, data, texts, rejects)
    return {"number": number, "name": name, "lost": lost, "rejects": len(rejects), "documents": len(texts)}


def fuzz(first: int, stop: int) -> Iterator[dict[str, Any]]:
    """The files of these numbers, in this process."""
    for number in range(first, stop):
        with tempfile.TemporaryDirectory() as folder:
            yield fuzz_one(number, Path(folder))


def watched(first: int, stop: int) -> Iterator[dict[str, Any]]:
    """The same in processes of their own, one after the other: a crash or a hang costs its file, and is a result."""
    while first < stop:
        command = [sys.executable, __file__, str(first), str(stop)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as process:
            for line in timed_lines(process):
                yield json.loads(line)
                first += 1
            process.kill()
            said = (process.stderr.read() if process.stderr else b"").decode(errors="replace")[-300:]
        if first < stop:
            name = list(FORMATS)[first % len(FORMATS)]
            yield {"number": first, "name": name, "lost": DOCUMENTS, "ended": said or "no word, or over the time limit"}
            first += 1


def timed_lines(process: subprocess.Popen[bytes]) -> Iterator[bytes]:
    """Lines of a process until it ends, or says nothing for too long."""
    assert process.stdout is not None
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while selector.select(timeout=LIMIT_S) and (line := process.stdout.readline()):
            yield line


def fuzz_row(context: Context) -> Found:
    """Documents lost without a line over all files; every file that lost one is listed."""
    begin = time.monotonic()
    found = list(watched(0, FILES[context.size]))
    lost = sum(run["lost"] for run in found)
    per_format = Counter(run["name"] for run in found)
    hit = Counter(run["name"] for run in found if run.get("rejects") or run.get("refused"))
    details = {
        "seed": SEED,
        "files": dict(per_format),
        "files_with_rejects": dict(hit),
        "refused": sum("refused" in run for run in found),
        "crashed_or_hung": sum("ended" in run for run in found),
        "losing": [run for run in found if run["lost"]],
        "seconds": round(time.monotonic() - begin, 1),
    }
    return {"fuzz_lost_unlisted": lost}, details


ROWS = {"fuzz_lost_unlisted": Row(run=fuzz_row)}

if __name__ == "__main__":
    for result in fuzz(int(sys.argv[1]), int(sys.argv[2])):
        print(json.dumps(result), flush=True)
