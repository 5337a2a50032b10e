"""What the trainer does to its process: torch's arithmetic pinned, signals turned into a clean stop."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import torch

from prereq.graph.errors import ConfigError
from prereq.jobs.train.config import TrainConfig


def pin_arithmetic(config: TrainConfig) -> None:
    """Make torch's sums depend on the configuration alone: threads pinned, deterministic kernels only.

    Raises:
        ConfigError: The device is not there.
    """
    if config.device == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is not reproducible without
        if not torch.cuda.is_available():
            raise ConfigError("train.device: cuda was asked for, torch finds none; set train.device to cpu")
    torch.set_num_threads(config.threads)
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # costs time, and nothing here reads unwritten memory


@contextmanager
def stop_on_signals() -> Iterator[Callable[[], bool]]:
    """Inside, the first Ctrl-C or SIGTERM only sets the flag that is yielded; a second one acts as before.

    On leaving, a signal that came is raised again, so that the program ends the way it would have ended.
    """
    came: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def note(number: int, frame: FrameType | None) -> None:
        came.append(number)
        for each, handler in before.items():
            signal.signal(each, handler)

    for number in before:
        signal.signal(number, note)
    try:
        yield lambda: bool(came)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if came:
        signal.raise_signal(came[0])
