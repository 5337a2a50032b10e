"""The deduplication stages: signatures per part, one search over all of them, one filter per part.

signatures/00000/signatures.parquet   content, length, band_00 .., sketch; a row per document of part 0
duplicates/all/duplicates.parquet     one row per dropped document: id, survivor, kind, similarity, source, place
duplicates/all/fates-00000.parquet    kind, component, labels and sources gained; a row per document of part 0
dedup/00000/part-00000.parquet        the kept documents of part 0, with content, component and merged_sources

A kept document keeps its `source`; `merged_sources` adds those of the documents dropped for it, and its `labels` are
the union with theirs.
"""

import math
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from prereq.graph.errors import TableError
from prereq.jobs.stages.runner import Bench, StageFile, StageResult, Task, run_stage
from prereq.selector.corpus.duplicates import Duplicates, DuplicatesConfig, find_duplicates, gathered
from prereq.selector.corpus.minhash import SketchArray
from prereq.selector.corpus.normalise import CONTENT_BYTES, normalise
from prereq.selector.corpus.shingles import HashArray, IntArray, distinct, shingle_sets
from prereq.selector.corpus.signing import Signed, sign

BATCH_ROWS = 512  # documents read at a time

LISTED = pa.schema(
    [
        ("id", pa.string()),
        ("survivor", pa.string()),
        ("kind", pa.string()),  # exact | near | semantic
        # Jaccard similarity of the shingle sets; 1 for exact duplicates; cosine of the vectors for semantic ones
        ("similarity", pa.float64()),
        ("source", pa.string()),
        ("place", pa.string()),
    ]
)
STRINGS = pa.list_(pa.string())
FATES = pa.schema([("kind", pa.string()), ("component", pa.int64()), ("labels", STRINGS), ("sources", STRINGS)])
_KINDS = (None, "exact", "near")
_KEPT, _EXACT, _NEAR = range(3)
ADDED = ("content", "component", "merged_sources")  # columns that these stages add to documents


def deduplicate(bench: Bench, documents: StageResult, config: DuplicatesConfig) -> StageResult:
    """Drop duplicates of a corpus; who was dropped for whom is in `duplicates_path(bench)`.

    Returns:
        The stage `dedup`: one `part-` file per documents file, in the same order, with the kept rows; counts
        documents, exact, near (dropped) and kept.
    """
    parts = documents.matching("part-")
    settings = _settings(config)
    signed = run_stage(
        bench,
        "signatures",
        sign_part,
        [Task(f"{index:05d}", (part.path, config), (part.sha256,)) for index, part in enumerate(parts)],
        {
            key: settings[key]
            for key in ("near", "num_perm", "banding", "ngram", "unit", "seed", "versions", "score")
            if key in settings
        },
    ).matching("signatures")
    files = [(part.path, part.rows, sign.path) for part, sign in zip(parts, signed, strict=True)]
    inputs = tuple(file.sha256 for pair in zip(parts, signed, strict=True) for file in pair)
    found = run_stage(bench, "duplicates", find, [Task("all", (files, config), inputs)], settings)
    fates = found.matching("fates-")
    return run_stage(bench, "dedup", keep, list(_filter_tasks(parts, signed, fates)), {})


def duplicates_path(bench: Bench) -> Path:
    """Where `deduplicate` leaves the list of dropped documents."""
    return bench.stages / "duplicates" / "all" / "duplicates.parquet"


def _settings(config: DuplicatesConfig) -> dict[str, Any]:
    settings = asdict(config) | {"weights": list(config.weights)}
    del settings["semantic"]  # decides nothing here: it needs the clusters
    if config.score is None:
        del settings["score"]  # so that what was done before the key existed counts as done
    settings["banding"] = list(config.banding()) if config.near else None
    # both decide what a normal form or a permutation is
    settings["versions"] = {"unicode": unicodedata.unidata_version, "datasketch": version("datasketch")}
    return settings


def _filter_tasks(
    parts: Sequence[StageFile], signed: Sequence[StageFile], fates: Sequence[StageFile]
) -> Iterator[Task]:
    for index, files in enumerate(zip(parts, signed, fates, strict=True)):
        yield Task(f"{index:05d}", tuple(file.path for file in files), tuple(file.sha256 for file in files))


def sign_part(output: str, documents: str, config: DuplicatesConfig) -> dict[str, int]:
    """Sign the texts of one documents part."""
    with pq.ParquetFile(documents) as file:
        batches = file.iter_batches(batch_size=BATCH_ROWS, columns=["text"])
        signed = sign((batch.column(0).to_pylist() for batch in batches), config)
    table = _signature_table(signed)
    if config.score is not None:
        table = table.append_column("score", numbers(pq.read_table(documents, columns=[config.score]).column(0)))
    # random bytes: neither a dictionary nor compression can gain anything
    pq.write_table(table, f"{output}/signatures.parquet", compression="none", use_dictionary=False)
    return {"documents": len(signed.lengths)}


