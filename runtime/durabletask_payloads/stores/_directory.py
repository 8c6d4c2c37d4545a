"""A payload store in a folder, shared by all processes that mount it.

The layout is `<root>/<container>/<first two hex digits>/<32 hex digits>`. A payload file starts with one line of JSON,
its header, followed by the body. The marker in `<root>/<container>` tells the folder from an empty mount point.
"""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from durabletask_payloads._errors import (
    PayloadAccessDeniedError,
    PayloadError,
    PayloadIntegrityError,
    PayloadNotFoundError,
    PayloadStoreUnavailableError,
)
from durabletask_payloads._options import BOOL, LargePayloadStorageOptions, check_type

from ._base import TokenStore
from ._codec import check_size, decode, encode, longest_body, too_large
from ._folder import CREATE, FOLDER, FOLDER_TO_READ, MARKER, Folder, is_no_file
from ._payload_file import Header, new_header, read_header
from ._tokens import (
    DEFAULT_CONTAINER,
    PayloadToken,
    check_container_name,
    name_in_container,
    new_name,
)

if TYPE_CHECKING:
    from collections.abc import Generator
    from typing import BinaryIO

    from ._inventory import PayloadInventory

_NO_REGULAR_FILE: Final = "{}: what is stored in place of the payload is no regular file: a folder, a link or a device"
_RESTART: Final = "if it was deleted on purpose, restart this process"

# Roots, container folders and markers that existed at some time in the life of this process: none is created again.
_seen: Final[set[Path]] = set()


