"""Tagging against the graph, as stages: "patterns" (per part), "tagger" (one task), "tag" (per part).

patterns/NNNNN/part-00000.parquet   weak labels (`weak_labels.WEAK_SCHEMA`)
tagger/tagger/tagger.json           documents per skill, specificity, how the classifier does
tagger/tagger/<model files>         the classifier, where there is one
tag/NNNNN/part-00000.parquet        id, skills (graph order), scores; rows as in the documents
"""

import json
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from prereq.graph.canonical import canonical_json
from prereq.graph.errors import TableError
from prereq.graph.skill import Skill
from prereq.graph.skill_graph import SkillGraph
from prereq.jobs.stages.runner import Bench, StageFile, StageResult, Task, run_stage
from prereq.selector.corpus.fasttext_model import ClassifierModel
from prereq.selector.corpus.keys import seeded_order
from prereq.selector.corpus.patterns import SkillMatcher, pattern_limit
from prereq.selector.corpus.skill_classifier import Example, SkillScorer, document_words, fit
from prereq.selector.corpus.tagging import TaggingConfig, choose_sample, choose_skills, hit_weight, specificity
from prereq.selector.corpus.weak_labels import WEAK_SCHEMA, LabelReader, weak_labels

TAGS_SCHEMA = pa.schema([("id", pa.string()), ("skills", pa.list_(pa.string())), ("scores", pa.list_(pa.float32()))])
_BATCH = 1024  # rows in memory at a time; the result does not depend on it
_PART = "part-00000.parquet"
_SETTINGS = "tagger.json"


def tag(bench: Bench, documents: StageResult, graph: SkillGraph, config: TaggingConfig) -> StageResult:
    """Give every document its skills.

    Args:
        bench: Of this build.
        documents: Parts with columns id, text, place, labels.
        graph: The skills; its edges play no part.
        config: See `TaggingConfig`.

    Returns:
        The stage "tag": one part per part of the documents, `id, skills, scores`, rows in the same order. Its counts
        say how many documents have a skill, and how many of them by the classifier alone.

    Raises:
        TableError: A label that the graph does not have, patterns that take too long, parts that do not fit together.
    """
    parts = documents.matching("part-")
    weak = _find_weak_labels(bench, parts, graph, config)
    tagger = _fit_tagger(bench, parts, weak, graph, config)
    model = tuple(file for file in tagger.files)
    digests = tuple(file.sha256 for file in model)
    tasks = [
        Task(
            f"{index:05d}",
            (part.path, found.path, str(Path(model[0].path).parent), graph.skills, config),
            (part.sha256, found.sha256, *digests),
        )
        for index, (part, found) in enumerate(zip(parts, weak, strict=True))
    ]
    return run_stage(bench, "tag", tag_part, tasks, _settings(graph, config))


def count_skills(tags: StageResult, graph: SkillGraph) -> dict[str, int]:
    """Documents per skill after tagging, in graph order; skills without any document count 0."""
    counts = dict.fromkeys(graph.ids, 0)
    for file in tags.matching("part-"):
        skills = pq.read_table(file.path, columns=["skills"])["skills"].combine_chunks().flatten()
        for entry in skills.value_counts().to_pylist():
            counts[entry["values"]] += entry["counts"]
    return counts


def _find_weak_labels(
    bench: Bench, parts: list[StageFile], graph: SkillGraph, config: TaggingConfig
) -> list[StageFile]:
    args = (graph.skills, graph.merged, config)
    tasks = [Task(f"{index:05d}", (part.path, *args), (part.sha256,)) for index, part in enumerate(parts)]
    return run_stage(bench, "patterns", find_part, tasks, _settings(graph, config)).matching("part-")


def _fit_tagger(
    bench: Bench, parts: list[StageFile], weak: list[StageFile], graph: SkillGraph, config: TaggingConfig
) -> StageResult:
    paths = [(part.path, found.path) for part, found in zip(parts, weak, strict=True)]
    inputs = tuple(file.sha256 for pair in zip(parts, weak, strict=True) for file in pair)
    task = Task("tagger", (paths, graph.skills, config, bench.seed), inputs)
    libraries = {name: version(name) for name in ("fasttext-wheel", "numpy")}
    settings = {**_settings(graph, config), "seed": bench.seed, "libraries": libraries}
    return run_stage(bench, "tagger", fit_tagger, [task], settings)


