"""Samplers on an S3-compatible store: rivals, and the bytes of a disk."""

import threading
from collections.abc import Callable
from typing import Any

from prereq.graph.errors import ManifestError
from prereq.selector.rounds.run import Done
from prereq.selector.storage import Folder


def test_of_two_samplers_on_a_store_one_ends_the_run_and_one_says_why_not(make_driver: Callable[..., Any], s3: str):
    settings = {"mixer": "proportional", "rounds": 5, "batches_per_round": 1, "max_epochs": 9}
    disk = make_driver("disk", **settings)
    disk.sampler().run()
    for attempt in range(3):
        run = make_driver("run", **settings)
        run.run = Folder(f"{s3}/run-{attempt}")
        samplers, barrier, came = [run.sampler(), run.sampler()], threading.Barrier(2), []

        def draw(sampler: Any, barrier: Any = barrier, came: Any = came) -> None:
            barrier.wait()
            try:
                came.append(sampler.run())
            except ManifestError as error:
                came.append(str(error))

        threads = [threading.Thread(target=draw, args=(sampler,)) for sampler in samplers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        done = [entry for entry in came if isinstance(entry, Done)]
        refused = [entry for entry in came if isinstance(entry, str)]
        assert len(done) == len(refused) == 1, came
        assert "another sampler wrote round" in refused[0]
        assert "let the other one go on" in refused[0]
        assert done[0].rounds == 5
        assert run.manifests() == disk.manifests()
