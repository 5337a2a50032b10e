"""Files below a URL of an object store, read through `pyarrow.fs`; writing is refused where nothing better is known.

Credentials, region and endpoint come from the environment (AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL, ...): the address of a
pool or a run is written into its files, so it must hold none of them.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import pyarrow as pa
import pyarrow.fs as pafs

from prereq.graph.errors import ConfigError, PrereqError
from prereq.selector.corpus.stores import is_store, open_store, public_name, store_path


class StoreFiles:
    """The read-only backend of `Folder` for a URL; names are checked by the folder.

    Args:
        url: `scheme://bucket/prefix`.

    Raises:
        ConfigError: The URL cannot be opened, or holds credentials or options.
    """

    is_local = False
    poll_s = 0.25  # a look is a request, which costs time and money

    def __init__(self, url: str) -> None:
        if not is_store(url):
            try:
                self._fs, self._root = pafs.FileSystem.from_uri(url)
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
                raise ConfigError(f"{url}: cannot be opened as a folder: {error}") from error
        else:
            if url.rstrip("/") != public_name(url):
                raise ConfigError(
                    f"{public_name(url)}: the address of a pool or a run holds no credentials and no options, as it is "
                    "written into its files; give them by the environment (AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL, ...)"
                )
            self._fs, self._root = open_store(url), store_path(url)
        self._url = url.rstrip("/")

    def shown(self, name: str) -> str:
        """The URL of an object, or of the folder for an empty name."""
        return f"{self._url}/{name}" if name else self._url

    def exists(self, name: str) -> bool:
        """Whether an object or anything below that name is there."""
        with self._reading(name):
            return bool(self._fs.get_file_info(self._key(name)).type != pafs.FileType.NotFound)

    def size(self, name: str) -> int:
        """Bytes of an object; FileNotFoundError when it is not there."""
        with self._reading(name):
            info = self._fs.get_file_info(self._key(name))
        if info.type != pafs.FileType.File:
            raise FileNotFoundError(self.shown(name))
        return int(info.size)

    def read(self, name: str) -> bytes:
        """The bytes of an object."""
        with self._reading(name), self._fs.open_input_stream(self._key(name), compression=None) as stream:
            return bytes(stream.read())

    def open(self, name: str) -> Any:
        """A `pyarrow.NativeFile` for random access."""
        with self._reading(name):
            return self._fs.open_input_file(self._key(name))

    def names(self, sub: str) -> list[str]:
        """What lies in the folder or in `sub`."""
        with self._reading(sub):
            found = self._fs.get_file_info(pafs.FileSelector(self._key(sub), allow_not_found=True))
        return [info.base_name for info in found]

    def commit(self, name: str, data: bytes) -> bool:
        """Refused."""
        self._refuse("write to")

    def replace(self, name: str, data: bytes, durable: bool) -> None:
        """Refused."""
        self._refuse("write to")

    def delete(self, name: str) -> None:
        """Refused."""
        self._refuse("delete in")

    def sweep(self, sub: str, older_than_s: float) -> list[str]:
        """Refused."""
        self._refuse("sweep")

    def check_writable(self) -> None:
        """Refused."""
        self._refuse("write to")

    def _key(self, name: str) -> str:
        return f"{self._root}/{name}" if name else self._root

    def _refuse(self, verb: str) -> NoReturn:
        scheme = self._url.partition("://")[0]
        raise ConfigError(
            f"{self._url}: cannot {verb} this store: pools and runs need create-if-absent, which there is for local or "
            f"mounted paths and for s3://, not for {scheme}://"
        )

    @contextmanager
    def _reading(self, name: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise FileNotFoundError(self.shown(name)) from None
        except OSError as error:
            reason = " ".join(str(error).split())
            raise PrereqError(
                f"{self.shown(name)}: cannot be read ({reason}); check the address, the credentials and the network, "
                "and start again: what was committed is whole"
            ) from error
