"""The worker's side of the interceptor: work items from their arrival to their completion."""

from ._completion import Completions
from ._registry import Registry
from ._stream import WorkItemStream

__all__ = ["Completions", "Registry", "WorkItemStream"]
