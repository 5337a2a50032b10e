"""Scores of documents through a whole build: what they are, who leaves by them, what a mixer makes of them."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from loading import load_module

from prereq.graph.errors import ConfigError, TableError
from prereq.jobs.config import read_graph
from prereq.selector.corpus.dsir import GramCounts, importance
from prereq.selector.mixers import make_mixer
from prereq.selector.rounds.pool import Pool

_builds = load_module(Path(__file__).with_name("test_build.py"))
TOPICS, corpus, copy, make, pool_bytes, run = (
    getattr(_builds, name) for name in ("TOPICS", "corpus", "copy", "make", "pool_bytes", "run")
)

LOOPS = [f"{' '.join(TOPICS['loops'].split()[i % 5 :] * 4)} number {i}" for i in range(30)]
FILES = [f"{' '.join(TOPICS['files'].split()[i % 5 :] * 4)} number {i}" for i in range(30)]
SCORES: list[dict[str, Any]] = [
    {"name": "loops_like", "method": "dsir", "paths": ["refs/loops.jsonl"]},
    {"name": "good", "method": "quality", "paths": ["refs/loops.jsonl"], "negatives": ["refs/files.jsonl"]},
    {"name": "against_corpus", "method": "quality", "paths": ["refs/loops.jsonl"], "examples": 40},
    {"name": "near", "method": "mass", "paths": ["refs/items.jsonl"]},
]


def write_references(folder: Path) -> None:
    """Texts of two topics, and items that need strings alone or with loops."""
    (folder / "refs").mkdir(exist_ok=True)
    for name, texts in (("loops", LOOPS), ("files", FILES)):
        lines = [json.dumps({"text": text}) for text in texts]
        (folder / "refs" / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    items = [["strings"], ["strings", "loops"], ["strings"]]
    (folder / "refs" / "items.jsonl").write_text("\n".join(json.dumps({"skills": item}) for item in items) + "\n")


def rows_of(pool: Path) -> list[dict[str, Any]]:
    return [row for path in sorted(pool.glob("part-*")) for row in pq.read_table(path).to_pylist()]


@pytest.fixture(scope="module")
def scored(corpus: Path) -> Path:
    write_references(corpus)
    # aliases: what `mass` places the skills by
    graph = json.loads((corpus / "graph.json").read_bytes())
    for skill in graph["skills"]:
        skill["aliases"] = [TOPICS[skill["id"]]]
    (corpus / "aliases.json").write_text(json.dumps(graph))
    run(make(corpus, "scored", scoring=SCORES, graph={"path": "aliases.json"}))
    return corpus / "scored"


def test_every_document_has_its_scores_and_they_are_those_of_the_library(scored: Path, corpus: Path):
    rows = rows_of(scored)
    assert {row["id"] for row in rows} == {row["id"] for row in rows_of(corpus / "pool")}, "nothing is filtered"
    # the raw distribution is that of all documents behind deduplication
    parts = sorted((scored / "stages" / "dedup").glob("*/part-*"))
    texts = [text for path in parts for text in pq.read_table(path)["text"].to_pylist()]
    target, raw = GramCounts.of(LOOPS), GramCounts.of(texts)
    for row in rows:
        assert float(row["loops_like"]) == pytest.approx(importance(row["text"], target, raw), rel=1e-8, abs=1e-9)
        assert len(row["loops_like"].lstrip("-").replace(".", "").lstrip("0")) <= 13, "nine digits and an exponent"


def mean_by_topic(pool: Path, score: str) -> dict[str, float]:
    rows = [row for row in rows_of(pool) if "plain words" not in row["text"]]
    return {t: float(np.mean([float(row[score]) for row in rows if row["topic"] == t])) for t in TOPICS}


@pytest.mark.parametrize("score", ["loops_like", "good", "against_corpus", "near"])
def test_scores_are_high_where_the_references_are(scored: Path, score: str):
    found = mean_by_topic(scored, score)
    wanted = "strings" if score == "near" else "loops"
    assert max(found, key=found.__getitem__) == wanted
    if score == "good":
        assert found["loops"] > 1.5, "log-odds of a classifier that tells these apart"
        assert found["files"] < -1.5
    counts = json.loads((scored / "summary.json").read_bytes())["counts"]["scorers"]
    assert counts["good: right"] == counts["good: held back"] == 12
    assert counts["against_corpus: others"] == 40


def test_arms_have_the_mean_over_their_tokens_and_a_mixer_draws_by_it(scored: Path):
    pool = Pool(str(scored))
    arms, rows = pool.arms(), rows_of(scored)
    summary = json.loads((scored / "summary.json").read_bytes())["arms"]
    for number, arm in enumerate(arms.ids):
        own = [row for row in rows if row["arm"] == arm]
        tokens = np.array([row["n_tokens"] for row in own])
        for name, values in arms.scores.items():
            mean = float(tokens @ [float(row[name]) for row in own]) / tokens.sum()
            assert values[number] == pytest.approx(mean, rel=1e-7, abs=1e-9)
            assert summary[arm]["scores"][name] == values[number]
    mixer = make_mixer("static", {"score": "good", "temperature": 0.5}, arms, None)
    weights = mixer.mixture(mixer.init())
    best = int(np.argmax(arms.scores["good"]))
    assert weights[best] > 2 * arms.proportions[best]
    with pytest.raises(
        ConfigError, match=r"score is 'god'.*against_corpus, good, loops_like, near; did you mean 'good'"
    ):
        make_mixer("static", {"score": "god"}, arms, None)


def test_other_parts_give_the_same_scores(scored: Path, corpus: Path):
    run(make(corpus, "cut", scoring=SCORES, graph={"path": "aliases.json"}, ingest={"part_rows": 33}))

    def scores(pool: Path) -> dict[str, list[str]]:
        return {row["id"]: [row[each["name"]] for each in SCORES[:3]] for row in rows_of(pool)}

    assert scores(corpus / "cut") == scores(scored)


FILTERS = [
    SCORES[0] | {"keep_share": 0.5, "draw": "sample"},
    SCORES[1] | {"drop_below": 0.0},
]


@pytest.fixture(scope="module")
def filtered(scored: Path) -> Path:
    folder = scored.parent
    run(make(folder, "filtered", scoring=FILTERS))
    return folder / "filtered"


def test_what_a_filter_drops_is_listed_and_in_no_other_file(filtered: Path):
    listed = pq.read_table(filtered / "filtered.parquet").to_pylist()
    rows = rows_of(filtered)
    held = [row for path in filtered.glob("holdout/part-*") for row in pq.read_table(path).to_pylist()]
    summary = json.loads((filtered / "summary.json").read_bytes())["counts"]
    assert summary["filter"]["documents"] == len(listed) + summary["filter"]["kept"]
    assert summary["filter"]["documents"] == summary["dedup"]["kept"]
    gone = {row["id"] for row in listed}
    assert not gone & ({row["id"] for row in rows} | {row["id"] for row in held})
    by_draw = [row for row in listed if row["score"] == "loops_like"]
    by_limit = [row for row in listed if row["score"] == "good"]
    assert len(by_draw) == summary["filter"]["dropped by loops_like"] == len(listed) - len(by_limit)
    assert len(by_draw) == summary["filter"]["documents"] - round(summary["filter"]["documents"] / 2)
    assert by_limit
    assert all(row["value"] < 0.0 == row["limit"] for row in by_limit)
    assert all(row["limit"] is None for row in by_draw)
    assert all(float(row["good"]) >= 0.0 for row in rows)
    assert all(row["source"] == "web" and row["place"] for row in listed)


def test_the_draw_prefers_what_is_likelier_in_the_target(filtered: Path):
    kept = [float(row["loops_like"]) for row in rows_of(filtered)]
    dropped = pq.read_table(filtered / "filtered.parquet").to_pylist()
    assert np.mean(kept) > np.mean([row["value"] for row in dropped if row["score"] == "loops_like"]) + 5


def test_a_finished_pool_is_found_again_and_follows_its_references(filtered: Path):
    folder = filtered.parent
    before = pool_bytes(filtered)
    assert run(make(folder, "filtered", scoring=FILTERS)).was_done
    old = (folder / "refs/files.jsonl").read_text()
    try:
        (folder / "refs/files.jsonl").write_text(old + json.dumps({"text": "one more"}) + "\n")
        with pytest.raises(ConfigError, match="reference files of scores changed since"):
            run(make(folder, "filtered", scoring=FILTERS))
        with pytest.raises(ConfigError, match=r"scoring\.1\.drop_below was 0\.0, is 1\.0"):
            run(make(folder, "filtered", scoring=[FILTERS[0], FILTERS[1] | {"drop_below": 1.0}]))
    finally:
        (folder / "refs/files.jsonl").write_text(old)
    assert pool_bytes(filtered) == before


def test_scores_from_a_file_filter_a_build_and_documents_without_one_stay_or_leave(copy: Path):
    """An outside scorer's file: every second document of the pool, the number of its characters."""
    known = {row["id"]: float(len(row["text"])) for row in rows_of(copy / "pool")[::2]}
    lines = [json.dumps({"id": name, "value": value}) for name, value in known.items()]
    (copy / "refs").mkdir()
    (copy / "refs/scores.jsonl").write_text("\n".join([*lines, '{"id": "elsewhere", "value": 1}']) + "\n")
    score = {"name": "length", "method": "file", "paths": ["refs/scores.jsonl"], "keep_share": 0.5}
    for missing in ("keep", "drop"):
        summary = run(make(copy, missing, scoring=[score | {"missing": missing}]))
        rows, listed = rows_of(copy / missing), pq.read_table(copy / missing / "filtered.parquet").to_pylist()
        counts = json.loads((copy / missing / "summary.json").read_bytes())["counts"]
        without = counts["scorers"]["length: documents without a row"]
        assert counts["scorers"]["length: rows of no document"] == 1
        assert any("1 rows of its files are of no document" in line for line in summary.warnings)
        assert any(f"{without} documents have no row" in line for line in summary.warnings)
        stay = {row["id"] for row in rows if row["id"] in known}
        assert any(row["id"] not in known for row in rows) == (missing == "keep")
        assert sum(row["value"] is None for row in listed) == (without if missing == "drop" else 0)
        assert sum(row["value"] is not None for row in listed) == len(known) - round(len(known) / 2)
        assert all(float(row["length"]) == known[row["id"]] for row in rows if row["id"] in known)
        assert min(known[name] for name in stay) >= max(row["value"] for row in listed if row["value"] is not None)
    mean = {row["length"] for row in rows_of(copy / "keep") if row["id"] not in known}
    assert len(mean) == 1
    assert float(mean.pop()) == pytest.approx(np.mean(list(known.values())))
    with pytest.raises(TableError, match=r"documents have no row in its files, the first: .*missing: keep"):
        run(make(copy, "refused", scoring=[score]))


