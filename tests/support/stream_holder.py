"""What a work item arrives through, where no stream is needed. For tests/interceptors/worker."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from durabletask_payloads.interceptors._verdict import Abandon
    from durabletask_payloads.interceptors.worker.kinds import WorkItem


class Holder:
    """Abandons nothing, and waits for nothing."""

    can_abandon: bool | None = None

    def abandon_later(self, item: WorkItem, abandon: Abandon) -> bool:
        return False

    def wait(self, abandon: Abandon) -> bool:
        return False
