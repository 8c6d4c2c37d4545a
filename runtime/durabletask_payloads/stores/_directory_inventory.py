"""The inventory of a folder."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Final

from durabletask_payloads._errors import PayloadIntegrityError, PayloadNotFoundError

from ._folder import MARKER, is_no_file
from ._inventory import REST, StoredPayload
from ._notes import LONGEST_NOTE, checked_note, is_note
from ._payload_file import read_header
from ._tokens import PayloadToken, is_bare_name, name_in_container, new_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path
    from typing import BinaryIO

    from ._folder import Folder

# The folders that payloads are in, and what else is beside them.
_FOLDERS: Final = (*(f"{number:02x}" for number in range(256)), REST)


@dataclass(frozen=True)
class DirectoryAccess:
    """What an inventory needs of its store.

    Attributes:
        path: the folder of the container.
        container: its name in tokens.
        opened: opens the file of a token. Raises as `PayloadStore.download`.
        translated: raises errors of this package for those of the file system.
        checked: does so too, after it has checked that the folder is there, with its marker. Gives the folder.
        upload: as that of a store.
        delete: as that of a store.
    """

    path: Path
    container: str
    opened: Callable[[str], AbstractContextManager[BinaryIO]]
    translated: Callable[[], AbstractContextManager[None]]
    checked: Callable[[], AbstractContextManager[Folder]]
    upload: Callable[[bytes], str]
    delete: Callable[[str], None]


class DirectoryInventory:
    """The inventory of a folder. See `PayloadInventory`. What is no payload file is listed without a token."""

    def __init__(self, access: DirectoryAccess) -> None:
        self._access = access

    @property
    def location(self) -> str:
        return self._access.path.as_uri()

    @property
    def partitions(self) -> Sequence[str]:
        return _FOLDERS

    def list_payloads(self, partition: str) -> Iterator[StoredPayload]:
        with self._access.checked():
            try:
                names = os.listdir(self._access.path / partition)
            except (FileNotFoundError, NotADirectoryError):
                return
        for name in names:
            try:
                if partition == REST:
                    if name not in _FOLDERS and name != MARKER:
                        yield self._foreign(name)
                elif is_bare_name(name) and name.startswith(partition):
                    yield self._payload(name)
                else:
                    yield self._foreign(f"{partition}/{name}")
            except PayloadNotFoundError:
                pass  # deleted meanwhile

    def look(self, token: str) -> StoredPayload:
        with self._access.opened(token) as file:
            header = read_header(file, token)
            status = os.fstat(file.fileno())
        instance_id, raw_bytes = header.described()
        return StoredPayload(
            name=name_in_container(token, self._access.container),
            token=token,
            stored_bytes=status.st_size - header.header_bytes,
            modified=_modified(status),
            etag=_etag(status),
            managed=True,
            instance_id=instance_id,
            raw_bytes=raw_bytes,
            sha256=header.sha256,
        )

    def delete_unchanged(self, stored: StoredPayload) -> bool:
        if not (stored.managed and stored.token):
            return False
        try:
            if self.look(stored.token).etag != stored.etag:
                return False
        except (PayloadNotFoundError, PayloadIntegrityError):
            return False
        self._access.delete(stored.token)
        return True

    def name_of(self, token: str) -> str | None:
        found = PayloadToken.parse(token)
        is_own = found and found.account_url is None and found.container == self._access.container
        return found.name if found and is_own else None

    def service_time(self) -> datetime:
        with self._access.checked():
            token = self._access.upload(b"")
        try:
            return self.look(token).modified
        finally:
            self._access.delete(token)

    def has_container(self) -> bool:
        with self._access.translated():
            try:
                os.stat(self._access.path)
            except FileNotFoundError:
                return False
        with self._access.checked(), os.scandir(self._access.path) as names:
            next(names, None)
        return True

    def notes(self) -> Iterator[tuple[str, bytes]]:
        with self._access.checked():
            names = sorted(name for name in os.listdir(self._access.path) if is_note(name))
        for name in names:
            content = self._note(name)
            if content is not None:
                yield name, content

    def _note(self, name: str) -> bytes | None:
        """Return the content of a note; None if it is gone, too long, or no regular file."""
        with self._access.checked() as folder:
            try:
                with folder.open_file(name) as file:
                    content = file.read(LONGEST_NOTE + 1)
            except FileNotFoundError:
                return None
            except OSError as error:
                if is_no_file(error):
                    return None
                raise
        return content if len(content) <= LONGEST_NOTE else None

    def leave_note(self, name: str, content: bytes) -> None:
        with self._access.checked():
            draft = self._access.path / f"draft-{new_name()}"
            try:
                draft.write_bytes(content)
                draft.replace(self._access.path / checked_note(name))
            finally:
                draft.unlink(missing_ok=True)

    def _payload(self, name: str) -> StoredPayload:
        try:
            return self.look(str(PayloadToken(self._access.container, name)))
        except PayloadIntegrityError:
            return self._foreign(f"{name[:2]}/{name}")

    def _foreign(self, path: str) -> StoredPayload:
        with self._access.checked():
            try:
                status = os.stat(self._access.path / path, follow_symlinks=False)
            except FileNotFoundError as error:
                raise PayloadNotFoundError(f"{path}: file not found: it was deleted while it was listed") from error
        modified, etag = _modified(status), _etag(status)
        return StoredPayload(path, "", status.st_size, modified, etag, False, None, None, None)


def _modified(status: os.stat_result) -> datetime:
    """Return when a file was written: the latest time there is if datetime has none for it, since it is not old."""
    try:
        return datetime.fromtimestamp(status.st_mtime, timezone.utc)
    except (ValueError, OverflowError, OSError):  # which one depends on the platform
        return datetime.max.replace(tzinfo=timezone.utc)


def _etag(status: os.stat_result) -> str:
    return f"{status.st_ino:x}-{status.st_mtime_ns:x}-{status.st_size:x}"
