"""Scores of documents, as stages; without `scoring` there is none of them.

score-grams/NNNNN/grams.npy            with a dsir score: how often each bucket of n-grams occurs in the part
scorers/<name>/...                     what a score is computed with (`scorers`), one task per score
score/NNNNN/part-00000.parquet         the documents with a column of text per score
score/NNNNN/absent-<name>.npy          of a score from files: which documents have no row, and so the mean as theirs
filter/decide/part-NNNNN.parquet       `filter` of each document: -1, or the number of the filter that drops it; with
                                       scores from files also `absent`, whether it goes for want of one
filter/decide/limits.json              per filter, its score and the least value that stays (null: documents are drawn)
filtered-{documents,vectors}/NNNNN/part-00000.parquet   the parts of these stages without the dropped rows
filtered-list/all/filtered.parquet     id, source, place, score, value, limit: what was dropped

Scores come before clustering, so that clusters are those of what stays, and may be pruned by a score's mean.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from prereq.graph.canonical import canonical_json, digest
from prereq.graph.errors import ConfigError, TableError
from prereq.graph.skill_graph import SkillGraph
from prereq.jobs.stages.dedup import numbers
from prereq.jobs.stages.given_scores import given_scores
from prereq.jobs.stages.reference_files import find_references
from prereq.jobs.stages.runner import Bench, StageFile, StageResult, Task, run_stage
from prereq.jobs.stages.scorers import Corpus, fit_scorer, load_scorer
from prereq.jobs.stages.tag import word_model
from prereq.selector.corpus.dsir import GramCounts
from prereq.selector.corpus.embedding import EmbeddingConfig
from prereq.selector.corpus.inputs import InputFile
from prereq.selector.corpus.keys import id_keys
from prereq.selector.corpus.scoring import ScoreConfig, as_text, kept_by

FILTERED_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("source", pa.string()),
        ("place", pa.string()),
        ("score", pa.string()),  # name of the score
        ("value", pa.float64()),  # null where it has no score
        ("limit", pa.float64()),  # least value that stayed; null where documents were drawn
    ]
)
_PART = "part-00000.parquet"
_FILTER_KEYS = ("drop_below", "keep_share", "draw")


@dataclass(frozen=True, slots=True)
class Scored:
    """What scoring leaves."""

    documents: StageResult  # with a column per score
    vectors: StageResult
    results: dict[str, StageResult]  # stages whose counts the pool's summary has
    names: tuple[str, ...]  # of the scores


def score(
    bench: Bench,
    documents: StageResult,
    vectors: StageResult,
    scores: Sequence[ScoreConfig],
    graph: SkillGraph,
    embedding: EmbeddingConfig,
) -> Scored:
    """Score every document, and drop those that a filter does not keep.

    Args:
        bench: Of this build.
        documents: Parts with columns id, text, source, place and the metadata.
        vectors: The stage "embed": parts and rows as in the documents.
        scores: Unique names.
        graph: Its skills, for `mass`.
        embedding: How the vectors were made.

    Raises:
        ConfigError: Reference files that are not there, or an embedding that has no words for `mass`.
        TableError: A reference file that cannot be read, a score that is no number, or filters that keep nothing.
    """
    if not scores:
        return Scored(documents, vectors, {}, ())
    build = _Build(documents.matching("part-"), vectors.matching("part-"), graph, embedding)
    fitted = _fit(bench, build, scores)
    pairs = list(zip(build.parts, build.vectors, strict=True))
    made = tuple(file.sha256 for file in fitted.files)
    folder = str(bench.stages / "scorers")
    tasks = [
        Task(f"{i:05d}", (part.path, own.path, folder, tuple(scores)), (part.sha256, own.sha256, *made))
        for i, (part, own) in enumerate(pairs)
    ]
    found = run_stage(bench, "score", score_part, tasks, {"scores": [_settings(each) for each in scores]})
    results = {"scorers": fitted, "score": found}
    names = tuple(each.name for each in scores)
    filters = tuple(each for each in scores if each.filters)
    if not filters:
        return Scored(found, vectors, results, names)
    left = _filter(bench, found, vectors, filters)
    return Scored(left[0], left[1], results | {"filter": left[0]}, names)


def filtered_path(bench: Bench) -> Path:
    """Where the list of the documents that a filter dropped is."""
    return bench.stages / "filtered-list" / "all" / "filtered.parquet"


def references_digest(scores: Sequence[ScoreConfig]) -> str:
    """What tells whether the reference files of all scores are the same.

    Raises:
        ConfigError: A path matches nothing.
    """
    return digest([[file.fingerprint for file in files] for each in scores for files in _references(each)])


def _references(config: ScoreConfig) -> tuple[list[InputFile], list[InputFile]]:
    """The files of `paths` and of `negatives`."""
    name = f"scoring: {config.name}"
    found = [find_references(name, paths) if paths else [] for paths in (config.paths, config.negatives)]
    return found[0], found[1]


def _settings(config: ScoreConfig) -> dict[str, Any]:
    """What a score is computed from, as plain values; files count by their content, filters not at all."""
    left_out = (*_FILTER_KEYS, "paths", "negatives")
    return {key: value for key, value in config.plain().items() if key not in left_out}


@dataclass(frozen=True, slots=True)
class _Build:
    """What scores are fitted on."""

    parts: list[StageFile]
    vectors: list[StageFile]
    graph: SkillGraph
    embedding: EmbeddingConfig


def _fit(bench: Bench, build: _Build, scores: Sequence[ScoreConfig]) -> StageResult:
    """The stage "scorers"."""
    grams: list[StageFile] = []
    if characters := {each.characters for each in scores if each.method == "dsir"}:
        most = max(characters)
        if len(characters) > 1:
            raise ConfigError(f"scoring: scores of method dsir must agree in characters, got {sorted(characters)}")
        tasks = [Task(f"{i:05d}", (part.path, most), (part.sha256,)) for i, part in enumerate(build.parts)]
        grams = run_stage(bench, "score-grams", count_grams, tasks, {"characters": most}).matching("grams")
    tasks = []
    for each in scores:
        if each.method != "column":
            good, bad = _references(each)
            corpus, read = _read_by(bench, each, build, grams)
            inputs = (*(file.fingerprint for file in (*good, *bad)), *read, digest(_settings(each)))
            tasks.append(Task(each.name, (each, good, bad, corpus, bench.seed), inputs))
    libraries = {name: version(name) for name in ("numpy", "scipy")}
    return run_stage(bench, "scorers", fit_scorer, tasks, {"seed": bench.seed, "libraries": libraries})


def _read_by(
    bench: Bench, config: ScoreConfig, build: _Build, grams: Sequence[StageFile]
) -> tuple[Corpus, tuple[str, ...]]:
    """What a score reads beside its own files, and the digests of that."""
    if config.method == "dsir":
        return Corpus(grams=tuple(file.path for file in grams)), tuple(file.sha256 for file in grams)
    if config.method in ("quality", "file"):
        if config.negatives:
            return Corpus(), ()
        return Corpus(parts=tuple(p.path for p in build.parts)), tuple(p.sha256 for p in build.parts)
    graph = build.graph
    corpus = Corpus(
        vectors=tuple(file.path for file in build.vectors),
        skills=graph.skills,
        merged=dict(graph.merged),
        model=word_model(bench, build.embedding, f"scoring: score {config.name!r}"),
        characters=build.embedding.max_characters,
    )
    said = [[skill.id, skill.name, skill.description, list(skill.aliases)] for skill in graph.skills]
    merged = sorted(graph.merged.items())
    return corpus, (*(file.sha256 for file in build.vectors), digest([said, merged]))


def count_grams(output: str, path: str, characters: int) -> dict[str, int]:
    """Write how often each bucket of n-grams occurs in one part."""
    texts = pq.read_table(path, columns=["text"])["text"].to_pylist()
    counts = GramCounts.of(text[:characters] for text in texts).counts
    np.save(Path(output) / "grams.npy", counts, allow_pickle=False)
    return {"documents": len(texts), "n-grams": int(counts.sum())}


def score_part(output: str, path: str, vectors: str, scorers: str, scores: Sequence[ScoreConfig]) -> dict[str, int]:
    """Write the documents of one part with their scores.

    Raises:
        TableError: A score of method column is not a number, or there is no such column.
    """
    table = pq.read_table(path)
    for config in scores:
        if config.method == "column":
            read_scores(table, config.name, path)
            continue
        folder = Path(scorers) / config.name
        if config.method == "file":
            values, absent = given_scores(folder, table["id"].to_pylist())
            np.save(Path(output) / f"absent-{config.name}.npy", absent, allow_pickle=False)
        else:
            values = load_scorer(folder, config)(table["text"], vectors)
        column = pa.array([as_text(value) for value in values.tolist()], pa.string())
        table = table.append_column(pa.field(config.name, pa.string()), column)
    pq.write_table(table, Path(output) / _PART, compression="zstd")
    return {"documents": len(table)}


def read_scores(table: pa.Table, name: str, path: str) -> NDArray[np.float64]:
    """A column of scores as numbers `(n,)`.

    Args:
        table: With the columns id and `name`.
        name: Of the score.
        path: Named in errors.

    Raises:
        ConfigError: There is no such column.
        TableError: A value is not a finite number.
    """
    if name not in table.column_names:
        raise ConfigError(f"{path}: has no column {name!r}; name it in the metadata of each source (scoring)")
    values = numbers(table[name])
    found = np.asarray(values.fill_null(np.nan).to_numpy(zero_copy_only=False), dtype=np.float64)
    wrong = np.flatnonzero(~np.isfinite(found))
    if wrong.size:
        row = int(wrong[0])
        raise TableError(
            f"document {table['id'][row].as_py()!r}: {name} is {table[name][row].as_py()!r}, not a finite number; "
            f"the score {name!r} needs one for every document"
        )
    return found


def _filter(
    bench: Bench, scored: StageResult, vectors: StageResult, filters: Sequence[ScoreConfig]
) -> tuple[StageResult, StageResult]:
    parts, settings = scored.matching("part-"), {"filters": [each.plain() for each in filters], "seed": bench.seed}
    absent = {each.name: scored.matching(f"absent-{each.name}.npy") for each in filters if each.method == "file"}
    read = tuple(file.sha256 for file in (*parts, *(file for files in absent.values() for file in files)))
    paths = {name: [file.path for file in files] for name, files in absent.items()}
    task = Task("decide", ([part.path for part in parts], tuple(filters), bench.seed, paths), read)
    decided = run_stage(bench, "filter", decide, [task], settings)
    masks, limits = decided.matching("part-"), decided.matching("limits")[0]
    left = {}
    for name, stage in (("documents", scored), ("vectors", vectors)):
        tasks = [
            Task(f"{i:05d}", (part.path, mask.path), (part.sha256, mask.sha256))
            for i, (part, mask) in enumerate(zip(stage.matching("part-"), masks, strict=True))
        ]
        left[name] = run_stage(bench, f"filtered-{name}", drop_filtered, tasks, {})
    args = ([(part.path, mask.path) for part, mask in zip(parts, masks, strict=True)], limits.path)
    inputs = (limits.sha256, *(file.sha256 for file in (*parts, *masks)))
    run_stage(bench, "filtered-list", write_list, [Task("all", args, inputs)], {})
    return replace(left["documents"], counts=left["documents"].counts | decided.counts), left["vectors"]


def decide(
    output: str,
    parts: Sequence[str],
    filters: Sequence[ScoreConfig],
    seed: int,
    absent: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> dict[str, int]:
    """Write which filter drops each document: every filter looks at all documents, the first that drops one counts.

    Holds a key, a number and a score per filter of every document: 9 + 8 per filter bytes each.

    Args:
        output: Folder.
        parts: Paths of the documents with their scores.
        filters: Scores that filter.
        seed: Of draws.
        absent: By name of a score from files, for each part the path of which documents have no row.
    """
    keys, values, sizes = [], [], []
    for path in parts:
        table = pq.read_table(path, columns=["id", *(each.name for each in filters)])
        keys.append(id_keys(table["id"].to_pylist()))
        values.append(np.stack([read_scores(table, each.name, path) for each in filters]))
        sizes.append(len(table))
    key, scores = np.concatenate(keys), np.concatenate(values, axis=1)
    dropped_by, for_want = np.full(len(key), -1, dtype=np.int8), np.zeros(len(key), dtype=np.bool_)
    limits = []
    for number in reversed(range(len(filters))):
        paths = absent.get(filters[number].name, ())
        known = ~np.concatenate([np.load(path) for path in paths]) if paths else np.ones(len(key), dtype=np.bool_)
        kept = np.full(len(key), filters[number].missing == "keep")
        kept[known] = kept_by(scores[number][known], key[known], filters[number], seed)
        dropped_by[~kept] = number
        for_want[~kept] = ~known[~kept]
        drawn = filters[number].draw == "sample" or not kept[known].any()
        least = filters[number].drop_below
        least = float(scores[number][kept & known].min()) if least is None and not drawn else least
        limits.append({"score": filters[number].name, "limit": least})
    if not (dropped_by < 0).any():
        best = ", ".join(f"{each.name} {scores[i].max():g}" for i, each in enumerate(filters))
        raise TableError(f"scoring: the filters keep none of {len(key)} documents (best: {best}); lower drop_below")
    (Path(output) / "limits.json").write_bytes(canonical_json(limits[::-1]))
    for index, (stop, size) in enumerate(zip(np.cumsum(sizes).tolist(), sizes, strict=True)):
        own = slice(stop - size, stop)
        rows = pa.table({"filter": pa.array(dropped_by[own], pa.int8())})
        rows = rows.append_column("absent", pa.array(for_want[own])) if absent else rows
        pq.write_table(rows, Path(output) / f"part-{index:05d}.parquet", compression="zstd")
    counts = {f"dropped by {each.name}": int((dropped_by == i).sum()) for i, each in enumerate(filters)}
    return counts | ({"dropped without a score": int(for_want.sum())} if absent else {})


def drop_filtered(output: str, path: str, mask: str) -> dict[str, int]:
    """Write one part without the rows that a filter drops."""
    table = pq.read_table(path)
    kept = table.filter(pa.array(pq.read_table(mask)["filter"].to_numpy() < 0))
    pq.write_table(kept, Path(output) / _PART, compression="zstd")
    return {"documents": len(table), "dropped": len(table) - len(kept), "kept": len(kept)}


def write_list(output: str, pairs: Sequence[tuple[str, str]], limits_path: str) -> dict[str, int]:
    """One row per dropped document, in corpus order: who, where, by which score, the least that stayed."""
    limits = json.loads(Path(limits_path).read_bytes())
    rows = 0
    with pq.ParquetWriter(Path(output) / "filtered.parquet", FILTERED_SCHEMA, compression="zstd") as writer:
        for path, mask in pairs:
            decided = pq.read_table(mask)
            dropped_by = decided["filter"].to_numpy()
            for_want = decided["absent"].to_numpy() if "absent" in decided.column_names else dropped_by < -1
            gone = np.flatnonzero(dropped_by >= 0)
            columns = ["id", "source", "place", *(each["score"] for each in limits)]
            table = pq.read_table(path, columns=columns).take(pa.array(gone))
            values = np.stack([read_scores(table, each["score"], path) for each in limits])
            reason = dropped_by[gone]
            own = {
                "score": pa.array([limits[number]["score"] for number in reason.tolist()], pa.string()),
                "value": pa.array(values[reason, np.arange(len(gone))], mask=for_want[gone]),
                "limit": pa.array([limits[number]["limit"] for number in reason.tolist()], pa.float64()),
            }
            listed = {name: own.get(name, table[name] if name not in own else None) for name in FILTERED_SCHEMA.names}
            writer.write_table(pa.table(listed, schema=FILTERED_SCHEMA))
            rows += len(gone)
    return {"documents": rows}
