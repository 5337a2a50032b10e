"""Fixtures shared by all tests."""

import logging
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# The same examples in every run, and no verdict on time: a busy machine is no fault of the code.
settings.register_profile("prereq", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("prereq")

REPOSITORY = Path(__file__).resolve().parent.parent
_buckets = count()


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real test data; a test that needs it is skipped where it is absent."""
    folder = Path(os.environ.get("PREREQ_DATA", REPOSITORY.parent / "shared" / "data"))
    if not (folder / "README.md").is_file():
        pytest.skip(f"real test data not found at {folder} (set PREREQ_DATA)")
    return folder


class OneWriteAtATime:
    """moto's application, which looks for a name and takes it in two steps, with a lock around writing requests."""

    def __init__(self, application: Callable[..., Iterable[bytes]]) -> None:
        self._application, self._lock = application, threading.Lock()

    def __call__(self, environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] in ("GET", "HEAD"):
            return self._application(environ, start)
        with self._lock:
            return self._application(environ, start)


def serve_s3(wrap: Callable[[Any], Any]) -> Iterator[str]:
    """An S3 server on loopback; yields its address."""
    application = pytest.importorskip("moto.moto_server.werkzeug_app")
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    dispatch = application.DomainDispatcherApplication(application.create_backend_app)
    server = make_server("127.0.0.1", 0, wrap(dispatch), threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """Address of an S3 server: the one that $PREREQ_TEST_S3_ENDPOINT names, or one of our own on loopback."""
    named = os.environ.get("PREREQ_TEST_S3_ENDPOINT")
    if named:
        yield named
        return
    yield from serve_s3(OneWriteAtATime)


@pytest.fixture
def s3(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """`s3://<a new bucket>`; the environment, of child processes too, names the server."""
    boto3 = pytest.importorskip("boto3")
    values = {"AWS_ENDPOINT_URL": s3_server, "AWS_EC2_METADATA_DISABLED": "true"}
    defaults = {
        "AWS_ACCESS_KEY_ID": "AKIATEST",
        "AWS_SECRET_ACCESS_KEY": "hidden-word",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    if not os.environ.get("PREREQ_TEST_S3_ENDPOINT"):
        values |= defaults
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    bucket = f"prereq-{os.getpid()}-{next(_buckets)}"
    boto3.session.Session().client("s3").create_bucket(Bucket=bucket)
    return f"s3://{bucket}"
