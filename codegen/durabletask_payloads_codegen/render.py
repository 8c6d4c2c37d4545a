"""Stage 3: fills the templates and formats the output."""

from __future__ import annotations

import keyword
import subprocess
import sys
import textwrap
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from . import report
from ._version import GENERATOR_VERSION
from .errors import CodegenError
from .policy import KINDS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .model import LeafKind, Message, Model

__all__ = ["WALKERS_PACKAGE", "render_markdown", "render_mermaid", "render_text", "render_walkers"]

WALKERS_PACKAGE = "durabletask_payloads_walkers"
_LINE_LENGTH = 120


@dataclass(frozen=True, slots=True)
class _Way:
    """A direction: the names in its functions, and for each kind of field the test that comes before a call.

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
        "payload": "len({}.value) > plan.payload_gate",
        "diagnostic": "len({}.value) > plan.diagnostic_gate",
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
        "payload": "{}.value.startswith(plan.prefixes)",
        "diagnostic": "{}.value.startswith(plan.prefixes)",
    },
    gate="rules_out",
)
_WAYS = (_DEEXTERNALIZE, _EXTERNALIZE)


def render_walkers(model: Model, pb2_module: str) -> dict[str, str]:
    """Render the package of walkers: its files by path, formatted.

    Args:
        model: what to generate.
        pb2_module: the module whose classes the functions take; it is imported by type checkers only.

    Raises:
        CodegenError: `pb2_module` cannot be imported under that name, or ruff failed.
    """
    if any(keyword.iskeyword(name) or not name.isidentifier() for name in pb2_module.split(".")):
        raise CodegenError(f"pb2 module {pb2_module}: is not the name of a Python module")
    package, _, module = pb2_module.rpartition(".")
    files = {
        f"{way.verb}.py": _render(
            "walkers.py.j2",
            model,
            way=way,
            pb2_import=f"from {package} import {module} as pb" if package else f"import {module} as pb",
            doc={message.full_name: _docstring(way, message) for message in model.messages.values()},
        )
        for way in _WAYS
    }
    files["__init__.py"] = _render("package.py.j2", model, ways=_WAYS)
    files["tables.py"] = _render("tables.py.j2", model, ways=_WAYS)
    done = {f"{WALKERS_PACKAGE}/{name}": _format(name, text) for name, text in sorted(files.items())}
    done[f"{WALKERS_PACKAGE}/py.typed"] = ""
    return done


def render_markdown(model: Model) -> str:
    """Render the report as PAYLOAD_FIELDS.md."""
    return _render("payload_fields.md.j2", model, **_report(model))


def render_text(model: Model) -> str:
    """Render the report for a terminal."""
    return _render("payload_fields.txt.j2", model, **_report(model))


def render_mermaid(model: Model) -> str:
    """Render the picture of the report as Mermaid."""
    return _render("payload_fields.mmd.j2", model, **_report(model))


def _report(model: Model) -> dict[str, object]:
    nodes, edges = report.picture(model)
    kinds = Counter(model.fields.values())
    return {
        "travels": report.travels(model),
        "unreached": report.unreached(model),
        "nodes": nodes,
        "edges": edges,
        "kinds": {kind: kinds[kind] for kind in KINDS.values()},
    }


def _render(template: str, model: Model, **values: object) -> str:
    from jinja2 import Environment, PackageLoader, StrictUndefined  # of the extra

    # The output is Python and Markdown: nothing to escape.
    environment = Environment(
        loader=PackageLoader("durabletask_payloads_codegen"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    return environment.get_template(template).render(model=model, version=GENERATOR_VERSION, **values)


def _docstring(way: _Way, message: Message) -> str:
    head = f'"""{way.note} `{message.full_name}`'
    fields = ", ".join(field.name for field in message.fields)
    width = _LINE_LENGTH - 4
    line = f'{head}: {fields}."""'
    if len(line) <= width:
        return line
    body = textwrap.wrap(f"In {fields}.", width, break_long_words=False, break_on_hyphens=False)
    return "\n".join([f"{head}.", "", *body, '"""'])


def _format(name: str, text: str) -> str:
    command = [sys.executable, "-m", "ruff", "format", "--isolated", f"--line-length={_LINE_LENGTH}"]
    command += ["--target-version=py310", f"--stdin-filename={name}", "-"]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False, encoding="utf-8")
    if done.returncode:
        raise CodegenError(f"{name}: ruff failed: {done.stderr}")
    return done.stdout
