"""Stage 4: fills the templates and formats the output."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from . import report
from ._version import GENERATOR_VERSION
from .errors import CodegenError
from .model import Branch
from .plan_source import plan_source
from .policy import KINDS
from .schema import is_dotted_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jinja2 import Environment

    from .model import Leaf, LeafKind, Message, Model

__all__ = [
    "WALKERS_PACKAGE",
    "Home",
    "render_markdown",
    "render_mermaid",
    "render_python",
    "render_text",
    "render_walkers",
]

WALKERS_PACKAGE = "durabletask_payloads_walkers"
_PLAN_MODULE = "durabletask_payloads"


@dataclass(frozen=True, slots=True)
class Home:
    """Where the walkers will live, and what they find there.

    Attributes:
        package: the full name of their package.
        plan_module: the module that the plans come from; None writes it into the package, as `plan`.
        line_length: of the formatted code, in characters; docstrings keep their lines, but for lists of fields.

    Raises:
        CodegenError: one of them cannot be used.
    """

    package: str = WALKERS_PACKAGE
    plan_module: str | None = _PLAN_MODULE
    line_length: int = 120

    def __post_init__(self) -> None:
        if not is_dotted_name(self.package):
            raise CodegenError(f"package {self.package}: is not the name of a Python package")
        if self.plan_module is not None and not is_dotted_name(self.plan_module):
            raise CodegenError(f"plan module {self.plan_module}: is not the name of a Python module")
        if not 60 <= self.line_length <= 320:
            raise CodegenError(f"line length {self.line_length}: must be from 60 to 320")

    @property
    def folder(self) -> str:
        """The path of the package."""
        return self.package.replace(".", "/")

    @property
    def is_ours(self) -> bool:
        """Whether it is the package of durabletask-payloads itself, beside which exact stubs are generated."""
        return self.package == WALKERS_PACKAGE

    @property
    def command(self) -> str:
        """What renews the files: our own are made by make."""
        return "make generate" if self.is_ours else "durabletask-payloads-codegen generate"


@dataclass(frozen=True, slots=True)
class _Way:
    """A direction: the names in its functions, and for each kind of field the test that comes before a call.

    A test keeps the `text` that it reads, since each read of a field makes a new one, and the call gets it.
    `gate` is the method of the plan that is asked before a walk of very many payloads, if it has one.
    """

    verb: str
    plan: str
    method: str
    title: str
    note: str
    table: str
    tests: Mapping[LeafKind, str]
    gate: str | None = None


_EXTERNALIZE = _Way(
    verb="externalize",
    plan="ExternalizePlan",
    method="upload",
    title="Notes the large payloads of a message, before it is sent.",
    note="Note the large payloads of",
    table="The function that notes the large payloads of a message, by the full name of the message.",
    tests={
        "payload": "len(text := {}.value) > plan.payload_gate",
        "diagnostic": "len(text := {}.value) > plan.diagnostic_gate",
    },
)
_DEEXTERNALIZE = _Way(
    verb="deexternalize",
    plan="DeexternalizePlan",
    method="download",
    title="Notes the tokens of a message, after it was received.",
    note="Note the tokens of",
    table="The function that notes the tokens of a message, by the full name of the message.",
    tests={
        "payload": "(text := {}.value).startswith(plan.prefixes)",
        "diagnostic": "(text := {}.value).startswith(plan.prefixes)",
    },
    gate="rules_out",
)
_WAYS = (_DEEXTERNALIZE, _EXTERNALIZE)


@dataclass(frozen=True, slots=True)
class _Classes:
    """How the walkers name the message classes in their signatures.

    Attributes:
        imports: the import statements; only type checkers run them.
        types: the class of each message with payloads, by its full name.
    """

    imports: Sequence[str]
    types: Mapping[str, str]


def render_walkers(model: Model, home: Home) -> dict[str, str]:
    """Render the package of walkers: its files by path, formatted.

    Raises:
        CodegenError: no message has a payload, a pb2 module cannot be imported under its name, or ruff failed.
    """
    if not model.messages:
        raise CodegenError(f"{model.source}: no message has a payload, so there are no walkers to write")
    classes = _classes(model)
    files = {
        f"{way.verb}.py": _render(
            "walkers.py.j2",
            model,
            home,
            way=way,
            imports=classes.imports,
            types=classes.types,
            doc={message.full_name: _docstring(way, message, home) for message in model.messages.values()},
        )
        for way in _WAYS
    }
    files["__init__.py"] = _render("package.py.j2", model, home, ways=_WAYS)
    files["tables.py"] = _render("tables.py.j2", model, home, ways=_WAYS)
    if home.plan_module is None:
        files["plan.py"] = _render("plan.py.j2", model, home, source=plan_source())
    done = {f"{home.folder}/{name}": _format(name, text, home) for name, text in sorted(files.items())}
    done[f"{home.folder}/py.typed"] = ""
    return done


def _classes(model: Model) -> _Classes:
    """Import each pb2 module that a signature names: one as `pb`, several by their names."""
    module_of = {file.name: file.module for file in model.files}
    modules = sorted({module_of[message.file] for message in model.messages.values()})
    for module in modules:
        if not is_dotted_name(module):
            raise CodegenError(f"pb2 module {module}: is not the name of a Python module: give one by --pb2-module")
    aliases = dict.fromkeys(modules, "pb") if len(modules) == 1 else _aliases(modules)
    keywords = [field for message in model.messages.values() for field in message.fields if field.is_keyword]
    types = {
        message.full_name: f"{aliases[module_of[message.file]]}.{message.python_name}"
        for message in model.messages.values()
    }
    return _Classes(_imports(aliases, keywords), types)


def _aliases(modules: Sequence[str]) -> dict[str, str]:
    """Name modules by as many of their last parts as tell them apart; by numbers if `_` in the parts forbids that."""
    for parts in range(1, max(module.count(".") for module in modules) + 2):
        aliases = {module: "_".join(module.split(".")[-parts:]) for module in modules}
        if len(set(aliases.values())) == len(modules):
            return aliases
    return {module: f"pb{number}" for number, module in enumerate(modules, 1)}


def _imports(aliases: Mapping[str, str], keywords: Sequence[Leaf | Branch]) -> list[str]:
    """Write the imports in the order in which ruff sorts them: pb2 modules, and what annotates `keywords` fields."""
    plain: list[str] = []
    names: dict[str, list[str]] = {}
    for module, alias in aliases.items():
        package, _, name = module.rpartition(".")
        text = name if alias == name else f"{name} as {alias}"
        if not package:
            plain.append(f"import {text}")
        elif alias == name:
            names.setdefault(package, []).append(name)
        else:
            names.setdefault(f"{package} import {text}", [])  # on a line of its own
    if any(not isinstance(field, Branch) for field in keywords):
        names["google.protobuf.wrappers_pb2"] = ["StringValue"]
    lines = [
        f"from {package} import {', '.join(some)}" if some else f"from {package}" for package, some in names.items()
    ]
    standard = ["from collections.abc import Iterable\n"] if any(f.repeated or f.is_map for f in keywords) else []
    return [*standard, *sorted(plain), *sorted(lines)]


def render_markdown(model: Model) -> str:
    """Render the report as PAYLOAD_FIELDS.md."""
    return _render("payload_fields.md.j2", model, Home(), **_report(model))


def render_text(model: Model) -> str:
    """Render the report for a terminal."""
    return _render("payload_fields.txt.j2", model, Home(), **_report(model))


def render_mermaid(model: Model) -> str:
    """Render the picture of the report as Mermaid."""
    return _render("payload_fields.mmd.j2", model, Home(), **_report(model))


def _report(model: Model) -> dict[str, object]:
    nodes, edges = report.picture(model)
    kinds = Counter(model.fields.values())
    return {
        "travels": report.travels(model),
        "unreached": report.unreached(model),
        "nodes": nodes,
        "edges": edges,
        "ids": _ids([node.name for node in nodes]),
        "kinds": {kind: kinds[kind] for kind in KINDS.values()},
    }


def _ids(names: Sequence[str]) -> dict[str, str]:
    """Name the boxes of the picture. A lower-case name alone may be a word of Mermaid, as `end`: it gets a number."""
    ids: dict[str, str] = {}
    for number, name in enumerate(names, 1):
        plain = name.replace(".", "_")
        taken = plain in ids.values() or plain.startswith("_") or (plain == name and not name[0].isupper())
        ids[name] = f"message{number}_{plain}" if taken else plain
    return ids


def render_python(template: str, **values: object) -> str:
    """Fill a template of Python code and format it.

    Raises:
        CodegenError: ruff failed.
    """
    return _format(template.removesuffix(".j2"), _fill(template, version=GENERATOR_VERSION, **values), Home())


def _render(template: str, model: Model, home: Home, **values: object) -> str:
    return _fill(template, model=model, home=home, version=GENERATOR_VERSION, **values)


def _fill(template: str, **values: object) -> str:
    return _environment().get_template(template).render(**values)


@lru_cache(maxsize=1)
def _environment() -> Environment:
    """Make what compiles the templates: each once, which takes longer than to fill it."""
    from jinja2 import Environment, PackageLoader, StrictUndefined  # of the extra

    # The output is Python and Markdown: nothing to escape.
    return Environment(
        loader=PackageLoader("durabletask_payloads_codegen"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )


def _docstring(way: _Way, message: Message, home: Home) -> str:
    head = f'"""{way.note} `{message.full_name}`'
    fields = ", ".join(field.name for field in message.fields)
    width = home.line_length - 4
    line = f'{head}: {fields}."""'
    if len(line) <= width:
        return line
    body = textwrap.wrap(f"In {fields}.", width, break_long_words=False, break_on_hyphens=False)
    return "\n".join([f"{head}.", "", *body, '"""'])


def _format(name: str, text: str, home: Home) -> str:
    command = [sys.executable, "-m", "ruff", "format", "--isolated", f"--line-length={home.line_length}"]
    command += ["--target-version=py310", f"--stdin-filename={name}", "-"]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False, encoding="utf-8")
    if done.returncode:
        raise CodegenError(f"{name}: ruff failed: {done.stderr}")
    return done.stdout
