"""Hooks of mkdocs: the page "Command line" shows what `--help` says of each command."""

from __future__ import annotations

import os
import subprocess
import sys

from durabletask_payloads.cli._app import COMMANDS

MARK = "<!-- the help of each command -->\n"


def on_page_markdown(markdown: str, **_: object) -> str:
    """Return the text of a page, with a section for each command in the place of MARK. mkdocs calls this."""
    if MARK not in markdown:
        return markdown
    return markdown.replace(MARK, "".join(f"### {one.name}\n\n```text\n{_help(one.name)}```\n\n" for one in COMMANDS))


def _help(command: str) -> str:
    arguments = (sys.executable, "-m", "durabletask_payloads.cli", command, "--help")
    environment = {**os.environ, "COLUMNS": "80", "NO_COLOR": "1"}
    return subprocess.run(arguments, env=environment, capture_output=True, text=True, check=True).stdout
