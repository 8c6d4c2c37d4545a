"""An open folder of the file system, its files reached by its descriptor, and the marker of a payload store."""

from __future__ import annotations

import errno
import os
import re
import stat
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from typing import BinaryIO

    from typing_extensions import Self

# A folder, which is made in one step, and is no file that stands for a payload.
MARKER: Final = ".payload-store"

# O_BINARY exists on Windows only, the others everywhere else. O_NONBLOCK: opening a FIFO returns at once.
_BINARY: Final[int] = getattr(os, "O_BINARY", 0)
_NO_FOLLOW: Final[int] = getattr(os, "O_NOFOLLOW", 0)
_READ: Final[int] = os.O_RDONLY | _BINARY | _NO_FOLLOW | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)
CREATE: Final[int] = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _BINARY | _NO_FOLLOW
# A folder to write in is opened for fsync. O_PATH, which only Linux has, needs no permission to list the folder.
FOLDER: Final[int] = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0)
FOLDER_TO_READ: Final[int] = getattr(os, "O_PATH", 0) | FOLDER
_HAS_FOLDER_DESCRIPTORS: Final[bool] = os.name != "nt"


# What opening something other than a regular file fails with: a link, a folder in place of a file or the reverse, a
# socket, a device without a driver.
_NOT_A_FILE: Final = frozenset(
    {errno.ELOOP, errno.EMLINK, errno.ENOTDIR, errno.EISDIR, errno.ENXIO, errno.ENODEV, errno.EOPNOTSUPP}
)
# What fsync fails with where a file system has none for folders.
_NO_SYNC: Final = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP})


def is_no_file(error: OSError) -> bool:
    """Return whether `error`, of opening or deleting a file, says that there is no regular file."""
    return error.errno in _NOT_A_FILE


class Folder(NamedTuple):
    """An open folder. It stays the same one when it is moved, or something is mounted over it; not on Windows."""

    path: str
    descriptor: int | None

    @classmethod
    def at(cls, path: str | os.PathLike[str], flags: int, within: int | None = None) -> Self:
        """Open the folder. Raises OSError."""
        if _HAS_FOLDER_DESCRIPTORS:
            return cls("", os.open(path, flags, dir_fd=within))
        if not stat.S_ISDIR(os.stat(path).st_mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        return cls(os.fspath(path), None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.descriptor is not None:
            os.close(self.descriptor)

    def _of(self, name: str) -> str:
        return name if self.descriptor is not None else os.path.join(self.path, name)

    def subfolder(self, name: str, flags: int) -> Self:
        return self.at(self._of(name), flags | _NO_FOLLOW, self.descriptor)

    def open(self, name: str, flags: int) -> int:
        return os.open(self._of(name), flags, 0o666, dir_fd=self.descriptor)

    def open_file(self, name: str) -> BinaryIO:
        """Open a regular file to read. Raises OSError: for a link, a FIFO and the like one that `is_no_file`."""
        descriptor = self.open(name, _READ)
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return os.fdopen(descriptor, "rb")
        os.close(descriptor)
        raise OSError(errno.EISDIR, "No regular file")

    def make(self, name: str) -> bool:
        """Create a folder in this one. Returns whether it is new."""
        try:
            os.mkdir(self._of(name), 0o777, dir_fd=self.descriptor)
        except FileExistsError:
            return False
        return True

    def rename(self, name: str, new: str) -> None:
        os.replace(self._of(name), self._of(new), src_dir_fd=self.descriptor, dst_dir_fd=self.descriptor)

    def unlink(self, name: str) -> None:
        os.unlink(self._of(name), dir_fd=self.descriptor)

    def sync(self) -> None:
        """Have what was created, renamed and deleted in this folder on the disk. Raises OSError."""
        if self.descriptor is None:
            return
        try:
            os.fsync(self.descriptor)
        except OSError as error:
            # Some network shares cannot do that for folders, and never will: there is no more to be done.
            if error.errno not in _NO_SYNC:
                raise

    def has_marker(self) -> bool:
        try:
            found = os.stat(self._of(MARKER), dir_fd=self.descriptor, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return stat.S_ISDIR(found.st_mode)

    def write_marker(self) -> None:
        self.make(MARKER)
        self.sync()

    def holds_payloads(self) -> bool:
        names = os.listdir(self.path if self.descriptor is None else self.descriptor)
        return any(re.fullmatch("[0-9a-f]{2}", name) for name in names)
