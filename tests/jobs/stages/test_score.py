"""Scorers and filters on their own: damaged references, hostile texts, columns, who stays."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prereq.graph.errors import ConfigError, TableError
from prereq.graph.skill import Skill
from prereq.jobs.build import _weak_classifiers
from prereq.jobs.stages.reference_files import find_references
from prereq.jobs.stages.score import decide, drop_filtered, score_part, write_list
from prereq.jobs.stages.scorers import Corpus, fit_scorer, load_scorer
from prereq.selector.corpus.dsir import GramCounts
from prereq.selector.corpus.mass import CooccurrenceGraph, cosine_similarities
from prereq.selector.corpus.scoring import ScoreConfig

GOOD = [f"for while loop number {i}" for i in range(30)]
BAD = [f"open file path number {i}" for i in range(30)]
SKILLS = (Skill(id="loops"), Skill(id="strings"))


def fit(folder: Path, method: str, good: list[Any], bad: list[Any] = (), **changes: Any) -> tuple[ScoreConfig, dict]:
    """Write reference files, one JSON object or raw line per entry, and fit in `folder/s`."""
    paths = {}
    for name, entries in (("good", good), ("bad", bad)):
        lines = [entry if isinstance(entry, str) else json.dumps(entry) for entry in entries]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
        paths[name] = (str(folder / f"{name}.jsonl"),) if entries else ()
    np.save(folder / "grams.npy", GramCounts.of([*GOOD, *BAD]).counts)
    settings = {"negatives": paths["bad"]} | changes if method == "quality" else changes
    config = ScoreConfig(name="s", method=method, paths=paths["good"], **settings)
    (folder / "s").mkdir(exist_ok=True)
    corpus = Corpus(grams=(str(folder / "grams.npy"),), skills=SKILLS)
    files = [find_references("s", found) if found else [] for found in paths.values()]
    return config, fit_scorer(str(folder / "s"), config, files[0], files[1], corpus, 0)


def texts(values: list[str]) -> list[dict[str, str]]:
    return [{"text": value} for value in values]


@pytest.mark.parametrize(
    ("method", "line", "message"),
    [
        (
            "dsir",
            '{"body": "x"}',
            r"score 's': .*good.jsonl:2 has no text in the field 'text'; set scoring.N.text_field",
        ),
        ("dsir", '{"text": "a\\ud800b"}', r"good.jsonl:2 holds half a character at 1"),
        ("dsir", '{"text": ', r"good.jsonl:2 cannot be read: invalid_json"),
        ("mass", '{"skills": ["loop"]}', r"good.jsonl:2: the graph has no skill 'loop'; did you mean 'loops'"),
        ("mass", '{"skills": 3}', r"good.jsonl:2 has no list of skills in the field 'skills'"),
        ("mass", '{"skills": []}', r"score 's': co-occurrence: no item of the reference set names a skill"),
        ("quality", '{"text": "two"}', r"score 's': quality: 2 examples of what is wanted and 30 of what is not"),
    ],
)
def test_references_that_cannot_be_used_are_named(tmp_path: Path, method: str, line: str, message: str):
    first = {"skills": []} if method == "mass" else {"text": "one"}
    with pytest.raises(TableError, match=message):
        fit(tmp_path, method, [first, line], texts(BAD) if method == "quality" else [])


def test_texts_without_a_word_are_no_target(tmp_path: Path):
    with pytest.raises(TableError, match="the target texts hold no word"):
        fit(tmp_path, "dsir", texts([" \n "]))


HOSTILE = ["x", "", "!!!", "for " * 5000, "для цикла", "\u0000\u0001 a", "日本語の文章", " \n"]


@pytest.mark.parametrize(("method", "per_gram"), [("dsir", False), ("dsir", True), ("quality", False)])
def test_scores_of_hostile_texts_are_finite_and_do_not_depend_on_the_others(
    tmp_path: Path, method: str, per_gram: bool
):
    bad = texts(BAD) if method == "quality" else []
    config, _ = fit(tmp_path, method, texts(GOOD), bad, **({"per_gram": True} if per_gram else {}))
    scorer = load_scorer(tmp_path / "s", config)
    scores = scorer(pa.chunked_array([HOSTILE]), "")
    assert np.isfinite(scores).all()
    for row in (0, 3, 4):
        assert scorer(pa.chunked_array([HOSTILE[row : row + 1]]), "")[0] == scores[row]
    assert scores[3] > scores[0], "the word of the wanted texts, again and again"
    if per_gram:
        assert abs(scores[3]) < 20, "length does not lead"


def test_a_classifier_learns_from_a_draw_of_the_examples_whatever_their_order(tmp_path: Path):
    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        folder.mkdir()
    _, counts = fit(folders[0], "quality", texts(GOOD), texts(BAD), examples=20)
    fit(folders[1], "quality", texts(GOOD[::-1]), texts(BAD[::-1]), examples=20)
    assert counts["s: wanted"] == counts["s: others"] == 20
    assert counts["s: right"] == counts["s: held back"] == 8
    files = [{path.name: path.read_bytes() for path in (folder / "s").iterdir()} for folder in folders]
    assert files[0] == files[1]


def test_a_classifier_that_tells_nothing_is_warned_of():
    counts = {"a: held back": 10, "a: right": 7, "b: held back": 10, "b: right": 6}
    assert _weak_classifiers(counts) == [
        "score b: its classifier tells 6 of 10 held-back examples right: it says little"
    ]


def part(path: Path, ids: list[str], **columns: list[str]) -> str:
    rows = {"id": ids, "text": ids, "source": ["web"] * len(ids), "place": [f"a:{i}" for i in ids]}
    pq.write_table(pa.table(rows | columns), path)
    return str(path)


def filtered(folder: Path, parts: list[str], *filters: ScoreConfig) -> list[dict[str, Any]]:
    """Decide, list and drop; the list's rows."""
    decide(str(folder), parts, filters, 0)
    masks = [str(folder / f"part-{i:05d}.parquet") for i in range(len(parts))]
    write_list(str(folder), list(zip(parts, masks, strict=True)), str(folder / "limits.json"))
    for path, mask in zip(parts, masks, strict=True):
        (folder / "left").mkdir(exist_ok=True)
        drop_filtered(str(folder / "left"), path, mask)
    return pq.read_table(folder / "filtered.parquet").to_pylist()


