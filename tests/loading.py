"""Loads a Python file by its path: test folders are no packages, so a neighbour's helpers cannot be imported."""

import importlib.util
from pathlib import Path
from types import ModuleType


def load_module(path: Path) -> ModuleType:
    """A fresh module of a file, each time; its tests and fixtures are not seen by the caller's file."""
    spec = importlib.util.spec_from_file_location(f"{path.parent.name}_{path.stem}_loaded", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
