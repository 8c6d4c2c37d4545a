"""The source of the plans, for a package of walkers that brings its own.

It is that of the runtime, read as text, so that there is one implementation of what walkers rely on. The one thing in
it that is of the runtime, the error, becomes a ValueError.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from .errors import CodegenError

__all__ = ["plan_source"]

_IMPORT = "from durabletask_payloads._errors import PayloadTooLargeError\n"
_ERROR = "PayloadTooLargeError"


def plan_source() -> str:
    """Return the source of a module with `ExternalizePlan` and `DeexternalizePlan` that needs protobuf alone.

    Raises:
        CodegenError: the runtime is not installed beside the generator, or is another one.
    """
    spec = find_spec("durabletask_payloads")  # found, not imported
    if spec is None or spec.origin is None:
        raise CodegenError("package durabletask_payloads: is not installed, so its plan module cannot be written")
    path = Path(spec.origin).parent / "externalizer" / "_plan.py"
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise CodegenError(f"{path}: cannot be read: {error.strerror}") from error
    before, found, after = text.partition(_IMPORT)
    own = f"{before.rstrip()}\n{after}".replace(_ERROR, "ValueError")
    if not found or "durabletask_payloads" in own:
        raise CodegenError(f"{path}: is not the plan module that this generator knows")
    return own
