"""Where stage tasks run: in this process, or on Ray (a laptop's cores or the cluster that RAY_ADDRESS names).

Both run the same functions. Each task runs with its numerical libraries pinned to one thread, so that a result depends
on the task and not on the machine; the executor never changes what a task gets or the order in which results are used.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, Self

from threadpoolctl import threadpool_limits

from prereq.graph.errors import ConfigError, PrereqError

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


@dataclass(frozen=True, slots=True, kw_only=True)
class RayConfig:
    """How stages run; none of these keys changes a byte of the result."""

    num_cpus: int = 2  # tasks at a time; 0 runs every stage in this process, without ray
    address: str | None = None  # cluster to join; default: RAY_ADDRESS, else a local Ray with num_cpus
    object_store_mib: int = 256  # MiB for a local Ray's object store; parts travel as files, so little is needed
    max_retries: int = 3  # times a task whose worker died is started again

    def __post_init__(self) -> None:
        if self.num_cpus < 0 or self.max_retries < 0:
            raise ConfigError(f"ray.num_cpus and ray.max_retries must be 0 or more, got {self}")
        if self.object_store_mib < 80:
            raise ConfigError(f"ray.object_store_mib must be at least 80 (Ray's minimum), got {self.object_store_mib}")


class Executor(Protocol):
    """Runs tasks; results come in any order, with the index of their task."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    def run(self, function: Callable[..., Any], tasks: Sequence[tuple[Any, ...]]) -> Iterator[tuple[int, Any]]: ...


def make_executor(config: RayConfig) -> Executor:
    """The executor that a configuration asks for; Ray starts when it is entered."""
    return RayExecutor(config) if config.num_cpus or config.address else InProcessExecutor()


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
    """Tasks on Ray with a bounded number in flight; a task whose worker died is started again."""

    def __init__(self, config: RayConfig) -> None:
        self.config = config
        self._cpus = max(1, config.num_cpus)

    def __enter__(self) -> Self:
        import ray

        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        address = self.config.address or os.environ.get("RAY_ADDRESS")
        common = {"log_to_driver": False, "logging_level": "ERROR"}
        if address:
            ray.init(address=address, **common)
            self._cpus = max(1, int(ray.cluster_resources().get("CPU", 1)))
        else:
            ray.init(
                num_cpus=self._cpus,
                include_dashboard=False,
                object_store_memory=self.config.object_store_mib * 2**20,
                **common,
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        import ray

        ray.shutdown()

    def run(self, function: Callable[..., Any], tasks: Sequence[tuple[Any, ...]]) -> Iterator[tuple[int, Any]]:
        """Yield (index, result) as tasks finish; at most two tasks per core are in flight."""
        import ray

        remote = ray.remote(call_pinned).options(num_cpus=1, max_retries=self.config.max_retries)
        waiting = iter(enumerate(tasks))
        flying: dict[Any, int] = {}
        while True:
            while len(flying) < 2 * self._cpus and (item := next(waiting, None)) is not None:
                flying[remote.remote(function, *item[1])] = item[0]
            if not flying:
                return
            done, _ = ray.wait(list(flying), num_returns=1)
            index = flying.pop(done[0])
            yield index, self._result(done[0], function, index)

    def _result(self, reference: Any, function: Callable[..., Any], index: int) -> Any:
        import ray

        try:
            return ray.get(reference)
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, PrereqError):
                raise error.cause from None
            raise
        except ray.exceptions.WorkerCrashedError as error:
            raise PrereqError(
                f"{function.__name__}, task {index}: its worker died {self.config.max_retries + 1} times (out of "
                "memory?); make the parts smaller (part_rows) or raise ray.max_retries, then run the same command again"
            ) from error
