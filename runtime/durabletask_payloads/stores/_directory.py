"""A store that needs no service: payloads as files below a folder, which all processes of one machine can share.

A file is `<root>/<container>/<first two hex digits>/<32 hex digits>`. Its first line is JSON that says what is
stored, and the body follows.
"""

from __future__ import annotations

import json
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from durabletask_payloads._errors import (
    PayloadAccessDeniedError,
    PayloadError,
    PayloadIntegrityError,
    PayloadNotFoundError,
    PayloadStoreUnavailableError,
)
from durabletask_payloads._options import LargePayloadStorageOptions

from ._base import TokenStore
from ._codec import check_size, checksum, decode, encode, longest_body, too_large
from ._tokens import (
    DEFAULT_CONTAINER,
    PayloadToken,
    check_container_name,
    name_in_container,
    new_name,
)

if TYPE_CHECKING:
    from typing import BinaryIO

_LONGEST_HEADER: Final = 64 * 1024


class _Header(NamedTuple):
    sha256: str
    header_bytes: int


class DirectoryPayloadStore(TokenStore):
    """Keeps payloads as files below `root`, for processes that share a file system.

    A payload appears whole or not at all, and is on the disk when `upload` returns, so it outlives the process and
    a loss of power. Any number of threads and processes may use one folder.

    Args:
        root: the folder; it is made on first need.
        options: thresholds and compression; the defaults of LargePayloadStorageOptions where None.
        container_name: the folder in `root`, and the container that its tokens name.

    Raises:
        ValueError: `container_name` is no container name.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        options: LargePayloadStorageOptions | None = None,
        *,
        container_name: str = DEFAULT_CONTAINER,
    ) -> None:
        check_container_name(container_name)
        self._options = options or LargePayloadStorageOptions()
        self._container = container_name
        self._folder = Path(root).absolute() / container_name

    @property
    def options(self) -> LargePayloadStorageOptions:
        return self._options

    def upload(self, data: bytes, *, instance_id: str | None = None) -> str:
        check_size(data, self._options)
        header = {"sha256": checksum(data), "raw_bytes": len(data), "instance_id": instance_id}
        body = encode(data, "if smaller" if self._options.enable_compression else "never")
        name = new_name()
        token = str(PayloadToken(self._container, name))
        try:
            _write(self._path(name), json.dumps(header).encode() + b"\n", body)
        except OSError as error:
            raise _translated(error, token) from error
        return token

    def download(self, token: str) -> bytes:
        limit = self._options.max_stored_payload_bytes
        try:
            with self._open(token) as file:
                header = _read_header(file, token)
                # One byte more than any payload within the limit has, so that a longer file is not read to its end.
                body = file.read(longest_body(limit) + 1)
        except OSError as error:
            raise _translated(error, token) from error
        if len(body) > longest_body(limit):
            raise too_large(token, limit)
        return decode(body, token=token, limit=limit, sha256=header.sha256)

    def delete(self, token: str) -> None:
        try:
            self._path_of(token).unlink(missing_ok=True)
        except OSError as error:
            raise _translated(error, token) from error

    def stored_bytes(self, token: str) -> int:
        try:
            with self._open(token) as file:
                return os.fstat(file.fileno()).st_size - _read_header(file, token).header_bytes
        except OSError as error:
            raise _translated(error, token) from error

    def _open(self, token: str) -> BinaryIO:
        return self._path_of(token).open("rb")

    def _path_of(self, token: str) -> Path:
        name = name_in_container(token, self._container)
        if "/" in name:
            raise PayloadNotFoundError(f"nothing is stored under {token}: this store makes no folders for instances")
        return self._path(name)

    def _path(self, name: str) -> Path:
        return self._folder / name[:2] / name


def _write(path: Path, *parts: bytes) -> None:
    """Make the file `path`, whole and durable: not under its name before all of it is on the disk."""
    shard = path.parent
    made = [folder for folder in (shard, *shard.parents) if not folder.exists()]
    shard.mkdir(parents=True, exist_ok=True)
    descriptor, draft = tempfile.mkstemp(prefix="draft-", dir=shard)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.writelines(parts)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(draft)
        raise
    for folder in (shard, *(folder.parent for folder in made)):
        _sync_folder(folder)


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":  # a folder can not be opened there
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read_header(file: BinaryIO, token: str) -> _Header:
    line = file.readline(_LONGEST_HEADER)
    try:
        match json.loads(line):
            case {"sha256": str(sha256)}:
                return _Header(sha256, len(line))
            case _:
                pass
    except ValueError:
        pass
    raise PayloadIntegrityError(f"the file stored under {token} does not begin as a payload's: it was damaged")


def _translated(error: OSError, token: str) -> PayloadError:
    """The error of this package for what the file system said. The text has no path: it may reach a parent instance."""
    match error:
        case FileNotFoundError():
            return PayloadNotFoundError(f"nothing is stored under {token}: it was deleted, or stored in another folder")
        case PermissionError():
            return PayloadAccessDeniedError(f"the file system does not let this process use what is under {token}")
        case _:
            return PayloadStoreUnavailableError(f"the file system failed with {token}: {error.strerror}")
