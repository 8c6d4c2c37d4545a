"""What one line of the table is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Unit: TypeAlias = Literal["s", "downloads"]


@dataclass(frozen=True)
class Row:
    """One case, measured for the reference (the `durabletask` wheel) and for us, in one run.

    Attributes:
        case: what was done.
        target: the least ratio of reference to ours; for counts the most that ours may be; None: shown, not judged.
        reference, ours: medians, in seconds, or counts. The overhead is against an interceptor that does nothing.
        kept: ours through an `Externalizer` that is kept, where `ours` is one of the four functions of the SDK.
        floor: what cannot be undercut, for this case.
        floor_is: what that is.
    """

    case: str
    target: float | None
    reference: float
    ours: float
    kept: float | None = None
    floor: float | None = None
    floor_is: str = ""
    unit: Unit = "s"

    @property
    def ratio(self) -> float:
        return self.reference / self.ours if self.ours else float("inf")

    def reaches(self, share: float = 1.0) -> bool:
        """Whether the target is reached, or `share` of it. Counts have no noise: all of theirs has to be."""
        if self.target is None:
            return True
        return self.ours <= self.target if self.unit == "downloads" else self.ratio >= self.target * share


@dataclass(frozen=True)
class Speeds:
    """How fast each of several sides is for each of `xs`, in MB/s (10^6 bytes)."""

    title: str
    x_label: str
    xs: tuple[int, ...]
    series: dict[str, tuple[float, ...]]


@dataclass(frozen=True)
class Curve:
    """How time grows with a number: for each of `xs`, in seconds."""

    title: str
    x_label: str
    xs: tuple[int, ...]
    reference: tuple[float, ...]
    ours: tuple[float, ...]
    floor: tuple[float, ...] = ()
    floor_is: str = ""
