"""A folder of a pool or a run: whole-or-nothing files, and one name that only one writer can take.

One abstraction over a local or mounted path and an object store (`s3://`); other URLs that `pyarrow.fs` knows can be
read. A store without a conditional PUT cannot hold a run and is refused when something is to be written to it.
"""

import os
from typing import Any, Protocol

import pyarrow.fs as pafs

from prereq.graph.errors import PrereqError
from prereq.selector.local_files import TEMPORARY, LocalFiles


class Files(Protocol):
    """What a backend does; names are relative, with `/`, and checked by the folder. Errors as in `Folder`."""

    is_local: bool
    poll_s: float

    def shown(self, name: str) -> str: ...
    def exists(self, name: str) -> bool: ...
    def size(self, name: str) -> int: ...
    def read(self, name: str) -> bytes: ...
    def open(self, name: str) -> Any: ...
    def names(self, sub: str) -> list[str]: ...
    def commit(self, name: str, data: bytes) -> bool: ...
    def replace(self, name: str, data: bytes, durable: bool) -> None: ...
    def delete(self, name: str) -> None: ...
    def sweep(self, sub: str, older_than_s: float) -> list[str]: ...
    def check_writable(self) -> None: ...


class Folder:
    """Files below one root, named by relative paths with `/`; a name can never leave the root.

    Args:
        root: A local path, or a URL: `s3://bucket/prefix`, or for reading any that `pyarrow.fs` understands.

    Raises:
        ConfigError: The URL cannot be opened, or holds credentials.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.name = os.fspath(root)
        self._files = _files_of(self.name)
        self.is_local = self._files.is_local

    def __repr__(self) -> str:
        return f"Folder({self.name!r})"

    @property
    def poll_s(self) -> float:
        """Seconds between two looks for a file that another program writes here."""
        return self._files.poll_s

    def sub(self, name: str) -> "Folder":
        """The folder `name` below this one; it need not exist."""
        self.path(name)
        return Folder(f"{self.name.rstrip('/')}/{name}")

    def path(self, name: str) -> str:
        """The full path (or URL) of a file of this folder.

        Raises:
            PrereqError: The name is absolute or leaves the folder.
        """
        return self._files.shown(self._checked(name))

    def exists(self, name: str) -> bool:
        """Whether a file or folder of that name is there."""
        return self._files.exists(self._checked(name))

    def size(self, name: str) -> int:
        """Bytes of a file; FileNotFoundError when it is not there."""
        return self._files.size(self._checked(name))

    def read(self, name: str) -> bytes:
        """The bytes of a file; FileNotFoundError when it is not there."""
        return self._files.read(self._checked(name))

    def open(self, name: str) -> Any:
        """A `pyarrow.NativeFile` for random access."""
        return self._files.open(self._checked(name))

    def names(self, sub: str = "") -> list[str]:
        """Sorted names (not paths) of what lies in this folder or in `sub`; empty when it is not there."""
        found = self._files.names(self._checked(sub) if sub else "")
        return sorted(name for name in found if not name.startswith(TEMPORARY))

    def commit(self, name: str, data: bytes) -> bool:
        """Create a file whole, once: nobody ever sees a part of it, and it survives a crash once this returns.

        Returns:
            True when this call created the file; False when the name was taken (the file is left as it was).

        Raises:
            PrereqError: It cannot be written.
            ConfigError: The store cannot create a file only if it is absent.
        """
        return self._files.commit(self._checked(name), data)

    def replace(self, name: str, data: bytes, *, durable: bool = True) -> None:
        """Write a file whole, in place of an older one if there is one.

        Args:
            name: The file.
            data: Its content.
            durable: False: do not wait until it is on disk; a power failure may leave the file empty, or the older one.
        """
        self._files.replace(self._checked(name), data, durable)

    def delete(self, name: str) -> None:
        """Delete a file; FileNotFoundError when it is not there."""
        self._files.delete(self._checked(name))

    def sweep(self, sub: str = "", *, older_than_s: float = 0.0) -> list[str]:
        """Remove the temporary files that killed writers left here or in `sub` (not below); return their names.

        Args:
            sub: A folder below this one.
            older_than_s: Age (seconds) below which a file may belong to a live writer and stays.
        """
        return self._files.sweep(self._checked(sub) if sub else "", older_than_s)

    def check_writable(self) -> None:
        """Create the folder if need be and prove that files can be made in it, and names taken only once.

        Raises:
            ConfigError: They cannot: the reason is in the message.
        """
        self._files.check_writable()

    def _checked(self, name: str) -> str:
        if not name or name.startswith("/") or "\\" in name or any(p in ("", ".", "..") for p in name.split("/")):
            raise PrereqError(f"{self.name}: the file name {name!r} leaves the folder; it was refused")
        return name


def _files_of(root: str) -> Files:
    scheme, separator, _ = root.partition("://")
    if not separator:
        return LocalFiles(root)
    if scheme == "file":
        return LocalFiles(pafs.FileSystem.from_uri(root)[1])
    # loaded where needed: a trainer on a local folder is lighter without
    if scheme == "s3":
        from prereq.selector.s3_files import S3Files

        return S3Files(root)
    from prereq.selector.store_files import StoreFiles

    return StoreFiles(root)
