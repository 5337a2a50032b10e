"""From corpus files to a pool through every stage: the same bytes however it runs, resumable, never mixed up."""

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from prereq.graph.errors import ConfigError, PrereqError, TableError
from prereq.jobs import build as building
from prereq.jobs.build import PoolSummary, build
from prereq.jobs.config import RunConfig, make_config
from prereq.jobs.executor import InProcessExecutor
from prereq.jobs.progress import Progress

TOPICS = {
    "loops": "for while loop iterate over range break continue",
    "strings": "string text slice upper lower strip join format",
    "files": "open file path read write line buffer close",
}


def write_corpus(folder: Path, documents: int = 240) -> None:
    """JSON Lines in two files, with copies, near copies and documents of no topic; and a graph."""
    rng = np.random.default_rng(7)
    names = list(TOPICS)
    rows: list[dict[str, Any]] = []
    for number in range(documents):
        topic = names[number % 3]
        words = TOPICS[topic].split() if number % 8 else ["plain", "words", "here", "and", "there"]
        text = (
            " ".join(rng.choice(words, 30).tolist()) + f" number {number} " + " ".join(map(str, rng.integers(0, 99, 8)))
        )
        if number % 50 == 49:
            text = rows[number - 3]["text"].upper()
        rows.append({"id": f"d{number:04d}", "text": text, "topic": topic})
    half = documents // 2
    for name, part in (("one", rows[:half]), ("two", rows[half:])):
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, part)) + "\n")
    skills = [{"id": skill, "patterns": [rf"\b{words.split()[0]}\b"]} for skill, words in TOPICS.items()]
    graph = {
        "format": "prereq.graph/1",
        "kind": "prerequisite",
        "skills": skills,
        "edges": [{"prerequisite": "loops", "target": "files"}],
    }
    (folder / "graph.json").write_text(json.dumps(graph))


def make(folder: Path, into: str = "pool", **changes: Any) -> RunConfig:
    """A configuration over the corpus in `folder`."""
    settings: dict[str, Any] = {
        "run_dir": str(folder / "run"),
        "pool_dir": str(folder / into),
        "rounds": 2,
        "sources": [{"name": "web", "paths": ["*.jsonl"], "metadata": ["topic"]}],
        "ingest": {"part_rows": 70},
        "embedding": {"method": "tfidf", "dim": 8, "min_count": 1},
        "clustering": {"clusters": 4},
        "graph": {"path": "graph.json"},
        "tagging": {"methods": ["patterns"]},
        "layout": {"rows_per_group": 16},
        "ray": {"num_cpus": 0},
    }
    return make_config({**settings, **changes}, "test")


def run(config: RunConfig) -> PoolSummary:
    """Build without a word, in the corpus' folder: paths are relative, so that a copy has the same configuration."""
    with contextlib.chdir(Path(config.pool_dir).parent):
        return build(config, Progress(quiet=True))


