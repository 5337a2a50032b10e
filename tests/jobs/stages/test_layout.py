"""From tagged documents to a pool, read back by nothing but pyarrow and json."""

import hashlib
import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prereq.graph.errors import ConfigError, TableError
from prereq.jobs.executor import InProcessExecutor
from prereq.jobs.progress import Progress
from prereq.jobs.stages.arms import Labelling
from prereq.jobs.stages.holdout import Parts
from prereq.jobs.stages.layout import Layout, lay_out
from prereq.jobs.stages.publish import publish
from prereq.jobs.stages.runner import Bench, StageFile
from prereq.selector.corpus.holdout import HoldoutConfig
from prereq.selector.corpus.keys import id_keys, seeded_order
from prereq.selector.corpus.layout import LayoutConfig
from prereq.selector.corpus.normalise import content_digest
from prereq.selector.storage import Folder

SKILLS = ("loops", "strings", "rare", "absent")
WORDS = ["alpha", "beta", "gamma", "delta", "ünïcode", "omega", "for", "while"]
DIM = 6


@dataclass(frozen=True)
class Corpus:
    """Synthetic documents with what the earlier stages would say of them."""

    rows: list[dict[str, Any]]
    vectors: np.ndarray

    def take(self, order: np.ndarray) -> "Corpus":
        """The same documents in another order."""
        return Corpus([self.rows[i] for i in order], self.vectors[order])


def make_corpus(documents: int = 400, seed: int = 0) -> Corpus:
    """Documents in five clusters and two sources; some untagged, some alike after normalising, some split."""
    rng = np.random.default_rng([seed, 11])
    rows: list[dict[str, Any]] = []
    for number in range(documents):
        text = " ".join(rng.choice(WORDS, size=rng.integers(3, 40)).tolist()) + f" {number}"
        if number % 40 == 39:
            text = rows[number - 7]["text"].upper() + "  "
        cluster = int(rng.integers(0, 5))
        skills = [s for s, chance in zip(SKILLS, (0.5, 0.4, 0.08, 0), strict=True) if rng.random() < chance]
        rows.append(
            {
                "id": f"doc/{number}",
                "text": text,
                "source": "ab"[number % 2],
                "parent": f"doc/{number - number % 3}" if number < 30 else f"doc/{number}",
                "component": number - number % 2 if number < 100 else number,
                "cluster": cluster,
                "skills": skills,
                "area": None if number % 5 == 0 else f"area {cluster}",
            }
        )
    vectors = rng.normal(size=(documents, DIM)) * 0.3 + np.eye(DIM)[[row["cluster"] for row in rows]]
    return Corpus(rows, (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32))


def _file(path: Path, table: pa.Table) -> StageFile:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, compression="zstd")
    data = path.read_bytes()
    return StageFile(str(path), table.num_rows, len(data), hashlib.sha256(data).hexdigest())


def write_parts(folder: Path, corpus: Corpus, part_rows: int) -> list[Parts]:
    """Write what ingest, dedup, embed, cluster and tag would have written."""
    parts = []
    for index, start in enumerate(range(0, len(corpus.rows), part_rows)):
        rows = corpus.rows[start : start + part_rows]
        column = {name: [row[name] for row in rows] for name in rows[0]}
        ids = pa.array(column["id"])
        documents = {
            "id": ids,
            "text": pa.array(column["text"], pa.large_string()),
            "source": column["source"],
            "parent": column["parent"],
            "place": [f"f:{i}" for i in range(len(rows))],
            "labels": pa.array([[] for _ in rows], pa.list_(pa.string())),
            "content": pa.array([content_digest(text) for text in column["text"]], pa.binary(16)),
            "component": pa.array(column["component"], pa.int64()),
        }
        if index % 2 == 0:  # a part whose source has no such metadata lacks the column
            documents["area"] = pa.array(column["area"], pa.string())
        flat = pa.array(corpus.vectors[start : start + part_rows].reshape(-1))
        vectors = pa.FixedSizeListArray.from_arrays(flat, DIM)
        here = folder / f"{index:05d}"
        parts.append(
            Parts(
                _file(here / "documents.parquet", pa.table(documents)),
                _file(here / "vectors.parquet", pa.table({"id": ids, "vector": vectors})),
                _file(
                    here / "tags.parquet",
                    pa.table({"id": ids, "skills": pa.array(column["skills"], pa.list_(pa.string()))}),
                ),
                _file(
                    here / "clusters.parquet",
                    pa.table({"id": ids, "cluster": pa.array(column["cluster"], pa.int32())}),
                ),
            )
        )
    return parts


