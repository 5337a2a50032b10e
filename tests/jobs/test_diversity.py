"""Diversity of pools and rounds: by the kernel of what was drawn, whatever the parts; and without vectors."""

import json
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prereq.graph.errors import ManifestError
from prereq.jobs import diversity
from prereq.jobs.cli import main
from prereq.jobs.diversity import find_vectors, measure, measure_if_cheap
from prereq.jobs.report import write_report
from prereq.selector.corpus.diversity import vendi_score
from prereq.selector.corpus.tokens import BytesTokenizer
from prereq.selector.feed import Feed
from prereq.selector.rounds.pool import Pool
from prereq.selector.rounds.sampler import Sampler
from prereq.selector.rounds.samples import SamplesConfig

D = 5


def write_stage(pool: Path, ids: list[str], rows_per_part: int = 7) -> dict[str, np.ndarray]:
    """The stage "embed" of a pool, in some order, with documents that are not in the pool; vectors by id."""
    names = [*ids[::-1], "dropped/0", "dropped/1"]
    vectors = np.random.default_rng(0).normal(size=(len(names), D))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    stage, tasks = pool / "stages" / "embed", []
    for number, start in enumerate(range(0, len(names), rows_per_part)):
        rows = slice(start, start + rows_per_part)
        (stage / f"{number:05d}").mkdir(parents=True)
        column = pa.FixedSizeListArray.from_arrays(pa.array(vectors[rows].ravel()), D)
        pq.write_table(pa.table({"id": names[rows], "vector": column}), stage / f"{number:05d}" / "part-00000.parquet")
        tasks.append({"name": f"{number:05d}", "files": [{"path": "part-00000.parquet"}]})
    (stage / "manifest.json").write_text(json.dumps({"tasks": tasks}))
    return dict(zip(names, vectors.astype(np.float64), strict=True))


def ids_of(pool: Pool) -> list[str]:
    return [name for arm in range(len(pool.layouts)) for name in pool.text_columns(arm, ("id",))[0]]


@pytest.fixture
def finished(make_driver: Callable[..., Any]) -> tuple[Any, dict[str, np.ndarray]]:
    """A run that drew its pool more than once, and the vectors of the pool."""
    run = make_driver(rounds=3, batches_per_round=24, max_epochs=9)
    run.finish()
    return run, write_stage(Path(run.pool.folder.name), ids_of(run.pool))


def by_kernel(ids: list[str], vectors: dict[str, np.ndarray], q: float) -> float:
    rows = np.stack([vectors[name] / np.linalg.norm(vectors[name]) for name in ids])
    kernel = rows @ rows.T
    np.fill_diagonal(kernel, 1.0)
    return vendi_score(kernel, q)


def drawn_ids(run: Any) -> list[list[str]]:
    rounds: dict[int, list[str]] = {}
    for batch in Feed(run.folder, columns=("id",)):
        rounds.setdefault(batch.round, []).extend(batch.ids)
    return [rounds[number] for number in sorted(rounds)]


@pytest.mark.parametrize("lots", [2**25, 1])
def test_scores_are_those_of_the_kernel_of_what_was_drawn(
    finished: Any, monkeypatch: pytest.MonkeyPatch, lots: int
) -> None:
    run, vectors = finished
    monkeypatch.setattr(diversity, "_NUMBERS", lots)
    found = measure(run.pool, find_vectors(run.pool.folder), run.run, [0.5, 1.0, np.inf])
    rounds = drawn_ids(run)
    every = list(chain.from_iterable(rounds))
    assert len(set(every)) < len(every), "some are drawn twice"
    for q in (0.5, 1.0, np.inf):
        assert found.pool.scores[q] == pytest.approx(by_kernel(ids_of(run.pool), vectors, q), abs=2e-6)
        assert found.drawn.scores[q] == pytest.approx(by_kernel(every, vectors, q), abs=2e-6)
        for number, ids in enumerate(rounds):
            assert found.rounds[number].scores[q] == pytest.approx(by_kernel(ids, vectors, q), abs=2e-6)
    assert [each.documents for each in found.rounds.values()] == [192, 192, 192]