def _signature_table(signed: Signed) -> pa.Table:
    columns: dict[str, Any] = {"content": _binary(signed.content), "length": pa.array(signed.lengths)}
    columns |= {_band_name(index): pa.array(keys) for index, keys in enumerate(signed.bands)}
    if signed.sketches.shape[1]:
        columns["sketch"] = _binary(signed.sketches)
    return pa.table(columns)


def numbers(column: pa.ChunkedArray) -> pa.Array:
    """Metadata, which is text, as numbers: -inf where it is none (`good`, nan, nothing)."""
    return pa.array([_number(value) for value in column.to_pylist()], pa.float64())


def _number(value: str | None) -> float:
    try:
        found = float(value or "")
    except ValueError:
        return -math.inf
    return -math.inf if math.isnan(found) else found


def _band_name(index: int) -> str:
    return f"band_{index:02d}"


def _binary(rows: npt.NDArray[np.uint8]) -> pa.Array:
    """Rows of bytes `(n, w)` as a column of fixed_size_binary(w)."""
    return pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(rows.shape[1]), len(rows), [None, pa.py_buffer(np.ascontiguousarray(rows))]
    )


def _bytes(column: pa.ChunkedArray) -> npt.NDArray[np.uint8]:
    """The opposite of `_binary`."""
    width = column.type.byte_width
    pieces = [
        np.frombuffer(chunk.buffers()[1], dtype=np.uint8)[chunk.offset * width :][: len(chunk) * width]
        for chunk in column.chunks
    ]
    return np.concatenate([np.empty(0, dtype=np.uint8), *pieces]).reshape(-1, width)