def _settings(graph: SkillGraph, config: TaggingConfig) -> dict[str, Any]:
    """Everything but the documents that decides tags, as plain values."""
    skills = [[skill.id, skill.name, list(skill.aliases), list(skill.patterns)] for skill in graph.skills]
    merged = sorted(graph.merged.items())
    plain = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(config).items()}
    return {"tagging": plain, "skills": skills, "merged": merged, "unicode": unicodedata.unidata_version}


def _matcher(skills: tuple[Skill, ...], config: TaggingConfig) -> SkillMatcher | None:
    if not config.uses("patterns"):
        return None
    return SkillMatcher(skills, match_names=config.match_names, max_characters=config.max_characters)


def find_part(
    output: str, path: str, skills: tuple[Skill, ...], merged: Mapping[str, str], config: TaggingConfig
) -> dict[str, int]:
    """Write the weak labels of one part."""
    matcher = _matcher(skills, config)
    ignore = config.unknown_labels == "ignore"
    reader = LabelReader.of([skill.id for skill in skills], merged, ignore) if config.uses("labels") else None
    totals: dict[str, int] = {}
    with pq.ParquetWriter(Path(output) / _PART, WEAK_SCHEMA, compression="zstd") as writer:
        for batch in _batches(path, ["id", "text", "place", "labels"]):
            found, counts = weak_labels(
                batch,
                reader=reader,
                matcher=matcher,
                min_hits=config.min_hits,
                timeout_s=config.pattern_timeout_s,
            )
            writer.write_table(found)
            for name, number in counts.items():
                totals[name] = totals.get(name, 0) + number
    return totals


def fit_tagger(
    output: str, paths: list[tuple[str, str]], skills: tuple[Skill, ...], config: TaggingConfig, seed: int
) -> dict[str, int]:
    """Count documents per skill, learn the classifier where one is asked for, write both."""
    keys, rows, found = _weak_pairs([weak for _, weak in paths])
    frequency = np.bincount(found, minlength=len(skills))
    counts = {"skills": len(skills), "skills without documents": int((frequency == 0).sum())}
    classifier = None
    if config.uses("classifier"):
        order = seeded_order(keys, seed, "tagger sample")
        sample = choose_sample(order, rows, found, config.classifier_documents)
        fitted = fit(_read_examples(paths, sample, _matcher(skills, config), config), config, seed)
        counts["classifier documents"] = len(sample) if fitted else 0
        if fitted:
            classifier = asdict(fitted[1])
            for name, data in fitted[0].files().items():
                (Path(output) / name).write_bytes(data)
    settings = {
        "documents": len(keys),
        "frequency": {skill.id: int(number) for skill, number in zip(skills, frequency, strict=True)},
        "specificity": specificity(frequency, len(keys)).tolist(),
        "classifier": classifier,
    }
    (Path(output) / _SETTINGS).write_bytes(canonical_json(settings))
    return counts


def tag_part(
    output: str, path: str, weak_path: str, tagger: str, skills: tuple[Skill, ...], config: TaggingConfig
) -> dict[str, int]:
    """Write the tags of one part."""
    settings = json.loads((Path(tagger) / _SETTINGS).read_bytes())
    judgement = settings["classifier"]
    scorer = None
    if judgement and judgement["threshold"] is not None:
        scorer = SkillScorer(
            ClassifierModel.from_files({p.name: p.read_bytes() for p in sorted(Path(tagger).iterdir())})
        )
    matcher = _matcher(skills, config) if scorer else None
    counts = {"tagged": 0, "by classifier alone": 0, "untagged": 0}
    columns = ["id", "text"] if scorer else ["id"]
    with pq.ParquetWriter(Path(output) / _PART, TAGS_SCHEMA, compression="zstd") as writer:
        for batch, weak in _with_weak_labels(path, columns, weak_path):
            found = weak.to_pylist()
            added = _classify(batch, found, scorer, judgement, matcher, config) if scorer else {}
            writer.write_table(_tags(found, added, skills, settings["specificity"], config, counts))
    return counts


def _classify(
    batch: pa.Table,
    weak: list[dict[str, Any]],
    scorer: SkillScorer,
    judgement: Mapping[str, Any],
    matcher: SkillMatcher | None,
    config: TaggingConfig,
) -> dict[int, dict[int, float]]:
    """Row of the batch -> skill -> probability, for the rows that the classifier is for."""
    rows = [row for row, found in enumerate(weak) if config.classifier_for == "all" or not found["skills"]]
    texts = [(weak[row]["id"], batch["text"][row].as_py()) for row in rows]
    lines = _document_words(texts, matcher, config)
    return dict(zip(rows, scorer.tags(lines, judgement["threshold"], config.max_skills), strict=True))


