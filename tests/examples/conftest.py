"""A live run for an example: a pool of made-up lessons and a sampler that waits for the example's reports."""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from loading import load_module

TESTS = Path(__file__).resolve().parent.parent
EXAMPLES = TESTS.parent / "examples"


class Example:
    """One example program on one run; `sampler` is the thread that makes its rounds."""

    def __init__(self, folder: Path, rounds: int) -> None:
        pool = load_module(TESTS / "jobs/train/conftest.py").write_pool(folder / "pool")
        driver = load_module(TESTS / "selector/rounds/conftest.py").Driver
        settings: dict[str, Any] = {"rounds": rounds, "batches_per_round": 3, "global_batch": 8, "lookahead": 1}
        self.driver = driver(folder / "run", pool, **settings, max_epochs=8)
        self.run, self.stop = folder / "run", threading.Event()
        sampler = self.driver.sampler()
        self.sampler = threading.Thread(target=lambda: sampler.run(stop=self.stop.is_set), daemon=True)
        self.sampler.start()

    def command(self, program: str, *options: str, processes: int = 1) -> list[str]:
        launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
        return [sys.executable, *(launch if processes > 1 else []), str(EXAMPLES / program), str(self.run), *options]

    def start(self, *command: str, processes: int = 1, **variables: str) -> subprocess.Popen[str]:
        fixed = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1"}
        return subprocess.Popen(
            self.command(*command, processes=processes),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, **fixed, **variables},
        )

    def start_ranks(self, *command: str, world_size: int) -> list[subprocess.Popen[str]]:
        """Ranks without torchrun, which would hide the processes that a test is to kill."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            meet = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
        return [self.start(*command, RANK=str(rank), WORLD_SIZE=str(world_size), **meet) for rank in range(world_size)]

    def finish(self, *command: str, processes: int = 1) -> str:
        """Run to the end; what it printed."""
        process = self.start(*command, processes=processes)
        output, _ = process.communicate(timeout=300)
        assert process.returncode == 0, output[-3000:]
        return output

    def reports(self) -> list[str]:
        return sorted(path.name for path in (self.run / "feedback").iterdir())


@pytest.fixture
def make_example(tmp_path: Path) -> Iterator[Callable[..., Example]]:
    """Start a run below this test's folder, its sampler running: `make_example(rounds=4)`."""
    made: list[Example] = []

    def make(rounds: int = 4) -> Example:
        made.append(Example(tmp_path, rounds))
        return made[-1]

    yield make
    for example in made:
        example.stop.set()
        example.sampler.join(timeout=30)
