"""What a score is computed with: fitted in one task per score, applied to the documents of a part.

dsir     ratio.npy                                        log ratio of each bucket of n-grams, nats
mass     skills.npy, mean.npy, adjacency.npy              vectors of the skills, of the mean document; the graph A
file     index.npy, values.npy                            what was computed elsewhere (`given_scores`)
quality  quality.json, bayes.json, *.npy                  the classifier; counts say how it did where it did not learn
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from prereq.graph.errors import TableError
from prereq.graph.skill import Skill, nearest
from prereq.jobs.stages.given_scores import fit_given
from prereq.jobs.stages.reference_files import read_references, read_texts
from prereq.jobs.stages.tagger import part_vectors
from prereq.selector.corpus.descriptions import description_vectors, similarities
from prereq.selector.corpus.dsir import GramCounts, weight
from prereq.selector.corpus.embedding import EmbeddingModel
from prereq.selector.corpus.inputs import InputFile
from prereq.selector.corpus.keys import id_keys, seeded_order
from prereq.selector.corpus.mass import CooccurrenceGraph
from prereq.selector.corpus.quality import QualityModel, fit_quality, quality_scores
from prereq.selector.corpus.scoring import ScoreConfig

FloatArray = NDArray[np.float64]
ScoreTexts = Callable[[pa.ChunkedArray, str], FloatArray]
_ROWS = 1024  # documents at a time


@dataclass(frozen=True, slots=True)
class Corpus:
    """What a score reads of the build; paths where nothing else is said."""

    grams: tuple[str, ...] = ()  # dsir: counts per part
    parts: tuple[str, ...] = ()  # file, and quality without negatives: the documents
    vectors: tuple[str, ...] = ()  # mass: of the documents
    model: tuple[str, ...] = ()  # mass: the word model of the embedding
    characters: int = 0  # mass: of a text that the embedding reads
    skills: tuple[Skill, ...] = ()  # mass
    merged: Mapping[str, str] = field(default_factory=dict)  # mass: skill -> the one it was merged into


def fit_scorer(
    output: str, config: ScoreConfig, good: Sequence[InputFile], bad: Sequence[InputFile], corpus: Corpus, seed: int
) -> dict[str, int]:
    """Write what a score is computed with.

    Args:
        output: Folder.
        config: The score.
        good: Files of `config.paths`.
        bad: Files of `config.negatives`.
        corpus: What else is read.
        seed: Of choices among examples.

    Raises:
        TableError: A file cannot be read or says nothing.
    """
    what = f"scoring: score {config.name!r}"
    if config.method == "dsir":
        return _fit_dsir(output, config, good, corpus, what)
    if config.method == "mass":
        return _fit_mass(output, config, good, corpus, what)
    if config.method == "file":
        return fit_given(output, config, good, corpus.parts, what)
    wanted = _choose(_texts(good, config, what), config.examples, seed)
    if bad:
        others = _choose(_texts(bad, config, what), config.examples, seed)
    else:
        others = _sample_corpus(corpus.parts, config, seed)
    try:
        model, judged = fit_quality(wanted, others, config.characters, seed)
    except TableError as error:
        raise TableError(f"{what}: {error}") from error
    for name, data in model.files().items():
        (Path(output) / name).write_bytes(data)
    told = {"wanted": len(wanted), "others": len(others), "held back": judged.held_back, "right": judged.right}
    return {f"{config.name}: {name}": number for name, number in told.items()}


def load_scorer(folder: Path, config: ScoreConfig) -> ScoreTexts:
    """A function from a part's texts and the path of its vectors to scores `(n,)`; each row's is its own affair."""
    if config.method == "dsir":
        ratio = _load(folder, "ratio")
        return lambda texts, vectors: np.array(
            [weight(text[: config.characters], ratio, per_gram=config.per_gram) for text in texts.to_pylist()]
        )
    if config.method == "quality":
        model = QualityModel.from_files({path.name: path.read_bytes() for path in sorted(folder.iterdir())})
        return lambda texts, vectors: quality_scores(model, texts.to_pylist(), config.characters)
    return _mass_scorer(folder, config)


def _fit_dsir(
    output: str, config: ScoreConfig, files: Sequence[InputFile], corpus: Corpus, what: str
) -> dict[str, int]:
    target = GramCounts.of(text[: config.characters] for text in _texts(files, config, what))
    if not target.counts.any():
        raise TableError(f"{what}: the target texts hold no word; see scoring.N.text_field")
    raw = GramCounts(np.sum([np.load(path, allow_pickle=False) for path in corpus.grams], axis=0))
    np.save(Path(output) / "ratio.npy", target.log_shares() - raw.log_shares(), allow_pickle=False)
    return {f"{config.name}: n-grams of the target": int(target.counts.sum())}


def _fit_mass(
    output: str, config: ScoreConfig, files: Sequence[InputFile], corpus: Corpus, what: str
) -> dict[str, int]:
    ids = [skill.id for skill in corpus.skills]
    items = [item for file in files for item in _items(file, config, ids, corpus.merged, what)]
    try:
        graph = CooccurrenceGraph.of(items, ids)
    except ValueError as error:
        raise TableError(f"{what}: {error}") from error
    model = EmbeddingModel.from_files({Path(path).name: Path(path).read_bytes() for path in corpus.model})
    skills = description_vectors(corpus.skills, model, corpus.characters)
    total, documents = np.zeros(skills.shape[1]), 0
    for path in corpus.vectors:  # part by part and in order, so that the last bits do not depend on scheduling
        vectors = part_vectors(path)
        total, documents = total + vectors.sum(axis=0, dtype=np.float64), documents + len(vectors)
    arrays: dict[str, NDArray[Any]] = {
        "skills": skills,
        "mean": total / max(1, documents),
        "adjacency": graph.adjacency,
    }
    for name, array in arrays.items():
        np.save(Path(output) / f"{name}.npy", array, allow_pickle=False)
    unknown = int((~skills.any(axis=1)).sum())
    return {f"{config.name}: items": len(items), f"{config.name}: skills without known words": unknown}


def _mass_scorer(folder: Path, config: ScoreConfig) -> ScoreTexts:
    skills, mean, adjacency = (_load(folder, name) for name in ("skills", "mean", "adjacency"))
    graph = CooccurrenceGraph(tuple(map(str, range(len(skills)))), adjacency)
    # raw cosines all lie near one value: what counts is how much nearer than the mean document
    centre = similarities(mean[None].astype(np.float32), skills.astype(np.float32))

    def scores(texts: pa.ChunkedArray, vectors: str) -> FloatArray:
        found = [np.zeros(0)]
        own = part_vectors(vectors)
        for start in range(0, len(own), _ROWS):
            near = similarities(own[start : start + _ROWS], skills) - centre
            if config.combine == "linear":
                found.append(graph.linear(near))
            else:
                found.append(graph.compositional(near, config.nearest))
        return np.concatenate(found)

    return scores


def _items(
    file: InputFile, config: ScoreConfig, ids: Sequence[str], merged: Mapping[str, str], what: str
) -> Iterator[list[str]]:
    """The skills of each item of a reference set."""
    for place, (value,) in read_references(file, what, [config.skills_field], [config.skills_field]):
        named = [value] if isinstance(value, str) else value
        if not isinstance(named, list) or not all(isinstance(skill, str) for skill in named):
            raise TableError(
                f"{what}: {place} has no list of skills in the field {config.skills_field!r}; set "
                "scoring.N.skills_field"
            )
        found = [merged.get(skill, skill) for skill in named]
        unknown = sorted(set(found) - set(ids))
        if unknown:
            raise TableError(f"{what}: {place}: the graph has no skill {unknown[0]!r}{nearest(unknown[0], ids)}")
        yield found


def _texts(files: Sequence[InputFile], config: ScoreConfig, what: str) -> Iterator[str]:
    for file in files:
        for _, text in read_texts(file, what, config.text_field, "scoring.N.text_field"):
            yield text


def _choose(texts: Iterator[str], most: int, seed: int) -> list[str]:
    """At most `most` of some texts, drawn by their content, in the order of the draw; twice as many are held."""
    held: list[tuple[int, str]] = []
    for text in texts:
        held.append((int(seeded_order(id_keys([text]), seed, "scoring examples")[0]), text))
        if len(held) >= 2 * most:
            held = sorted(held)[:most]
    return [text for _, text in sorted(held)[:most]]


def _sample_corpus(paths: Sequence[str], config: ScoreConfig, seed: int) -> list[str]:
    """Beginnings of documents drawn from the corpus, `config.examples` at most; 8 bytes a document are held."""
    keys = [id_keys(pq.read_table(path, columns=["id"])["id"].to_pylist()) for path in paths]
    borders = np.cumsum([0, *map(len, keys)])
    order = seeded_order(np.concatenate(keys), seed, f"scoring {config.name}")
    rows = np.sort(np.argsort(order, kind="stable")[: config.examples])
    texts: list[str] = []
    for path, start, stop in zip(paths, borders, borders[1:], strict=False):
        own = rows[(rows >= start) & (rows < stop)] - start
        if len(own):
            found = pq.read_table(path, columns=["text"])["text"].take(pa.array(own)).to_pylist()
            texts += [text[: config.characters] for text in found]
    return texts


def _load(folder: Path, name: str) -> NDArray[Any]:
    array: NDArray[Any] = np.load(folder / f"{name}.npy", allow_pickle=False)
    return array
