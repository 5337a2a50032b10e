"""Pools and runs on an S3-compatible store: reads through `pyarrow.fs`, writes through boto3 (extra `s3`).

One object appears by one PUT, so it is whole or absent. A name is taken by a PUT with `If-None-Match: *`, which the
store must refuse where the name is taken; that is proved once before anything is committed. Nothing here is specific to
a vendor: the endpoint comes from AWS_ENDPOINT_URL.
"""

import base64
import hashlib
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from prereq.graph.errors import ConfigError, PrereqError
from prereq.selector.local_files import TEMPORARY
from prereq.selector.store_files import StoreFiles

_ATTEMPTS = 6  # of a conditional PUT that met another one on its way
_PAUSE_S = 0.1  # before the second of them; doubles
_WRITER = "writer"  # metadata key that tells our own object from a rival's
_proven: set[tuple[str, str]] = set()  # (endpoint, bucket) that have refused a second PUT


class S3Files(StoreFiles):
    """The backend of `Folder` for `s3://bucket/prefix`.

    Raises:
        ConfigError: As `StoreFiles`.
    """

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._bucket, _, self._prefix = self._root.partition("/")

    def commit(self, name: str, data: bytes) -> bool:
        """Create an object, once; False when the name was taken.

        Raises:
            ConfigError: The store has no conditional PUT.
            PrereqError: It cannot be written.
        """
        self._prove()
        return self._create(name, data)

    def replace(self, name: str, data: bytes, durable: bool) -> None:
        """Write an object, in place of an older one."""
        with self._asking(name, "written"):
            self._client().put_object(Bucket=self._bucket, Key=self._object(name), Body=data, ContentMD5=_md5(data))

    def delete(self, name: str) -> None:
        """Delete an object; FileNotFoundError when it is not there."""
        self.size(name)  # a store says of an absent object, too, that it deleted it
        with self._asking(name, "deleted"):
            self._client().delete_object(Bucket=self._bucket, Key=self._object(name))

    def sweep(self, sub: str, older_than_s: float) -> list[str]:
        """Remove old probes; a PUT leaves nothing half."""
        swept = []
        for name in sorted(name for name in self.names(sub) if name.startswith(TEMPORARY)):
            path = f"{sub}/{name}" if sub else name
            with self._asking(path, "deleted"):
                client = self._client()
                try:
                    head = client.head_object(Bucket=self._bucket, Key=self._object(path))
                except client.exceptions.ClientError as error:
                    if _status(error) == 404:  # its writer has just finished with it
                        continue
                    raise
                if (datetime.now(UTC) - head["LastModified"]).total_seconds() >= older_than_s:
                    client.delete_object(Bucket=self._bucket, Key=self._object(path))
                    swept.append(name)
        return swept

    def check_writable(self) -> None:
        """Prove that objects can be made here, and that a name can be taken only once.

        Raises:
            ConfigError: One of the two does not hold.
        """
        _proven.discard(self._place())
        self._prove()

    def _prove(self) -> None:
        """Two conditional PUTs of one name: the first must be taken, the second refused and without effect."""
        if self._place() in _proven:
            return
        name = f"{TEMPORARY}probe-{secrets.token_hex(8)}"
        try:
            held = self._create(name, b"first") and not self._create(name, b"second") and self.read(name) == b"first"
            self.delete(name)
        except PrereqError as error:
            raise ConfigError(
                f"{self._url}: cannot hold a pool or a run: {error}; it must be writable and know PUT with "
                "If-None-Match: *"
            ) from error
        except FileNotFoundError:
            held = False
        if not held:
            raise ConfigError(
                f"{self._url}: this store does not refuse a PUT with If-None-Match: * where the name is taken, so two "
                "samplers could overwrite each other; use a store with conditional PUT, or a local or mounted folder"
            )
        _proven.add(self._place())

    def _create(self, name: str, data: bytes) -> bool:
        """One conditional PUT; True when the object is ours.

        A request whose answer was lost is sent again by the client and then refused because of itself: the object's
        metadata tells whose it is. 409 says that another PUT or a DELETE of this name was under way.
        """
        token, client = secrets.token_hex(16), self._client()
        fixed = {"Bucket": self._bucket, "Key": self._object(name), "Body": data, "ContentMD5": _md5(data)}
        for attempt in range(_ATTEMPTS):
            with self._asking(name, "written"):
                try:
                    client.put_object(**fixed, IfNoneMatch="*", Metadata={_WRITER: token})
                    return True
                except client.exceptions.ClientError as error:
                    if _status(error) not in (409, 412):
                        raise
                    holder = self._holder(name) if _status(error) == 412 else None
            if holder is not None:
                return holder == token
            time.sleep(_PAUSE_S * 2**attempt)
        raise PrereqError(
            f"{self.shown(name)}: could not be written, {_ATTEMPTS} conditional PUTs met others; start again"
        )

    def _holder(self, name: str) -> str | None:
        """Who made an object ("" where it does not say); None when it is gone again."""
        client = self._client()
        try:
            head = client.head_object(Bucket=self._bucket, Key=self._object(name))
        except client.exceptions.ClientError as error:
            if _status(error) == 404:
                return None
            raise
        return str(head["Metadata"].get(_WRITER, ""))

    def _object(self, name: str) -> str:
        return f"{self._prefix}/{name}" if self._prefix else name

    def _place(self) -> tuple[str, str]:
        return self._client().meta.endpoint_url, self._bucket

    def _client(self) -> Any:
        settings = sorted(item for item in os.environ.items() if item[0].startswith("AWS_"))
        try:
            return _client_of(os.getpid(), tuple(settings))
        except ImportError as error:
            raise PrereqError(f"{self._url}: writing to it needs boto3; pip install 'prereq[s3]'") from error

    @contextmanager
    def _asking(self, name: str, verb: str) -> Iterator[None]:
        """Turn the client's errors into one line; keys and secrets are in none of them."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except (BotoCoreError, ClientError) as error:
            reason = " ".join(str(error).split())
            raise PrereqError(
                f"{self.shown(name)}: could not be {verb} ({reason}); check the bucket, the credentials and the "
                "network, and start again: what was committed before is whole"
            ) from error


@lru_cache(maxsize=8)
def _client_of(process: int, settings: tuple[tuple[str, str], ...]) -> Any:
    """One client for a process (its connections do not survive a fork) and what the environment says."""
    from boto3.session import Session
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    config = Config(
        retries={"mode": "standard", "total_max_attempts": 5},
        # many stores do not know the newer trailing checksums; every PUT carries its MD5 instead
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    try:
        return Session().client("s3", config=config)
    except (BotoCoreError, ValueError) as error:
        raise ConfigError(f"s3: no client can be made of the environment's settings: {error}") from error


def _status(error: Any) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _md5(data: bytes) -> str:
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()