class PartCorpus:
    """A corpus in documents parts and their signature files, read column by column (a `duplicates.Corpus`).

    Args:
        files: (documents path, rows, signatures path) of each part.
        config: Of the shingles.
    """

    def __init__(self, files: Sequence[tuple[str, int, str]], config: DuplicatesConfig) -> None:
        self._files, self._config = files, config
        # starts: (parts + 1,) first row of each part
        self.starts = np.concatenate([[0], np.cumsum([rows for _, rows, _ in files])]).astype(np.int64)
        self.documents = int(self.starts[-1])

    def content(self) -> HashArray:
        """`(2, n)`: the content digests as two integers each."""
        result = np.empty((2, self.documents), dtype=np.uint64)
        for part, lo, hi in self._parts():
            result[:, lo:hi] = _bytes(self._signed(part, "content")).view("<u8").reshape(-1, CONTENT_BYTES // 8).T
        return result

    def lengths(self) -> IntArray:
        """`(n,)` characters of the normal forms."""
        result = np.empty(self.documents, dtype=np.int64)
        for part, lo, hi in self._parts():
            result[lo:hi] = self._signed(part, "length").to_numpy()
        return result

    def scores(self) -> npt.NDArray[np.float64]:
        """`(n,)` the column that `keep: score` orders by."""
        result = np.empty(self.documents, dtype=np.float64)
        for part, lo, hi in self._parts():
            result[lo:hi] = self._signed(part, "score").to_numpy()
        return result

    def bands(self, first: int, stop: int, rows: IntArray | None = None) -> HashArray:
        """`(stop - first, len(rows))` band keys of some ascending rows, or of all."""
        names = [_band_name(index) for index in range(first, stop)]
        result = np.empty((stop - first, self.documents if rows is None else len(rows)), dtype=np.uint64)
        parts = self.split(rows) if rows is not None else ((part, slice(None)) for part, _, _ in self._parts())
        done = 0
        for part, own in parts:
            table = pq.read_table(self._files[part][2], columns=names)
            columns = [table.column(name).to_numpy()[own] for name in names]
            result[:, done : done + len(columns[0])] = columns
            done += len(columns[0])
        return result

    def sketches(self, rows: IntArray) -> SketchArray:
        """`(len(rows), num_perm)`."""
        empty = np.empty((0, self._config.num_perm), dtype=np.uint8)
        return np.concatenate([empty, *(_bytes(self._signed(part, "sketch"))[own] for part, own in self.split(rows))])

    def ids(self, rows: IntArray) -> pa.Array:
        """The ids of rows, strings."""
        chunks = [chunk for part, own in self.split(rows) for chunk in self.read(part, ["id"], own).column(0).chunks]
        return pa.chunked_array(chunks, type=pa.string())

    def shingle_sets(self, rows: IntArray) -> Iterator[HashArray]:
        """The shingle set of each row, in order; the texts of one part are in memory at a time."""
        for part, own in self.split(rows):
            texts = self.read(part, ["text"], own).column(0).to_pylist()
            yield from shingle_sets([normalise(text) for text in texts], self._config.ngram, self._config.unit)

    def split(self, rows: IntArray) -> Iterator[tuple[int, IntArray]]:
        """Cut ascending rows by part: (part, positions inside it), parts with none left out."""
        borders = np.searchsorted(rows, self.starts)
        for part in np.flatnonzero(np.diff(borders)).tolist():
            yield part, rows[borders[part] : borders[part + 1]] - self.starts[part]

    def read(self, part: int, columns: list[str], positions: IntArray) -> pa.Table:
        """Columns of some documents of a part."""
        return pq.read_table(self._files[part][0], columns=columns).take(pa.array(positions))

    def _parts(self) -> Iterator[tuple[int, int, int]]:
        for part, (lo, hi) in enumerate(zip(self.starts[:-1].tolist(), self.starts[1:].tolist(), strict=True)):
            yield part, lo, hi

    def _signed(self, part: int, column: str) -> pa.ChunkedArray:
        return pq.read_table(self._files[part][2], columns=[column]).column(0)


def find(output: str, files: Sequence[tuple[str, int, str]], config: DuplicatesConfig) -> dict[str, int]:
    """Find the duplicates of the whole corpus; list them, and write every part's fates."""
    corpus = PartCorpus(files, config)
    found = find_duplicates(corpus, config, output)
    kinds = np.full(corpus.documents, _KEPT, dtype=np.int8)
    kinds[found.dropped] = np.where(found.exact[found.dropped], _EXACT, _NEAR)
    labels, sources = _list_dropped(f"{output}/duplicates.parquet", corpus, found, kinds)
    for part, (lo, hi) in enumerate(zip(corpus.starts[:-1].tolist(), corpus.starts[1:].tolist(), strict=True)):
        fates = {
            "kind": [_KINDS[kind] for kind in kinds[lo:hi].tolist()],
            "component": found.component[lo:hi],
            "labels": [labels.get(row) for row in range(lo, hi)],
            "sources": [sources.get(row) for row in range(lo, hi)],
        }
        pq.write_table(pa.table(fates, schema=FATES), f"{output}/fates-{part:05d}.parquet", compression="zstd")
    return {
        "exact": int(np.count_nonzero(kinds == _EXACT)),
        "near": int(np.count_nonzero(kinds == _NEAR)),
        "components": len(distinct(found.component)),
    }


def _list_dropped(
    path: str, corpus: PartCorpus, found: Duplicates, kinds: npt.NDArray[np.int8]
) -> tuple[Mapping[int, list[str]], Mapping[int, list[str]]]:
    """Write a row per dropped document, in corpus order; return the labels and sources that survivors gain, by row."""
    survivors = distinct(found.survivor[found.dropped])
    names = corpus.ids(survivors)
    labels: list[list[str]] = []
    sources: list[list[str]] = []
    with pq.ParquetWriter(path, LISTED, compression="zstd") as writer:
        for part, positions in corpus.split(found.dropped):
            rows = positions + corpus.starts[part]
            table = corpus.read(part, ["id", "source", "place", "labels"], positions)
            labels += [own or [] for own in table.column("labels").to_pylist()]
            sources += [[own] for own in table.column("source").to_pylist()]
            columns = {
                "id": table.column("id"),
                "survivor": names.take(pa.array(np.searchsorted(survivors, found.survivor[rows]))),
                "kind": [_KINDS[kind] for kind in kinds[rows].tolist()],
                "similarity": found.similarity[rows],
                "source": table.column("source"),
                "place": table.column("place"),
            }
            writer.write_table(pa.table(columns, schema=LISTED))
    kept = found.survivor[found.dropped].tolist()
    return gathered(labels, kept), gathered(sources, kept)


def keep(output: str, documents: str, signed: str, fates: str) -> dict[str, int]:
    """Write the kept documents of one part, with their content digest, component and the labels they gained."""
    table, fate = pq.read_table(documents), pq.read_table(fates)
    content = pq.read_table(signed, columns=["content"]).column(0)
    if not len(table) == len(fate) == len(content):
        raise TableError(
            f"{documents}: {len(table)} documents, but {len(content)} signatures and {len(fate)} fates; "
            f"delete {Path(fates).parent} and run the same command again"
        )
    if clash := [name for name in ADDED if name in table.schema.names]:
        raise TableError(f"{documents}: deduplication adds the columns {clash}, which the documents have; rename them")
    own = ([source] for source in table.column("source").to_pylist())
    merged = pa.array(_union(own, fate.column("sources").to_pylist()), type=STRINGS)
    table = _with_gained_labels(table, fate.column("labels"))
    for name, column in zip(ADDED, (content, fate.column("component"), merged), strict=True):
        table = table.append_column(name, column)
    kinds = fate.column("kind")
    kept = table.filter(kinds.is_null())
    pq.write_table(kept, f"{output}/part-00000.parquet", compression="zstd")
    dropped = kinds.drop_null().to_pylist()
    exact = dropped.count("exact")
    return {"documents": len(table), "exact": exact, "near": len(dropped) - exact, "kept": len(kept)}


def _with_gained_labels(table: pa.Table, gained: pa.ChunkedArray) -> pa.Table:
    if gained.null_count == len(gained):
        return table
    index = table.schema.get_field_index("labels")
    field = table.schema.field(index)
    labels = _union(table.column(index).to_pylist(), gained.to_pylist())
    return table.set_column(index, field, pa.array(labels, type=field.type))


def _union(own: Iterable[list[str] | None], gained: Iterable[list[str] | None]) -> list[list[str] | None]:
    """Each document's own values as they are, or where it gained some the sorted union."""
    return [has if more is None else sorted({*(has or []), *more}) for has, more in zip(own, gained, strict=True)]
