"""Tagging against the graph, as stages: "patterns" (per part), maybe "asked", "tagger" (one task), "tag" (per part).

patterns/NNNNN/part-00000.parquet   weak labels (`weak_labels.WEAK_SCHEMA`)
tagger/tagger/tagger.json           documents per skill, specificity, how the classifier does
tagger/tagger/<model files>         the classifier, where there is one
tag/NNNNN/part-00000.parquet        id, skills (graph order), scores; rows as in the documents
"""

import json
import unicodedata
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from prereq.graph.errors import ConfigError
from prereq.graph.skill import Skill
from prereq.graph.skill_graph import SkillGraph
from prereq.jobs.stages.asked import ask
from prereq.jobs.stages.runner import Bench, StageFile, StageResult, Task, run_stage
from prereq.jobs.stages.tagger import (
    DESCRIPTIONS,
    SETTINGS,
    Space,
    batches,
    fit_tagger,
    load_scorer,
    make_matcher,
    part_vectors,
    read_documents,
    with_weak_labels,
)
from prereq.selector.corpus.descriptions import similarities
from prereq.selector.corpus.embedding import WORD_METHODS, EmbeddingConfig
from prereq.selector.corpus.evaluation_set import file_digest
from prereq.selector.corpus.patterns import SkillMatcher
from prereq.selector.corpus.skill_classifier import Scorer, likeliest
from prereq.selector.corpus.tagging import TaggingConfig, choose_skills, hit_weight
from prereq.selector.corpus.weak_labels import WEAK_SCHEMA, LabelReader, weak_labels

TAGS_SCHEMA = pa.schema([("id", pa.string()), ("skills", pa.list_(pa.string())), ("scores", pa.list_(pa.float32()))])
FloatArray = npt.NDArray[np.float32]
# with `tagging.classifier: bayes`, beside the scores: the calibrated chance that a skill of the classifier is right
CHANCES = pa.field("chances", pa.list_(pa.float32()))
_PART = "part-00000.parquet"


