"""Stage 4: writes the files, or compares them with those that are there."""

from __future__ import annotations

import contextlib
import difflib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import CodegenError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

__all__ = ["difference", "packages", "write"]

# Files of a generated package that are removed when they are no longer generated.
_GENERATED_SUFFIXES = {".py", ".pyi", ".typed"}


def packages(files: Mapping[str, str]) -> frozenset[str]:
    """Return the top folders of `files`."""
    return frozenset(path.partition("/")[0] for path in files if "/" in path)


def write(root: Path, files: Mapping[str, str], owned: Collection[str] = ()) -> list[str]:
    """Make `root` hold `files`, keyed by their path in it, and return the paths that changed.

    All are written to temporary files first, then renamed, so that an error leaves everything as it was.

    Args:
        root: the folder; it is made if it is missing.
        files: the texts by path.
        owned: top folders that hold nothing but generated Python: a file in them that is not among `files` is removed.

    Raises:
        CodegenError: a file cannot be written.
    """
    changed = [path for path, text in files.items() if _read(root / path) != text.encode()]
    temporary: dict[Path, Path] = {}
    try:
        for path in changed:
            target = root / path
            target.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}.", delete=False) as file:
                temporary[target] = Path(file.name)
                file.write(files[path].encode())
            temporary[target].chmod(0o644)  # a temporary file is private to its owner
        for target, source in temporary.items():
            source.replace(target)
        gone = _gone(root, files, owned)
        for path in gone:
            (root / path).unlink()
    except OSError as error:
        raise CodegenError(f"{error.filename or root}: cannot be written: {error.strerror}") from error
    finally:
        for source in temporary.values():
            with contextlib.suppress(OSError):
                source.unlink(missing_ok=True)
    return changed + gone


def difference(root: Path, files: Mapping[str, str], owned: Collection[str] = ()) -> str:
    """Return a unified diff from what `root` holds to what `write` would make of it; empty if they are the same."""
    chunks: list[str] = []
    for path in sorted({*files, *_gone(root, files, owned)}):
        there, wanted = _read(root / path), files.get(path)
        if there is not None and wanted is not None and there == wanted.encode():
            continue
        before = (there or b"").decode(errors="replace").splitlines(keepends=True)
        after = (wanted or "").splitlines(keepends=True)
        old = str(root / path) if there is not None else "/dev/null"
        new = f"{root / path} (generated)" if wanted is not None else "/dev/null"
        # An empty file that is missing, or one with other line ends, has no lines to show.
        chunks.extend(difflib.unified_diff(before, after, old, new) if before != after else [f"--- {old}\n+++ {new}\n"])
    return "".join(chunks)


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CodegenError(f"{path}: cannot be read: {error.strerror}") from error


def _gone(root: Path, files: Mapping[str, str], owned: Collection[str]) -> list[str]:
    there = (path for package in sorted(owned) for path in sorted((root / package).rglob("*")))
    found = [path.relative_to(root).as_posix() for path in there if path.suffix in _GENERATED_SUFFIXES]
    return [path for path in found if path not in files]
