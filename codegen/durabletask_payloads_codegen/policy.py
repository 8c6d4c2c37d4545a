"""The field policy: classifies each StringValue field of each message."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import takewhile
from typing import TYPE_CHECKING, Literal, TypeAlias

from .errors import CodegenError
from .toml_file import is_table, read_toml

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

__all__ = ["KINDS", "FieldKind", "Policy", "PolicyMismatchError", "load_policy", "namesakes"]

FieldKind: TypeAlias = Literal["payload", "diagnostic", "metadata"]
KINDS: Mapping[str, FieldKind] = {"payload": "payload", "diagnostic": "diagnostic", "metadata": "metadata"}
_CHOICE = "payload, diagnostic or metadata"


class PolicyMismatchError(CodegenError):
    """A policy that does not match the schema.

    Attributes:
        policy: the policy.
        missing: the fields that it does not classify, in the order of the schema.
    """

    def __init__(self, text: str, policy: Policy, missing: Sequence[str]) -> None:
        super().__init__(text)
        self.policy = policy
        self.missing: tuple[str, ...] = tuple(missing)


@dataclass(frozen=True, slots=True)
class Policy:
    """The classification, keyed by `Message.field`, and the file that it was read from.

    Attributes:
        tables: the messages that have a table in the file, empty ones too.
    """

    file: str
    kinds: Mapping[str, FieldKind]
    tables: frozenset[str] = field(default=frozenset(), compare=False)

    def check(self, fields: Iterable[str]) -> None:
        """Require that exactly `fields` are classified.

        Raises:
            PolicyMismatchError: some are not, or entries name no field; the text lists them all.
        """
        known = list(fields)
        faults: list[str] = []
        if missing := [field for field in known if field not in self.kinds]:
            faults.append(f"not classified: {', '.join(missing)} (add each as {_CHOICE})")
        gone = sorted(self.kinds.keys() - set(known))
        moved = {entry: found for entry in gone if (found := namesakes(entry, missing))}
        if gone_for_good := [entry for entry in gone if entry not in moved]:
            faults.append(f"no such StringValue field: {', '.join(gone_for_good)} (remove)")
        if moved:
            questions = [f"{entry} (did you mean {' or '.join(found)}?)" for entry, found in moved.items()]
            faults.append(f"no such StringValue field: {', '.join(questions)}")
        if faults:
            raise PolicyMismatchError(f"{self.file}: {'; '.join(faults)}", self, missing)


def namesakes(name: str, fields: Iterable[str]) -> tuple[str, ...]:
    """Find the fields of that name in messages of that name elsewhere: in another package, or nested elsewhere.

    Where there are several, those that agree with `name` in the most parts from the right.
    """
    found: dict[int, list[str]] = {}
    for other in fields:
        pairs = zip(reversed(name.split(".")), reversed(other.split(".")), strict=False)
        same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
        if same > 1 and other != name:  # the field and the message
            found.setdefault(same, []).append(other)
    return tuple(found[max(found)]) if found else ()


def load_policy(path: Path) -> Policy:
    """Read a policy file: a table for each message, `field = "payload" | "diagnostic" | "metadata"` in it.

    The name of a message with dots may be quoted, `["pkg.Message"]`, or not, `[pkg.Message]`.

    Raises:
        CodegenError: the file cannot be read, is not TOML, has another shape, or classifies a field in two ways.
    """
    document = read_toml(path)
    kinds: dict[str, FieldKind] = {}
    tables: set[str] = set()
    for name, value in document.items():
        if not is_table(value):
            raise CodegenError(f"{path}: {name}: must be a table with the fields of a message, as [{name}]")
    for message, entries in _tables(document):
        tables.add(message)
        for name, kind in entries.items():
            if not isinstance(kind, str) or kind not in KINDS:
                raise CodegenError(f"{path}: {message}.{name}: is {kind!r}, must be {_CHOICE}")
            known = kinds.setdefault(f"{message}.{name}", KINDS[kind])
            if known != kind:
                raise CodegenError(f"{path}: {message}.{name}: is classified twice, as {known} and as {kind}")
    return Policy(str(path), kinds, frozenset(tables))


def _tables(document: dict[str, object]) -> Iterator[tuple[str, Mapping[str, object]]]:
    """Yield the tables at any depth by full name, each without the tables in it: unquoted dots nest in TOML."""
    # Not by recursion: a name may have thousands of dots.
    waiting = [(name, table) for name, table in reversed(document.items()) if is_table(table)]
    while waiting:
        name, table = waiting.pop()
        entries = {key: entry for key, entry in table.items() if not is_table(entry)}
        if entries or not table:
            yield name, entries
        waiting += [(f"{name}.{key}", inner) for key, inner in reversed(table.items()) if is_table(inner)]
