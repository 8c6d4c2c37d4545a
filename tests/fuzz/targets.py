"""All targets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tests.fuzz import bodies, folders, ledger, policies, protos, tokens, urls

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.fuzz.engine import Target

TARGETS: Final[Mapping[str, Target]] = {
    target.name: target
    for module in (tokens, urls, policies, bodies, folders, protos, ledger)
    for target in module.TARGETS
}
