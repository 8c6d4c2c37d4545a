"""The contract of `PayloadStore`, from its parts."""

from __future__ import annotations

from typing import ClassVar

from ._concurrency import ConcurrencyContract
from ._externalizer import ExternalizerContract
from ._lifetime import LifetimeContract
from ._like import PayloadStoreLikeContract
from ._payloads import PayloadContract
from ._tokens import TokenContract


class PayloadStoreContract(
    PayloadContract,
    TokenContract,
    ConcurrencyContract,
    LifetimeContract,
    ExternalizerContract,
    PayloadStoreLikeContract,
):
    """What every `PayloadStore` has to do: subclass it with a fixture `make_store`.

    The fixture returns a `MakeStore`: see `durabletask_payloads.testing`. A store that needs no closing may go on after
    `close`; any other raises PayloadStoreUnavailableError. The tests of a fork are skipped only on systems
    without one.
    """

    secrets: ClassVar[tuple[str, ...]] = ()
    """Keys and passwords that the stores are made with: no repr, error or log record may show them."""