def pool_bytes(pool: Path) -> dict[str, bytes]:
    """Every file of a pool but its work area."""
    return {
        str(path.relative_to(pool)): path.read_bytes()
        for path in sorted(pool.rglob("*"))
        if path.is_file() and "stages" not in path.relative_to(pool).parts
    }


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus with its pool, built once."""
    folder = tmp_path_factory.mktemp("corpus")
    write_corpus(folder)
    run(make(folder))
    return folder


@pytest.fixture
def copy(corpus: Path, tmp_path: Path) -> Path:
    """The corpus and its pool, to be changed."""
    for path in corpus.iterdir():
        if path.is_file():
            shutil.copy2(path, tmp_path)
    shutil.copytree(corpus / "pool", tmp_path / "pool")
    return tmp_path


def test_a_pool_has_its_files_and_says_what_is_in_them(corpus: Path) -> None:
    pool = corpus / "pool"
    manifest = json.loads((pool / "manifest.json").read_bytes())
    rows = [row for path in pool.glob("part-*") for row in pq.read_table(path).to_pylist()]
    held = [row for path in pool.glob("holdout/part-*") for row in pq.read_table(path).to_pylist()]
    dropped = pq.read_table(pool / "duplicates.parquet").to_pylist()
    summary = json.loads((pool / "summary.json").read_bytes())
    assert len(rows) == manifest["documents"]
    assert len(rows) + len(held) + len(dropped) + summary["counts"]["holdout"]["same text as holdout"] == 240
    assert dropped
    assert {row["topic"] for row in rows} == set(TOPICS)
    for skill, number in summary["skills"].items():
        assert number["pool"] == sum(skill in row["skills"] for row in rows)
        for split in ("control", "report"):
            assert number[split] == sum(skill in row["skills"] and row["split"] == split for row in held) > 0
    assert json.loads((pool / "graph.json").read_bytes())["format"] == "prereq.graph/1"
    assert manifest["skills"] == list(TOPICS)
    assert pq.read_table(pool / "arms.parquet").num_rows == len(manifest["arms"]) == 4
    told = {arm["id"]: (arm["rows"], arm["tokens"]) for arm in manifest["arms"]}
    assert {arm: (facts["documents"], facts["tokens"]) for arm, facts in summary["arms"].items()} == told
    found = [pq.read_table(path).to_pylist() for path in sorted((pool / "stages/embed").glob("*/part-*"))]
    vectors = {row["id"]: row["vector"] for part in found for row in part}
    for arm, facts in summary["arms"].items():
        own = np.array([vectors[row["id"]] for row in rows if row["arm"] == arm], dtype=np.float64)
        # of unit vectors, the mean cosine to their mean's direction is the mean's length
        assert facts["cohesion"] == pytest.approx(np.linalg.norm(own.mean(axis=0)), abs=1e-5)


def test_a_finished_pool_is_left_alone(corpus: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (corpus / "pool").glob("*") if path.is_file()}
    summary = run(make(corpus))
    assert summary.was_done
    assert summary.documents == json.loads((corpus / "pool" / "manifest.json").read_bytes())["documents"]
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_finished_pool_starts_no_ray(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(building, "make_executor", lambda *config: pytest.fail("an executor was made"))
    assert run(make(corpus, ray={"num_cpus": 2})).was_done


def test_documents_that_hold_evaluation_data_stay_out_of_pool_and_holdout(corpus: Path) -> None:
    first, second = (json.loads(line) for line in (corpus / "one.jsonl").read_text().splitlines()[:2])
    questions = [{"id": "q1", "text": first["text"].upper()}, {"id": "q2", "text": "not a word of this"}]
    (corpus / "questions.json").write_text("\n".join(map(json.dumps, questions)))
    summary = run(make(corpus, "clean", decontaminate={"paths": ["questions.json"]}))
    pool = corpus / "clean"
    (row,) = pq.read_table(pool / "decontamination.parquet").to_pylist()
    assert (row["id"], row["reference"], row["overlap"], row["action"]) == (first["id"], "q1", 1.0, "drop")
    assert row["place"] == "one.jsonl:1"
    files = [path for path in pool.glob("**/part-*") if "stages" not in path.parts]
    ids = {row["id"] for path in files for row in rows_of(path)}
    assert first["id"] not in ids
    assert second["id"] in ids
    assert summary.counts["decontaminate"]["contaminated"] == 1
    (corpus / "questions.json").write_text(json.dumps(questions[1]))
    with pytest.raises(ConfigError, match="references changed since"):
        run(make(corpus, "clean", decontaminate={"paths": ["questions.json"]}))


def test_semantic_duplicates_are_dropped_inside_clusters_and_listed(corpus: Path) -> None:
    summary = run(make(corpus, "semantic", dedup={"semantic": 0.97}))
    pool = corpus / "semantic"
    listed = pq.read_table(pool / "duplicates.parquet").to_pylist()
    semantic = [row for row in listed if row["kind"] == "semantic"]
    assert len(semantic) == summary.counts["semantic"]["semantic"] > 0
    assert listed[: len(listed) - len(semantic)] == pq.read_table(corpus / "pool" / "duplicates.parquet").to_pylist()
    assert all(0.97 <= row["similarity"] <= 1 for row in semantic)
    files = [path for path in pool.glob("**/part-*") if "stages" not in path.parts]
    ids = {row["id"] for path in files for row in rows_of(path)}
    gone = {row["id"] for row in semantic}
    assert not gone & ids
    assert not gone & {row["survivor"] for row in semantic}
    assert len(ids) + len(listed) + summary.counts["holdout"]["same text as holdout"] == 240


def test_tokens_are_those_of_the_tokenizer_file(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = pytest.importorskip("tokenizers")
    monkeypatch.chdir(corpus)
    words = library.Tokenizer(library.models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    words.pre_tokenizer = library.pre_tokenizers.WhitespaceSplit()
    words.save("words.json")
    run(make(corpus, "words", tokenizer="words.json"))
    rows = [row for path in (corpus / "words").glob("**/part-*") if "stages" not in path.parts for row in rows_of(path)]
    assert rows
    assert all(row["n_tokens"] == len(row["text"].split()) for row in rows)
    words.add_tokens(["loops"])
    words.save("words.json")
    with pytest.raises(ConfigError, match=r"tokenizer was \"tokenizer.json sha256:"):
        run(make(corpus, "words", tokenizer="words.json"))


def rows_of(path: Path) -> list[dict[str, Any]]:
    """A file's rows."""
    return pq.read_table(path).to_pylist()


