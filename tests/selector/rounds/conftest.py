"""A run over a small pool, driven without command line or configuration file."""

import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from prereq.graph.influence import Influence
from prereq.selector.mixers import make_mixer
from prereq.selector.rounds.config import SamplerConfig
from prereq.selector.rounds.feedback import Feedback, record_feedback
from prereq.selector.rounds.manifest import read_chain
from prereq.selector.rounds.pool import Pool
from prereq.selector.rounds.run import RunInfo, start_run
from prereq.selector.rounds.sampler import Sampler
from prereq.selector.storage import Folder


class Driver:
    """Starts samplers on one run and reports made-up losses to it."""

    def __init__(self, folder: Path, pool: Path, mixer: str = "skill_it", **settings: Any) -> None:
        self.folder, self.run, self.pool = folder, Folder(folder), Pool(str(pool))
        defaults: dict[str, Any] = {"rounds": 6, "batches_per_round": 4, "global_batch": 8, "seed": 3}
        self.config = SamplerConfig(**{**defaults, **settings})
        arms = self.pool.arms()
        skills = arms.skills
        matrix = [[1.0 if i == j else 0.3 * (j == i + 1) for j in range(len(skills))] for i in range(len(skills))]
        influence = Influence(train=skills, eval=skills, matrix=matrix)
        self.mixer = make_mixer(mixer, {}, arms, influence)
        self.drawing = {
            **self.config.drawing_keys(),
            "pool": self.pool.sha256,
            "mixer": {"name": mixer, "parameters": {}},
        }

    def info(self) -> RunInfo:
        value = {
            "config": asdict(self.config),
            "seed": self.config.seed,
            "versions": {},
            "pool": self.pool.folder.name,
            "pool_sha256": self.pool.sha256,
            "global_batch": self.config.global_batch,
            "started": "2026-01-01T00:00:00Z",
            "skills": list(self.pool.skills),
            "mixer": {
                "name": self.mixer.name,
                "uses_feedback": self.mixer.uses_feedback,
                "signals": list(self.mixer.required_signals),
            },
        }
        return start_run(self.run, value, self.drawing)

    def sampler(self, on_event: Callable[[str, dict[str, Any]], None] = lambda kind, facts: None) -> Sampler:
        pool = Pool(self.pool.folder.name)  # its own, as every process has: a pool is not for two threads
        return Sampler(self.run, self.info(), pool, self.mixer, self.config, on_event)

    def losses(self, number: int | str) -> dict[str, float | None]:
        """Losses that depend on the round and the skill only, as a deterministic trainer's would."""
        step = -1 if number == "initial" else int(number)
        return {s: round(3.0 / (1 + 0.2 * (step + 1) * (i + 1)), 6) for i, s in enumerate(self.pool.skills)}

    def report(self, number: Any, **changes: Any) -> str:
        losses = self.losses(number)
        values: dict[str, Any] = {
            "round": number,
            "step": 0 if number == "initial" else (number + 1) * self.config.batches_per_round,
            "tokens_seen": 0,
            "losses": losses,
            "eval_tokens": dict.fromkeys(losses, 100),
        }
        return record_feedback(self.run, self.info(), Feedback(**{**values, **changes}))

    def finish(self, most: int = 100) -> list[bytes]:
        """Run to the end, reporting each round as soon as it is there; the manifests' bytes."""
        for _ in range(most):
            if self.sampler().run(patient=False) is not None:
                break
            chain = read_chain(self.run)
            self.report("initial")
            for manifest in chain:
                self.report(manifest.round)
        return self.manifests()

    def manifests(self) -> list[bytes]:
        return [m.to_bytes() for m in read_chain(self.run)]

    def copy(self, name: str) -> "Driver":
        """The same run in another folder."""
        other = self.folder.parent / name
        shutil.copytree(self.folder, other)
        twin = object.__new__(Driver)
        twin.__dict__.update(self.__dict__)
        twin.folder, twin.run = other, Folder(other)
        return twin


@pytest.fixture
def make_driver(tmp_path: Path, make_pool: Callable[..., Path]) -> Callable[..., Driver]:
    """`make_driver("name", mixer=..., **settings)`: a run over the test's one pool."""
    pools: list[Path] = []

    def make(name: str = "run", **settings: Any) -> Driver:
        if not pools:
            pools.append(make_pool())
        return Driver(tmp_path / name, pools[0], **settings)

    return make
