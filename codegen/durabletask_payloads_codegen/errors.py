"""The error of the generator."""

from __future__ import annotations

__all__ = ["CodegenError"]


class CodegenError(Exception):
    """Bad input. The text is one line that names the file and, where there is one, the message and the field."""

    def __init__(self, text: str) -> None:
        super().__init__(" ".join(text.split()))
