"""A run that is served by a Ray actor: killed, it goes on; in the end it is the run of a plain sampler."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from prereq.graph.errors import ConfigError
from prereq.jobs.config import RunConfig, load_config
from prereq.jobs.nodes import start_local
from prereq.jobs.sample import open_sampler
from prereq.selector.feed import Feed, WaitConfig

pytestmark = [pytest.mark.slow, pytest.mark.ray]
SKILLS = ["skill-a", "skill-b", "skill-c", "skill-d"]


@pytest.fixture
def configure(make_pool: Callable[..., Path], tmp_path: Path) -> Callable[..., RunConfig]:
    pool = make_pool()
    skills = [{"id": skill, "name": skill} for skill in SKILLS]
    edges = [{"prerequisite": SKILLS[0], "target": SKILLS[1], "weight": 1.0}]
    graph = {"format": "prereq.graph/1", "kind": "prerequisite", "skills": skills, "edges": edges}
    (pool / "graph.json").write_text(json.dumps(graph))

    def make(name: str, **changes: Any) -> RunConfig:
        values = {
            "run_dir": name,
            "pool_dir": str(pool),
            "sources": [{"name": "made", "paths": ["none.jsonl"]}],
            "graph": {"path": str(pool / "graph.json")},
            "mixer": {"name": "skill_it"},
            "rounds": 5,
            "batches_per_round": 2,
            "global_batch": 8,
            **changes,
        }
        (tmp_path / "run.yaml").write_text(json.dumps(values))
        return load_config(str(tmp_path / "run.yaml"))

    return make


def read(run: str, behind: Callable[[int], object] = lambda number: None) -> None:
    """A trainer whose losses depend on the round alone."""
    feed = Feed(run, wait=WaitConfig(first_s=0.01, most_s=0.05, timeout_s=100.0, start_timeout_s=100.0))
    feed.report_initial(dict.fromkeys(SKILLS, 5.0))
    for batch in feed:
        if feed.round_ended:
            behind(batch.round)
            feed.report({skill: 5.0 / (batch.round + 2 + i) for i, skill in enumerate(SKILLS)})


def manifests(run: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted(run.glob("rounds/*/manifest.json"))]


def test_an_actor_serves_a_run_dies_and_goes_on(
    configure: Callable[..., RunConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    from prereq.jobs.ray_sampler import serve_run

    monkeypatch.chdir(tmp_path)  # run_dir is relative: the actor takes it from where the driver is
    start_local(num_cpus=2, object_store_mib=80, memory_mib=0, spill_dir=None, max_retries=1)
    try:
        served = serve_run(configure("served"))
        read("served", lambda number: ray.kill(served.actor, no_restart=False) if number == 1 else None)
        assert served.result(100) == "done: 5 rounds (budget)"
        with pytest.raises(ConfigError, match="belongs to a run with another configuration: seed was 0, is 3"):
            serve_run(configure("served", seed=3)).result(100)
        waiting = serve_run(configure("waiting"))  # for the evaluation of the untrained model
        assert waiting.stop() == "stopped; run the same command again to go on"
    finally:
        ray.shutdown()
    sampler = open_sampler(configure("plain"))
    assert sampler.run(patient=False) is None
    for number in ("initial", *range(5)):
        feed = Feed("plain")
        if number == "initial":
            feed.report_initial(dict.fromkeys(SKILLS, 5.0))
        else:
            feed.load_state_dict(last_state("plain", int(number)))
            feed.report({skill: 5.0 / (int(number) + 2 + i) for i, skill in enumerate(SKILLS)})
        sampler = open_sampler(configure("plain"))
        sampler.run(patient=False)
    assert len(manifests(tmp_path / "plain")) == 5
    assert manifests(tmp_path / "served") == manifests(tmp_path / "plain")


def last_state(run: str, number: int) -> dict[str, Any]:
    feed = Feed(run, reporter=False)
    return next(dict(batch.state or {}) for batch in feed if batch.round == number and batch.last_of_round)
