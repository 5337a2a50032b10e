"""What every benchmark writes: params.json, metrics.json with its bars, env.json."""

import json
import os
import platform
import subprocess
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml


def bars(benchmark: str, values: Mapping[str, float]) -> list[dict[str, Any]]:
    """The bars of requirements.yaml that the values answer, each with whether it holds."""
    required = yaml.safe_load((Path(__file__).parent / "requirements.yaml").read_text())[benchmark]
    found = []
    for name, rule in required.items():
        if name in values:
            value = values[name]
            holds = value <= rule["max"] if "max" in rule else value >= rule["min"]
            bar = f"<= {rule['max']}" if "max" in rule else f">= {rule['min']}"
            found.append({"name": name, "value": value, "unit": rule["unit"], "bar": bar, "holds": bool(holds)})
    return found


def environment() -> dict[str, Any]:
    """Where the numbers are from."""
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], capture_output=True, text=True, cwd=Path(__file__).parent, check=False
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "commit": commit.stdout.strip() or None,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "memory_gib": round(memory, 1),
        "versions": {name: version(name) for name in ("prereq", "numpy", "pyarrow")},
    }


def record(out: Path, params: Mapping[str, Any], metrics: Mapping[str, Any]) -> int:
    """Write the three files and print the bars; the exit code: 1 when a bar does not hold."""
    out.mkdir(parents=True, exist_ok=True)
    for name, content in (("params", params), ("metrics", metrics), ("env", environment())):
        (out / f"{name}.json").write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")
    for bar in metrics["bars"]:
        said = "holds " if bar["holds"] else "MISSED"
        print(f"{said} {bar['name']} = {bar['value']:.4g} ({bar['bar']} {bar['unit']})")
    return 0 if all(bar["holds"] for bar in metrics["bars"]) else 1
