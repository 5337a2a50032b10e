"""What bad input gets, row by row of the failure rules, through the command line."""

import gzip
import json
import os
import pickle
import subprocess
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
import zstandard

pytestmark = pytest.mark.slow

QUICK = {"embedding__method": "tfidf", "embedding__dim": 4, "tagging__methods": ["patterns"], "clustering__clusters": 2}


def lines(rows) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def lessons(count: int, start: int = 0):
    words = ["adding two numbers is counting on", "counting from one to nine", "fractions are parts of a whole"]
    return [
        {"id": f"d{i}", "text": f"{words[i % 3]}, page {i * 37 % 101} line {i}"} for i in range(start, start + count)
    ]


@pytest.fixture
def build(prereq):
    """Build over files of one's own: `build({"a.jsonl": bytes}, **settings)` gives the result and the pool's folder."""

    def make(files: dict[str, bytes], *, fails: bool = False, **changes):
        folder = prereq.root / "input"
        folder.mkdir(exist_ok=True)
        for name, data in files.items():
            (folder / name).write_bytes(data)
        source = {"name": "own", "paths": [f"{folder}/*"], "id_field": "id"}
        config = prereq.config("own", sources=[source], **{**QUICK, **changes})
        return prereq.fails("build", config) if fails else prereq("build", config)

    return make


def rejects(root: Path) -> list[dict]:
    return [
        row for part in sorted((root / "pool/rejects").glob("*.parquet")) for row in pq.read_table(part).to_pylist()
    ]


def documents(root: Path) -> set[str]:
    pool = root / "pool"
    parts = [*pool.glob("part-*.parquet"), *(pool / "holdout").glob("part-*.parquet")]
    kept = {i for part in parts for i in pq.read_table(part, columns=["id"])["id"].to_pylist()}
    dropped = pq.read_table(pool / "duplicates.parquet")["id"].to_pylist()
    return kept | set(dropped)


