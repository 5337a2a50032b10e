"""`prereq graph build`, over a small pool and over a learned influence."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.spatial.distance import jensenshannon

from prereq.graph.influence import Influence, load_influence, save_influence
from prereq.graph.load import load_graph
from prereq.jobs.cli import main
from prereq.jobs.graph_build import SkillDocuments
from prereq.selector.rounds.pool import Pool

SKILLS = [{"id": "a", "name": "Addition", "aliases": ["plus"]}, {"id": "b"}, {"id": "c"}, {"id": "d"}]


@pytest.fixture
def config(make_pool: Callable[..., Path], tmp_path: Path) -> Path:
    """A pool in which a and b occur together, words of b and c are alike, and d has no documents; its configuration."""
    arms = [("one", [40] * 6, ["a", "b"]), ("two", [40] * 10, ["b", "c"]), ("three", [40] * 2, ["c"]), ("no", [9], [])]
    pool = make_pool(arms, skills=list("abcd"))
    graph = {"format": "prereq.graph/1", "kind": "prerequisite", "skills": SKILLS, "edges": []}
    (tmp_path / "g.json").write_text(json.dumps(graph))
    path = tmp_path / "c.yaml"
    path.write_text(
        f"run_dir: r\npool_dir: '{pool}'\nrounds: 1\nsources: [{{name: a, paths: [x]}}]\n"
        f"graph: {{path: '{tmp_path / 'g.json'}'}}\n"
    )
    return path


@pytest.fixture
def learned(tmp_path: Path) -> str:
    """An influence of three of the four skills, with a and b helping each other."""
    path = tmp_path / "learned.parquet"
    matrix = np.array([[0.5, 0.3, 0.0], [0.1, 0.4, 0.3], [-0.2, 0.0, 0.6]])
    save_influence(Influence(tuple("abc"), tuple("abc"), matrix), path)
    return str(path)


def build(config: Path, *more: str) -> tuple[int, Path]:
    """Run the verb; the exit code and the file."""
    out = config.parent / "out.json"
    return main(["graph", "build", str(config), "--out", str(out), *more]), out


def edges(path: Path) -> list[tuple[str, str, float]]:
    """Of a graph file."""
    return [(edge.prerequisite, edge.target, edge.weight) for edge in load_graph(path).edges]


def test_skills_of_one_document_are_linked_and_keep_their_names(config: Path) -> None:
    code, out = build(config, "--from", "cooccurrence")
    assert code == 0
    # a in 6 documents, b in 16, c in 12
    assert edges(out) == [
        ("b", "c", float(f"{10 / np.sqrt(16 * 12):.6g}")),
        ("a", "b", float(f"{6 / np.sqrt(96):.6g}")),
    ]
    graph = load_graph(out)
    assert graph.kind == "similarity"
    assert (graph.skill("a").name, graph.skill("a").aliases, graph.ids) == ("Addition", ("plus",), tuple("abcd"))
    assert build(config, "--from", "cooccurrence", "--measure", "mass")[0] == 0
    assert edges(out) == [("b", "c", 0.3125), ("a", "b", 0.1875)]  # 10 and 6 of 2 x 16 ordered pairs


def test_words_are_compared_and_the_bytes_stay(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert build(config, "--from", "words")[0] == 0
    assert "no documents, so no edge: d" in capsys.readouterr().err
    first = (config.parent / "out.json").read_bytes()
    # a document of `one` says one, #1 and 34 x, of `three` three, #1 and 32 x; half counts where it has two skills
    said = {"a": [3, 0, 0, 3, 3, 0], "b": [3, 5, 0, 8, 8, 0], "c": [0, 5, 2, 7, 5, 2]}  # one two three #1 x34 x32
    for one, other, weight in edges(config.parent / "out.json"):
        assert weight == pytest.approx(1 - jensenshannon(said[one], said[other]) ** 2 / np.log(2), abs=1e-6)
    assert len(edges(config.parent / "out.json")) == 3
    assert build(config, "--from", "words")[0] == 0
    assert (config.parent / "out.json").read_bytes() == first
    assert build(config, "--from", "words", "--documents", "2", "--measure", "bhattacharyya")[0] == 0
    assert (config.parent / "out.json").read_bytes() != first


def test_of_each_skill_so_many_documents_are_read_chosen_by_id(make_pool: Callable[..., Path]) -> None:
    pool = make_pool([("x", [9] * 20, ["a"]), ("y", [9] * 3, ["b"]), ("z", [9] * 9, ["a", "b"]), ("n", [9], [])])
    documents = SkillDocuments.of(Pool(str(pool)))
    ids = [name for table in documents.pool.stored_tables(("id",)) for name in table["id"].to_pylist()]
    first = {name for name, chosen in zip(ids, documents.first(4), strict=True) if chosen}
    expected: set[str] = set()
    for arms in ("xz", "yz"):
        own = [name for name in ids if name[0] in arms]
        expected |= set(sorted(own, key=lambda name: hashlib.sha256(name.encode()).digest())[:4])
    assert first == expected
    assert documents.first(100).sum() == 32  # all that have a skill


def test_vectors_come_from_the_stages_of_the_build(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert build(config, "--from", "vectors")[0] == 2
    assert "stages, which have the vectors, are gone" in capsys.readouterr().err
    write_vectors(config.parent / "pool", {"one": [1.0, 0.0], "two": [0.0, 1.0], "three": [0.0, 1.0], "no": [1.0, 0.0]})
    assert build(config, "--from", "vectors")[0] == 0
    # a: (1, 0), b: (3, 5), c: (0, 1)
    assert edges(config.parent / "out.json") == [("b", "c", 0.857493), ("a", "b", 0.514496)]
    write_vectors(config.parent / "pool", {"one": [1.0, 0.0]})
    assert build(config, "--from", "vectors")[0] == 2
    assert "vectors of 6 of its 19 documents" in capsys.readouterr().err


def write_vectors(pool: Path, of_arm: dict[str, list[float]]) -> None:
    """Stages as a build leaves them: a vector for each document of these arms."""
    rows: dict[str, list[Any]] = {"id": [], "vector": []}
    for path in sorted(pool.glob("part-*.parquet")):
        for row in pq.read_table(path, columns=["id", "arm"]).to_pylist():
            if row["arm"] in of_arm:
                rows["id"].append(row["id"])
                rows["vector"].append(of_arm[row["arm"]])
    stage = pool / "stages" / "embed"
    (stage / "t").mkdir(parents=True, exist_ok=True)
    table = pa.table({"id": rows["id"], "vector": pa.array(rows["vector"], pa.list_(pa.float32(), 2))})
    pq.write_table(table, stage / "t" / "v.parquet")
    (stage / "manifest.json").write_text(json.dumps({"tasks": [{"name": "t", "files": [{"path": "v.parquet"}]}]}))


def test_a_learned_influence_becomes_prerequisites(
    config: Path, learned: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out = build(config, "--from", learned, "--json")
    assert code == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["kind"], facts["pairs"], facts["skills"]) == ("prerequisite", 3, 4)
    assert facts["dropped"] == [{"prerequisite": "b", "target": "a", "weight": 0.2}]
    assert edges(out) == [("a", "b", 0.75), ("b", "c", 0.5)]  # relative to .4 and .6
    assert build(config, "--from", learned, "--measure", "drop", "--top", "1", "--least", "0.1")[0] == 0
    assert edges(out) == [("a", "b", 0.3), ("b", "c", 0.3)]
    assert build(config, "--from", learned, "--on-cycle", "error")[0] == 2
    assert "a -> b -> a" in capsys.readouterr().err


def test_what_is_built_is_taken_by_check_show_and_a_configuration(
    config: Path, learned: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for basis, name in ((learned, "p.csv"), (learned, "p.yaml"), ("cooccurrence", "s.json")):
        out = str(config.parent / name)
        assert main(["graph", "build", str(config), "--from", basis, "--out", out]) == 0
        for verb in ("check", "show"):
            assert main(["graph", verb, out]) == 0
        key = "graph.edges" if name.endswith("csv") else "graph.path"
        others = [] if name.endswith("csv") else ["--set", f"{key}={out}"]
        assert main(["graph", "check", str(config), *others]) == 0
    capsys.readouterr()
    chosen = ["--set", f"graph.path={config.parent / 's.json'}"]
    assert build(config, "--from", "words", *chosen)[0] == 0


def test_edges_become_the_influence_that_a_pool_of_them_would_have(config: Path, learned: str) -> None:
    out = config.parent / "near.parquet"
    more = ["--from", learned, "--out", str(out)]
    assert main(["graph", "build", str(config), *more, "--set", "mixer.influence.edge=0.8"]) == 0
    influence = load_influence(out)
    expected = np.array([[1, 0.6, 0, 0], [0, 1, 0.4, 0], [0, 0, 1, 0], [0, 0, 0, 1]])  # .8 of .75 and .5
    assert influence.train == influence.eval == tuple("abcd")
    np.testing.assert_allclose(influence.matrix, expected)
    assert main(["graph", "build", str(config.parent / "g.json"), *more]) == 0  # a graph file: .5 of the weights
    np.testing.assert_allclose(load_influence(out).matrix[0], [1, 0.375, 0, 0])


def test_a_dry_run_writes_nothing(config: Path, learned: str, capsys: pytest.CaptureFixture[str]) -> None:
    for basis, said in (("words", "would read 19 documents"), (learned, "2 edges, 1 dropped")):
        code, out = build(config, "--from", basis, "--dry-run")
        assert code == 0
        assert not out.exists()
        assert said in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--from", "texts"], "expected cooccurrence, words, vectors, or the Parquet file"),
        (["--from", "influence"], "the Parquet file of the influence itself"),
        (["--from", "gone.parquet"], "gone.parquet: cannot be read"),
        (["--from", "words", "--measure", "mass"], "--from words takes js or bhattacharyya"),
        (["--from", "words", "--on-cycle", "drop"], "--on-cycle does not go with --from words"),
        (["--from", "vectors", "--documents", "3"], "--documents does not go with --from vectors"),
        (["--from", "words", "--documents", "0"], "--documents is 0"),
        (["--from", "words", "--least", "nan"], "least is nan"),
        (["--from", "words", "--top", "0"], "top is 0"),
        (["--from", "words", "--out", "near.csv"], "ends in .json or .yaml or .yml or .parquet"),
        (["--from", "words", "--set", "pool_dir=nowhere"], "no finished pool"),
        (["--from", "cooccurrence", "--out", "nowhere/at/all.json"], "there is no such folder"),
    ],
)
def test_what_cannot_work_is_one_line(
    config: Path, more: list[str], message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(config.parent)
    assert build(config, *more)[0] == 2
    assert message in capsys.readouterr().err


def test_a_pool_of_another_graph_is_refused(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (config.parent / "e.csv").write_text("prerequisite,target\na,b\n")
    swapped = config.read_text().split("graph:")[0] + f"graph: {{edges: '{config.parent / 'e.csv'}'}}\n"
    config.write_text(swapped)
    assert build(config, "--from", "words")[0] == 2
    assert "4 skills that are not the 2 of the configuration's graph" in capsys.readouterr().err
