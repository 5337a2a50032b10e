"""Files of one local or mounted folder: whole or absent, and one name that only one writer can take.

Create-if-absent is a hard link, which fails when the name is taken. What is written is synced before it gets its name.
"""

import os
import secrets
import time
from pathlib import Path
from typing import Any

import pyarrow.fs as pafs

from prereq.graph.errors import ConfigError, PrereqError

TEMPORARY = ".tmp-"


class LocalFiles:
    """The backend of `Folder` for a path; names are checked by the folder.

    Args:
        root: The folder; need not exist.
    """

    is_local = True
    poll_s = 0.02

    def __init__(self, root: str) -> None:
        self._fs, self._root = pafs.LocalFileSystem(), os.path.abspath(root)

    def shown(self, name: str) -> str:
        """The absolute path of a file, or of the folder itself for an empty name."""
        return f"{self._root.rstrip('/')}/{name}" if name else self._root

    def exists(self, name: str) -> bool:
        """Whether a file or folder is there."""
        return os.path.exists(self.shown(name))

    def size(self, name: str) -> int:
        """Bytes of a file; FileNotFoundError when it is not there."""
        path = self.shown(name)
        if not os.path.isfile(path):
            raise FileNotFoundError(path)
        return os.path.getsize(path)

    def read(self, name: str) -> bytes:
        """The bytes of a file."""
        return Path(self.shown(name)).read_bytes()

    def open(self, name: str) -> Any:
        """A `pyarrow.NativeFile` for random access."""
        return self._fs.open_input_file(self.shown(name))

    def names(self, sub: str) -> list[str]:
        """What lies in the folder or in `sub`."""
        try:
            return os.listdir(self.shown(sub))
        except FileNotFoundError:
            return []

    def commit(self, name: str, data: bytes) -> bool:
        """Create a file whole, once; False when the name was taken."""
        try:
            return self._take(name, data)
        except FileNotFoundError:  # another process swept the temporary file, thinking its writer dead
            return self._take(name, data)

    def replace(self, name: str, data: bytes, durable: bool) -> None:
        """Write a file whole, in place of an older one."""
        path = self.shown(name)
        try:
            os.replace(self._write_temporary(path, data, durable), path)
        except FileNotFoundError:  # swept, as in `commit`
            os.replace(self._write_temporary(path, data, durable), path)
        if durable:
            _fsync_folder(os.path.dirname(path))

    def delete(self, name: str) -> None:
        """Delete a file."""
        os.unlink(self.shown(name))

    def sweep(self, sub: str, older_than_s: float) -> list[str]:
        """Remove old temporary files."""
        base = Path(self.shown(sub))
        swept = []
        for path in sorted(base.glob(f"{TEMPORARY}*")) if base.is_dir() else []:
            try:
                if path.is_file() and time.time() - path.stat().st_mtime >= older_than_s:
                    path.unlink()
                    swept.append(path.name)
            except FileNotFoundError:  # its writer was alive and has just finished with it
                continue
        return swept

    def check_writable(self) -> None:
        """Create the folder if need be and prove that a file can be made in it."""
        probe = os.path.join(self._root, f"{TEMPORARY}probe-{secrets.token_hex(6)}")
        try:
            os.makedirs(self._root, exist_ok=True)
            with open(probe, "wb"):
                pass
            os.unlink(probe)
        except OSError as error:
            raise ConfigError(
                f"{self._root}: cannot be written ({error.strerror}); choose another folder or mend it"
            ) from error

    def _take(self, name: str, data: bytes) -> bool:
        path = self.shown(name)
        temporary = self._write_temporary(path, data)
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
        except FileNotFoundError:
            raise
        except OSError as error:
            raise PrereqError(
                f"{path}: the name could not be taken ({error.strerror}); a run needs a file system with hard links"
            ) from error
        finally:
            Path(temporary).unlink(missing_ok=True)
        _fsync_folder(os.path.dirname(path))
        return True

    def _write_temporary(self, path: str, data: bytes, durable: bool = True) -> str:
        folder = os.path.dirname(path)
        try:
            _make_folders(folder)
            temporary = os.path.join(folder, f"{TEMPORARY}{os.getpid()}-{secrets.token_hex(6)}")
            try:
                with open(temporary, "xb") as file:
                    file.write(data)
                    file.flush()
                    if durable:
                        os.fsync(file.fileno())
            except OSError:
                Path(temporary).unlink(missing_ok=True)
                raise
        except OSError as error:
            raise PrereqError(
                f"{path}: could not be written ({error.strerror}); free space or mend the folder and start again: "
                "what was committed before is whole"
            ) from error
        return temporary


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
    except OSError as error:
        raise PrereqError(
            f"{path}: a file's name could not be made durable ({error.strerror}); free space or mend the folder and "
            "start again"
        ) from error
    finally:
        os.close(descriptor)