def test_another_folder_gets_the_same_bytes(corpus: Path) -> None:
    run(make(corpus, "again"))
    assert pool_bytes(corpus / "again") == pool_bytes(corpus / "pool")


def test_a_build_stopped_at_any_task_goes_on_to_the_same_pool(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each attempt is stopped after two more tasks than the one before; nothing that was finished is done twice."""

    class Stop(Exception):
        pass

    class Stopping(InProcessExecutor):
        left = 0

        def run(self, function: Callable[..., Any], tasks: Sequence[tuple[Any, ...]]) -> Iterator[tuple[int, Any]]:
            for item in super().run(function, tasks):
                Stopping.left -= 1
                yield item
                if not Stopping.left:
                    raise Stop

    monkeypatch.setattr(building, "make_executor", lambda *config: Stopping())
    attempts = 0
    while not (corpus / "stopped" / "manifest.json").exists():
        Stopping.left = 7
        attempts += 1
        try:
            run(make(corpus, "stopped"))
        except Stop:
            assert attempts < 40
    assert attempts > 4
    assert pool_bytes(corpus / "stopped") == pool_bytes(corpus / "pool")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"layout": {"rows_per_group": 8}}, "layout.rows_per_group was 16, is 8"),
        ({"pool": {"seed": 3}}, "pool.seed was 0, is 3"),
        ({"dedup": {"threshold": 0.7}}, "dedup.threshold was 0.8, is 0.7"),
        ({"sources": [{"name": "a", "paths": ["b"]}]}, 'sources.0.name was "web", is "a"'),
    ],
)
def test_a_pool_of_another_configuration_is_refused(corpus: Path, changes: dict[str, Any], said: str) -> None:
    before = pool_bytes(corpus / "pool")
    with pytest.raises(ConfigError, match="was made under another configuration") as caught:
        run(make(corpus, **changes))
    assert said in str(caught.value)
    assert pool_bytes(corpus / "pool") == before


def test_a_changed_graph_is_another_configuration(copy: Path) -> None:
    run(make(copy))
    graph = json.loads((copy / "graph.json").read_text())
    graph["skills"][0]["patterns"] = ["else"]
    (copy / "graph.json").write_text(json.dumps(graph))
    with pytest.raises(ConfigError, match="graph was"):
        run(make(copy))


def test_settings_may_change_until_a_pool_is_published(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(InProcessExecutor):
        def run(self, function: Callable[..., Any], tasks: Sequence[tuple[Any, ...]]) -> Iterator[tuple[int, Any]]:
            if "gather" in tasks[0][1]:
                raise PrereqError("no more room")
            return super().run(function, tasks)

    with monkeypatch.context() as patch:
        patch.setattr(building, "make_executor", lambda *config: Broken())
        with pytest.raises(PrereqError, match="no more room"):
            run(make(corpus, "changed", dedup={"threshold": 0.5}, pool={"seed": 5}))
    run(make(corpus, "changed"))
    assert pool_bytes(corpus / "changed") == pool_bytes(corpus / "pool")
    with pytest.raises(ConfigError, match="was made under another configuration"):
        run(make(corpus, "changed", pool={"seed": 5}))


def test_changed_input_is_refused_once_the_pool_is_finished(copy: Path) -> None:
    run(make(copy))
    before = pool_bytes(copy / "pool")
    lines = (copy / "two.jsonl").read_text().splitlines()
    (copy / "two.jsonl").write_text("\n".join(lines[:-1]) + "\n")
    with pytest.raises(ConfigError, match=r"made of other input \(documents changed since\)"):
        run(make(copy))
    assert pool_bytes(copy / "pool") == before
    (copy / "two.jsonl").write_text("\n".join(lines) + "\n")
    assert run(make(copy)).was_done


def test_a_pool_whose_stages_were_deleted_is_still_a_pool(copy: Path) -> None:
    run(make(copy))
    shutil.rmtree(copy / "pool" / "stages")
    assert run(make(copy)).was_done
    with pytest.raises(ConfigError, match="holds a pool made under another configuration"):
        run(make(copy, pool={"seed": 9}))


def test_folders_that_cannot_hold_a_pool(copy: Path) -> None:
    (copy / "full").mkdir()
    (copy / "full" / "thesis.tex").write_text("x")
    with pytest.raises(ConfigError, match=r"is not empty and not a pool \(thesis.tex\)"):
        run(make(copy, "full"))
    (copy / "file").write_text("x")
    with pytest.raises(ConfigError, match="cannot be written"):
        run(make(copy, "file"))


def test_arms_can_be_skills_and_then_nothing_is_clustered(copy: Path) -> None:
    run(make(copy, "skills", layout={"arms": "skill"}))
    assert not (copy / "skills" / "stages" / "cluster").exists()
    names = pq.read_table(copy / "skills" / "arms.parquet")["name"].to_pylist()
    assert sorted(names) == ["_none", "files", "loops", "strings"]


def test_an_evaluation_set_is_part_of_the_input(copy: Path) -> None:
    own = {
        "id": "own",
        "text": json.loads((copy / "one.jsonl").read_text().splitlines()[5])["text"],
        "skills": ["loops"],
    }
    path = copy / "evaluation" / "e.jsonl"
    path.parent.mkdir()
    path.write_text(json.dumps(own))
    config = make(copy, "own", holdout={"path": str(path)})
    summary = run(config)
    assert summary.counts["holdout"]["same text as holdout"] == 1
    assert any("2 skills have no control document" in warning for warning in summary.warnings)
    path.write_text(json.dumps({**own, "text": "quite another"}))
    with pytest.raises(ConfigError, match="evaluation changed since"):
        run(config)


def test_a_corpus_of_nothing_is_an_error_and_of_one_document_a_pool(tmp_path: Path) -> None:
    write_corpus(tmp_path, 4)
    (tmp_path / "two.jsonl").unlink()
    (tmp_path / "one.jsonl").write_text('{"id": "a", "text": "for ever"}\n')
    summary = run(make(tmp_path, sources=[{"name": "web", "paths": ["one.jsonl"]}]))
    assert (summary.documents, summary.arms) == (1, 1)
    assert any("one document" in warning for warning in summary.warnings)
    (tmp_path / "one.jsonl").write_text("")
    with pytest.raises(PrereqError):
        run(make(tmp_path, "other", sources=[{"name": "web", "paths": ["one.jsonl"]}]))


def test_a_part_that_was_deleted_comes_back(copy: Path) -> None:
    """Even where it was damaged before: the stage's file is the same file, so its damage is found and mended too."""
    run(make(copy))
    before = pool_bytes(copy / "pool")
    part = next((copy / "pool").glob("part-*"))
    part.unlink()
    assert not run(make(copy)).was_done
    assert pool_bytes(copy / "pool") == before
    part.write_bytes(b"damage")
    part.unlink()
    next((copy / "pool" / "stages" / "gather").glob("*/part-*")).write_bytes(before[part.name][::-1])
    with pytest.raises(TableError, match="has been removed: run the same command again"):
        run(make(copy))
    run(make(copy))
    assert pool_bytes(copy / "pool") == before


def test_too_much_damage_in_the_input_is_an_error(copy: Path) -> None:
    (copy / "two.jsonl").write_text("not json\n" * 60)
    with pytest.raises(TableError, match="max_rejected"):
        run(make(copy, "damaged"))


@pytest.mark.slow
@pytest.mark.ray
def test_ray_gives_the_same_bytes_as_one_process(corpus: Path) -> None:
    """Other numbers of workers, and SIGKILL to processes, are in tests/e2e."""
    run(make(corpus, "ray", ray={"num_cpus": 2}))
    assert pool_bytes(corpus / "ray") == pool_bytes(corpus / "pool")