def column(name: str, **filters: Any) -> ScoreConfig:
    return ScoreConfig(name=name, method="column", **filters)


def test_every_filter_looks_at_all_documents_and_the_first_that_drops_one_is_named(tmp_path: Path):
    parts = [
        part(tmp_path / "p0", ["a", "b"], x=["1", "2"], y=["9", "1"]),
        part(tmp_path / "p1", ["c", "d"], x=["3", "-4e0"], y=["5", "3"]),
    ]
    listed = filtered(tmp_path, parts, column("x", drop_below=1.5), column("y", keep_share=0.5))
    assert [(row["id"], row["score"], row["value"], row["limit"]) for row in listed] == [
        ("a", "x", 1.0, 1.5),
        ("b", "y", 1.0, 5.0),
        ("d", "x", -4.0, 1.5),
    ]
    assert pq.read_table(tmp_path / "left" / "part-00000.parquet")["id"].to_pylist() == ["c"], "of the last part"


def test_filters_that_keep_nothing_are_an_error(tmp_path: Path):
    parts = [part(tmp_path / "p0", ["a", "b"], x=["1", "2"])]
    with pytest.raises(TableError, match=r"keep none of 2 documents \(best: x 2\); lower drop_below"):
        filtered(tmp_path, parts, column("x", drop_below=3.0))


@pytest.mark.parametrize("value", ["loops", "", "nan", "inf", None])
def test_a_column_that_holds_no_number_is_refused_by_document(tmp_path: Path, value: str | None):
    path = part(tmp_path / "p", ["a", "b"], x=["1", value])
    with pytest.raises(TableError, match=r"document 'b': x is .*, not a finite number"):
        score_part(str(tmp_path), path, "", str(tmp_path), [column("x")])
    with pytest.raises(ConfigError, match="has no column 'z'"):
        score_part(str(tmp_path), path, "", str(tmp_path), [column("z")])


@pytest.mark.parametrize("settings", [{"combine": "linear"}, {}, {"nearest": 1}])
def test_nearness_is_around_the_mean_document_and_combined_as_in_the_library(tmp_path: Path, settings: dict[str, Any]):
    rng = np.random.default_rng(0)
    vectors, skills = (rng.normal(size=(n, 4)) + 1.0 for n in (50, 2))
    vectors, skills = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (vectors, skills))
    graph = CooccurrenceGraph.of([["loops", "strings"], ["loops"], ["loops"]], ["loops", "strings"])
    arrays = {"skills": skills.astype(np.float32), "mean": vectors.mean(axis=0), "adjacency": graph.adjacency}
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array)
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.astype(np.float32).ravel()), 4)
    pq.write_table(pa.table({"id": [str(i) for i in range(50)], "vector": column}), tmp_path / "v.parquet")
    config = ScoreConfig(name="s", method="mass", paths=("x",), **settings)
    found = load_scorer(tmp_path, config)(pa.chunked_array([["text"] * 50]), str(tmp_path / "v.parquet"))
    near = cosine_similarities(vectors, skills)  # around the mean of all documents
    expected = graph.linear(near) if settings.get("combine") else graph.compositional(near, settings.get("nearest"))
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert abs(near.mean()) < 1e-12