def test_settings_of_pools_with_older_scores_are_what_they_were(corpus: Path):
    config = make(corpus, scoring=SCORES)
    graph = read_graph(config.graph.__class__(path=str(corpus / "graph.json")))
    for score in config.pool_settings(graph)["scoring"]:
        assert not score.keys() & {"id_field", "value_field", "missing"}
        assert score.keys() >= {"name", "method", "paths", "drop_below"}


def test_clusters_may_be_pruned_by_a_score(copy: Path):
    write_references(copy)
    pruning = {"clusters": 4, "prune_column": "good", "prune_below": 0.0}
    summary = run(make(copy, "pruned", scoring=[SCORES[1]], clustering=pruning))
    listed = pq.read_table(copy / "pruned" / "pruned.parquet").to_pylist()
    assert listed
    assert all(row["score"] < 0.0 for row in listed)
    assert summary.counts["prune"]["pruned"] == len(listed)


def test_without_scores_a_pool_is_what_it_was(corpus: Path):
    config = make(corpus)
    assert "scoring" not in config.pool_settings(read_graph(config.graph.__class__(path=str(corpus / "graph.json"))))
    assert "scores" not in pq.read_schema(corpus / "pool" / "arms.parquet").names
    assert Pool(str(corpus / "pool")).arms().scores == {}
    assert not (corpus / "pool" / "filtered.parquet").exists()


