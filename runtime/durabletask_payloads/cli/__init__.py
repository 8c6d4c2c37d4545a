"""The command line `durabletask-payloads`: one module a command."""

from ._main import main

__all__ = ["main"]
