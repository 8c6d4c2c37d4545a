"""What pyproject.toml says of this project: its Pythons, its requirements and their floors."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version
from tests.support.wheels import ROOT

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_FLOOR: Final = re.compile(r"(?:>=|==)([\w.]+)")


@dataclass(frozen=True, slots=True)
class Project:
    """What pyproject.toml says.

    Attributes:
        pythons: the supported ones, such as "3.10", the oldest first.
        required: the requirements of the package itself.
        extras: those of each extra, without the one that has all others.
        development: those of the group dev.
    """

    pythons: Sequence[str]
    required: Sequence[Requirement]
    extras: Mapping[str, Sequence[Requirement]]
    development: Sequence[Requirement]

    @classmethod
    def read(cls) -> Project:
        document = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
        project = document["project"]
        extras = {name: _parsed(lines) for name, lines in project["optional-dependencies"].items() if name != "all"}
        pythons = re.findall(r"Python :: (3\.\d+)", "\n".join(project["classifiers"]))
        return cls(pythons, _parsed(project["dependencies"]), extras, _parsed(document["dependency-groups"]["dev"]))

    def floors(self, python: str, extras: Iterable[str]) -> dict[str, Version]:
        """Return the oldest releases that the package, some of its extras and the group dev allow together."""
        floors: dict[str, Version] = {}
        of_extras = [requirement for extra in extras for requirement in self.extras[extra]]
        for requirement in [*self.required, *of_extras, *self.development]:
            floor = _FLOOR.search(str(requirement.specifier))
            if floor and (requirement.marker is None or requirement.marker.evaluate({"python_version": python})):
                name = canonicalize_name(requirement.name)
                floors[name] = max(Version(floor[1]), floors.get(name, Version("0")))
        return floors


def _parsed(lines: Iterable[str]) -> list[Requirement]:
    return [Requirement(line) for line in lines]