def test_the_least_covered_document_is_the_one_of_the_largest_criterion(finished: Any) -> None:
    run, vectors = finished
    found = measure(run.pool, find_vectors(run.pool.folder), run.run)
    moments = np.eye(D) + sum(np.outer(vectors[name], vectors[name]) for ids in drawn_ids(run) for name in ids)
    values = {name: float(vectors[name] @ np.linalg.solve(moments, vectors[name])) for name in ids_of(run.pool)}
    worst = max(values, key=values.__getitem__)
    assert found.uncovered == (worst, pytest.approx(values[worst], abs=1e-6))


def test_a_round_without_shards_is_left_out_and_a_damaged_one_is_named(finished: Any) -> None:
    run, _ = finished
    vectors = find_vectors(run.pool.folder)
    (run.folder / "rounds/000000/deleted.json").write_text("{}")
    assert sorted(measure(run.pool, vectors, run.run).rounds) == [1, 2]
    next(run.folder.glob("rounds/000001/shard-*")).write_bytes(b"PAR1")
    with pytest.raises(ManifestError, match=r"rounds/000001/shard-.*cannot be read"):
        measure(run.pool, vectors, run.run)


def test_stages_of_another_pool_are_refused_and_deleted_ones_are_none(finished: Any) -> None:
    run, _ = finished
    vectors = find_vectors(run.pool.folder)
    with pytest.raises(ManifestError, match=r"hold vectors of \d+ of its \d+ documents"):
        measure(run.pool, vectors[1:], run.run)
    Path(vectors[0]).write_bytes(b"no")
    with pytest.raises(ManifestError, match=r"part-00000.parquet: cannot be read"):
        measure(run.pool, vectors, run.run)
    assert "diversity is not shown" in str(measure_if_cheap(run.run, run.info(), None))
    (Path(run.pool.folder.name) / "stages/embed/manifest.json").write_text("torn")
    assert find_vectors(run.pool.folder) == []
    assert measure_if_cheap(run.run, run.info(), None) is None


def test_packed_documents_count_once_where_they_begin(make_driver: Callable[..., Any]) -> None:
    run = make_driver(rounds=2, mixer="uniform", samples=SamplesConfig(kind="packed", seq_len=24))
    pool = Pool(run.pool.folder.name)
    Sampler(run.run, run.info(), pool, run.mixer, run.config, encode=BytesTokenizer().encode).run()
    write_stage(Path(run.pool.folder.name), ids_of(run.pool))
    found = measure(run.pool, find_vectors(run.pool.folder), run.run)
    manifests = [json.loads(data) for data in run.manifests()]
    assert any(m["packing"]["pieces"] > m["documents"] for m in manifests), "some are cut"
    assert [each.documents for each in found.rounds.values()] == [m["documents"] for m in manifests]


def test_the_page_and_the_command_show_it(finished: Any, capsys: pytest.CaptureFixture[str]) -> None:
    run, _ = finished
    page = Path(write_report(str(run.folder))).read_text(encoding="utf-8")
    found = measure(run.pool, find_vectors(run.pool.folder), run.run)
    assert "Vendi score" in page
    for each in found.rounds.values():
        assert f">{each.scores[1.0]:.2f}<" in page
    assert main(["inspect", str(run.folder), "--diversity", "--orders", "0.5,2"]) == 0
    shown = capsys.readouterr().out
    assert f"{found.rounds[1].scores[2.0]:.3f}" in shown
    assert "least covered by what was drawn" in shown
    assert main(["inspect", run.pool.folder.name, "--diversity", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["diversity"]
    assert told["pool"]["vendi"]["inf"] == found.pool.scores[np.inf]
    assert main(["inspect", str(run.folder), "--diversity", "--orders", "1,-1"]) == 2
    assert "--orders 1,-1: expected numbers >= 0 or inf" in capsys.readouterr().err


def test_without_vectors_the_command_says_so(make_driver: Callable[..., Any], capsys: Any) -> None:
    run = make_driver(rounds=1)
    run.finish()
    assert main(["inspect", str(run.folder), "--diversity"]) == 2
    assert "has no vectors of its documents any more" in capsys.readouterr().err
    assert "diversity" not in Path(write_report(str(run.folder))).read_text(encoding="utf-8")
