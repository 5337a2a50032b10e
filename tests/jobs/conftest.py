"""The small pools and runs of the selector's tests, for tests of what reads them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from loading import load_module

_SELECTOR = Path(__file__).resolve().parent.parent / "selector"


make_pool = load_module(_SELECTOR / "conftest.py").make_pool
_rounds = load_module(_SELECTOR / "rounds" / "conftest.py")
make_driver, Driver = _rounds.make_driver, _rounds.Driver


@pytest.fixture
def drive() -> Callable[..., Any]:
    """`drive(pool, "name", mixer=..., **settings)`: a run over a pool of the test's own."""

    def make(pool: Path, name: str = "run", **settings: Any) -> Any:
        return Driver(pool.parent / name, pool, **settings)

    return make
