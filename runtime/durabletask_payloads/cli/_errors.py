"""The error that ends a command with one line."""

from __future__ import annotations

from typing import Literal


class CommandError(Exception):
    """A command cannot start or go on. The text is one line.

    Attributes:
        exit_code: 2 when it cannot be done as asked (an argument, something that is not installed), else 1.
    """

    def __init__(self, text: str, *, exit_code: Literal[1, 2]) -> None:
        super().__init__(" ".join(text.split()))
        self.exit_code: Literal[1, 2] = exit_code
