"""Folders on an S3-compatible store: the same promises as on a disk, against a real server on loopback."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from loading import load_module

from prereq.graph.errors import ConfigError, PrereqError
from prereq.selector import s3_files
from prereq.selector.storage import Folder

boto3 = pytest.importorskip("boto3")
RACERS = 8


def client() -> Any:
    return boto3.session.Session().client("s3")


def race(put: Callable[[int, int], bool], tries: int) -> list[int]:
    """Number of winners of each try."""
    winners = []
    for attempt in range(tries):
        barrier, won = threading.Barrier(RACERS), []

        def run(number: int, attempt: int = attempt, barrier: Any = barrier, won: Any = won) -> None:
            barrier.wait()
            if put(attempt, number):
                won.append(number)

        threads = [threading.Thread(target=run, args=(number,)) for number in range(RACERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        winners.append(len(won))
    return winners


def conditional_puts(bucket: str) -> Callable[[int, int], bool]:
    shared = client()

    def put(attempt: int, number: int) -> bool:
        try:
            shared.put_object(Bucket=bucket, Key=f"k{attempt}", Body=b"%d" % number * 1000, IfNoneMatch="*")
        except shared.exceptions.ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] != 412:
                raise
            return False
        return True

    return put


@pytest.fixture
def slow_store(monkeypatch: pytest.MonkeyPatch) -> None:
    """moto takes a while between looking for a name and taking it, so that a race shows."""
    models = pytest.importorskip("moto.s3.models")
    real = models.S3Backend.put_object

    def put(self: Any, *args: Any, **values: Any) -> Any:
        time.sleep(0.01)
        return real(self, *args, **values)

    monkeypatch.setattr(models.S3Backend, "put_object", put)


def test_the_servers_conditional_put_is_atomic(s3: str, slow_store: None):
    """What every other test here rests on; it is the server that is tested, not the folder."""
    assert race(conditional_puts(s3.removeprefix("s3://")), tries=5) == [1] * 5


def test_the_proof_of_atomicity_finds_a_server_that_is_not(monkeypatch: pytest.MonkeyPatch, slow_store: None):
    serving = load_module(Path(__file__).resolve().parent.parent / "conftest.py").serve_s3(
        lambda application: application
    )
    for name, value in {
        "AWS_ENDPOINT_URL": next(serving),
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    client().create_bucket(Bucket="not-atomic")
    assert max(race(conditional_puts("not-atomic"), tries=3)) > 1
    next(serving, None)


def test_of_many_writers_one_wins(s3: str):
    folder = Folder(f"{s3}/run")
    assert race(lambda attempt, number: folder.commit(f"rounds/{attempt}", b"%d" % number * 1000), tries=5) == [1] * 5
    assert len(set(folder.read("rounds/3"))) == 1
    assert len(folder.names("rounds")) == 5


def test_a_folder_on_a_store_keeps_the_promises_of_a_folder(s3: str):
    folder = Folder(f"{s3}/some/run/")
    assert not folder.is_local
    assert folder.commit("rounds/000000/manifest.json", b"first") is True
    assert folder.commit("rounds/000000/manifest.json", b"second") is False
    assert folder.read("rounds/000000/manifest.json") == b"first"
    folder.replace("rounds/000000/x.gz", b"one")
    folder.replace("rounds/000000/x.gz", b"12345")
    assert folder.read("rounds/000000/x.gz") == b"12345"
    assert folder.names() == ["rounds"]
    assert folder.names("rounds/000000") == ["manifest.json", "x.gz"]
    assert folder.names("absent") == []
    assert folder.exists("rounds")
    assert folder.exists("rounds/000000/x.gz")
    assert not folder.exists("rounds/000000/x")
    assert folder.size("rounds/000000/x.gz") == 5
    with folder.open("rounds/000000/x.gz") as file:
        file.seek(3)
        assert file.read() == b"45"
    assert folder.path("a/b") == f"{s3}/some/run/a/b"
    assert folder.sub("rounds").names() == ["000000"]
    folder.delete("rounds/000000/x.gz")
    for act in (folder.read, folder.size, folder.delete, folder.open):
        with pytest.raises(FileNotFoundError, match=f"{s3}/some/run/rounds/000000/x.gz"):
            act("rounds/000000/x.gz")
    folder.delete("rounds/000000/manifest.json")
    assert not folder.exists("rounds"), "nothing is left where a folder was"
    with pytest.raises(PrereqError, match="leaves the folder"):
        folder.read("../other")


def test_a_probe_that_was_left_is_swept_and_never_listed(s3: str):
    folder = Folder(f"{s3}/run")
    folder.check_writable()
    assert client().list_objects_v2(Bucket=s3[5:]).get("KeyCount") == 0, "a probe leaves nothing"
    folder.replace("kept", b"x")
    client().put_object(Bucket=s3[5:], Key="run/.tmp-probe-1", Body=b"")
    assert folder.names() == ["kept"]
    assert folder.sweep(older_than_s=3600) == []
    assert folder.sweep() == [".tmp-probe-1"]
    assert folder.sweep("absent") == []


@pytest.fixture
def s3_client(s3: str) -> Any:
    """The client that folders use in this test."""
    folder = Folder(f"{s3}/run")
    folder.check_writable()
    return folder._files._client()  # type: ignore[attr-defined]


def test_an_answer_that_was_lost_is_not_taken_for_a_rival(s3: str, s3_client: Any, monkeypatch: pytest.MonkeyPatch):
    """The client sends the PUT again after a broken connection; the store then refuses it because of itself."""
    from botocore.exceptions import ConnectionClosedError

    folder, sent = Folder(f"{s3}/run"), []
    real = s3_client._endpoint.http_session.send

    def lose_first(request: Any) -> Any:
        answer = real(request)
        if request.method == "PUT":
            sent.append(request.url)
            if len(sent) == 1:
                raise ConnectionClosedError(endpoint_url=request.url)
        return answer

    monkeypatch.setattr(s3_client._endpoint.http_session, "send", lose_first)
    assert folder.commit("name", b"ours") is True
    assert len(sent) == 2
    assert folder.commit("name", b"ours") is False, "the same bytes by another commit are a rival's"


def answering(client: Any, monkeypatch: pytest.MonkeyPatch, status: int, code: str, times: int) -> list[int]:
    """Let the store answer conditional PUTs with an error; the list grows with each."""
    real, count = client.put_object, []

    def put(**values: Any) -> Any:
        if "IfNoneMatch" in values and len(count) < times:
            count.append(1)
            answer = {"Error": {"Code": code, "Message": "m"}, "ResponseMetadata": {"HTTPStatusCode": status}}
            raise client.exceptions.ClientError(answer, "PutObject")
        return real(**values)

    monkeypatch.setattr(client, "put_object", put)
    monkeypatch.setattr(s3_files, "_PAUSE_S", 0.001)
    return count


def test_a_put_that_met_another_is_tried_again(s3: str, s3_client: Any, monkeypatch: pytest.MonkeyPatch):
    count = answering(s3_client, monkeypatch, 409, "ConditionalRequestConflict", 2)
    assert Folder(f"{s3}/run").commit("name", b"x") is True
    assert len(count) == 2
    answering(s3_client, monkeypatch, 409, "ConditionalRequestConflict", 100)
    with pytest.raises(PrereqError, match="6 conditional PUTs met others; start again"):
        Folder(f"{s3}/run").commit("other", b"x")


def test_a_store_that_overwrites_is_refused_before_anything_is_written(
    s3: str, s3_client: Any, monkeypatch: pytest.MonkeyPatch
):
    real = s3_client.put_object
    monkeypatch.setattr(s3_client, "put_object", lambda IfNoneMatch=None, **values: real(**values))
    with pytest.raises(ConfigError, match=rf"{s3}/run: this store does not refuse a PUT with If-None-Match"):
        Folder(f"{s3}/run").check_writable()
    with pytest.raises(ConfigError, match="does not refuse"):
        Folder(f"{s3}/run").commit("name", b"x")
    assert client().list_objects_v2(Bucket=s3[5:]).get("KeyCount") == 0


def test_a_store_that_does_not_know_the_condition_is_refused(s3: str, s3_client: Any, monkeypatch: pytest.MonkeyPatch):
    answering(s3_client, monkeypatch, 501, "NotImplemented", 100)
    with pytest.raises(ConfigError, match=r"cannot hold a pool or a run: .*NotImplemented.*If-None-Match"):
        Folder(f"{s3}/run").check_writable()


def test_a_bucket_that_is_not_there_is_one_line(s3: str):
    with pytest.raises(ConfigError, match=r"s3://nosuchbucket-x/run: cannot hold a pool or a run: .*NoSuchBucket"):
        Folder("s3://nosuchbucket-x/run").check_writable()


def test_an_address_holds_neither_credentials_nor_options():
    for url in ("s3://user:word@bucket/run", "s3://bucket/run?endpoint_override=127.0.0.1:1"):
        with pytest.raises(
            ConfigError, match="s3://bucket/run: the address of a pool or a run holds no cred"
        ) as caught:
            Folder(url)
        assert "word" not in str(caught.value)


def test_a_store_of_another_kind_is_read_only():
    folder = Folder("gs://bucket/run")
    for act in (folder.check_writable, folder.sweep, lambda: folder.commit("x", b""), lambda: folder.delete("x")):
        with pytest.raises(ConfigError, match=r"gs://bucket/run: cannot .* this store: .* not for gs://"):
            act()
