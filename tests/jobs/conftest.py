"""The small pools and runs of the selector's tests, for tests of what reads them."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

_SELECTOR = Path(__file__).resolve().parent.parent / "selector"


def _load(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)  # test folders are no packages
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


make_pool = _load("selector_fixtures", _SELECTOR / "conftest.py").make_pool
_rounds = _load("rounds_fixtures", _SELECTOR / "rounds" / "conftest.py")
make_driver, Driver = _rounds.make_driver, _rounds.Driver


@pytest.fixture
def drive() -> Callable[..., Any]:
    """`drive(pool, "name", mixer=..., **settings)`: a run over a pool of the test's own."""

    def make(pool: Path, name: str = "run", **settings: Any) -> Any:
        return Driver(pool.parent / name, pool, **settings)

    return make