def test_damaged_files_are_rejected_with_file_and_line_and_the_rest_goes_on(build, prereq, tmp_path):
    whole = lines(lessons(200))
    table = pa.Table.from_pylist(lessons(50, 1000))
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    parquet = sink.getvalue().to_pybytes()
    zipped = gzip.compress(lines(lessons(300, 2000)), mtime=0)
    zst = zstandard.compress(lines(lessons(300, 3000)))
    bad = b'{"id": "x1", "text": "bad \xff byte"}\n[1, 2]\n{"id": "x2"}\n{"id": "x3", "text": 7}\nnot json\n'
    files = {
        "a.jsonl": whole,
        "b.jsonl": bad,
        "c.parquet": parquet[: len(parquet) // 2],
        "d.jsonl.gz": zipped[: len(zipped) - 40],
        "e.jsonl.zst": zst[: len(zst) - 40],
        "f.parquet": parquet,
    }
    result = build(files, ingest__max_rejected=0.5)
    assert "rejected" in result.stdout + result.stderr
    found = {(Path(row["file"]).name, row["line"]) for row in rejects(tmp_path)}
    assert {("b.jsonl", n) for n in (1, 2, 3, 4, 5)} <= found
    assert {"c.parquet", "d.jsonl.gz", "e.jsonl.zst"} <= {name for name, _ in found}
    assert all(row["reason"] for row in rejects(tmp_path))
    kept = documents(tmp_path)
    assert {f"d{i}" for i in range(200)} <= kept, "whole files are kept whole"
    assert {f"d{i}" for i in range(1000, 1050)} <= kept
    assert not {"x1", "x2", "x3"} & kept


def test_an_unreadable_file_is_listed(build, prereq, tmp_path):
    folder = tmp_path / "input"
    folder.mkdir()
    (folder / "gone.jsonl").symlink_to(tmp_path / "nowhere")
    build({"a.jsonl": lines(lessons(60))}, ingest__max_rejected=0.5)
    assert any("gone.jsonl" in row["file"] for row in rejects(tmp_path))


def test_too_many_rejects_stop_the_build(build):
    message = build({"a.jsonl": lines(lessons(50)) + b"[]\n" * 50}, fails=True)
    assert "max_rejected" in message
    assert "a.jsonl" in message


def test_duplicate_ids_name_both_places_or_are_keyed_by_content(build, tmp_path):
    rows = lessons(60)
    rows[41]["id"] = "d7"
    message = build({"a.jsonl": lines(rows[:30]), "b.jsonl": lines(rows[30:])}, fails=True)
    assert "d7" in message
    assert "a.jsonl:8" in message
    assert "b.jsonl:12" in message
    build({}, ingest__ids="content", pool_dir=str(tmp_path / "by-content/pool"))
    assert len(documents(tmp_path / "by-content")) == 60


def test_empty_and_giant_documents_are_rejected_or_split_and_counted(build, tmp_path):
    giant = {"id": "giant", "text": "counting sheep and adding lambs. " * 40_000}
    one_line = {"id": "line", "text": "counting" * 150_000}
    rows = [*lessons(60), {"id": "empty", "text": ""}, {"id": "blank", "text": " \n\t "}, giant, one_line]
    build({"a.jsonl": lines(rows)}, ingest__max_document_bytes=500_000, ingest__max_rejected=0.5)
    assert {row["line"] for row in rejects(tmp_path)} == {61, 62}
    kept = documents(tmp_path)
    assert sum(i.startswith("giant#") for i in kept) >= 3
    assert sum(i.startswith("line#") for i in kept) >= 3


@pytest.mark.parametrize(
    ("edges", "message"),
    [
        ([("counting", "adding"), ("adding", "counting")], "adding -> counting -> adding"),
        ([("counting", "addin")], "addin"),
        ([("adding", "adding")], "adding"),
    ],
)
def test_a_broken_graph_is_named(prereq, tmp_path, edges, message):
    graph = yaml.safe_load((prereq.corpus / "graph.yaml").read_text())
    graph["edges"] = [{"prerequisite": a, "target": b} for a, b in edges]
    path = tmp_path / "graph.yaml"
    path.write_text(yaml.safe_dump(graph))
    assert message in prereq.fails("graph", "check", path)
    assert message in prereq.fails("build", prereq.config(graph__path=str(path)))


def test_duplicate_skills_are_named_and_cycles_can_be_condensed(prereq, tmp_path):
    graph = yaml.safe_load((prereq.corpus / "graph.yaml").read_text())
    twice = {**graph, "skills": [*graph["skills"], dict(graph["skills"][0])]}
    path = tmp_path / "graph.yaml"
    path.write_text(json.dumps(twice))  # JSON is YAML, and has no aliases for what is listed twice
    assert "counting" in prereq.fails("graph", "check", path)
    graph["edges"].append({"prerequisite": "fractions", "target": "counting"})
    path.write_text(yaml.safe_dump(graph))
    config = prereq.config(graph__path=str(path), graph__on_cycle="condense", **QUICK)
    prereq("build", config)
    skills = json.loads((tmp_path / "pool/manifest.json").read_bytes())["skills"]
    assert len(skills) == 2, "four skills on the cycle became one"


def test_thin_pools_work_or_end_with_the_reason(build, prereq, tmp_path):
    """Skills without documents, an arm of one document, more shards than documents, a pool below one round."""
    rows = [{"id": "only", "text": "counting one two three"}, {"id": "other", "text": "half of a cloudless sky"}]
    result = build({"a.jsonl": lines(rows)}, mixer__name="uniform", layout__arms="skill")
    assert "without documents" in result.stderr
    assert "holds one document" in result.stderr
    source = {"name": "own", "paths": [f"{tmp_path}/input/*"], "id_field": "id"}
    common = {"sources": [source], "mixer__name": "uniform", "layout__arms": "skill", **QUICK}
    result = prereq("sample", prereq.config("thin", **common))
    assert "pool exhausted" in result.stdout
    assert json.loads((tmp_path / "run/done.json").read_bytes()) == {
        "format": "prereq.done/1",
        "last": None,
        "reason": "pool exhausted",
        "rounds": 0,
    }
    tiny = prereq.config(
        "tiny",
        run_dir=str(tmp_path / "tiny"),
        rounds=100,
        batches_per_round=2,
        global_batch=1,
        batches_per_shard=1,
        **common,
    )
    assert "done: 4 rounds (pool exhausted)" in prereq("sample", tiny).stdout


def test_folders_that_cannot_be_used_are_refused_before_work_starts(prereq, tmp_path):
    (tmp_path / "file").write_text("")
    assert "cannot be written" in prereq.fails("build", prereq.config(pool_dir=str(tmp_path / "file/pool")))
    prereq("build", prereq.config(**QUICK))
    prereq("sample", prereq.config(mixer__name="uniform", **QUICK))
    message = prereq.fails("sample", prereq.config(mixer__name="proportional", **QUICK))
    assert 'mixer.name was "uniform", is "proportional"' in message
    message = prereq.fails("build", prereq.config(**{**QUICK, "clustering__clusters": 3}))
    assert "clustering.clusters" in message
    assert "no finished pool" in prereq.fails("sample", prereq.config(pool_dir=str(tmp_path / "none"), **QUICK))


def test_a_full_disk_is_one_line_and_the_run_goes_on_when_there_is_room(prereq, tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(small)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {mounted.stderr.decode().strip()}")
    try:
        prereq("build", prereq.config(**QUICK))
        config = prereq.config(run_dir=str(small / "run"), mixer__name="uniform", rounds=12, **QUICK)
        message = prereq.fails("sample", config)
        assert "No space left" in message
        committed = sorted(p.parent.name for p in (small / "run/rounds").glob("*/manifest.json"))
        subprocess.run(["mount", "-o", "remount,size=50m", str(small)], check=True)
        assert "done: 12 rounds" in prereq("sample", config).stdout
        assert len(committed) < 12
        whole = prereq.config("whole", run_dir=str(tmp_path / "whole"), mixer__name="uniform", rounds=12, **QUICK)
        prereq("sample", whole)
        for n in range(12):
            name = f"run/rounds/{n:06d}/manifest.json"
            assert (small / name).read_bytes() == (tmp_path / name.replace("run", "whole", 1)).read_bytes()
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_hostile_configurations_graphs_and_files_run_nothing(prereq, build, tmp_path):
    config = tmp_path / "tag.yaml"
    config.write_text("run_dir: !!python/object/apply:os.system ['touch hacked']\n")
    message = prereq.fails("build", config)
    assert "tag" in message.lower()
    graph = tmp_path / "graph.yaml"
    graph.write_text("skills: !!python/object/apply:os.system ['touch hacked']\n")
    prereq.fails("graph", "check", graph)

    class Bomb:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path}/hacked",)

    build({"a.jsonl": lines(lessons(60)), "bomb.jsonl": pickle.dumps(Bomb())}, ingest__max_rejected=0.9)
    assert not list(tmp_path.rglob("hacked"))


def test_a_manifest_that_points_out_of_its_folder_is_refused(prereq, tmp_path):
    prereq("build", prereq.config(mixer__name="uniform", **QUICK))
    path = tmp_path / "pool/manifest.json"
    value = json.loads(path.read_bytes())
    value["arms"][0]["parts"][0]["path"] = "../../secret.parquet"
    path.write_bytes(json.dumps(value, sort_keys=True, separators=(",", ":")).encode())
    message = prereq.fails("sample", prereq.config(mixer__name="uniform", **QUICK))
    assert "leaves the folder" in message


def test_misspelt_and_mistyped_keys_are_named_with_their_path(prereq):
    assert "clustering.cluters" in prereq.fails("build", prereq.config(clustering__cluters=3))
    assert "rounds" in prereq.fails("build", prereq.config(rounds="six"))
    assert "mixer.parameters.learning_rat" in prereq.fails(
        "build", prereq.config(mixer__parameters={"learning_rat": 1})
    )


def test_markup_in_documents_and_skill_names_is_escaped_in_the_report(prereq, build, tmp_path):
    graph = yaml.safe_load((prereq.corpus / "graph.yaml").read_text())
    graph["skills"][0]["name"] = "<script>alert(1)</script>"
    path = tmp_path / "graph.yaml"
    path.write_text(yaml.safe_dump(graph))
    rows = [{**row, "text": f"<img src=x onerror=alert(2)> {row['text']}"} for row in lessons(90)]
    build({"a.jsonl": lines(rows)}, graph__path=str(path), mixer__name="uniform")
    source = {"name": "own", "paths": [f"{tmp_path}/input/*"], "id_field": "id"}
    config = prereq.config("own", sources=[source], graph__path=str(path), mixer__name="uniform", rounds=2, **QUICK)
    prereq("sample", config)
    prereq("report", config)
    page = (tmp_path / "run/report.html").read_text(encoding="utf-8")
    assert "&lt;script&gt;alert(1)" in page
    assert "&lt;img src=x" in page
    assert "<script" not in page
    assert "<img" not in page
