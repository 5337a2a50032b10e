"""The Lightning example with a live sampler, and again from its checkpoint."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow


def test_it_trains_reports_and_ends(make_example: Callable[..., Any], tmp_path: Path) -> None:
    pytest.importorskip("lightning")
    example = make_example(4)
    example.finish("lightning_module.py", "--out", str(tmp_path / "out"), "--save-steps", "5")
    assert example.reports() == ["000000.json", "000001.json", "000002.json", "000003.json", "initial.json"]
    report = json.loads((example.run / "feedback/000003.json").read_bytes())
    assert report["step"] == 12
    first = json.loads((example.run / "feedback/initial.json").read_bytes())
    assert all(report["losses"][skill] < first["losses"][skill] - 0.5 for skill in ("add", "count"))
    assert (tmp_path / "out/last.ckpt").exists()
