"""Options that all stores share: thresholds and compression."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from types import UnionType

_MAX_THRESHOLD = 1024 * 1024
# In seconds. Infinity is no time that a clock, a lock or a client can wait for.
_LONGEST_TIME = 24 * 60 * 60

BOOL: Final = "True or False, as a bool"
"""What `check_type` wants of a switch. Text would turn on what it says is off: "false", as environments have it."""


@dataclass
class LargePayloadStorageOptions:
    """Settings of a payload store, with the names and defaults of the `durabletask` SDK.

    Attributes:
        threshold_bytes: A payload is externalized when its UTF-8 text is larger than this, in bytes:
            from 0 to 1 MiB, 256 KiB by default.
        max_stored_payload_bytes: The largest payload that is stored or read back, in bytes before
            compression: 10 MiB by default.
        enable_compression: gzip a payload before it is stored, where that makes it smaller.

    Raises:
        ValueError: a setting is out of its range; the text names it, its value and the range.
        TypeError: a setting is of another type; the text says what goes there.
    """

    threshold_bytes: int = 262_144
    max_stored_payload_bytes: int = 10 * 1024 * 1024
    enable_compression: bool = True

    def __post_init__(self) -> None:
        names = ("threshold_bytes", "max_stored_payload_bytes")
        check_types(self, names, int, "a number of bytes, as an int")
        check_types(self, ("enable_compression",), bool, BOOL)
        if not 0 <= self.threshold_bytes <= _MAX_THRESHOLD:
            raise ValueError(
                f"threshold_bytes is {self.threshold_bytes}: it must be from 0 to {_MAX_THRESHOLD} (1 MiB), "
                "since a payload just under it still has to fit into a gRPC message of 4 MB"
            )
        if self.max_stored_payload_bytes < self.threshold_bytes:
            raise ValueError(
                f"max_stored_payload_bytes is {self.max_stored_payload_bytes}: it must be at least "
                f"threshold_bytes, which is {self.threshold_bytes}"
            )


class Timing(Protocol):
    """How long a store tries, in seconds, and how often."""

    @property
    def connect_timeout(self) -> float: ...
    @property
    def read_timeout(self) -> float: ...
    @property
    def total_timeout(self) -> float: ...
    @property
    def retries(self) -> int: ...


def check_timing(options: Timing) -> None:
    """Raise ValueError or TypeError unless the settings of how long a store tries are in their ranges."""
    names = ("connect_timeout", "read_timeout", "total_timeout")
    check_types(options, names, int | float, "a number of seconds")
    check_types(options, ("retries",), int, "an int")
    for name in names:
        value: float = getattr(options, name)
        if not 0 < value <= _LONGEST_TIME:
            raise ValueError(f"{name} is {value}: it must be more than 0 seconds, and at most {_LONGEST_TIME} (a day)")
    if options.retries < 0:
        raise ValueError(f"retries is {options.retries}: it must be 0 (try once) or more")


def check_types(
    options: object, names: tuple[str, ...], types: type | UnionType, wanted: str, *, secret: bool = False
) -> None:
    """Raise TypeError unless the attributes `names` of `options` are of `types`. Shows up to 40 characters."""
    for name in names:
        check_type(name, getattr(options, name), types, wanted, secret=secret)


def check_type(name: str, value: object, types: type | UnionType, wanted: str, *, secret: bool = False) -> None:
    """Raise TypeError unless `value`, of the setting `name`, is of `types`. Shows up to 40 characters."""
    if not isinstance(value, types):
        shown = f"of type {type(value).__name__}" if secret else f"{value!r:.40}"
        raise TypeError(f"{name} is {shown}: it must be {wanted}")
