"""The tagger's fit: documents per skill, the classifier and how it does; and reading documents beside their labels."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from prereq.graph.canonical import canonical_json
from prereq.graph.errors import TableError
from prereq.graph.skill import Skill
from prereq.jobs.stages.asked import read_asked
from prereq.selector.corpus.bayes_classifier import BayesScorer, families, fit_bayes
from prereq.selector.corpus.bayes_model import BayesModel
from prereq.selector.corpus.descriptions import description_vectors, nearness_threshold
from prereq.selector.corpus.embedding import EmbeddingModel
from prereq.selector.corpus.evaluation_set import read_labelled
from prereq.selector.corpus.fasttext_model import ClassifierModel, array_bytes
from prereq.selector.corpus.keys import seeded_order
from prereq.selector.corpus.patterns import SkillMatcher, pattern_limit
from prereq.selector.corpus.skill_classifier import (
    Example,
    Judgement,
    Scorer,
    TextScorer,
    document_text,
    document_words,
    fit,
)
from prereq.selector.corpus.tagging import TaggingConfig, choose_sample, specificity

_BATCH = 1024  # rows in memory at a time; the result does not depend on it
SETTINGS = "tagger.json"
DESCRIPTIONS = "descriptions.npy"


@dataclass(frozen=True, slots=True)
class Space:
    """The embedding: files of its word model, of the documents' vectors, and characters of a text that it reads."""

    model: tuple[str, ...]
    vectors: tuple[str, ...]
    max_characters: int


def fit_tagger(
    output: str,
    paths: list[tuple[str, str]],
    skills: tuple[Skill, ...],
    config: TaggingConfig,
    seed: int,
    asked: str | None = None,
    space: Space | None = None,
) -> dict[str, int]:
    """Count documents per skill, learn the classifier where one is asked for, place descriptions, write all."""
    keys, rows, found = weak_pairs([weak for _, weak in paths])
    frequency = np.bincount(found, minlength=len(skills))
    counts = {"skills": len(skills), "skills without documents": int((frequency == 0).sum())}
    classifier = nearness = None
    if space is not None or config.uses("classifier"):
        order = seeded_order(keys, seed, "tagger sample")
        sample = choose_sample(order, rows, found, config.classifier_documents)
    if space is not None:
        descriptions, nearness = _place_descriptions(space, sample, rows, found, skills, config)
        (Path(output) / DESCRIPTIONS).write_bytes(array_bytes(descriptions))
    if config.uses("classifier"):
        told = read_asked(asked)
        sample = _join(sample, sorted(told), order) if told else sample
        examples = _read_examples(paths, sample, make_matcher(skills, config), config, told)
        fitted = _fit(examples, skills, config, seed)
        counts["classifier documents"] = len(examples) if fitted else 0
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
    if space is not None:
        settings["nearness"] = nearness
    (Path(output) / SETTINGS).write_bytes(canonical_json(settings))
    return counts