def run_layout(
    folder: Path,
    corpus: Corpus,
    *,
    part_rows: int = 90,
    holdout: HoldoutConfig | None = None,
    layout: LayoutConfig | None = None,
    seed: int = 0,
) -> Layout:
    """Lay a corpus out in `folder`, in this process."""
    layout = layout or LayoutConfig(rows_per_group=16)
    parts = write_parts(folder / f"input-{part_rows}", corpus, part_rows)
    names = {
        "cluster": tuple(f"cluster {n}" for n in range(5)),
        "skill": (*(skill.title() for skill in SKILLS), "_none"),
        "source": ("a", "b"),
    }[layout.arms]
    if layout.arms != "cluster":
        parts = [replace(part, clusters=None) for part in parts]
    bench = Bench(
        stages=folder / "pool" / "stages", executor=InProcessExecutor(), progress=Progress(quiet=True), seed=seed
    )
    return lay_out(
        bench,
        parts,
        Labelling(names, SKILLS),
        sources=["a", "b"],
        tokenizer="bytes",
        holdout=holdout or HoldoutConfig(),
        layout=layout,
    )


def make_pool(folder: Path, corpus: Corpus, **options: Any) -> Path:
    """Lay out and publish; returns the pool's folder."""
    layout = run_layout(folder, corpus, **options)
    extras: dict[str, bytes | Path] = {"graph.json": b"{}"}
    publish(Folder(folder / "pool"), layout, config="c" * 64, seed=0, skills=SKILLS, extras=extras, rejects=[])
    return folder / "pool"


