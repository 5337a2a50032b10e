"""Where stage tasks run: in this process, or on Ray (a laptop's cores or the cluster that RAY_ADDRESS names).

Both run the same functions. Each task runs with its numerical libraries pinned to one thread, so that a result depends
on the task and not on the machine; the executor never changes what a task gets or the order in which results are used.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from threadpoolctl import threadpool_limits

from prereq.graph.errors import ConfigError, PrereqError
from prereq.jobs.nodes import check_memory, check_nodes, join, start_local, working_nodes

_LOOK_AGAIN_S = 5.0  # seconds after which the cluster's CPUs are counted anew: nodes come and go
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


@dataclass(frozen=True, slots=True, kw_only=True)
class RayConfig:
    """How stages run; none of these keys changes a byte of the result."""

    num_cpus: int = 2  # tasks at a time; 0 runs every stage in this process, without ray
    address: str | None = None  # cluster to join; default: RAY_ADDRESS, else a local Ray with num_cpus
    object_store_mib: int = 256  # MiB for a local Ray's object store; parts travel as files, so little is needed
    spill_dir: str | None = None  # folder for objects of a local Ray that its store has no room for; default: Ray's own
    memory_mib: int = 0  # MiB that a task reserves: a node takes no more tasks than its memory holds; 0: by CPUs alone
    memory_limit_mib: int = 0  # MiB that all tasks of a local Ray may reserve together; 0: most of the machine's
    max_retries: int = 3  # times a task whose worker or node died is started again

    def __post_init__(self) -> None:
        if self.num_cpus < 0 or self.max_retries < 0:
            raise ConfigError(f"ray.num_cpus and ray.max_retries must be 0 or more, got {self}")
        if self.memory_mib < 0 or self.memory_limit_mib < 0:
            raise ConfigError(f"ray.memory_mib and ray.memory_limit_mib must be 0 or more, got {self}")
        if self.memory_limit_mib and self.memory_mib > self.memory_limit_mib:
            raise ConfigError(
                f"ray.memory_mib: one task reserves {self.memory_mib} MiB, more than ray.memory_limit_mib "
                f"({self.memory_limit_mib}) lets all of them have together"
            )
        if self.object_store_mib < 80:
            raise ConfigError(f"ray.object_store_mib must be at least 80 (Ray's minimum), got {self.object_store_mib}")


class Executor(Protocol):
    """Runs tasks; results come in any order, with the index of their task."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    def run(self, function: Callable[..., Any], tasks: Sequence[tuple[Any, ...]]) -> Iterator[tuple[int, Any]]: ...


def make_executor(config: RayConfig, shared: Path | None = None, inputs: Sequence[str] = ()) -> Executor:
    """The executor that a configuration asks for; Ray starts when it is entered.

    Args:
        config: Where tasks run.
        shared: The folder that tasks write to. On a cluster every node is asked whether it sees it.
        inputs: Absolute local paths that tasks read; every node is asked for them too.
    """
    return RayExecutor(config, shared, inputs) if config.num_cpus or config.address else InProcessExecutor()


def call_pinned(function: Callable[..., Any], *args: Any) -> Any:
    """Call a function with BLAS and OpenMP held to one thread.

    The limits reach the libraries that are loaded now, the environment those that the function itself loads (a stage
    imports scikit-learn when it runs); the latter keep one thread for the life of the process.
    """
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    try:
        with threadpool_limits(1):
            return function(*args)
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


class InProcessExecutor:
    """One task after the other, here."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def run(self, function: Callable[..., Any], tasks: Sequence[tuple[Any, ...]]) -> Iterator[tuple[int, Any]]:
        """Yield (index, result) for each task, in order."""
        for index, args in enumerate(tasks):
            yield index, call_pinned(function, *args)


class RayExecutor:
    """Tasks on Ray with a bounded number in flight; a task whose worker or node died is started again."""

    def __init__(self, config: RayConfig, shared: Path | None = None, inputs: Sequence[str] = ()) -> None:
        self.config = config
        self._shared, self._inputs = shared, inputs
        self._cpus = max(1, config.num_cpus)
        self._joined = False

    def __enter__(self) -> Self:
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        address = self.config.address or os.environ.get("RAY_ADDRESS")
        config = self.config
        if address and address != "local":
            join(address)
            self._joined = True
        else:
            start_local(
                self._cpus, config.object_store_mib, config.memory_limit_mib, config.spill_dir, config.max_retries
            )
        try:
            check_memory(config.memory_mib)
            if self._joined and self._shared is not None:
                check_nodes(self._shared, self._inputs)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        import ray

        ray.shutdown()

    def run(self, function: Callable[..., Any], tasks: Sequence[tuple[Any, ...]]) -> Iterator[tuple[int, Any]]:
        """Yield (index, result) as tasks finish; at most two tasks per core are in flight."""
        import ray

        wanted = {"num_cpus": 1, "max_retries": self.config.max_retries, "memory": self.config.memory_mib * 2**20}
        remote = ray.remote(call_pinned).options(**wanted)
        waiting = iter(enumerate(tasks))
        flying: dict[Any, int] = {}
        counted = float("-inf")
        while True:
            if self._joined and time.monotonic() - counted > _LOOK_AGAIN_S:
                self._cpus = max(1, int(sum(node["Resources"]["CPU"] for node in working_nodes())))
                counted = time.monotonic()
            while len(flying) < 2 * self._cpus and (item := next(waiting, None)) is not None:
                flying[remote.remote(function, *item[1])] = item[0]
            if not flying:
                return
            done, _ = ray.wait(list(flying), num_returns=1, timeout=_LOOK_AGAIN_S)
            for reference in done:
                index = flying.pop(reference)
                yield index, self._result(reference, function, index)

    def _result(self, reference: Any, function: Callable[..., Any], index: int) -> Any:
        import ray

        try:
            return ray.get(reference)
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, PrereqError):
                raise error.cause from None
            raise
        except ray.exceptions.RayError as error:  # not the task's own error: its worker, its node or Ray gave up
            said = str(error).strip().partition("\n")[0]
            raise PrereqError(
                f"{function.__name__}, task {index}: its worker died {self.config.max_retries + 1} times (out of "
                f"memory? {type(error).__name__}: {said}); make the parts smaller (part_rows), let fewer tasks run at "
                "once (ray.memory_mib) or raise ray.max_retries, then run the same command again"
            ) from error
