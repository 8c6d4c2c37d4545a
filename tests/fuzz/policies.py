"""Target: the field policy of the generator, a TOML file."""

from __future__ import annotations

import string
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final, TypeAlias

from tests.fuzz.engine import MEMORY, Target, outcome
from tests.fuzz.mutator import any_character, any_name, mutated_text

from durabletask_payloads_codegen.errors import CodegenError
from durabletask_payloads_codegen.policy import KINDS, FieldKind, Policy, load_policy
from durabletask_payloads_codegen.toml_file import is_table

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from random import Random

# The text, and the kinds that it must give; None where it was changed at random.
_Case: TypeAlias = tuple[str, tuple[tuple[str, str], ...] | None]

_NAMES: Final = string.ascii_letters + string.digits + "_-"
_FRAGMENTS: Final = [
    *(
        "[",
        "]",
        "[[",
        "]]",
        "[a.b]",
        "[a]\n",
        '["a.b"]\n',
        "a.b = ",
        "= ",
        '= "payload"\n',
        '"metadata"',
        "'diagnostic'",
    ),
    *("{", "}", "{a = 1}", "=", ".", ",", "#", "\n", "\r\n", '"""', "'''", "\\u0041", "\\ud800", "\\", "true", "inf"),
    *("1979-05-27T07:32:00Z", "1979-13-99", "9" * 5_000, "0x" + "f" * 400, "1e999", "-0", "1_0", "a." * 1_500),
    *("[" * 2_000, "{a=" * 2_000, "=[[[[", "\ufeff"),
]

_folder: Final = TemporaryDirectory(prefix="fuzz-", dir=MEMORY)
_path: Final = Path(_folder.name, "policy.toml")


def _make(random: Random) -> _Case:
    kinds: dict[str, str] = {}
    lines: list[str] = []
    for number in range(random.randrange(4)):
        message = ".".join(any_name(random, _NAMES, 20) for _ in range(random.choice((1, 1, 2, 3)))) + f"_{number}"
        lines.append(random.choice((f"[{message}]", f'["{message}"]')))
        for field in range(random.randrange(4)):
            kind = random.choice(list(KINDS))
            lines.append(f'f{field} = "{kind}"' + random.choice(("", "", f"  # {any_character(random)!r}")))
            kinds[f"{message}.f{field}"] = kind
    text = "".join(f"{line}\n" for line in lines)
    if random.random() < 0.2:
        return text, tuple(kinds.items())
    return mutated_text(random, text, _FRAGMENTS), None


def _accepted(text: str) -> dict[str, FieldKind] | None:
    """Return the kinds that a policy of this text has; None if it is none."""
    try:
        text.encode()
        document: dict[str, object] = tomllib.loads(text)
    except (ValueError, RecursionError):
        return None
    if not all(map(is_table, document.values())):
        return None
    kinds: dict[str, FieldKind] = {}
    waiting: list[tuple[str, object]] = list(document.items())
    for name, value in waiting:
        if is_table(value):
            waiting += [(f"{name}.{key}", inner) for key, inner in value.items()]
        elif not isinstance(value, str) or value not in KINDS or kinds.setdefault(name, KINDS[value]) != value:
            return None
    return kinds


def _check(case: _Case) -> None:
    text, kinds = case
    _path.write_bytes(text.encode("utf-8", "surrogatepass"))
    policy = outcome(lambda: load_policy(_path), CodegenError)
    # What is read from a file has its line ends translated.
    expected = _accepted(text.replace("\r\n", "\n").replace("\r", "\n"))
    if isinstance(policy, Policy):
        assert policy.kinds == expected
        assert kinds is None or policy.kinds == dict(kinds)
        return
    assert kinds is None, f"refused: {policy}"
    assert expected is None, f"refused: {policy}"
    assert "\n" not in str(policy)
    assert str(policy).startswith(f"{_path}: ")


TARGETS: Final = (
    Target("policy", "CodegenError that names the file, or exactly the kinds that the TOML has", _make, _check),
)
