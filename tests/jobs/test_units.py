"""What users of other tools trip over: preparing a corpus again for another mixture, and mixtures that turn one-hot."""

from pathlib import Path

import pytest
from loading import load_module

from prereq.jobs.sample import open_sampler, tell

_builds = load_module(Path(__file__).with_name("test_build.py"))


def test_another_mixture_never_prepares_the_corpus_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mixer, its parameters, the run's seed and the size of a batch are the run's affair; a pool serves all of them."""
    _builds.write_corpus(tmp_path, 120)
    monkeypatch.chdir(tmp_path)
    config = _builds.make(tmp_path)
    _builds.run(config)
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "pool").rglob("*.parquet")}
    changes = [
        {"mixer": {"name": "uniform"}},
        {"mixer": {"name": "static", "parameters": {"skills": {"loops": 1.0, "files": 3.0}}}},
        {"mixer": {"name": "temperature", "parameters": {"temperature": 2.0}}, "seed": 5},
        {"mixer": {"name": "uniform"}, "global_batch": 4, "batches_per_round": 3},
    ]
    for number, change in enumerate(changes):
        changed = _builds.make(tmp_path, run_dir=str(tmp_path / f"run{number}"), **change)
        assert _builds.run(changed).was_done
        sampler = open_sampler(changed)
        assert sampler.run(patient=False) is not None
    assert {path: path.stat().st_mtime_ns for path in files} == files


@pytest.mark.parametrize(("spread", "warned"), [(4.99, False), (5.01, True)])
def test_the_range_of_the_logits_is_in_every_rounds_line_and_warned_of_above_five_nats(
    make_driver, spread: float, warned: bool
) -> None:
    run = make_driver(mixer="uniform", rounds=1)
    events = []
    run.sampler(lambda kind, facts: events.append((kind, facts))).run()
    lines: list[str] = []
    for kind, facts in events:
        tell(kind, facts | {"diagnostics": {"logit_range": spread}}, lines.append)
    assert f"logit range {spread:.2f}" in lines[0]
    assert ("nearly one-hot" in lines[0]) == warned