@pytest.mark.parametrize(
    ("score", "message"),
    [
        (
            {"name": "topic", "method": "dsir", "paths": ["x"]},
            "'topic' of method dsir: is the name of a metadata column",
        ),
        ({"name": "web", "method": "column"}, "'web' of method column: no source has such a column"),
        ({"name": "text", "method": "dsir", "paths": ["x"]}, "'text': is a column of prereq itself"),
        ({"name": "a/b", "method": "dsir", "paths": ["x"]}, "a name is a letter"),
        ({"name": "a", "method": "dsir"}, "method dsir needs paths"),
        ({"name": "a", "method": "dsir", "paths": ["x"], "negatives": ["y"]}, "negatives go with method quality"),
        ({"name": "a", "method": "dsir", "paths": ["x"], "keep_share": 0.0}, "keep_share must be above 0"),
        (
            {"name": "a", "method": "quality", "paths": ["x"], "keep_share": 0.5, "draw": "sample"},
            "goes with keep_share",
        ),
        ({"name": "a", "method": "dsir", "paths": ["x"], "keep_share": 0.5, "drop_below": 1.0}, "not both"),
        ({"name": "a", "method": "dsir", "paths": ["x"], "keep_shar": 0.5}, "did you mean keep_share"),
    ],
)
def test_settings_that_make_no_sense_are_refused(corpus: Path, score: dict[str, Any], message: str):
    with pytest.raises(ConfigError, match=message):
        make(corpus, scoring=[score])


