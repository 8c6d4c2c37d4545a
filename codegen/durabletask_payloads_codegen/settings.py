"""The settings of a run: command line flags, options of the plugin, or a table of pyproject.toml."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TypeGuard, cast

from .errors import CodegenError
from .render import WALKERS_PACKAGE, Home
from .toml_file import is_table, read_toml

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["TABLE", "Settings", "from_pyproject", "merged"]

TABLE = "durabletask-payloads-codegen"
"""The settings of a project are in `[tool.durabletask-payloads-codegen]` of its pyproject.toml."""

# Three ways to name the schema, of which one counts.
_SOURCES = ("protos", "descriptor-set", "from-module")
_PLANS = ("plan-module", "with-plan")
_NAMES = (*_SOURCES, "proto-path", "policy", "pb2-module", "output", "package", *_PLANS, "line-length")


@dataclass(frozen=True, slots=True)
class Settings:
    """What to generate from, and what to write.

    Attributes:
        protos: the .proto files; all below `proto_path` if there are none.
        proto_path: the root of the .proto files.
        descriptor_set: a FileDescriptorSet to read instead.
        from_module: pb2 modules to read instead.
        policy: the file that classifies the fields.
        output: the folder to write into.
        pb2_module: where the classes of a file are, as `FILE=MODULE`, or `MODULE` alone for a schema of one file.
        home: where the walkers will live.
    """

    protos: tuple[Path, ...] = ()
    proto_path: Path = Path("protos")
    descriptor_set: Path | None = None
    from_module: tuple[str, ...] = ()
    policy: Path = Path("protos/payload_fields.toml")
    output: Path = Path("generated")
    pb2_module: tuple[str, ...] = ()
    home: Home = field(default_factory=Home)


def from_pyproject(path: Path = Path("pyproject.toml")) -> dict[str, object]:
    """Read the table of the generator; it is empty if there is no such file or table. Paths are relative to the file.

    Raises:
        CodegenError: the file cannot be read, is not TOML, or the table is no table.
    """
    document = read_toml(path, required=False)
    tools = document.get("tool")
    table = tools.get(TABLE) if is_table(tools) else None
    if table is not None and not is_table(table):
        raise CodegenError(f"{path}: tool.{TABLE}: must be a table")
    return table or {}


def merged(given: Mapping[str, object], table: Mapping[str, object] | None = None, where: str = "") -> Settings:
    """Make settings of those that were `given`, and of a `table` for the rest.

    Args:
        given: by name, as `line-length`.
        table: the same; what is given as a flag, or excludes one that is, does not count.
        where: the table's place, for errors.

    Raises:
        CodegenError: a setting is unknown or has another type, or two exclude each other.
    """
    rest = dict(table or {})
    for group in (_SOURCES, _PLANS):
        if any(name in given for name in group):
            rest = {name: value for name, value in rest.items() if name not in group}
    values = _Values({**rest, **given}, where if rest else "")
    values.check_names()
    for group in (_SOURCES, _PLANS):
        named = [name for name in group if values.given.get(name) not in (None, False, [])]
        if len(named) > 1:
            raise CodegenError(f"{values.where}{' and '.join(named)}: exclude each other, name one of them")
    standard = Settings()
    descriptor_set = values.text("descriptor-set", "")
    return Settings(
        protos=tuple(Path(path) for path in values.texts("protos")),
        proto_path=Path(values.text("proto-path", str(standard.proto_path))),
        descriptor_set=Path(descriptor_set) if descriptor_set else None,
        from_module=values.texts("from-module"),
        policy=Path(values.text("policy", str(standard.policy))),
        output=Path(values.text("output", str(standard.output))),
        pb2_module=values.texts("pb2-module"),
        home=Home(
            values.text("package", WALKERS_PACKAGE),
            None if values.flag("with-plan") else values.text("plan-module", standard.home.plan_module or ""),
            values.number("line-length", standard.home.line_length),
        ),
    )


class _Values:
    """Values by name, whose types nobody has checked yet."""

    def __init__(self, given: Mapping[str, object], where: str) -> None:
        self.given = given
        self.where = f"{where}: " if where else ""

    def text(self, name: str, standard: str) -> str:
        value = self._get(name, standard)
        return value if isinstance(value, str) else self._refuse(name, value, "a text")

    def texts(self, name: str) -> tuple[str, ...]:
        """Return a list of texts; one text is a list of one."""
        value = self._get(name, [])
        values = [value] if isinstance(value, str) else value
        return tuple(values) if _is_texts(values) else self._refuse(name, value, "a text or a list of texts")

    def flag(self, name: str) -> bool:
        value = self._get(name, False)
        return value if isinstance(value, bool) else self._refuse(name, value, "true or false")

    def number(self, name: str, standard: int) -> int:
        value = self._get(name, standard)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        return self._refuse(name, value, "a whole number")

    def check_names(self) -> None:
        """Refuse names that are no settings."""
        if unknown := sorted(self.given.keys() - set(_NAMES)):
            raise CodegenError(f"{self.where}{', '.join(unknown)}: is unknown, the settings are {', '.join(_NAMES)}")

    def _get(self, name: str, standard: object) -> object:
        return self.given.get(name, standard)

    def _refuse(self, name: str, value: object, wanted: str) -> NoReturn:
        raise CodegenError(f"{self.where}{name}: is {value!r}, must be {wanted}")


def _is_texts(value: object) -> TypeGuard[list[str]]:
    # The cast is to what every list is.
    return isinstance(value, list) and all(isinstance(item, str) for item in cast("list[object]", value))