class DirectoryPayloadStore(TokenStore):
    """Keeps payloads as files below `root`, for processes that share a file system.

    A payload appears whole or not at all, and is on the disk when `upload` returns, so it outlives the process and
    a loss of power. Any number of threads and processes may use one folder. Files and folders get the permissions
    that the umask leaves.

    The first upload creates the container folder with a marker, the empty folder `.payload-store`. From then on, a
    folder without its marker is an outage (not mounted, moved away): all operations raise
    PayloadStoreUnavailableError, except that a payload which is there is still read. A process does not create again
    what has existed in its lifetime: restart it after the folder was deleted on purpose. A folder that an older
    version filled gets its marker with the next upload.

    A new process cannot tell an unmounted root from a new one. Where `root` or the container folder is a mount point,
    pass `create_container=False` once the folder exists.

    The root and the container folder may be symbolic links. Inside of the container folder nothing but regular files
    and folders is used: a link, a FIFO or a device raises PayloadIntegrityError (Windows follows links).

    Args:
        root: the folder for containers. The first upload creates it if its parent exists.
        options: thresholds and compression; the defaults of LargePayloadStorageOptions if None.
        container_name: the folder in `root`, and the container that its tokens name.
        create_container: create root, container folder and marker if they do not exist.

    Raises:
        ValueError: `container_name` is not a valid container name, or `root` is no path.
        PayloadStoreUnavailableError: `root` is relative, and the current folder does not exist any more.
        TypeError: `create_container` is no bool.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        options: LargePayloadStorageOptions | None = None,
        *,
        container_name: str = DEFAULT_CONTAINER,
        create_container: bool = True,
    ) -> None:
        check_container_name(container_name)
        check_type("create_container", create_container, bool, BOOL)
        self._options = options or LargePayloadStorageOptions()
        self._container = container_name
        self._root = _absolute(root)
        self._path = self._root / container_name
        self._create_container = create_container

    @property
    def options(self) -> LargePayloadStorageOptions:
        return self._options

    def upload(self, data: bytes, *, instance_id: str | None = None) -> str:
        """Write `data` to a new file, with all of it on the disk, and return its token.

        Args:
            data: the UTF-8 bytes of a payload.
            instance_id: stored in the header of the file; left out if it is over 4,096 characters as JSON.

        Raises:
            PayloadTooLargeError, PayloadAccessDeniedError, PayloadStoreUnavailableError: as for
                `PayloadStore.upload`; a disk that is full and a folder without its marker are unavailable.
        """
        check_size(data, self._options)
        header = new_header(data, instance_id)
        body = encode(data, "if smaller" if self._options.enable_compression else "never")
        name = new_name()
        token = str(PayloadToken(self._container, name))
        with self._translated(token), self._folder_to_write(token) as folder:
            _write(folder, name, header, body)
        return token

    def download(self, token: str) -> bytes:
        """Return the bytes that were stored under `token`, read within `max_stored_payload_bytes` and verified.

        Raises:
            PayloadError: as for `PayloadStore.download`. What is no regular file is a PayloadIntegrityError.
        """
        limit = self._options.max_stored_payload_bytes
        with self._opened(token) as file:
            stored = _stored_bytes(file, header := read_header(file, token))
            if stored > longest_body(limit):
                raise too_large(token, limit)
            # One byte more, to notice a file that grows.
            body = file.read(stored + 1)
        if len(body) != stored:
            raise PayloadIntegrityError(f"{token}: the payload file changed while it was read")
        return decode(body, token=token, limit=limit, sha256=header.sha256)

    def delete(self, token: str) -> None:
        """Delete the file stored under `token`, if there is one. Raises as `PayloadStore.delete` does."""
        name = self._name(token)
        with self._translated(token), self._folder_to_read(token) as folder:
            try:
                with folder.subfolder(name[:2], FOLDER_TO_READ) as shard:
                    shard.unlink(name)
                _seen.update((self._root, self._path))
            except FileNotFoundError:
                self._require_marker(folder, token)
            except OSError as error:
                raise _not_a_file(error, token) from error

    def stored_bytes(self, token: str) -> int:
        """Return the size of the body in the file, in bytes, after compression. Raises as `download` does."""
        with self._opened(token) as file:
            return _stored_bytes(file, read_header(file, token))

    def inventory(self) -> PayloadInventory:
        """Return the inventory of this store, for operators: it lists and deletes. Does no I/O."""
        from ._directory_inventory import DirectoryAccess, DirectoryInventory  # for operators: 4 ms of the import

        return DirectoryInventory(
            DirectoryAccess(
                path=self._path,
                container=self._container,
                opened=self._opened,
                translated=partial(self._translated, self._location()),
                checked=self._checked,
                upload=self.upload,
                delete=self.delete,
            )
        )

    @contextmanager
    def _opened(self, token: str) -> Generator[BinaryIO]:
        with self._translated(token), self._file(token) as file:
            yield file

    @contextmanager
    def _checked(self) -> Generator[Folder]:
        where = self._location()
        with self._translated(where), self._folder_to_read(where) as folder:
            self._require_marker(folder, where)
            yield folder

    def _location(self) -> str:
        """Return what takes the place of a token in errors that are of no payload."""
        return f"container {self._container!r}"

    # ---- payload files ------------------------------------------------------------------------------------------

    @contextmanager
    def _file(self, token: str) -> Generator[BinaryIO]:
        """Open the payload file of `token` to read."""
        name = self._name(token)
        with self._folder_to_read(token) as folder:
            file = self._found(folder, name, token)
        with file:
            _seen.update((self._root, self._path))
            yield file

    def _found(self, folder: Folder, name: str, token: str) -> BinaryIO:
        """Open the payload file `name`, or raise PayloadNotFoundError if the marker shows that the folder is there.

        The marker is checked after the miss, in the same folder by its descriptor. Windows has none of those: there,
        the second attempt finds a payload whose folder came back between miss and check.
        """
        for _ in range(2):
            try:
                with folder.subfolder(name[:2], FOLDER_TO_READ) as shard:
                    return shard.open_file(name)
            except FileNotFoundError:
                self._require_marker(folder, token)
            except OSError as error:
                raise _not_a_file(error, token) from error
        raise PayloadNotFoundError(f"{token}: payload not found: it was deleted, or stored in another folder")

    def _name(self, token: str) -> str:
        name = name_in_container(token, self._container)
        if "/" in name:
            raise PayloadNotFoundError(f"{token}: payload not found: this store makes no folders for instances")
        return name

    # ---- the container folder and its marker ----------------------------------------------------------------------

    @contextmanager
    def _folder_to_read(self, token: str) -> Generator[Folder]:
        try:
            folder = Folder.at(self._path, FOLDER_TO_READ)
        except FileNotFoundError as error:
            if self._root.exists():
                _seen.add(self._root)
            raise self._unavailable(token, "does not exist, and only an upload creates it") from error
        with folder:
            yield folder

    def _require_marker(self, folder: Folder, token: str) -> None:
        """Raise PayloadStoreUnavailableError unless the marker exists."""
        if not folder.has_marker():
            raise self._unavailable(token, f"has no marker {MARKER!r}, so that it may be a bare mount point")
        _seen.update((self._root, self._path, self._path / MARKER))

    @contextmanager
    def _folder_to_write(self, token: str) -> Generator[Folder]:
        """Open the container folder. Create it, and its marker, unless this process knows that they existed."""
        # Looked up first: other threads may create them meanwhile.
        seen = {path for path in (self._root, self._path, self._path / MARKER) if path in _seen}
        try:
            folder = Folder.at(self._path, FOLDER)
        except FileNotFoundError as error:
            self._create(token, seen, error)
            folder = Folder.at(self._path, FOLDER)
        with folder:
            if not folder.has_marker() and self._may_mark(folder, seen):
                folder.write_marker()
            self._require_marker(folder, token)
            yield folder

    def _may_mark(self, folder: Folder, seen: set[Path]) -> bool:
        if not self._create_container or self._path / MARKER in seen:
            return False
        # If this process has read a payload from the folder, an empty one is something else: a bare mount point.
        return self._path not in seen or folder.holds_payloads()

    def _create(self, token: str, seen: set[Path], error: FileNotFoundError) -> None:
        if self._path in seen:
            raise self._unavailable(
                token, f"existed and is missing now, so it is not created again ({_RESTART})"
            ) from error
        if not self._create_container:
            raise self._unavailable(token, "does not exist, and create_container is False") from error
        if not self._root.exists():
            if self._root in seen:
                raise self._unavailable(
                    token, f"is missing with its root, which existed before ({_RESTART})"
                ) from error
            if not self._root.parent.exists():
                raise self._unavailable(
                    token, "cannot be created: neither its root nor the root's parent folder exists"
                ) from error
        for path in (self._root, self._path):
            with suppress(FileExistsError):
                path.mkdir()
                # A parent that may not be listed, as a drop box, cannot be synced: it has to be opened for that. Where
                # its file system has a journal, the new name is on the disk once something in the new folder is.
                with suppress(PermissionError), Folder.at(path.parent, FOLDER) as parent:
                    parent.sync()

    def _unavailable(self, token: str, state: str) -> PayloadStoreUnavailableError:
        return PayloadStoreUnavailableError(
            f"{token}: the folder of container {self._container!r} {state}: mount it or move it back, or give this "
            "process the root that the other processes use"
        )

    @contextmanager
    def _translated(self, token: str) -> Generator[None]:
        """Raise errors of this package for those of the file system. Their text has no path: a parent may see it."""
        try:
            yield
        except PermissionError as error:
            raise PayloadAccessDeniedError(
                f"{token}: the file system refuses this process access to the folder of container "
                f"{self._container!r}: check owner, permissions and umask"
            ) from error
        except OSError as error:
            raise PayloadStoreUnavailableError(
                f"{token}: the file system of container {self._container!r} failed: {error.strerror}"
            ) from error


def _absolute(root: str | os.PathLike[str]) -> Path:
    text = os.fspath(root)
    if not text:
        raise ValueError('root is empty: is the variable that it comes from set? The current folder is "."')
    if "\0" in text:
        raise ValueError(f"root is {text!r:.40}: a path has no zero bytes")
    try:
        return Path(text).absolute()
    except OSError as error:
        raise PayloadStoreUnavailableError(
            f"root is {text!r:.40}, which is relative, and the current folder of this process cannot be found "
            f"({error.strerror}): pass an absolute path, or start the process in a folder that exists"
        ) from error


def _stored_bytes(file: BinaryIO, header: Header) -> int:
    return os.fstat(file.fileno()).st_size - header.header_bytes


def _write(folder: Folder, name: str, *parts: bytes) -> None:
    """Write a payload file. It gets its name once all of it is on the disk; a failure leaves no file behind."""
    is_new = folder.make(name[:2])
    with folder.subfolder(name[:2], FOLDER) as shard:
        draft = f"draft-{new_name()}"
        try:
            with os.fdopen(shard.open(draft, CREATE), "wb") as file:
                file.writelines(parts)
                file.flush()
                os.fsync(file.fileno())
            shard.rename(draft, name)
            shard.sync()
            if is_new:
                folder.sync()
        except BaseException:
            # Nobody has the token yet.
            for leftover in (draft, name):
                with suppress(OSError):
                    shard.unlink(leftover)
            raise


def _not_a_file(error: OSError, token: str) -> PayloadError | OSError:
    """Return PayloadIntegrityError if `error` says that there is no regular file, otherwise `error`."""
    return PayloadIntegrityError(_NO_REGULAR_FILE.format(token)) if is_no_file(error) else error
