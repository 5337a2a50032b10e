"""Object stores as input: `s3://bucket/prefix/*.jsonl.gz`, and gs:// likewise, read through `pyarrow.fs`.

Credentials, region and endpoint come from where the store's own tools take them (AWS_ACCESS_KEY_ID,
AWS_ENDPOINT_URL, ...) or from the URL's options (`?endpoint_override=localhost:9000&scheme=http&region=eu-west-1`).
A key is taken as it is: a `%` or a space in it stands for itself, and only a `?` cannot be in it.
"""

import os
import re
from functools import lru_cache
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs

from prereq.graph.errors import ConfigError

_SCHEMES = ("s3", "gs", "gcs")
_URL = re.compile(
    r"(?P<scheme>[a-z0-9]+)://(?:(?P<user>[^/?@]*)@)?(?P<bucket>[^/?@]*)/?(?P<key>[^?]*)(?P<options>\?.*)?"
)


def is_store(url: str) -> bool:
    """Whether a path is a URL of an object store."""
    return url.partition("://")[0] in _SCHEMES and "://" in url


def open_store(url: str) -> Any:
    """The file system of a URL; one per bucket, options and environment, so that its connections are shared.

    Raises:
        ConfigError: The URL has no bucket, or options that the store does not know.
    """
    parts = _parts(url)
    settings = tuple(sorted(item for item in os.environ.items() if item[0].startswith("AWS_")))
    return _open(
        f"{parts['scheme']}://{parts['user'] + '@' if parts['user'] else ''}{parts['bucket']}{parts['options']}",
        settings,
    )


def store_path(url: str) -> str:
    """`bucket/key` of a URL."""
    parts = _parts(url)
    return f"{parts['bucket']}/{parts['key']}".rstrip("/")


def public_name(url: str) -> str:
    """The URL without credentials and options, as outputs and messages name it."""
    if not is_store(url):
        return url
    parts = _parts(url)
    return f"{parts['scheme']}://{parts['bucket']}/{parts['key']}".rstrip("/")


def without_user(url: str) -> str:
    """The URL without a user's name and password; options stay, as they belong to where it lies."""
    if not is_store(url):
        return url
    user = _parts(url)["user"]
    return url.replace(f"{user}@", "", 1) if user else url


def version_of(filesystem: Any, path: str) -> tuple[int, str]:
    """The size of an object and what changes when its content does: its ETag, or where there is none its time.

    Raises:
        OSError: It cannot be opened.
    """
    with filesystem.open_input_file(path) as stream:
        size = int(stream.size())
        facts = {name.lower(): value for name, value in (stream.metadata() or {}).items()}
    etag = facts.get(b"etag") or facts.get("etag")
    if etag:
        return size, etag.decode() if isinstance(etag, bytes) else str(etag)
    return size, str(filesystem.get_file_info(path).mtime_ns)


def _parts(url: str) -> dict[str, str]:
    match = _URL.fullmatch(url)
    if match is None or not match["bucket"]:
        raise ConfigError(f"{url.partition('?')[0]}: names no bucket; write it as s3://bucket/path")
    return {name: value or "" for name, value in match.groupdict().items()}


@lru_cache(maxsize=64)
def _open(root: str, settings: tuple[tuple[str, str], ...]) -> Any:
    try:
        return pafs.FileSystem.from_uri(root)[0]
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, ValueError) as error:
        raise ConfigError(f"{public_name(root)}: cannot be opened: {error}") from error
