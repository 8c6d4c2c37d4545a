"""The documents of this repository as Markdown, with what their pages quote from files."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "tests" / "examples" / "docs"
_QUOTE = re.compile(r'^--8<-- "([^":]+)(?::(\w+))?"\n', flags=re.MULTILINE)


@dataclass(frozen=True)
class Document:
    """A Markdown file.

    Attributes:
        path: where it is.
        name: its path below the root of the repository.
        written: its text.
        text: its text with the files that it quotes in it, as mkdocs shows it.
    """

    path: Path
    name: str
    written: str
    text: str

    @classmethod
    def of(cls, path: Path) -> Document:
        written = path.read_text(encoding="utf-8")
        text = _QUOTE.sub(lambda quote: _quoted(*quote.groups()), written)
        return cls(path, path.relative_to(ROOT).as_posix(), written, text)

    def blocks(self, language: str) -> list[str]:
        """Return the fenced blocks of a language."""
        return _blocks(self.text, language)

    @property
    def programs(self) -> list[str]:
        """The Python blocks that are written in the document, not quoted from a file."""
        return [block for block in _blocks(self.written, "python") if not _QUOTE.match(block)]

    @property
    def quotes(self) -> set[str]:
        """The files that it quotes, by their paths below the root of the repository."""
        return {quote[1] for quote in _QUOTE.finditer(self.written)}

    @property
    def commands(self) -> list[str]:
        """What the console blocks let a reader type, without prompts and comments."""
        lines = "".join(self.blocks("console")).replace("\\\n", "").splitlines()
        return [line.removeprefix("$ ").partition("  #")[0].strip() for line in lines if line.startswith("$ ")]

    @property
    def links(self) -> list[tuple[str, str]]:
        """The links into this repository: the path as written, "" for the document itself, and the anchor or ""."""
        found: list[tuple[str, str]] = re.findall(r"\]\(([^)#\s]*)#?([^)\s]*)\)", _without_blocks(self.text))
        return [(path, anchor) for path, anchor in found if "://" not in path]

    @property
    def headings(self) -> list[str]:
        """The texts of the headings, without the title."""
        return re.findall(r"^##+ (.*)$", _without_blocks(self.text), flags=re.MULTILINE)

    @property
    def anchors(self) -> set[str]:
        """The anchors that its headings have, in mkdocs and on GitHub."""
        plain = (re.sub(r"[^\w\s-]", "", heading).strip().lower() for heading in self.headings)
        return {re.sub(r"\s+", "-", heading) for heading in plain}


def _quoted(file: str, section: str | None) -> str:
    text = (ROOT / file).read_text(encoding="utf-8")
    if not section:
        return text
    marks = rf"\[start:{section}\].*?\n(.*?)^[^\n]*\[end:{section}\]"
    between = re.search(marks, text, flags=re.DOTALL | re.MULTILINE)
    assert between is not None, f"{file} has no section {section}"
    return between[1]


def _blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)


def _without_blocks(text: str) -> str:
    return re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)


README = Document.of(ROOT / "README.md")
PAGES = {path.relative_to(DOCS / "pages").as_posix(): Document.of(path) for path in (DOCS / "pages").rglob("*.md")}
DOCUMENTS = (
    README,
    Document.of(ROOT / "CONTRIBUTING.md"),
    Document.of(ROOT / "tests" / "examples" / "sdk_adoption" / "README.md"),
    *(page for _, page in sorted(PAGES.items())),
)
