"""A pool of made-up lessons and runs on it, small enough to train on in a second."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prereq.graph.canonical import canonical_json, sha256_hex
from prereq.graph.influence import Influence
from prereq.jobs.train.config import TrainConfig
from prereq.selector.mixers import make_mixer
from prereq.selector.rounds.config import SamplerConfig
from prereq.selector.rounds.pool import Pool
from prereq.selector.rounds.run import start_run
from prereq.selector.rounds.sampler import Sampler
from prereq.selector.storage import Folder

SKILLS = ("add", "count", "spell")
TINY = TrainConfig(layers=1, width=16, heads=2, seq_len=32, windows_per_step=2, threads=1, eval_tokens_per_skill=200)


def lesson(rng: np.random.Generator, skill: str) -> str:
    """A text that a model can learn something from."""
    if skill == "add":
        a, b = rng.integers(0, 9, 2)
        return f"{a} + {b} = {a + b}. " * int(rng.integers(1, 4))
    if skill == "count":
        start = int(rng.integers(0, 20))
        return " ".join(str(start + i) for i in range(int(rng.integers(3, 12))))
    return "".join(rng.choice(list("abcdé"), int(rng.integers(5, 60))))


def write_pool(folder: Path, holdout_skills: tuple[str, ...] = SKILLS) -> Path:
    """One arm per skill, 40 documents each, one row group per arm; 4 control and 4 report documents per skill."""
    rng = np.random.default_rng(7)
    rows = [
        {"id": f"{skill}-{i:03d}", "text": lesson(rng, skill), "arm": f"arm-{skill}", "skills": [skill], "source": "s"}
        for skill in SKILLS
        for i in range(40)
    ]
    for row in rows:
        row["n_tokens"] = len(str(row["text"]).encode())
    schema = pa.schema(
        [
            ("id", pa.string()),
            ("text", pa.large_string()),
            ("n_tokens", pa.int64()),
            ("arm", pa.string()),
            ("skills", pa.list_(pa.string())),
            ("source", pa.string()),
        ]
    )
    (folder / "holdout").mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), folder / "part-00000.parquet", row_group_size=40)
    shares = [{"id": f"arm-{s}", "name": s, "centroid": [1.0], "T": [(s, 1.0)]} for s in SKILLS]
    arms_schema = pa.schema(
        [
            ("id", pa.string()),
            ("name", pa.string()),
            ("centroid", pa.list_(pa.float32())),
            ("T", pa.map_(pa.string(), pa.float64())),
        ]
    )
    pq.write_table(pa.Table.from_pylist(shares, schema=arms_schema), folder / "arms.parquet")
    held = [
        {"id": f"h-{skill}-{split}-{i}", "text": lesson(rng, skill), "skills": [skill], "split": split}
        for skill in holdout_skills
        for split in ("control", "report")
        for i in range(4)
    ]
    held_schema = pa.schema([schema.field("id"), schema.field("text"), schema.field("skills"), ("split", pa.string())])
    pq.write_table(pa.Table.from_pylist(held, schema=held_schema), folder / "holdout/part-00000.parquet")
    tokens = {s: sum(int(str(r["n_tokens"])) for r in rows if r["arm"] == f"arm-{s}") for s in SKILLS}
    manifest = {
        "format": "prereq.pool/1",
        "config": "c",
        "seed": 0,
        "documents": len(rows),
        "tokens": sum(tokens.values()),
        "arms": [
            {
                "id": f"arm-{s}",
                "rows": 40,
                "tokens": tokens[s],
                "parts": [{"path": "part-00000.parquet", "row_groups": [i]}],
            }
            for i, s in enumerate(SKILLS)
        ],
        "skills": list(SKILLS),
        "holdout": sha256_hex((folder / "holdout/part-00000.parquet").read_bytes()),
    }
    (folder / "manifest.json").write_bytes(canonical_json(manifest))
    return folder


class Lessons:
    """A run on a pool, and its sampler."""

    def __init__(
        self, folder: Path, pool: Path, mixer: str, parameters: dict[str, Any] | None = None, **settings: Any
    ) -> None:
        self.folder = folder
        self.config = SamplerConfig(**{"rounds": 3, "batches_per_round": 2, "global_batch": 8, **settings})
        opened = Pool(str(pool))
        arms = opened.arms()
        influence = Influence(train=arms.skills, eval=arms.skills, matrix=np.eye(len(arms.skills)).tolist())
        made = make_mixer(mixer, parameters or {}, arms, influence)
        facts = {
            "pool": str(pool),
            "pool_sha256": opened.sha256,
            "seed": self.config.seed,
            "global_batch": self.config.global_batch,
            "skills": list(opened.skills),
            "mixer": {
                "name": made.name,
                "uses_feedback": made.uses_feedback,
                "signals": list(made.required_signals),
            },
        }
        drawing = {
            **self.config.drawing_keys(),
            "pool": opened.sha256,
            "mixer": {"name": mixer, "parameters": parameters or {}},
        }
        info = start_run(Folder(folder), facts, drawing)
        self.sampler = Sampler(Folder(folder), info, opened, made, self.config)

    @contextmanager
    def sampling(self) -> Iterator[None]:
        """The sampler in a thread while the block runs; it must have ended the run by the end of the block."""
        over = threading.Event()
        errors: list[BaseException] = []

        def work() -> None:
            try:
                self.sampler.run(stop=over.is_set)
            except BaseException as error:  # noqa: BLE001 - shown below, in the test's own thread
                errors.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield
        finally:
            thread.join(timeout=1)
            over.set()
            thread.join()
        if errors:
            raise errors[0]

    def outputs(self) -> dict[str, bytes]:
        """Everything that must not depend on how often the trainer was killed."""
        names = [*self.folder.glob("feedback/*"), *self.folder.glob("rounds/*/manifest.json")]
        names += [self.folder / "train/final.json"]
        return {str(path.relative_to(self.folder)): path.read_bytes() for path in sorted(names)}


@pytest.fixture(scope="session")
def lesson_pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pool(tmp_path_factory.mktemp("lessons") / "pool")


@pytest.fixture
def make_lessons(tmp_path: Path, lesson_pool: Path) -> Callable[..., Lessons]:
    """`make_lessons("name", mixer="uniform", **sampler settings)`."""

    def make(name: str = "run", mixer: str = "uniform", pool: Path | None = None, **settings: Any) -> Lessons:
        return Lessons(tmp_path / name, pool or lesson_pool, mixer, **settings)

    return make


@pytest.fixture
def tiny() -> TrainConfig:
    return TINY


@pytest.fixture
def pool_writer() -> Callable[..., Path]:
    return write_pool
