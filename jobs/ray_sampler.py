"""The sampler of a run as a Ray actor, beside the workers that train on it: what `prereq sample` does, in a cluster.

    served = serve_run(load_config("my.yaml"))      # at once; rounds appear in run_dir
    TorchTrainer(loop, ...).fit()                   # whose workers hold feeds on the same run_dir
    print(served.result())                          # "done: 8 rounds (budget)"

Everything that a sampler knows is in files, so an actor that dies is started again, on another node if need be, and
goes on; a second one on the same run stops and says so. Paths are the driver's, and must be seen by every node.
"""

import os
import threading
from dataclasses import dataclass
from typing import Any

import ray

from prereq.graph.errors import ConfigError
from prereq.jobs.config import RunConfig
from prereq.jobs.sample import ended, open_sampler, tell


@dataclass(frozen=True, slots=True)
class ServedRun:
    """A sampler at work.

    Attributes:
        actor: Its handle; it lives as long as the driver's program does, or this handle.
        ended: A Ray reference to how the run ended, in words.
    """

    actor: Any
    ended: Any

    def result(self, timeout_s: float | None = None) -> str:
        """Wait until the run has ended or was stopped; how, in words.

        Raises:
            PrereqError: As the verb would end with: a damaged chain, another sampler on the run, no space left.
            ray.exceptions.GetTimeoutError: It goes on after `timeout_s` seconds.
        """
        return str(ray.get(self.ended, timeout=timeout_s))

    def stop(self) -> str:
        """Ask the sampler to stop before its next round, and wait; the run can go on later."""
        ray.get(self.actor.stop.remote())
        return self.result()


class _Served:
    """What runs in the actor: one thread draws, another listens."""

    def __init__(self, config: RunConfig, folder: str) -> None:
        self._config, self._stop = config, threading.Event()
        try:
            os.chdir(folder)  # relative paths of a configuration are taken from where the driver started
        except OSError as error:
            raise ConfigError(
                f"{folder}: the node of the sampler's actor does not see the driver's folder ({error.strerror}); start "
                "the driver in a shared folder, with the configuration's paths absolute"
            ) from error

    def run(self) -> str:
        return ended(open_sampler(self._config, tell).run(stop=self._stop.is_set))

    def stop(self) -> None:
        self._stop.set()


def serve_run(config: RunConfig, **options: Any) -> ServedRun:
    """Start the sampler of a run as an actor; Ray is initialised already.

    Args:
        config: The run; its pool is finished.
        options: For `actor.options`: name, lifetime, resources, scheduling_strategy, ...
    """
    usual = {"num_cpus": 1, "max_restarts": -1, "max_task_retries": -1, "max_concurrency": 2}
    actor = ray.remote(_Served).options(**{**usual, **options}).remote(config, os.getcwd())
    return ServedRun(actor, actor.run.remote())