def _document_words(texts: list[tuple[str, str]], matcher: SkillMatcher | None, config: TaggingConfig) -> list[str]:
    """What the classifier reads of documents `(id, text)`."""
    words = []
    with pattern_limit(matcher, config.pattern_timeout_s) as begin:
        for document, text in texts:
            begin(document)
            words.append(document_words(text, matcher, config.classifier_characters))
    return words


def _tags(
    weak: list[dict[str, Any]],
    added: Mapping[int, Mapping[int, float]],
    skills: tuple[Skill, ...],
    specific: list[float],
    config: TaggingConfig,
    counts: dict[str, int],
) -> pa.Table:
    rows = []
    for row, found in enumerate(weak):
        hits = zip(found["skills"], found["hits"], found["stated"], strict=True)
        # a stated skill weighs as much as one hit where its terms are absent
        weights = {skill: hit_weight(max(number, int(stated))) for skill, number, stated in hits}
        stated = frozenset(s for s, is_stated in zip(found["skills"], found["stated"], strict=True) if is_stated)
        kept, scores = choose_skills({**added.get(row, {}), **weights}, stated, specific, config.max_skills)
        rows.append({"id": found["id"], "skills": [skills[skill].id for skill in kept], "scores": scores})
        counts["tagged" if kept else "untagged"] += 1
        counts["by classifier alone"] += bool(kept and not weights)
    return pa.Table.from_pylist(rows, schema=TAGS_SCHEMA)


def _read_examples(
    paths: list[tuple[str, str]],
    sample: npt.NDArray[np.int64],
    matcher: SkillMatcher | None,
    config: TaggingConfig,
) -> list[Example]:
    """The sampled documents, in the sample's order."""
    wanted = {int(row): position for position, row in enumerate(sample)}
    found: dict[int, tuple[str, str, list[int]]] = {}
    row = 0
    for path, weak_path in paths:
        for batch, weak in _with_weak_labels(path, ["id", "text"], weak_path):
            for offset in range(len(batch)):
                if (position := wanted.get(row + offset)) is not None:
                    beginning = batch["text"][offset].as_py()[: config.classifier_characters]
                    found[position] = (batch["id"][offset].as_py(), beginning, weak["skills"][offset].as_py())
            row += len(batch)
    chosen = [found[position] for position in range(len(sample))]
    words = _document_words([(document, text) for document, text, _ in chosen], matcher, config)
    return [Example(line, frozenset(skills)) for line, (_, _, skills) in zip(words, chosen, strict=True)]


def _weak_pairs(paths: list[str]) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Keys of all documents `(n,)`, and of each (document, skill) pair the row and the skill, `(p,)`."""
    keys, lengths, skills = [], [], []
    for path in paths:
        table = pq.read_table(path, columns=["key", "skills"]).combine_chunks()
        keys.append(table["key"].to_numpy())
        lists = table["skills"].combine_chunks()
        lengths.append(lists.value_lengths().to_numpy(zero_copy_only=False).astype(np.int64))
        skills.append(lists.flatten().to_numpy(zero_copy_only=False).astype(np.int64))
    size = np.concatenate([np.zeros(0, dtype=np.int64), *lengths])
    found = np.concatenate([np.zeros(0, dtype=np.int64), *skills])
    return np.concatenate([np.zeros(0, dtype=np.uint64), *keys]), np.repeat(np.arange(len(size)), size), found


def _batches(path: str, columns: list[str] | None = None) -> Iterator[pa.Table]:
    """The rows of a part, `_BATCH` at a time, whatever its row groups are."""
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=_BATCH, columns=columns):
            yield pa.Table.from_batches([batch])


def _with_weak_labels(path: str, columns: list[str], weak_path: str) -> Iterator[tuple[pa.Table, pa.Table]]:
    """Batches of a part of the documents, each beside its weak labels.

    Raises:
        TableError: The two do not have the same ids in the same order.
    """
    weak = pq.read_table(weak_path)
    row = 0
    for batch in _batches(path, columns):
        beside = weak.slice(row, len(batch))
        row += len(batch)
        if batch["id"].to_pylist() != beside["id"].to_pylist():
            break
        yield batch, beside
    else:
        if row == len(weak):
            return
    raise TableError(f"{weak_path}: rows are not those of {path}; remove the folder of this stage and build again")
