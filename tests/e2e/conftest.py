"""A small made corpus with a graph, configurations for it, and the program as users call it."""

import gzip
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import yaml

SKILLS = {
    "counting": ["one", "two", "three", "count", "tally", "number"],
    "adding": ["plus", "sum", "add", "total", "increase"],
    "multiplying": ["times", "product", "multiply", "double", "triple"],
    "fractions": ["half", "quarter", "fraction", "numerator", "denominator"],
    "equations": ["solve", "unknown", "equation", "balance", "variable"],
}
EDGES = [("counting", "adding"), ("adding", "multiplying"), ("multiplying", "fractions"), ("adding", "equations")]
FILLER = [
    "the",
    "pupil",
    "then",
    "writes",
    "a",
    "long",
    "line",
    "about",
    "apples",
    "and",
    "boats",
    "on",
    "paper",
    "while",
    "rain",
    "falls",
]


def _text(rng: np.random.Generator, skill: str) -> str:
    words = [*rng.choice(SKILLS[skill], 6), *rng.choice(FILLER, int(rng.integers(8, 40)))]
    return f"Lesson on {skill}: " + " ".join(map(str, rng.permutation(words))) + "."


def write_corpus(folder: Path, documents: int = 700) -> Path:
    """Four files (two gzipped) of JSON lines with exact and near copies, and `graph.yaml`."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(11)
    names = list(SKILLS)
    texts = [_text(rng, names[i]) for i in rng.choice(5, documents, p=[0.4, 0.25, 0.15, 0.1, 0.1])]
    texts += [texts[i] for i in range(0, 40, 2)] + [texts[i] + " Again." for i in range(1, 40, 2)]
    rows = [{"id": f"doc-{i:05d}", "text": text, "origin": {"page": i % 7}} for i, text in enumerate(texts)]
    for part in range(4):
        data = "".join(json.dumps(row) + "\n" for row in rows[part::4]).encode()
        name = f"part{part}.jsonl"
        if part % 2:
            (folder / f"{name}.gz").write_bytes(gzip.compress(data, mtime=0))
        else:
            (folder / name).write_bytes(data)
    graph = {
        "format": "prereq.graph/1",
        "kind": "prerequisite",
        "skills": [{"id": s, "name": s.title(), "description": f"{s} for pupils", "aliases": [s]} for s in SKILLS],
        "edges": [{"prerequisite": a, "target": b, "weight": 1.0} for a, b in EDGES],
    }
    (folder / "graph.yaml").write_text(yaml.safe_dump(graph, sort_keys=False))
    return folder


def settings(corpus: Path, root: Path, **changes: Any) -> dict[str, Any]:
    """A whole configuration over the made corpus; `changes` use dotted keys with `__` for the dot."""
    value: dict[str, Any] = {
        "run_dir": str(root / "run"),
        "pool_dir": str(root / "pool"),
        "sources": [
            {"name": "lessons", "paths": [f"{corpus}/*.jsonl*"], "id_field": "id", "metadata": ["origin.page"]}
        ],
        "ingest": {"part_rows": 100},
        "embedding": {"dim": 16, "sample_mib": 1},
        "clustering": {"clusters": 8},
        "graph": {"path": str(corpus / "graph.yaml")},
        "tagging": {"methods": ["patterns", "classifier"]},
        "holdout": {"documents_per_skill": 4, "report_per_skill": 4},
        "layout": {"rows_per_group": 16},
        "mixer": {"name": "skill_it"},
        "rounds": 4,
        "batches_per_round": 2,
        "global_batch": 16,
        "train": {"layers": 1, "width": 32, "heads": 2, "seq_len": 64},
        "ray": {"num_cpus": 0},
    }
    for key, change in changes.items():
        place = value
        *path, last = key.split("__")
        for step in path:
            place = place.setdefault(step, {})
        place[last] = change
    return value


class Program:
    """`python -m prereq.jobs` in a folder of its own."""

    def __init__(self, root: Path, corpus: Path) -> None:
        self.root, self.corpus = root, corpus

    def config(self, name: str = "config", **changes: Any) -> Path:
        path = self.root / f"{name}.yaml"
        root = Path(changes.pop("root", self.root))
        path.write_text(yaml.safe_dump(settings(self.corpus, root, **changes), sort_keys=False))
        return path

    def start(self, *args: str | Path) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "prereq.jobs", *map(str, args)],
            cwd=self.root,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )

    def __call__(self, *args: str | Path, code: int = 0, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        process = self.start(*args)
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        assert process.returncode == code, f"exit {process.returncode}, expected {code}\n{out[-2000:]}\n{err[-4000:]}"
        return subprocess.CompletedProcess(args, process.returncode, out, err)

    def fails(self, *args: str | Path) -> str:
        """Run a command that must end with one line on stderr and exit 2; that line."""
        err = self(*args, code=2).stderr
        lines = [line for line in err.splitlines() if line.startswith("prereq: ")]
        assert len(lines) == 1, err
        assert "Traceback" not in err
        return lines[0]


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("made") / "corpus")


@pytest.fixture
def prereq(tmp_path: Path, corpus: Path) -> Program:
    return Program(tmp_path, corpus)


@pytest.fixture(scope="session")
def reader() -> ModuleType:
    """The independent reader, loaded from its file."""
    spec = importlib.util.spec_from_file_location("independent_reader", Path(__file__).parent / "independent_reader.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def manifests() -> Callable[[Path], dict[str, bytes]]:
    """The manifests of a pool or run (and what a run reports), by relative path."""

    def read(folder: Path) -> dict[str, bytes]:
        found = [folder / "manifest.json", *folder.glob("rounds/*/manifest.json"), *folder.glob("feedback/*.json")]
        found += [folder / "done.json", *folder.glob("part-*.parquet"), *folder.glob("holdout/*.parquet")]
        return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(found) if p.is_file()}

    return read
