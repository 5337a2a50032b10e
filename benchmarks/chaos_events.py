"""What can go wrong around a run, by name; each takes a job and is True where the run rightly stopped for it."""

from collections.abc import Callable

from chaos_job import Job
from chaos_worker import FINISHED, NO_FAULTS, REFUSED, Faults

LAST_KINDS = ("torn manifest", "torn report")  # from which no run goes on


def _again(job: Job, who: str, faults: Faults = NO_FAULTS) -> None:
    job.kill(who)
    job.start(who, faults)


def _kill(job: Job, *victims: str) -> bool:
    for who in victims:
        job.kill(who)
    for who in victims:
        job.start(who)
    return False


def _inside(job: Job, who: str) -> bool:
    at = job.rng.randint(1, 60 if who == "sampler" else 25)
    _again(job, who, Faults(die_at=at, die_before=job.rng.random() < 0.5))
    return False


def _other_world(job: Job) -> bool:
    job.kill("trainer")
    job.world = job.rng.choice([w for w in (1, 2, 4, 8) if w != job.world])
    job.start("trainer")
    return False


def _full_disk(job: Job, who: str) -> bool:
    _again(job, who, Faults(disk_bytes=job.rng.randint(200, 60_000 if who == "sampler" else 6_000)))
    return False


def _too_large(job: Job) -> bool:
    _again(job, "sampler", Faults(file_bytes=job.rng.choice([300, 1500, 2500])))
    return False


def _torn_leftovers(job: Job) -> bool:
    """As a power failure leaves them: half a temporary file, half a shard under its name, in the next round."""
    job.kill("sampler")
    folder = job.place.run / f"rounds/{len(job.manifests()):06d}"
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.glob("shard-*"):
        path.write_bytes(path.read_bytes()[: job.rng.randrange(100)])
    (folder / ".tmp-1-dead").write_bytes(b"half a shard")
    (folder / "shard-00000-000000000000.parquet").write_bytes(b"of other content")
    (job.place.run / ".tmp-1-dead").write_bytes(b"half a done.json")
    job.start("sampler")
    return False


def _torn_shard(job: Job) -> bool:
    job.kill("sampler")
    job.kill("trainer")
    shards = sorted(job.place.run.glob("rounds/*/shard-*"))
    if shards:
        path = job.rng.choice(shards)
        data = bytearray(path.read_bytes())
        how = job.rng.randrange(3)
        if how == 0:
            path.unlink()
        elif how == 1:
            path.write_bytes(data[: len(data) // 2])
        else:
            data[job.rng.randrange(len(data))] ^= 1 << job.rng.randrange(8)
            path.write_bytes(data)
    job.start("sampler")
    job.start("trainer")
    return False


def _lost_checkpoint(job: Job) -> bool:
    """The trainer goes back to an older checkpoint, and reports again what it had reported."""
    job.kill("trainer")
    for folder in job.place.root.glob("checkpoint*"):
        saved = sorted(folder.glob("0*.json"))
        for path in saved[len(saved) // 2 :]:
            path.unlink()
    job.start("trainer")
    return False


def _torn_file(job: Job, pattern: str) -> bool:
    """Half a manifest or report: nothing can go on, and it must be said."""
    job.kill("sampler")
    job.kill("trainer")
    files = sorted(job.place.run.glob(pattern))
    files = [path for path in files if not path.name.endswith(".late.json")]
    if not files:
        return _kill(job, "sampler", "trainer")
    path = job.rng.choice(files)
    path.write_bytes(path.read_bytes()[: job.rng.randrange(1, 100)])
    job.start("sampler")
    job.wait(lambda: False)
    code, said = job.ended.get("sampler"), job.say("sampler")
    if code == FINISHED and path.parent.name == "feedback":  # the run was done, its reports are not read again
        job.start("trainer")
        return False
    if code != REFUSED or path.name not in said:
        raise RuntimeError(f"{path} is torn, the sampler ended with {code}: {said}")
    job.told.append(said)
    return True


EVENTS: dict[str, Callable[[Job], bool]] = {
    "kill sampler": lambda job: _kill(job, "sampler"),
    "kill trainer": lambda job: _kill(job, "trainer"),
    "kill both": lambda job: _kill(job, "sampler", "trainer"),
    "sampler dies inside": lambda job: _inside(job, "sampler"),
    "trainer dies inside": lambda job: _inside(job, "trainer"),
    "other world size": _other_world,
    "full disk": lambda job: _full_disk(job, "sampler"),
    "full disk for the trainer": lambda job: _full_disk(job, "trainer"),
    "file too large": _too_large,
    "torn leftovers": _torn_leftovers,
    "torn shard": _torn_shard,
    "lost checkpoint": _lost_checkpoint,
    "torn manifest": lambda job: _torn_file(job, "rounds/*/manifest.json"),
    "torn report": lambda job: _torn_file(job, "feedback/*.json"),
}
KINDS = tuple(kind for kind in EVENTS if kind not in LAST_KINDS)
