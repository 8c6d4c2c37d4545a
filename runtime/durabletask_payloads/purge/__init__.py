"""Auto-purge: deletes the payloads of instances that the Durable Task Scheduler has purged.

The scheduler keeps a ledger of them, and any worker with rights on the storage may carry it out: see `PayloadPurger`.
"""

from durabletask_payloads._hub_channel import scheduler_channel

from ._auto_purge import set_auto_purge
from ._outcomes import PurgeOutcome
from ._purger import PayloadPurger, PurgeReport

__all__ = ["PayloadPurger", "PurgeOutcome", "PurgeReport", "scheduler_channel", "set_auto_purge"]