def read_pool(pool: Path) -> tuple[dict[str, Any], list[dict[str, Any]], list[dict[str, Any]]]:
    """Manifest, documents in stored order, holdout; every rule of the format is checked on the way."""
    data = (pool / "manifest.json").read_bytes()
    manifest = json.loads(data)
    assert data == json.dumps(manifest, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()
    assert set(manifest) == {"format", "config", "seed", "documents", "tokens", "arms", "skills", "holdout"}
    named = {part["path"] for arm in manifest["arms"] for part in arm["parts"]}
    assert {path.name for path in pool.glob("part-*")} == named
    for path in [*pool.glob("part-*"), *pool.glob("holdout/part-*")]:
        assert path.stem.rsplit("-", 1)[1] == hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    held_files = sorted(pool.glob("holdout/part-*"))
    assert hashlib.sha256(b"".join(path.read_bytes() for path in held_files)).hexdigest() == manifest["holdout"]
    rows: list[dict[str, Any]] = []
    used: set[tuple[str, int]] = set()
    assert [arm["id"] for arm in manifest["arms"]] == sorted(arm["id"] for arm in manifest["arms"])
    for arm in manifest["arms"]:
        own: list[dict[str, Any]] = []
        for part in arm["parts"]:
            file = pq.ParquetFile(pool / part["path"])
            for group in part["row_groups"]:
                assert (part["path"], group) not in used
                used.add((part["path"], group))
                own += file.read_row_group(group).to_pylist()
        assert {row["arm"] for row in own} == {arm["id"]}
        assert (arm["rows"], arm["tokens"]) == (len(own), sum(row["n_tokens"] for row in own))
        rows += own
    total = sum(pq.ParquetFile(pool / name).num_row_groups for name in named)
    assert total == len(used)
    assert (manifest["documents"], manifest["tokens"]) == (len(rows), sum(row["n_tokens"] for row in rows))
    held = [row for path in held_files for row in pq.read_table(path).to_pylist()]
    return manifest, rows, held


@pytest.mark.parametrize("arms", ["cluster", "skill", "source"])
def test_a_pool_holds_every_document_once_in_its_arm(tmp_path: Path, arms: str) -> None:
    corpus = make_corpus()
    pool = make_pool(tmp_path, corpus, layout=LayoutConfig(arms=arms, rows_per_group=16))  # type: ignore[arg-type]
    manifest, rows, held = read_pool(pool)
    known = {row["id"]: row for row in corpus.rows}
    assert list(rows[0]) == ["id", "text", "n_tokens", "arm", "skills", "source", "area"]
    for row in rows:
        assert (row["text"], row["skills"], row["source"]) == tuple(
            known[row["id"]][k] for k in ("text", "skills", "source")
        )
        assert row["n_tokens"] == len(row["text"].encode())
    texts = {content_digest(row["text"]) for row in held}
    assert not texts & {content_digest(row["text"]) for row in rows}
    dropped = set(known) - {row["id"] for row in rows} - {row["id"] for row in held}
    assert all(content_digest(known[name]["text"]) in texts for name in dropped)
    assert len(rows) + len(held) + len(dropped) == len(corpus.rows)
    assert {row["split"] for row in held} == {"control", "report"}
    arm_of = {row["id"]: row["arm"] for row in rows}
    groups: dict[str, set[Any]] = {}
    counts = {skill: sum(skill in row["skills"] for row in rows) for skill in SKILLS}
    for name, arm in arm_of.items():
        row = known[name]
        rarest = min(row["skills"], key=lambda s: (counts[s], SKILLS.index(s)), default="_none")
        groups.setdefault(arm, set()).add({"cluster": row["cluster"], "skill": rarest, "source": row["source"]}[arms])
    assert all(len(values) == 1 for values in groups.values())
    assert len(manifest["arms"]) == len(groups) == len({next(iter(v)) for v in groups.values()})


def test_near_duplicates_and_pieces_of_the_holdout_are_not_in_the_pool(tmp_path: Path) -> None:
    corpus = make_corpus()
    pool = make_pool(
        tmp_path, corpus, holdout=HoldoutConfig(documents_per_skill=12, report_per_skill=12, max_share=0.4)
    )
    _, rows, held = read_pool(pool)
    known = {row["id"]: row for row in corpus.rows}
    for key in ("component", "parent"):
        split_of = {known[row["id"]][key]: row["split"] for row in held}
        assert not split_of.keys() & {known[row["id"]][key] for row in rows}
        assert all(split_of[known[row["id"]][key]] == row["split"] for row in held)


def test_what_is_known_of_arms_is_true(tmp_path: Path) -> None:
    corpus = make_corpus()
    pool = make_pool(tmp_path, corpus)
    manifest, rows, _ = read_pool(pool)
    arms = pq.read_table(pool / "arms.parquet").to_pylist()
    assert [arm["id"] for arm in arms] == [arm["id"] for arm in manifest["arms"]]
    place = {row["id"]: index for index, row in enumerate(corpus.rows)}
    for arm in arms:
        own = [row for row in rows if row["arm"] == arm["id"]]
        vectors = corpus.vectors[[place[row["id"]] for row in own]].astype(np.float64)
        mean = vectors.mean(axis=0)
        np.testing.assert_allclose(arm["centroid"], mean / np.linalg.norm(mean), atol=1e-6)
        central = own[int(np.argmax(vectors @ mean))]
        assert arm["id"] == hashlib.sha256(central["text"].encode()).hexdigest()[:12]
        assert arm["name"] == f"cluster {corpus.rows[place[central['id']]]['cluster']}"
        shares = dict(arm["T"])
        assert abs(sum(shares.values()) - 1) < 1e-12
        total = sum(row["n_tokens"] for row in own)
        for skill in (*SKILLS, "_none"):
            tokens = sum(
                row["n_tokens"] / max(1, len(row["skills"])) for row in own if skill in (row["skills"] or ["_none"])
            )
            assert shares.get(skill, 0) == pytest.approx(tokens / total, rel=1e-12)


def test_stored_order_is_the_seeded_order_of_ids(tmp_path: Path) -> None:
    pool = make_pool(tmp_path, make_corpus(), seed=5)
    _, rows, _ = read_pool(pool)
    for arm in {row["arm"] for row in rows}:
        ids = [row["id"] for row in rows if row["arm"] == arm]
        keys = seeded_order(id_keys(ids), 5, "stored order")
        assert (keys[1:] > keys[:-1]).all()


def test_row_groups_keep_to_their_size_and_large_arms_take_several_parts(tmp_path: Path) -> None:
    corpus = make_corpus(60)
    heavy = Corpus([{**row, "text": row["text"] + " x" * 60_000} for row in corpus.rows], corpus.vectors)
    pool = make_pool(tmp_path, heavy, layout=LayoutConfig(rows_per_group=8, part_mib=1))
    manifest, _, _ = read_pool(pool)
    paths = sorted(pool.glob("part-*"))
    assert len(paths) > 5
    assert max(len(arm["parts"]) for arm in manifest["arms"]) > 1
    for path in paths:
        file = pq.ParquetFile(path)
        assert max(file.metadata.row_group(g).num_rows for g in range(file.num_row_groups)) <= 8


def test_other_part_borders_and_input_order_keep_the_pool(tmp_path: Path) -> None:
    corpus = make_corpus()
    first = read_pool(make_pool(tmp_path / "a", corpus))
    shuffled = corpus.take(np.random.default_rng(3).permutation(len(corpus.rows)))
    other = make_pool(tmp_path / "b", shuffled, part_rows=1000)
    keep = ("id", "arm", "n_tokens", "skills")
    assert [[row[k] for k in keep] for row in read_pool(other)[1]] == [[row[k] for k in keep] for row in first[1]]
    assert [row["id"] for row in read_pool(other)[2]] == [row["id"] for row in first[2]]


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    pools = [make_pool(tmp_path / name, make_corpus()) for name in "ab"]
    names = [
        sorted(str(p.relative_to(pool)) for p in pool.rglob("*.parquet") if "stages" not in p.parts) for pool in pools
    ]
    assert names[0] == names[1]
    for name in ["manifest.json", *names[0]]:
        assert (pools[0] / name).read_bytes() == (pools[1] / name).read_bytes()


def test_a_rerun_skips_everything_and_a_lost_task_is_redone(tmp_path: Path) -> None:
    corpus = make_corpus()
    pool = make_pool(tmp_path, corpus)
    before = (pool / "manifest.json").read_bytes()
    again = run_layout(tmp_path, corpus)
    assert again.facts.skipped == 5
    assert again.gather.skipped == len(again.gather.tasks)
    shutil.rmtree(pool / "stages" / "scatter" / "00002")
    shutil.rmtree(pool / "stages" / "arms")
    (pool / "manifest.json").unlink()
    make_pool(tmp_path, corpus)
    assert (pool / "manifest.json").read_bytes() == before


def test_an_evaluation_set_takes_the_place_of_the_holdout(tmp_path: Path) -> None:
    corpus = make_corpus()
    texts = [corpus.rows[i]["text"] for i in (50, 51)]
    lines = [
        {"id": "own/1", "text": f" {texts[0].upper()}", "skills": ["strings", "loops"]},
        {"id": "own/2", "text": texts[1], "skills": ["loops"], "split": "report"},
        {"id": "own/3", "text": "quite another text", "skills": ["rare"], "split": "control"},
    ]
    path = tmp_path / "own.jsonl"
    path.write_text("\n".join(json.dumps(line) for line in lines))
    pool = make_pool(tmp_path, corpus, holdout=HoldoutConfig(path=str(path)))
    _, rows, held = read_pool(pool)
    assert {row["id"]: row["split"] for row in held} == {"own/1": "control", "own/2": "report", "own/3": "control"}
    assert held[0]["skills"] == ["loops", "strings"]
    assert not {"doc/50", "doc/51"} & {row["id"] for row in rows}
    assert len(rows) >= len(corpus.rows) - 4


def test_a_corpus_of_one_document_and_one_without_tags(tmp_path: Path) -> None:
    corpus = make_corpus(60)
    one = Corpus(corpus.rows[:1], corpus.vectors[:1])
    manifest, rows, held = read_pool(make_pool(tmp_path / "one", one))
    assert (manifest["documents"], len(rows), held) == (1, 1, [])
    bare = Corpus([{**row, "skills": []} for row in corpus.rows], corpus.vectors)
    pool = make_pool(tmp_path / "bare", bare)
    assert read_pool(pool)[2] == []
    assert {skill for arm in pq.read_table(pool / "arms.parquet")["T"].to_pylist() for skill, _ in arm} == {"_none"}


def test_a_part_without_pool_documents_is_no_trouble(tmp_path: Path) -> None:
    """With one document a part, every held-out document leaves its part empty."""
    corpus = make_corpus(24)
    config = HoldoutConfig(min_documents=1, max_share=0.4)
    _, rows, held = read_pool(make_pool(tmp_path, corpus, part_rows=1, holdout=config))
    assert len(held) > 3
    assert len(rows) + len(held) <= 24


def test_parts_that_do_not_fit_together_are_refused(tmp_path: Path) -> None:
    parts = write_parts(tmp_path / "in", make_corpus(40), 40)
    other = write_parts(tmp_path / "other", make_corpus(41), 41)
    bench = Bench(stages=tmp_path / "s", executor=InProcessExecutor(), progress=Progress(quiet=True), seed=0)
    mixed = [replace(parts[0], vectors=other[0].vectors)]
    with pytest.raises(TableError, match=r"vectors.parquet: its rows are not those of .*documents.parquet"):
        lay_out(
            bench,
            mixed,
            Labelling(("a",) * 5, SKILLS),
            sources=["a", "b"],
            tokenizer="bytes",
            holdout=HoldoutConfig(),
            layout=LayoutConfig(),
        )


def test_a_changed_stage_file_is_found_and_removed(tmp_path: Path) -> None:
    corpus = make_corpus(80)
    layout = run_layout(tmp_path, corpus)
    victim = Path(layout.gather.matching("part-")[0].path)
    data = bytearray(victim.read_bytes())
    data[100] ^= 1
    victim.write_bytes(bytes(data))
    with pytest.raises(TableError, match="changed later and has been removed"):
        publish(Folder(tmp_path / "pool"), layout, config="c", seed=0, skills=SKILLS, extras={}, rejects=[])
    read_pool(make_pool(tmp_path, corpus))


def test_a_finished_pool_is_never_replaced(tmp_path: Path) -> None:
    pool = make_pool(tmp_path, make_corpus())
    before = (pool / "manifest.json").read_bytes()
    with pytest.raises(ConfigError, match=r"finished pool that differs in .*documents"):
        make_pool(tmp_path, make_corpus(300))
    assert (pool / "manifest.json").read_bytes() == before


def test_leftovers_of_a_killed_attempt_are_swept(tmp_path: Path) -> None:
    stray = tmp_path / "pool" / "holdout" / "part-00009-0123456789ab.parquet"
    stray.parent.mkdir(parents=True)
    stray.write_bytes(b"half a file")
    read_pool(make_pool(tmp_path, make_corpus(80)))
    assert not stray.exists()
