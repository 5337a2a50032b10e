"""Rows on what the tagger finds: trained by `prereq build`'s own stages on labelled text, judged on other text.

The protocol is that of the data's README and is the same for the floors by TF-IDF: openstax exercises get their bundle
after training on exposition and examples; exercism exercises (all kinds but tests) get the concepts that they teach or
practise after training on the concept pages, candidates of the same track. Labels are given to the stage for the
training documents only. The seed is the pool's.
"""

import gzip
import json
import statistics
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from corpus_rows import Context, Found, Row

from prereq.graph.skill import Skill
from prereq.graph.skill_graph import SkillGraph
from prereq.jobs.executor import InProcessExecutor
from prereq.jobs.progress import Progress
from prereq.jobs.stages.runner import Bench, Task, run_stage
from prereq.jobs.stages.tag import tag
from prereq.jobs.stages.tagger import load_scorer
from prereq.selector.corpus.tagging import TaggingConfig

SEEDS = (0, 1, 2)
CONFIG = TaggingConfig(
    methods=("labels", "classifier"),
    classifier="bayes",
    classifier_documents=20_000,
    classifier_min_documents=1,
    classifier_characters=20_000,
)
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Document:
    """One text, what it is about, and whether the stage may see that."""

    id: str
    text: str
    skills: frozenset[str]
    taught: bool


def read(folder: Path) -> list[dict[str, Any]]:
    """All documents of a data set."""
    with gzip.open(folder / "documents.jsonl.gz", "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def openstax(data: Path) -> list[Document]:
    """Exposition and examples to learn from, exercises to be judged by, each with its bundle."""
    use = {"exposition": True, "example": True, "exercise": False}
    found = [(entry["labels"], entry) for entry in read(data / "openstax_multi")]
    return [
        Document(entry["id"], entry["text"], frozenset({labels["bundle"]}), use[labels["kind"]])
        for labels, entry in found
        if labels["kind"] in use
    ]


def exercism(data: Path) -> list[Document]:
    """Concept pages to learn from; of the exercises all kinds but tests, where a concept is stated."""
    documents = []
    for entry in read(data / "exercism"):
        labels = entry["labels"]
        skills = frozenset([*labels["taught"], *labels.get("practices", [])])
        if labels["kind"] != "tests" and skills:
            taught = labels["kind"] in ("concept_about", "concept_introduction")
            documents.append(Document(entry["id"], entry["text"], skills, taught))
    return documents


def write_part(output: str, documents: list[Document]) -> dict[str, int]:
    """The documents as the stages before tagging leave them."""
    columns = {
        "id": pa.array([entry.id for entry in documents], pa.string()),
        "text": pa.array([entry.text for entry in documents], pa.large_string()),
        "place": pa.array([entry.id for entry in documents], pa.string()),
        "labels": pa.array([sorted(e.skills) if e.taught else [] for e in documents], pa.list_(pa.string())),
    }
    pq.write_table(pa.table(columns), Path(output) / "part-00000.parquet")
    return {"documents": len(documents)}


def chances(folder: Path, documents: list[Document], seed: int) -> tuple[npt.NDArray[np.float64], list[str], int]:
    """Run the tagging stages; chances `(judged, skills)` by the classifier that they left, and the skills."""
    bench = Bench(stages=folder, executor=InProcessExecutor(), progress=Progress(quiet=True), seed=seed)
    ids = sorted(set().union(*(entry.skills for entry in documents)))
    graph = SkillGraph("prerequisite", [Skill(id=name) for name in ids], [])
    parts = run_stage(bench, "dedup", write_part, [Task("00000", (documents,), ())], {})
    tags = tag(bench, parts, graph, CONFIG)
    scorer: Any = load_scorer(folder / "tagger" / "tagger", CONFIG)
    judged = [entry.text for entry in documents if not entry.taught]
    return scorer.probabilities(judged), [ids[skill] for skill in scorer.skills], tags.counts["by classifier alone"]


def hits(found: npt.NDArray[np.float64], skills: list[str], documents: list[Document], within: bool) -> Flags:
    """Whether each of the five likeliest skills is right, `(judged, 5)`; `within`: candidates of the same track."""
    judged = [entry for entry in documents if not entry.taught]
    track = np.array([name.partition("/")[0] for name in skills])
    rows = []
    for row, entry in zip(found, judged, strict=True):
        if within:
            row = np.where(track == min(entry.skills).partition("/")[0], row, -1.0)
        best = np.argsort(-row, kind="stable")[:5]
        rows.append([skills[place] in entry.skills for place in best])
    return np.array(rows)


def measure(context: Context, documents: list[Document], within: bool) -> tuple[dict[str, list[float]], dict[str, Any]]:
    """Top-1 and top-5 by seed."""
    shares: dict[str, list[float]] = {"top1": [], "top5": []}
    for seed in SEEDS:
        found, skills, added = chances(context.scratch / str(seed), documents, seed)
        right = hits(found, skills, documents, within)
        shares["top1"].append(float(right[:, 0].mean()))
        shares["top5"].append(float(right.any(axis=1).mean()))
    taught = sum(entry.taught for entry in documents)
    details = {"taught": taught, "judged": len(documents) - taught, "skills": len(skills), "tagged": added}
    return shares, details | {"seeds": list(SEEDS), "by_seed": shares, "settings": asdict(CONFIG)}


def openstax_row(context: Context) -> Found:
    """tag_openstax_top1."""
    shares, details = measure(context, openstax(context.data), within=False)
    return {"tag_openstax_top1": statistics.median(shares["top1"])}, details


def exercism_row(context: Context) -> Found:
    """tag_exercism_top1 and tag_exercism_top5."""
    shares, details = measure(context, exercism(context.data), within=True)
    values = {f"tag_exercism_{name}": statistics.median(found) for name, found in shares.items()}
    return values, details


ROWS = {
    "tag_openstax": Row(run=openstax_row, needs=("data",)),
    "tag_exercism": Row(run=exercism_row, needs=("data",)),
}
