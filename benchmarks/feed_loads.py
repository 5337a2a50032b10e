"""What the rows of bench_feed.py measure of prereq itself, each in a process of its own.

    python benchmarks/feed_loads.py MODE RUN [ARGUMENT ...]

Prints one JSON object behind the word RESULT. Modes: text, packed, resume, amplification, report, train, sampler,
import.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Found = dict[str, Any]


def text(run: str, verify: str) -> Found:
    """Every text of a run as a Python string."""
    from prereq.selector.feed import Feed

    begin, cpu, rows, amount = time.perf_counter(), time.process_time(), 0, 0
    for batch in Feed(run, columns=("text",), verify=verify):  # type: ignore[arg-type]
        assert batch.texts is not None
        for ids, one in zip(batch.ids, batch.texts, strict=True):
            rows += bool(ids)
            amount += len(one)
    return _timed(begin, cpu, rows, amount)


def packed(run: str, verify: str) -> Found:
    """Every packed row of a run in torch batches."""
    import torch

    from prereq.selector.feed import Feed

    torch.set_num_threads(1)
    begin, cpu, rows, amount = time.perf_counter(), time.process_time(), 0, 0
    for batch in Feed(run, columns=("input_ids",), verify=verify):  # type: ignore[arg-type]
        tensor = torch.as_tensor(batch.input_ids)
        rows += tensor.shape[0]
        amount += tensor.numel()
    return _timed(begin, cpu, rows, amount)


def resume(run: str, state: str) -> Found:
    """From a state to its first batch."""
    from prereq.selector.feed import Feed

    value = json.loads(state)
    begin, cpu = time.perf_counter(), time.process_time()
    feed = Feed(run)
    feed.load_state_dict(value)
    batch = next(feed)
    ids = list(batch.ids)
    found = _timed(begin, cpu, len(ids), 0)
    return {**found, "step": batch.step, "expected": value["step"] + 1}


def amplification(run: str, world: str) -> Found:
    """Bytes that all ranks read over the bytes of the shards; by the feed's count and by the kernel's."""
    from prereq.selector.feed import Feed
    from prereq.selector.rounds.manifest import read_chain
    from prereq.selector.storage import Folder

    size = int(world)
    used = sum(manifest.bytes for manifest in read_chain(Folder(run)))
    feeds = [Feed(run, rank=rank, world_size=size) for rank in range(size)]
    before, rows = _read_by_kernel(), 0
    while (batches := [next(feed, None) for feed in feeds])[0] is not None:
        rows += sum(0 if batch is None else len(batch) for batch in batches)
    return {
        "used": used,
        "counted": sum(feed.bytes_read for feed in feeds),
        "kernel": _read_by_kernel() - before,
        "rows": rows,
    }


def _read_by_kernel() -> int:
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("rchar")).split()[1])


def report(run: str) -> Found:
    """From a report's file to the next round's manifest, round by round (lookahead 0)."""
    from prereq.selector.feed import Feed, WaitConfig
    from prereq.selector.rounds.manifest import manifest_name

    feed = Feed(run, wait=WaitConfig(first_s=0.001, most_s=0.001))
    feed.report_initial(_losses(feed.skills, 0))
    found: list[float] = []
    for batch in feed:
        if batch.last_of_round:
            following = Path(run) / manifest_name(batch.round + 1)
            done = Path(run) / "done.json"
            feed.report(_losses(feed.skills, batch.round + 1))
            begin = time.perf_counter()
            while not following.exists() and not done.exists():
                time.sleep(0.0005)
            if following.exists():
                found.append(time.perf_counter() - begin)
    return {"milliseconds": [1000 * seconds for seconds in found[1:]]}  # the first warms up


def train(run: str, round_s: str) -> Found:
    """A trainer that takes so many seconds a round: what it waited, without the first round's wait and with it."""
    from prereq.selector.feed import Feed

    started = time.perf_counter()
    feed = Feed(run)
    feed.report_initial(_losses(feed.skills, 0))
    pause, first = float(round_s) / feed.batches_per_round, None
    for batch in feed:
        if first is None:
            first = (time.perf_counter(), feed.waited_s)
        time.sleep(pause)
        if feed.round_ended:
            feed.report(_losses(feed.skills, batch.round + 1), step=batch.step)
    assert first is not None
    end = time.perf_counter()
    return {
        "share": (feed.waited_s - first[1]) / (end - first[0]),
        "share_with_start": feed.waited_s / (end - started),
        "waits": feed.waits,
        "seconds": end - first[0],
    }


def sampler(run: str, pool: str, settings: str, mixer: str) -> Found:
    """A sampler, to the end of the run."""
    from made_pool import open_run

    from prereq.selector.corpus.tokens import make_tokenizer
    from prereq.selector.rounds.samples import SamplesConfig

    values = json.loads(settings)
    encode = None
    if "samples" in values:
        values["samples"] = SamplesConfig(**values["samples"])
        encode = make_tokenizer("bytes").encode
    begin = time.perf_counter()
    done = open_run(Path(run), Path(pool), values, mixer, encode=encode).run()
    return {"rounds": done.rounds if done else None, "seconds": time.perf_counter() - begin}


def measure_import(run: str) -> Found:
    """Seconds of importing the feed where pyarrow is imported already."""
    import pyarrow  # noqa: F401

    begin = time.perf_counter()
    import prereq.selector.feed  # noqa: F401

    return {
        "milliseconds": 1000 * (time.perf_counter() - begin),
        "heavy": sorted({"ray", "torch", "pydantic", "scipy", "sklearn", "pandas"} & set(sys.modules)),
    }


def _timed(begin: float, cpu: float, rows: int, amount: int) -> Found:
    return {
        "seconds": time.perf_counter() - begin,
        "cpu_s": time.process_time() - cpu,
        "rows": rows,
        "amount": amount,
    }


def _losses(skills: tuple[str, ...], number: int) -> dict[str, float | None]:
    return {skill: round(3.0 / (1.0 + 0.05 * number * (1 + index % 7)), 6) for index, skill in enumerate(skills)}


MODES: dict[str, Callable[..., Found]] = {
    "text": text,
    "packed": packed,
    "resume": resume,
    "amplification": amplification,
    "report": report,
    "train": train,
    "sampler": sampler,
    "import": measure_import,
}

if __name__ == "__main__":
    if os.environ.get("OMP_NUM_THREADS") is None:
        os.environ["OMP_NUM_THREADS"] = "1"
    print("RESULT " + json.dumps(MODES[sys.argv[1]](*sys.argv[2:])))