def test_two_scores_of_one_name_and_mass_without_words_are_refused(corpus: Path):
    with pytest.raises(ConfigError, match="two scores are named 'good'"):
        make(corpus, scoring=[SCORES[1], SCORES[1]])
    vectors = {"method": "column", "vectors": {"paths": ["v.parquet"]}}
    with pytest.raises(ConfigError, match="'near' needs an embedding of words"):
        make(corpus, scoring=[SCORES[3]], embedding=vectors)


def test_damage_in_a_stage_is_mended_and_another_threshold_scores_nothing_anew(filtered: Path, tmp_path: Path):
    folder = tmp_path
    for name in ("one.jsonl", "two.jsonl", "graph.json"):
        shutil.copy2(filtered.parent / name, folder)
    for name in ("refs", "filtered"):
        shutil.copytree(filtered.parent / name, folder / name)
    before = pool_bytes(folder / "filtered")
    (folder / "filtered" / "manifest.json").unlink()  # as if it had never been published
    for path in (folder / "filtered/stages/score/00001").glob("part-*"):
        path.unlink()
    (folder / "filtered/stages/filter/decide/receipt.json").write_text("torn")
    run(make(folder, "filtered", scoring=FILTERS))
    assert pool_bytes(folder / "filtered") == before
    (folder / "filtered" / "manifest.json").unlink()
    stages = {p: p.stat().st_mtime_ns for p in (folder / "filtered/stages/score").glob("*/part-*")}
    run(make(folder, "filtered", scoring=[FILTERS[0], FILTERS[1] | {"drop_below": None}]))
    assert {p: p.stat().st_mtime_ns for p in stages} == stages


def test_a_missing_reference_file_is_an_error_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _builds.write_corpus(tmp_path, 60)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"scoring: good.*no input file matches 'absent\.jsonl'"):
        run(make(tmp_path, scoring=[{"name": "good", "method": "quality", "paths": ["absent.jsonl"]}]))
    assert not (tmp_path / "pool/stages/ingest").exists()
