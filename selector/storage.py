"""A folder of a pool or a run: whole-or-nothing files, and one name that only one writer can take.

Reading goes through `pyarrow.fs`, so a local path and an object-store URL take the same road. Writing needs
create-if-absent: locally that is a hard link, which fails when the name is taken. A store without a conditional put
cannot hold a run and is refused when it is opened for writing.
"""

import os
import re
import secrets
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs

from prereq.graph.errors import ConfigError, PrereqError

_TEMPORARY = ".tmp-"


class Folder:
    """Files below one root, named by relative paths with `/`; a name can never leave the root.

    Args:
        root: A local path, or a URL that `pyarrow.fs.FileSystem.from_uri` understands.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.name = os.fspath(root)
        if "://" in self.name:
            try:
                self._fs, self._root = pafs.FileSystem.from_uri(self.name)
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
                raise ConfigError(f"{self.name}: cannot be opened as a folder: {error}") from error
        else:
            self._fs, self._root = pafs.LocalFileSystem(), os.path.abspath(self.name)
        self.is_local = isinstance(self._fs, pafs.LocalFileSystem)

    def __repr__(self) -> str:
        return f"Folder({self.name!r})"

    def sub(self, name: str) -> "Folder":
        """The folder `name` below this one; it need not exist."""
        self.path(name)
        return Folder(f"{self.name.rstrip('/')}/{name}")

    def path(self, name: str) -> str:
        """The full path of a file of this folder.

        Raises:
            PrereqError: The name is absolute or leaves the folder.
        """
        if not name or name.startswith("/") or "\\" in name or any(p in ("", ".", "..") for p in name.split("/")):
            raise PrereqError(f"{self.name}: the file name {name!r} leaves the folder; it was refused")
        return f"{self._root.rstrip('/')}/{name}"

    def exists(self, name: str) -> bool:
        """Whether a file or folder of that name is there."""
        return bool(self._fs.get_file_info(self.path(name)).type != pafs.FileType.NotFound)

    def size(self, name: str) -> int:
        """Bytes of a file; FileNotFoundError when it is not there."""
        info = self._fs.get_file_info(self.path(name))
        if info.type != pafs.FileType.File:
            raise FileNotFoundError(self.path(name))
        return int(info.size)

    def read(self, name: str) -> bytes:
        """The bytes of a file; FileNotFoundError when it is not there."""
        if self.is_local:
            return Path(self.path(name)).read_bytes()
        with self._fs.open_input_stream(self.path(name)) as stream:
            return bytes(stream.read())

    def open(self, name: str) -> Any:
        """A `pyarrow.NativeFile` for random access."""
        return self._fs.open_input_file(self.path(name))

    def names(self, sub: str = "") -> list[str]:
        """Sorted names (not paths) of what lies in this folder or in `sub`; empty when it is not there."""
        base = self.path(sub) if sub else self._root
        if self.is_local:
            try:
                found = os.listdir(base)
            except FileNotFoundError:
                return []
            return sorted(name for name in found if not name.startswith(_TEMPORARY))
        found = self._fs.get_file_info(pafs.FileSelector(base, allow_not_found=True))
        return sorted(info.base_name for info in found)

    def commit(self, name: str, data: bytes) -> bool:
        """Create a file whole, once: write, fsync, then take the name if it is free.

        Returns:
            True when this call created the file; False when the name was taken (the file is left as it was).
        """
        try:
            return self._take(name, data)
        except FileNotFoundError:  # another process swept the temporary file, thinking its writer dead
            return self._take(name, data)

    def replace(self, name: str, data: bytes) -> None:
        """Write a file whole, in place of an older one if there is one."""
        try:
            os.replace(self._write_temporary(name, data), self.path(name))
        except FileNotFoundError:  # swept, as in `commit`
            os.replace(self._write_temporary(name, data), self.path(name))
        _fsync_folder(os.path.dirname(self.path(name)))

    def delete(self, name: str) -> None:
        """Delete a file; FileNotFoundError when it is not there."""
        self._need_local("delete")
        os.unlink(self.path(name))

    def sweep(self, sub: str = "", *, older_than_s: float = 0.0) -> list[str]:
        """Remove the temporary files that killed writers left here or in `sub` (not below); return their names.

        Args:
            sub: A folder below this one.
            older_than_s: Age (seconds) below which a file may belong to a live writer and stays.
        """
        self._need_local("sweep")
        base = Path(self.path(sub) if sub else self._root)
        swept = []
        for path in sorted(base.glob(f"{_TEMPORARY}*")) if base.is_dir() else []:
            try:
                if path.is_file() and time.time() - path.stat().st_mtime >= older_than_s:
                    path.unlink()
                    swept.append(path.name)
            except FileNotFoundError:  # its writer was alive and has just finished with it
                continue
        return swept

    def check_writable(self) -> None:
        """Create the folder if need be and prove that a file can be made in it.

        Raises:
            ConfigError: It cannot: the reason of the operating system is in the message.
        """
        self._need_local("write to")
        probe = os.path.join(self._root, f"{_TEMPORARY}probe-{secrets.token_hex(6)}")
        try:
            os.makedirs(self._root, exist_ok=True)
            with open(probe, "wb"):
                pass
            os.unlink(probe)
        except OSError as error:
            raise ConfigError(
                f"{self.name}: cannot be written ({error.strerror}); choose another folder or mend it"
            ) from error

    def _take(self, name: str, data: bytes) -> bool:
        temporary = self._write_temporary(name, data)
        try:
            os.link(temporary, self.path(name))
        except FileExistsError:
            return False
        except FileNotFoundError:
            raise
        except OSError as error:
            raise PrereqError(
                f"{self.path(name)}: the name could not be taken ({error.strerror}); a run needs a file system with "
                "hard links"
            ) from error
        finally:
            Path(temporary).unlink(missing_ok=True)
        _fsync_folder(os.path.dirname(self.path(name)))
        return True

    def _write_temporary(self, name: str, data: bytes) -> str:
        self._need_local("write to")
        folder = os.path.dirname(self.path(name))
        try:
            _make_folders(folder)
            temporary = os.path.join(folder, f"{_TEMPORARY}{os.getpid()}-{secrets.token_hex(6)}")
            try:
                with open(temporary, "xb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
            except OSError:
                Path(temporary).unlink(missing_ok=True)
                raise
        except OSError as error:
            raise PrereqError(
                f"{self.path(name)}: could not be written ({error.strerror}); free space or mend the folder and start "
                "again: what was committed before is whole"
            ) from error
        return temporary

    def _need_local(self, verb: str) -> None:
        if not self.is_local:
            scheme = re.match(r"[^:]+", self.name)
            raise ConfigError(
                f"{self.name}: cannot {verb} this store: pools and runs need create-if-absent, which is only available "
                f"on local or mounted paths, not on {scheme.group() if scheme else 'this scheme'}://"
            )


def _make_folders(path: str) -> None:
    """Like os.makedirs, and fsync each folder that gets a new entry: a file is only as durable as the way to it."""
    missing = []
    while not os.path.isdir(path):
        missing.append(path)
        path = os.path.dirname(path)
    for folder in reversed(missing):
        os.makedirs(folder, exist_ok=True)
        _fsync_folder(os.path.dirname(folder))


def _fsync_folder(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