def tag(
    bench: Bench,
    documents: StageResult,
    graph: SkillGraph,
    config: TaggingConfig,
    embedded: tuple[StageResult, EmbeddingConfig] | None = None,
) -> StageResult:
    """Give every document its skills.

    Args:
        bench: Of this build.
        documents: Parts with columns id, text, place, labels.
        graph: The skills; its edges play no part.
        config: See `TaggingConfig`.
        embedded: The documents' vectors, parts and rows as in `documents`, and how they were made; the method
            `descriptions` needs them.

    Returns:
        The stage "tag": one part per part of the documents, `id, skills, scores`, rows in the same order. Its counts
        say how many documents have a skill, and how many of them by the classifier alone.

    Raises:
        TableError: A label that the graph does not have, patterns that take too long, parts that do not fit together.
    """
    parts = documents.matching("part-")
    weak = _find_weak_labels(bench, parts, graph, config)
    space, vectors = _space(bench, config, embedded)
    tagger = _fit_tagger(bench, parts, weak, graph, config, space, vectors)
    model = tuple(file for file in tagger.files)
    digests = tuple(file.sha256 for file in model)
    tasks = [
        Task(
            f"{index:05d}",
            (
                part.path,
                found.path,
                str(Path(model[0].path).parent),
                graph.skills,
                config,
                vectors[index].path if space else None,
            ),
            (part.sha256, found.sha256, *digests, *([vectors[index].sha256] if space else [])),
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


def _space(
    bench: Bench, config: TaggingConfig, embedded: tuple[StageResult, EmbeddingConfig] | None
) -> tuple[Space | None, list[StageFile]]:
    """What the method `descriptions` reads of the embedding; None where it is not asked for.

    Raises:
        ConfigError: The embedding has no word model that a description could be placed with.
    """
    if not config.uses("descriptions"):
        return None, []
    model = word_model(bench, embedded[1] if embedded else None, "tagging.methods: descriptions")
    assert embedded is not None  # or there is no model
    vectors = embedded[0].matching("part-")
    return Space(model, tuple(file.path for file in vectors), embedded[1].max_characters), vectors


def word_model(bench: Bench, embedding: EmbeddingConfig | None, what: str) -> tuple[str, ...]:
    """Files of the embedding's word model, by which other words than the documents' find their place.

    Raises:
        ConfigError: The embedding has none; `what` needs it.
    """
    files = sorted((bench.stages / "embedding" / "fit").glob("*.*"))
    model = tuple(str(path) for path in files if path.name in ("words.json", "vectors.npy", "centre.npy"))
    if embedding is None or embedding.method not in WORD_METHODS or len(model) != 3:
        raise ConfigError(
            f"{what} needs an embedding of words that the build fits itself; set embedding.method to "
            f"{' or '.join(WORD_METHODS)}, or leave it out"
        )
    return model


def _find_weak_labels(
    bench: Bench, parts: list[StageFile], graph: SkillGraph, config: TaggingConfig
) -> list[StageFile]:
    args = (graph.skills, graph.merged, config)
    tasks = [Task(f"{index:05d}", (part.path, *args), (part.sha256,)) for index, part in enumerate(parts)]
    return run_stage(bench, "patterns", find_part, tasks, _settings(graph, config)).matching("part-")


def _fit_tagger(
    bench: Bench,
    parts: list[StageFile],
    weak: list[StageFile],
    graph: SkillGraph,
    config: TaggingConfig,
    space: Space | None,
    vectors: list[StageFile],
) -> StageResult:
    paths = [(part.path, found.path) for part, found in zip(parts, weak, strict=True)]
    inputs = tuple(file.sha256 for pair in zip(parts, weak, strict=True) for file in pair)
    inputs = (*inputs, *(file.sha256 for file in vectors))
    asked = None
    if config.endpoint is not None:
        settings = _settings(graph, config)
        answers = ask(bench, parts, weak, graph.skills, config.max_skills, config.endpoint, settings)
        asked, inputs = answers.path, (*inputs, answers.sha256)
    if config.labelled is not None:
        inputs = (*inputs, file_digest(config.labelled, "tagging.labelled"))
    task = Task("tagger", (paths, graph.skills, config, bench.seed, asked, space), inputs)
    libraries = {name: version(name) for name in ("fasttext-wheel", "numpy", "scipy")}
    settings = {**_settings(graph, config), "seed": bench.seed, "libraries": libraries}
    return run_stage(bench, "tagger", fit_tagger, [task], settings)


def _settings(graph: SkillGraph, config: TaggingConfig) -> dict[str, Any]:
    """Everything but the documents that decides tags, as plain values."""
    skills = [[skill.id, skill.name, list(skill.aliases), list(skill.patterns)] for skill in graph.skills]
    merged = sorted(graph.merged.items())
    plain = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(config).items()}
    if config.endpoint is not None or config.uses("descriptions"):
        skills = [[*entry, skill.description] for entry, skill in zip(skills, graph.skills, strict=True)]
    return {"tagging": plain, "skills": skills, "merged": merged, "unicode": unicodedata.unidata_version}


def find_part(
    output: str, path: str, skills: tuple[Skill, ...], merged: Mapping[str, str], config: TaggingConfig
) -> dict[str, int]:
    """Write the weak labels of one part."""
    matcher = make_matcher(skills, config)
    ignore = config.unknown_labels == "ignore"
    reader = LabelReader.of([skill.id for skill in skills], merged, ignore) if config.uses("labels") else None
    totals: dict[str, int] = {}
    with pq.ParquetWriter(Path(output) / _PART, WEAK_SCHEMA, compression="zstd") as writer:
        for batch in batches(path, ["id", "text", "place", "labels"]):
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


def tag_part(
    output: str,
    path: str,
    weak_path: str,
    tagger: str,
    skills: tuple[Skill, ...],
    config: TaggingConfig,
    vectors_path: str | None = None,
) -> dict[str, int]:
    """Write the tags of one part."""
    settings = json.loads((Path(tagger) / SETTINGS).read_bytes())
    judgement = settings["classifier"]
    scorer = None
    if judgement and judgement["threshold"] is not None:
        scorer = load_scorer(Path(tagger), config)
    matcher = make_matcher(skills, config) if scorer else None
    near = _Nearest.load(tagger, vectors_path, settings)
    counts = {"tagged": 0, "by classifier alone": 0, "untagged": 0}
    if near is not None:
        counts["by description alone"] = 0
    columns = ["id", "text"] if scorer else ["id"]
    schema = TAGS_SCHEMA.append(CHANCES) if config.classifier == "bayes" and scorer else TAGS_SCHEMA
    with pq.ParquetWriter(Path(output) / _PART, schema, compression="zstd") as writer:
        for batch, weak in with_weak_labels(path, columns, weak_path):
            found = weak.to_pylist()
            added = _classify(batch, found, scorer, judgement, matcher, config) if scorer else {}
            chances = dict(added)
            if near is not None:
                filled = near.fill(found, added, config.max_skills)
                counts["by description alone"] += filled
                counts["by classifier alone"] -= filled  # `_tags` takes whatever was added for the classifier's
            table = _tags(found, added, skills, settings["specificity"], config, counts)
            writer.write_table(_with_chances(table, chances, skills) if len(schema) > len(TAGS_SCHEMA) else table)
    return counts


class _Nearest:
    """Fills documents that have no skill yet with the skills whose descriptions are near; goes through a part once."""

    def __init__(self, descriptions: FloatArray, vectors: FloatArray, threshold: float) -> None:
        self._descriptions = descriptions
        self._vectors = vectors
        self._threshold = threshold
        self._row = 0

    @classmethod
    def load(cls, tagger: str, vectors_path: str | None, settings: Mapping[str, Any]) -> "_Nearest | None":
        """For one part; None where descriptions do not tag."""
        if vectors_path is None or settings["nearness"] is None:
            return None
        descriptions = np.load(Path(tagger) / DESCRIPTIONS, allow_pickle=False)
        return cls(descriptions, part_vectors(vectors_path), settings["nearness"])

    def fill(self, weak: list[dict[str, Any]], added: dict[int, dict[int, float]], most: int) -> int:
        """Put skills of the next documents without any into `added`; how many documents got one."""
        rows = [row for row, found in enumerate(weak) if not found["skills"] and not added.get(row)]
        vectors = self._vectors[self._row : self._row + len(weak)][rows]
        self._row += len(weak)
        skills = range(len(self._descriptions))
        found = likeliest(similarities(vectors, self._descriptions), skills, self._threshold, most)
        added.update((row, tags) for row, tags in zip(rows, found, strict=True) if tags)
        return sum(map(bool, found))


def _classify(
    batch: pa.Table,
    weak: list[dict[str, Any]],
    scorer: Scorer,
    judgement: Mapping[str, Any],
    matcher: SkillMatcher | None,
    config: TaggingConfig,
) -> dict[int, dict[int, float]]:
    """Row of the batch -> skill -> probability, for the rows that the classifier is for."""
    rows = [row for row, found in enumerate(weak) if config.classifier_for == "all" or not found["skills"]]
    texts = list(
        zip((weak[row]["id"] for row in rows), batch["text"].take(pa.array(rows, pa.int64())).to_pylist(), strict=True)
    )
    lines = read_documents(texts, matcher, config, split=False)
    return dict(zip(rows, scorer.tags(lines, judgement["threshold"], config.max_skills), strict=True))


def _tags(
    weak: list[dict[str, Any]],
    added: Mapping[int, Mapping[int, float]],
    skills: tuple[Skill, ...],
    specific: list[float],
    config: TaggingConfig,
    counts: dict[str, int],
) -> pa.Table:
    names = pa.array([skill.id for skill in skills], pa.string())
    kept, scores, offsets = list[int](), list[float](), [0]
    for row, found in enumerate(weak):
        hits = zip(found["skills"], found["hits"], found["stated"], strict=True)
        # a stated skill weighs as much as one hit where its terms are absent
        weights = {skill: hit_weight(max(number, int(stated))) for skill, number, stated in hits}
        stated = frozenset(s for s, is_stated in zip(found["skills"], found["stated"], strict=True) if is_stated)
        own, their = choose_skills({**added.get(row, {}), **weights}, stated, specific, config.max_skills)
        kept += own
        scores += their
        offsets.append(len(kept))
        counts["tagged" if own else "untagged"] += 1
        counts["by classifier alone"] += bool(own and not weights)
    lists = (names.take(pa.array(kept, pa.int64())), pa.array(scores, pa.float32()))
    columns = [pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), values) for values in lists]
    return pa.table([pa.array([found["id"] for found in weak], pa.string()), *columns], schema=TAGS_SCHEMA)


def _with_chances(table: pa.Table, chances: Mapping[int, Mapping[int, float]], skills: tuple[Skill, ...]) -> pa.Table:
    """The tags with the classifier's chances; null for a skill that it did not find likely."""
    place = {skill.id: position for position, skill in enumerate(skills)}
    rows = [
        [chances.get(row, {}).get(place[name]) for name in names]
        for row, names in enumerate(table["skills"].to_pylist())
    ]
    return table.append_column(CHANCES, pa.array(rows, CHANCES.type))
