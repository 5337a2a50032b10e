"""Runs to export: text, tokens and packed rows, over the small pool of the selector's tests."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from loading import load_module

from prereq.selector.corpus.tokens import BytesTokenizer
from prereq.selector.rounds.pool import Pool
from prereq.selector.rounds.sampler import Sampler

_SELECTOR = Path(__file__).resolve().parent.parent


make_driver = load_module(_SELECTOR / "rounds" / "conftest.py").make_driver


@pytest.fixture
def finished(make_driver: Callable[..., Any]) -> Callable[..., Any]:
    """`finished("name", **settings)`: a run of two rounds of 16 documents in shards of 8, read to its end."""

    def make(name: str = "run", **settings: Any) -> Any:
        sizes = {"rounds": 2, "batches_per_round": 2, "global_batch": 8, "batches_per_shard": 1}
        run = make_driver(name, **{"mixer": "proportional", **sizes, **settings})
        pool = Pool(run.pool.folder.name)
        sampler = Sampler(run.run, run.info(), pool, run.mixer, run.config, encode=BytesTokenizer().encode)
        assert sampler.run() is not None
        return run

    return make


@pytest.fixture
def rows() -> Callable[[Path], list[dict[str, Any]]]:
    """All rows of a run in order, read with pyarrow from files in order of name."""

    def read(run: Path) -> list[dict[str, Any]]:
        return [row for path in sorted(run.glob("rounds/*/shard-*")) for row in pq.read_table(path).to_pylist()]

    return read
