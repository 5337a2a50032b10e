"""Executors run the same functions on the same arguments, pinned to one thread."""

import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from prereq.graph.errors import ConfigError, PrereqError, TableError
from prereq.jobs.executor import Executor, InProcessExecutor, RayConfig, RayExecutor, call_pinned, make_executor

PINNED = """
from prereq.jobs.executor import call_pinned

def load():
    import sklearn.cluster
    from threadpoolctl import threadpool_info
    return [library["num_threads"] for library in threadpool_info()]

counts = call_pinned(load)
assert len(counts) >= 2, counts
print(set(counts))
"""


def double(value: int) -> int:
    return 2 * value


def fail(value: int) -> int:
    raise TableError(f"part {value} is damaged")


def bug(value: int) -> int:
    raise ZeroDivisionError(f"value {value}")


def die_once(path: str) -> int:
    if not os.path.exists(path):
        with open(path, "w"):
            pass
        os.kill(os.getpid(), 9)
    return os.getpid()


def die(_value: int) -> None:
    os.kill(os.getpid(), 9)


def test_configuration_out_of_range_is_refused():
    for values in ({"num_cpus": -1}, {"max_retries": -1}, {"object_store_mib": 10}):
        with pytest.raises(ConfigError, match=f"ray.{next(iter(values))}"):
            RayConfig(**values)


def test_zero_cpus_run_in_this_process():
    assert isinstance(make_executor(RayConfig(num_cpus=0)), InProcessExecutor)
    assert isinstance(make_executor(RayConfig(num_cpus=1)), RayExecutor)
    assert isinstance(make_executor(RayConfig(num_cpus=0, address="ray://x")), RayExecutor)
    with make_executor(RayConfig(num_cpus=0)) as executor:
        assert list(executor.run(double, [(1,), (2,)])) == [(0, 2), (1, 4)]
        with pytest.raises(TableError, match="part 7"):
            list(executor.run(fail, [(7,)]))


@pytest.mark.slow
def test_libraries_that_a_task_loads_itself_are_pinned_too():
    """A stage imports scikit-learn when it runs: its OpenMP must not start with every core of the machine."""
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    ran = subprocess.run([sys.executable, "-c", PINNED], env=environment, capture_output=True, text=True)
    assert (ran.stdout.strip(), ran.returncode) == ("{1}", 0), ran.stderr


def test_the_environment_is_as_before_afterwards(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    assert call_pinned(os.environ.get, "OMP_NUM_THREADS") == "1"
    with pytest.raises(ZeroDivisionError):
        call_pinned(bug, 1)
    assert os.environ["OMP_NUM_THREADS"] == "7"
    assert "MKL_NUM_THREADS" not in os.environ


@pytest.fixture(scope="module")
def ray_executor() -> Iterator[Executor]:
    with make_executor(RayConfig(num_cpus=2, max_retries=1)) as executor:
        yield executor


@pytest.mark.slow
@pytest.mark.ray
def test_ray_runs_every_task_once(ray_executor: Executor):
    results = dict(ray_executor.run(double, [(value,) for value in range(20)]))
    assert results == {value: 2 * value for value in range(20)}
    assert list(ray_executor.run(double, [])) == []


@pytest.mark.slow
@pytest.mark.ray
def test_ray_gives_back_our_own_errors_and_marks_others(ray_executor: Executor):
    with pytest.raises(TableError, match="part 3 is damaged"):
        list(ray_executor.run(fail, [(3,)]))
    with pytest.raises(Exception, match="value 3") as caught:
        list(ray_executor.run(bug, [(3,)]))
    assert isinstance(caught.value, ZeroDivisionError)


@pytest.mark.slow
@pytest.mark.ray
def test_ray_starts_a_task_again_whose_worker_was_killed(ray_executor: Executor, tmp_path: Any):
    results = list(ray_executor.run(die_once, [(str(tmp_path / "died"),)]))
    assert len(results) == 1
    assert results[0][1] != os.getpid()


@pytest.mark.slow
@pytest.mark.ray
def test_ray_gives_up_on_a_task_that_always_kills_its_worker(ray_executor: Executor):
    with pytest.raises(PrereqError, match=r"die, task 0: its worker died 2 times .* run the same command again"):
        list(ray_executor.run(die, [(1,)]))
