"""Decontamination, as stages: "references" (one task), "decontaminate" (per part), "contaminated" (one task: the list).

references/all/references.parquet           id; number in this order, sorted by id
references/all/ngrams-NNN.parquet           hash, reference: of the references that are compared by NNN words
decontaminate/NNNNN/part-00000.parquet      the documents that stay
decontaminate/NNNNN/contaminated.parquet    those of this part that are contaminated (`LISTED`)
contaminated/all/decontamination.parquet    all of them, in corpus order

Without `decontaminate.paths` there is no such stage.
"""

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from prereq.graph.canonical import digest
from prereq.jobs.stages.reference_files import checked_text, read_references
from prereq.jobs.stages.reference_files import find_references as find_files
from prereq.jobs.stages.runner import Bench, StageFile, StageResult, Task, run_stage
from prereq.selector.corpus.decontamination import (
    DecontaminationConfig,
    References,
    find_matches,
    index_references,
)
from prereq.selector.corpus.inputs import InputFile

LISTED = pa.schema(
    [
        ("id", pa.string()),
        ("reference", pa.string()),  # id of the reference that it overlaps most
        ("overlap", pa.float64()),  # share of that reference's n-grams
        ("shared", pa.int64()),  # n-grams in common with it
        ("action", pa.string()),  # drop | list
        ("source", pa.string()),
        ("place", pa.string()),
    ]
)
_INDEX = pa.schema([("hash", pa.uint64()), ("reference", pa.int64())])
_TEXTS_AT_ONCE = 512


def decontaminate(bench: Bench, documents: StageResult, config: DecontaminationConfig) -> StageResult:
    """Compare documents with a reference set; drop or only list those that hold its text.

    Returns:
        `documents` itself where the configuration names no reference set, else the stage `decontaminate`: one `part-`
        file per documents file, in the same order; counts documents, contaminated and kept.

    Raises:
        TableError: A reference cannot be read.
    """
    if not config.paths:
        return documents
    files = find_references(config)
    settings = {key: value for key, value in asdict(config).items() if key != "paths"}
    settings["unicode"] = unicodedata.unidata_version
    inputs = tuple(file.fingerprint for file in files)
    index = run_stage(bench, "references", write_references, [Task("all", (files, config), inputs)], settings)
    tasks = list(_tasks(documents.matching("part-"), index, config))
    result = run_stage(bench, "decontaminate", filter_part, tasks, settings)
    lists = result.matching("contaminated")
    task = Task("all", ([file.path for file in lists],), tuple(file.sha256 for file in lists))
    run_stage(bench, "contaminated", join_lists, [task], {})
    return result


def decontamination_path(bench: Bench) -> Path:
    """Where `decontaminate` leaves the list of contaminated documents."""
    return bench.stages / "contaminated" / "all" / "decontamination.parquet"


def find_references(config: DecontaminationConfig) -> list[InputFile]:
    """The files of the reference set.

    Raises:
        ConfigError: A path matches nothing.
    """
    return find_files("decontaminate", config.paths)


def references_digest(config: DecontaminationConfig) -> str:
    """What tells whether a reference set is the same; as `find_references`."""
    return digest([file.fingerprint for file in find_references(config)])


def _tasks(parts: Sequence[StageFile], index: StageResult, config: DecontaminationConfig) -> Iterator[Task]:
    paths, digests = [file.path for file in index.files], [file.sha256 for file in index.files]
    for number, part in enumerate(parts):
        yield Task(f"{number:05d}", (part.path, paths, config), (part.sha256, *digests))


def write_references(output: str, files: Sequence[InputFile], config: DecontaminationConfig) -> dict[str, int]:
    """Read the reference set and write its index; it is held in memory."""
    references = sorted(row for file in files for row in _read(file, config))
    indexes = index_references([text for _, text in references], config)
    pq.write_table(pa.table({"id": [name for name, _ in references]}), Path(output) / "references.parquet")
    for index in indexes:
        table = pa.table([pa.array(index.hashes), pa.array(index.reference)], schema=_INDEX)
        pq.write_table(table, Path(output) / f"ngrams-{index.ngram:03d}.parquet", compression="zstd")
    compared = sum(int(np.count_nonzero(index.sizes)) for index in indexes)
    return {"references": len(references), "without words": len(references) - compared}


def _read(file: InputFile, config: DecontaminationConfig) -> Iterator[tuple[str, str]]:
    """(id, text) of each reference of a file.

    Raises:
        TableError: One cannot be read: a reference that is left out would be trained on in silence.
    """
    own = file.format in ("text", "stdlib")
    text_field, id_field = ("text", "id") if own else (config.text_field, config.id_field)
    for place, (text, name) in read_references(file, "decontaminate", [text_field, id_field], [text_field]):
        found = checked_text(text, "decontaminate", place, text_field, "decontaminate.text_field")
        yield (place if name is None else str(name)), found


def filter_part(output: str, path: str, index_paths: Sequence[str], config: DecontaminationConfig) -> dict[str, int]:
    """Write the documents of one part that stay, and the list of those that are contaminated."""
    names, indexes = _load(index_paths)
    table = pq.read_table(path)
    matches = [np.empty(0, dtype=np.int64), np.empty(0), np.empty(0, dtype=np.int64)]
    for start in range(0, len(table), _TEXTS_AT_ONCE):
        found = find_matches(table["text"].slice(start, _TEXTS_AT_ONCE).to_pylist(), indexes)
        matches = [np.concatenate(pair) for pair in zip(matches, found, strict=True)]
    reference, overlap, shared = matches
    bad = (reference >= 0) & (overlap > config.max_overlap)
    rows = np.flatnonzero(bad)
    columns: dict[str, Any] = {
        **{name: table[name].take(pa.array(rows)) for name in ("id", "source", "place")},
        "reference": [names[number] for number in reference[rows].tolist()],
        "overlap": overlap[rows],
        "shared": shared[rows],
        "action": [config.action] * len(rows),
    }
    listed = pa.table([columns[name] for name in LISTED.names], schema=LISTED)
    pq.write_table(listed, Path(output) / "contaminated.parquet", compression="zstd")
    kept = table if config.action == "list" else table.filter(pa.array(~bad))
    pq.write_table(kept, Path(output) / "part-00000.parquet", compression="zstd")
    return {"documents": len(table), "contaminated": len(rows), "kept": len(kept)}


def _load(paths: Sequence[str]) -> tuple[list[str], list[References]]:
    """The references' ids and their indexes, as `write_references` left them."""
    by_name = {Path(path).name: path for path in paths}
    names = pq.read_table(by_name.pop("references.parquet"))["id"].to_pylist()
    indexes = []
    for name, path in sorted(by_name.items()):
        table = pq.read_table(path)
        reference = table["reference"].to_numpy()
        sizes = np.bincount(reference, minlength=len(names))
        ngram = int(Path(name).stem.rpartition("-")[2])
        indexes.append(References(ngram, table["hash"].to_numpy(), reference, sizes))
    return names, indexes


def join_lists(output: str, paths: Sequence[str]) -> dict[str, int]:
    """Write the lists of all parts as one."""
    table = pa.concat_tables([LISTED.empty_table(), *(pq.read_table(path) for path in paths)])
    pq.write_table(table, Path(output) / "decontamination.parquet", compression="zstd")
    return {}
