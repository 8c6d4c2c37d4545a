"""Records the sessions anew: `python -m tests.cli.record`. Look at the difference before you commit it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.cli import recorded
from tests.support.azurite import Azurite
from tests.support.s3 import S3

if TYPE_CHECKING:
    from contextlib import AbstractContextManager


def main() -> None:
    with Azurite() as azurite, S3() as s3:
        places: dict[recorded.Kind, AbstractContextManager[recorded.Place]] = {
            "azurite": recorded.azurite(azurite),
            "directory": recorded.directory(),
            "s3": recorded.s3(s3),
        }
        for kind, place in places.items():
            recorded.golden(kind).write_text(recorded.recorded(kind, place), encoding="utf-8")


if __name__ == "__main__":
    main()