def _join(sample: npt.NDArray[np.int64], rows: Sequence[int], order: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
    """The sample and further rows, in seeded order."""
    chosen = np.unique(np.concatenate([sample, np.array(rows, dtype=np.int64)]))
    return chosen[np.lexsort((chosen, order[chosen]))]


def _place_descriptions(
    space: Space,
    sample: npt.NDArray[np.int64],
    rows: npt.NDArray[np.int64],
    found: npt.NDArray[np.int64],
    skills: tuple[Skill, ...],
    config: TaggingConfig,
) -> tuple[npt.NDArray[np.float32], float | None]:
    """Vectors of the skills' descriptions, and the cosine from which on they tag, by sampled or labelled documents."""
    model = EmbeddingModel.from_files({Path(path).name: Path(path).read_bytes() for path in space.model})
    descriptions = description_vectors(skills, model, space.max_characters)
    if config.labelled is not None:
        told = read_labelled(config.labelled, [skill.id for skill in skills])
        vectors, _ = model.embed([text for _, text, _ in told], space.max_characters)
        return descriptions, nearness_threshold(vectors, [own for _, _, own in told], descriptions, config)
    chosen = np.sort(sample)
    own: dict[int, set[int]] = {int(row): set() for row in chosen}
    for row, skill in zip(rows.tolist(), found.tolist(), strict=True):
        if row in own:
            own[row].add(skill)
    vectors = _read_vectors(space.vectors, chosen)
    return descriptions, nearness_threshold(vectors, [frozenset(own[int(r)]) for r in chosen], descriptions, config)


def _read_vectors(paths: Sequence[str], rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """Vectors of some documents by their ascending rows, `(len(rows), dim)`, a part in memory at a time."""
    found, start = [], 0
    for path in paths:
        vectors = part_vectors(path)
        found.append(vectors[rows[(rows >= start) & (rows < start + len(vectors))] - start])
        start += len(vectors)
    return np.concatenate(found)


def part_vectors(path: str) -> npt.NDArray[np.float32]:
    """The vectors of a part, `(n, dim)`."""
    column = pq.read_table(path, columns=["vector"])["vector"].combine_chunks()
    return np.asarray(column.flatten().to_numpy(zero_copy_only=False), dtype=np.float32).reshape(len(column), -1)


def _fit(
    examples: list[Example], skills: tuple[Skill, ...], config: TaggingConfig, seed: int
) -> tuple[ClassifierModel | BayesModel, Judgement] | None:
    """The classifier that the configuration names, and how it does."""
    labelled = []
    if config.labelled is not None:
        rows = read_labelled(config.labelled, [skill.id for skill in skills])
        matcher = make_matcher(skills, config)
        texts = read_documents([(name, text) for name, text, _ in rows], matcher, config)
        labelled = [Example(text, own) for text, (_, _, own) in zip(texts, rows, strict=True)]
    if config.classifier == "bayes":
        return fit_bayes(examples, config, families([skill.id for skill in skills], config), labelled)
    return fit(examples, config, seed, labelled)


def load_scorer(tagger: Path, config: TaggingConfig) -> Scorer:
    """The classifier that `fit_tagger` wrote into a folder."""
    files = {path.name: path.read_bytes() for path in sorted(tagger.iterdir())}
    if config.classifier == "bayes":
        return BayesScorer(BayesModel.from_files(files), config.classifier_characters)
    return TextScorer(ClassifierModel.from_files(files), config.classifier_characters)


def make_matcher(skills: tuple[Skill, ...], config: TaggingConfig) -> SkillMatcher | None:
    """What finds the skills' terms; None where patterns are not asked for."""
    if not config.uses("patterns"):
        return None
    return SkillMatcher(skills, match_names=config.match_names, max_characters=config.max_characters)


def read_documents(
    texts: list[tuple[str, str]], matcher: SkillMatcher | None, config: TaggingConfig, *, split: bool = True
) -> list[str]:
    """What the classifier reads of documents `(id, text)`: for learning as words where it reads words (`split`)."""
    words = []
    read = document_words if split and config.classifier == "fasttext" else document_text
    with pattern_limit(matcher, config.pattern_timeout_s) as begin:
        for document, text in texts:
            begin(document)
            words.append(read(text, matcher, config.classifier_characters))
    return words


def _read_examples(
    paths: list[tuple[str, str]],
    sample: npt.NDArray[np.int64],
    matcher: SkillMatcher | None,
    config: TaggingConfig,
    told: Mapping[int, list[int]],
) -> list[Example]:
    """The sampled documents, in the sample's order; what an endpoint told of one replaces its weak labels."""
    wanted = {int(row): position for position, row in enumerate(sample)}
    found: dict[int, tuple[str, str, list[int]]] = {}
    row = 0
    for path, weak_path in paths:
        for batch, weak in with_weak_labels(path, ["id", "text"], weak_path):
            for offset in range(len(batch)):
                if (position := wanted.get(row + offset)) is not None:
                    beginning = batch["text"][offset].as_py()[: config.classifier_characters]
                    own = told[row + offset] if row + offset in told else weak["skills"][offset].as_py()
                    found[position] = (batch["id"][offset].as_py(), beginning, own)
            row += len(batch)
    chosen = [found[position] for position in range(len(sample))]
    words = read_documents([(document, text) for document, text, _ in chosen], matcher, config)
    return [Example(line, frozenset(skills)) for line, (_, _, skills) in zip(words, chosen, strict=True)]


def weak_pairs(paths: list[str]) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
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


def batches(path: str, columns: list[str] | None = None) -> Iterator[pa.Table]:
    """The rows of a part, `_BATCH` at a time, whatever its row groups are."""
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=_BATCH, columns=columns):
            yield pa.Table.from_batches([batch])


def with_weak_labels(path: str, columns: list[str], weak_path: str) -> Iterator[tuple[pa.Table, pa.Table]]:
    """Batches of a part of the documents, each beside its weak labels.

    Raises:
        TableError: The two do not have the same ids in the same order.
    """
    weak = pq.read_table(weak_path)
    row = 0
    for batch in batches(path, columns):
        beside = weak.slice(row, len(batch))
        row += len(batch)
        if batch["id"].to_pylist() != beside["id"].to_pylist():
            break
        yield batch, beside
    else:
        if row == len(weak):
            return
    raise TableError(f"{weak_path}: rows are not those of {path}; remove the folder of this stage and build again")
