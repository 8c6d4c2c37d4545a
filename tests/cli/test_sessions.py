"""The recorded sessions are what the commands print: for a directory, Azurite and S3, wide, narrow and as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.cli import recorded
from tests.support.fixtures import needs_obstore

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from tests.support.azurite import Azurite
    from tests.support.s3 import S3


def as_recorded(kind: recorded.Kind, place: AbstractContextManager[recorded.Place]) -> None:
    printed = recorded.recorded(kind, place)
    assert printed == recorded.golden(kind).read_text(encoding="utf-8"), "python -m tests.cli.record records it anew"


def test_of_a_directory() -> None:
    as_recorded("directory", recorded.directory())


@pytest.mark.usefixtures("engine")
def test_of_azurite(azurite: Azurite) -> None:
    as_recorded("azurite", recorded.azurite(azurite))


@needs_obstore
def test_of_s3(s3: S3) -> None:
    as_recorded("s3", recorded.s3(s3))


def test_no_line_is_wider_than_the_terminal() -> None:
    """But of JSON, which is not for a terminal, and of errors, which are one line however long."""
    for kind in recorded.KINDS:
        for block in recorded.golden(kind).read_text(encoding="utf-8").split("==== ")[1:]:
            columns, _, rest = block.partition(" columns: ")
            printed = rest.split("\n")[1:]
            if columns.isdecimal():
                assert [line for line in printed if len(line) > int(columns) and ": " not in line] == []
