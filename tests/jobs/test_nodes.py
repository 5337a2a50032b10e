"""Joining a cluster: what cannot work is one line before any work; a node that dies costs its tasks, not the build."""

import importlib.util
import socket
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

from prereq.graph.errors import ConfigError, PrereqError
from prereq.jobs.executor import RayConfig, RayExecutor
from prereq.jobs.nodes import join, look, versions

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def test_an_address_where_nothing_listens_is_one_line_at_once():
    with socket.socket() as taken:  # bound and not listening: refused
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(PrereqError, match=rf"ray.address {address}: nothing answers there \(Connection refused\)"):
            join(address)
    with pytest.raises(PrereqError, match=r"no-such-host.invalid:6379: nothing answers there"):
        join("no-such-host.invalid:6379")


def test_a_node_that_sees_the_file_the_inputs_and_the_versions_has_no_problem(tmp_path: Path):
    (tmp_path / "probe").write_text("abc")
    assert look(str(tmp_path / "probe"), "abc", [str(tmp_path)], versions()) == ""


def test_a_node_says_which_path_it_does_not_see_or_which_version_differs(tmp_path: Path):
    probe = tmp_path / "probe"
    assert f"does not see {tmp_path} of the driver (No such file" in look(str(probe), "abc", [], versions())
    probe.write_text("of another file system")
    assert "must be on a file system that all of them mount" in look(str(probe), "abc", [], versions())
    probe.write_text("abc")
    assert "does not see the input /no/where" in look(str(probe), "abc", ["/no/where"], versions())
    other = versions() | {"numpy": "1.0"}
    assert f"has numpy {versions()['numpy']} (driver: 1.0)" in look(str(probe), "abc", [], other)


def test_a_task_that_reserves_more_than_all_may_have_is_refused():
    with pytest.raises(ConfigError, match=r"ray.memory_mib: one task reserves 200 MiB, more than"):
        RayConfig(memory_mib=200, memory_limit_mib=100)


@pytest.mark.slow
@pytest.mark.ray
def test_a_task_that_no_node_has_the_memory_for_is_refused_before_it_would_wait_for_ever():
    with pytest.raises(ConfigError, match=r"a task reserves 900000000 MiB, but the largest node offers \d+"):
        RayExecutor(RayConfig(num_cpus=1, memory_mib=900_000_000)).__enter__()


@pytest.mark.slow
@pytest.mark.ray
def test_a_task_that_is_ended_for_memory_again_and_again_is_an_error_and_no_hang(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("RAY_memory_usage_threshold", "0.001")  # whatever this machine holds is too much
    monkeypatch.setenv("RAY_memory_monitor_refresh_ms", "100")
    with (
        RayExecutor(RayConfig(num_cpus=1, max_retries=0)) as executor,
        pytest.raises(PrereqError, match=r"sleep, task 0: its worker died 1 times \(out of memory\?"),
    ):
        list(executor.run(time.sleep, [(60,)]))


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The benchmark of faults, loaded from its file."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.setenv("PYTHONPATH", str(BENCHMARKS))
    spec = importlib.util.spec_from_file_location("corpus_faults", BENCHMARKS / "corpus_faults.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "corpus_faults", module)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.ray
def test_a_node_killed_in_a_stage_leaves_the_pool_as_it_would_be(faults: ModuleType, tmp_path: Path):
    (run,) = faults.disturbed(tmp_path, lambda stages: [("embed", "node")])
    assert run["identical"], run
