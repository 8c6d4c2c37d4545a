"""The house: which room imports which, how long its parts are, and that exports and documentation agree.

The tables below are the plan of the house: an import runs downwards in them, or stays in its room.
"""

from __future__ import annotations

import ast
import re
import subprocess
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.support.documents import DOCUMENTS, Document
from tests.support.house import Function, House, Module, Room, Sources, cycles

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

ROOT = Path(__file__).parents[1]
MODULE_LINES = 400
FUNCTION_LINES = 60

RUNTIME = House(
    "runtime",
    "durabletask_payloads",
    (
        Room("command line", ("cli/",)),
        Room("operations", ("operations/",)),
        Room("contract of stores", ("testing/",)),
        Room("auto-purge", ("purge/",)),
        Room("face of the package", ("__init__",)),
        Room("adapter to the SDK", ("sdk",)),
        Room("interceptors", ("interceptors/__init__", "interceptors/_sync", "interceptors/_aio")),
        Room("client calls", ("interceptors/_client", "interceptors/_history", "interceptors/_aio_history")),
        Room(
            "worker",
            (
                "interceptors/worker/__init__",
                "interceptors/worker/_stream",
                "interceptors/worker/_arrival",
                "interceptors/worker/_completion",
            ),
        ),
        Room("registry", ("interceptors/worker/_registry",)),
        Room("kinds of work items", ("interceptors/worker/kinds/",)),
        Room("failures", ("interceptors/_verdict", "interceptors/worker/_truncation")),
        Room(
            "protocol",
            ("interceptors/_protocol", "interceptors/_calls", "interceptors/_read_ahead", "interceptors/_peers"),
        ),
        Room("externalizer", ("externalizer/",)),
        Room("observers", ("observers/",)),
        Room("stores", ("stores/",)),
        Room("foundations", ("_hub_channel", "_errors", "_lifecycle", "_options", "_version")),
    ),
    {
        "durabletask": ("sdk", "_hub_channel", "cli/*", "operations/*"),
        "grpc": ("_hub_channel", "interceptors/*", "purge/*", "cli/*", "operations/*"),
        "azure": ("stores/_azure*", "stores/azure_blob", "cli/_options"),
        "obstore": ("stores/_obstore_client", "stores/_azure_fast", "stores/_object_client"),
        "aiohttp": ("stores/_azure*", "stores/azure_blob"),
        "opentelemetry": ("observers/opentelemetry",),
        "pytest": ("testing/*",),
        "typer": ("cli/*",),
        "rich": ("cli/*",),
        "durabletask_payloads_codegen": (),
    },
)
CODEGEN = House(
    "codegen",
    "durabletask_payloads_codegen",
    (
        Room("commands", ("cli", "plugin")),
        Room("settings", ("settings",)),
        Room("write", ("write",)),
        Room("render", ("render", "classes", "plan_source")),
        Room("compare", ("compare",)),
        Room("report", ("report",)),
        Room("model", ("model",)),
        Room("descriptors", ("descriptors",)),
        Room("schema", ("schema", "proto_text", "stubs")),
        Room("proposals", ("proposals",)),
        Room("policy", ("policy", "toml_file")),
        Room("face of the package", ("__init__",)),
        Room("foundations", ("errors", "extra", "streams", "_version")),
    ),
    {"jinja2": ("render",), "durabletask": (), "durabletask_payloads": ()},
)
GENERATED = House(
    "generated",
    "durabletask_payloads_walkers",
    (
        Room("face of the package", ("__init__",)),
        Room("tables", ("tables",)),
        Room("walkers", ("deexternalize", "externalize")),
    ),
    {"durabletask": (), "google": (), "durabletask_payloads": (), "durabletask_payloads_codegen": ()},
)
HOUSES = (RUNTIME, CODEGEN, GENERATED)
WRITTEN_BY_HAND = (RUNTIME, CODEGEN)


# ---- the checks: each yields one line for each fault -----------------------------------------------------------------


def path_in(house: House, module: Module) -> str:
    """Return the path of a module below its package, without the suffix."""
    return module.file.removeprefix(f"{house.folder}/{house.package}/").removesuffix(".py")


def rooms_of(house: House, sources: Sources) -> tuple[dict[str, int], list[str]]:
    """Return the number of each module's room from the top, and the modules and entries of rooms that do not match."""
    numbers: dict[str, int] = {}
    used: set[str] = set()
    faults: list[str] = []
    for module in sources.of(house.package):
        path = path_in(house, module)
        for number, room in enumerate(house.rooms):
            for entry in room.modules:
                if path == entry or (entry.endswith("/") and path.startswith(entry)):
                    numbers[module.name] = number
                    used.add(entry)
        if module.name not in numbers:
            faults.append(f"{module.file}:1: is in no room")
    empty = [entry for room in house.rooms for entry in room.modules if entry not in used]
    return numbers, faults + [f"{house.folder}/{house.package}: there is no {entry}" for entry in empty]


def upward_imports(house: House, sources: Sources) -> Iterator[str]:
    numbers, faults = rooms_of(house, sources)
    yield from faults
    for module in sources.of(house.package):
        for one in sources.imports(module):
            here, there = numbers.get(module.name), numbers.get(one.module)
            if here is not None and there is not None and there < here:
                rooms = (
                    f"'{house.rooms[here].name}' imports {one.module} of '{house.rooms[there].name}', which is above"
                )
                yield f"{module.file}:{one.line}: {rooms}"


def import_cycles(house: House, sources: Sources) -> Iterator[str]:
    ours = {module.name: module for module in sources.of(house.package)}
    graph = {name: {one.module for one in sources.imports(module)} & set(ours) for name, module in ours.items()}
    for cycle in cycles(graph):
        first = ours[cycle[0]]
        line = next(one.line for one in sources.imports(first) if one.module == cycle[1])
        yield f"{first.file}:{line}: imports run in a cycle: {' -> '.join(cycle)}"


def outside_imports(house: House, sources: Sources) -> Iterator[str]:
    for module in sources.of(house.package):
        for one in sources.imports(module):
            patterns = house.outside.get(one.module.split(".")[0])
            if patterns is None or not one.at_run_time:
                continue
            if not any(fnmatch(path_in(house, module), pattern) for pattern in patterns):
                allowed = f"only {', '.join(patterns)} may" if patterns else "no module may"
                yield f"{module.file}:{one.line}: imports {one.module}, which {allowed}"


def too_long(house: House, sources: Sources) -> Iterator[str]:
    for module in sources.of(house.package):
        if module.lines > MODULE_LINES:
            yield f"{module.file}:1: has {module.lines} lines, {MODULE_LINES} are allowed"
        for function in module.functions:
            lines = (function.end_lineno or function.lineno) - function.lineno + 1
            if lines > FUNCTION_LINES:
                fault = f"{function.name} has {lines} lines, {FUNCTION_LINES} are allowed"
                yield f"{module.file}:{function.lineno}: {fault}"


def wrong_exports(house: House, sources: Sources) -> Iterator[str]:
    """Compare public modules with their `__all__`: its names exist, and packages export what they import."""
    for module in sources.of(house.package):
        own = {one for one in sources.imports(module, everywhere=False) if one.module.startswith(f"{module.name}.")}
        if not module.is_public or not (own or module.definitions):
            continue
        exported = module.exported
        if exported is None:
            # The walkers are functions and nothing else; their package lists them.
            if house is not GENERATED or module.is_package:
                yield f"{module.file}:1: has no __all__"
            continue
        yield from (
            f"{module.file}:1: __all__ names {name}, which is not here"
            for name in exported
            if name not in sources.names(module)
        )
        if module.is_package:
            yield from (
                f"{module.file}:{one.line}: imports {one.bound}, which is not in __all__"
                for one in own
                if one.at_run_time and not one.bound.startswith("_") and one.bound not in exported
            )


def undocumented(house: House, sources: Sources) -> Iterator[str]:
    """Find the classes and functions that a public module exports without a docstring."""
    public = [module for module in sources.of(house.package) if module.is_public]
    found = {sources.definition(module, name) for module in public for name in module.exported or ()}
    for where, definition in filter(None, found):
        if isinstance(definition, ast.ClassDef | Function) and not ast.get_docstring(definition):
            yield f"{where.file}:{definition.lineno}: {definition.name} is public and has no docstring"


def wrong_names(document: str, text: str, sources: Sources) -> Iterator[str]:
    """Find imports in the Python blocks of a document, and dotted names in backticks, that do not exist."""
    packages = {name.split(".")[0] for name in sources.modules}
    named = re.findall(r"`([A-Za-z_]\w*(?:\.\w+)*)(?:\(\))?`", text)
    for block in re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL):
        example = Module("example", document, block, is_package=False)
        imports = sources.imports(example)
        named += [f"{one.module}.{one.name}" if one.name else one.module for one in imports]
    for name in named:
        if name.split(".")[0] in packages and not sources.exists(name):
            yield f"{document}: names {name}, which does not exist"


def wrong_folders(text: str, files: Iterable[str]) -> Iterator[str]:
    """Compare the table "Where things are" of CONTRIBUTING.md with the folders of `files`."""
    table = re.search(r"^## Where things are\n(.*?)^(?:## |\Z)", text, flags=re.DOTALL | re.MULTILINE)
    cells = [line.split("|")[1] for line in (table[1] if table else "").splitlines() if line.startswith("|")]
    named = {name.rstrip("/") for cell in cells for name in re.findall(r"`([^`]+)`", cell)}
    holding = {Path(file).parent for file in files}
    there = {folder.as_posix() for parent in holding for folder in (parent, *parent.parents)}
    yield from (
        f"CONTRIBUTING.md: does not name {folder}/" for folder in sorted(map(str, holding)) if folder not in named
    )
    yield from (f"CONTRIBUTING.md: names {name}/, which is not there" for name in sorted(named - there))


# ---- the house as it is ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sources() -> Sources:
    return Sources(ROOT, {house.package: house.folder for house in HOUSES})


def require_none(faults: Iterable[str]) -> None:
    """Fail with all faults: pytest would cut a comparison short."""
    if lines := list(faults):
        pytest.fail("\n".join(lines), pytrace=False)


def id_of(house: House) -> str:
    return house.folder


@pytest.mark.parametrize("house", HOUSES, ids=id_of)
def test_imports_run_downwards(house: House, sources: Sources) -> None:
    require_none(upward_imports(house, sources))


@pytest.mark.parametrize("house", HOUSES, ids=id_of)
def test_imports_run_in_no_cycle(house: House, sources: Sources) -> None:
    require_none(import_cycles(house, sources))


@pytest.mark.parametrize("house", HOUSES, ids=id_of)
def test_what_is_imported_from_outside(house: House, sources: Sources) -> None:
    require_none(outside_imports(house, sources))


@pytest.mark.parametrize("house", WRITTEN_BY_HAND, ids=id_of)
def test_nothing_is_too_long(house: House, sources: Sources) -> None:
    require_none(too_long(house, sources))


@pytest.mark.parametrize("house", HOUSES, ids=id_of)
def test_public_modules_export_what_they_say(house: House, sources: Sources) -> None:
    require_none(wrong_exports(house, sources))


@pytest.mark.parametrize("house", HOUSES, ids=id_of)
def test_what_is_public_has_a_docstring(house: House, sources: Sources) -> None:
    require_none(undocumented(house, sources))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_documents_name_what_exists(document: Document, sources: Sources) -> None:
    require_none(wrong_names(document.name, document.text, sources))


def test_contributing_names_every_folder() -> None:
    folders = ("runtime", "codegen", "generated", "protos", "tests")
    listed = subprocess.run(["git", "ls-files", "-z", *folders], cwd=ROOT, capture_output=True, text=True, check=True)
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    require_none(wrong_folders(text, listed.stdout.split("\0")[:-1]))


# ---- the checks report what they guard -------------------------------------------------------------------------------

SMALL = House(
    "src", "small", (Room("upper", ("upper/",)), Room("face", ("__init__",)), Room("lower", ("lower",))), {"grpc": ()}
)
FILES = {
    "__init__.py": "from .lower import Thing\n\n__all__ = ['Thing']\n",
    "lower.py": "__all__ = ['Thing']\n\n\nclass Thing:\n    '''A thing.'''\n",
    "upper/__init__.py": "",
    "upper/_user.py": "from small import Thing\n\n\ndef use(thing: Thing) -> None: ...\n",
}


def small(folder: Path, **changed: str) -> Sources:
    """Write FILES, with what is `changed`, by file name without the suffix."""
    for name, text in FILES.items():
        path = folder / "src" / "small" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(changed.pop(path.stem if "/" not in name else f"upper{path.stem}", text))
    assert not changed
    return Sources(folder, {"small": "src"})


def test_a_house_in_order(tmp_path: Path) -> None:
    sources = small(tmp_path)
    for check in (upward_imports, import_cycles, outside_imports, too_long, wrong_exports, undocumented):
        assert list(check(SMALL, sources)) == []


@pytest.mark.parametrize(
    "arrow",
    [
        "from small.upper import _user",
        "from .upper._user import use",
        "import small.upper._user",
        "if TYPE_CHECKING:\n    from .upper import _user",
        "def late() -> None:\n    from .upper import _user",
    ],
)
def test_an_arrow_turned_round(arrow: str, tmp_path: Path) -> None:
    sources = small(tmp_path, lower=FILES["lower.py"] + arrow)
    line = len((FILES["lower.py"] + arrow).splitlines())
    assert list(upward_imports(SMALL, sources)) == [
        f"src/small/lower.py:{line}: 'lower' imports small.upper._user of 'upper', which is above"
    ]
    assert list(import_cycles(SMALL, sources)) == [
        "src/small/__init__.py:1: imports run in a cycle: small -> small.lower -> small.upper._user -> small"
    ]


def test_a_module_without_a_room_and_a_room_without_a_module(tmp_path: Path) -> None:
    sources = small(tmp_path)
    house = SMALL._replace(rooms=(*SMALL.rooms[:2], Room("cellar", ("cellar",))))
    said = ["src/small/lower.py:1: is in no room", "src/small: there is no cellar"]
    assert list(upward_imports(house, sources)) == said


def test_an_import_from_outside(tmp_path: Path) -> None:
    user = "if TYPE_CHECKING:\n    import grpc\nelse:\n    import grpc.aio\n"
    assert list(outside_imports(SMALL, small(tmp_path, upper_user=user))) == [
        "src/small/upper/_user.py:4: imports grpc.aio, which no module may"
    ]


def test_a_module_and_a_function_too_long(tmp_path: Path) -> None:
    function = "def long() -> None:\n" + "    pass\n" * 60
    sources = small(tmp_path, upper_user=function + "#\n" * 340)
    assert list(too_long(SMALL, sources)) == [
        "src/small/upper/_user.py:1: has 401 lines, 400 are allowed",
        "src/small/upper/_user.py:1: long has 61 lines, 60 are allowed",
    ]
    assert list(too_long(SMALL, small(tmp_path, upper_user=function.removesuffix("    pass\n") + "#\n" * 340))) == []


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        ("lower", "class Thing:\n    '''A thing.'''\n", "lower.py:1: has no __all__"),
        ("lower", "__all__ = ['Thing']\n", "lower.py:1: __all__ names Thing, which is not here"),
        (
            "__init__",
            "from .lower import Thing, Other\n__all__ = ['Thing']\n",
            ":1: imports Other, which is not in __all__",
        ),
    ],
)
def test_a_wrong_export(name: str, text: str, fault: str, tmp_path: Path) -> None:
    sources = small(tmp_path, **{name: text})
    assert [fault in line for line in wrong_exports(SMALL, sources)] == [True]


def test_a_public_class_without_a_docstring(tmp_path: Path) -> None:
    sources = small(tmp_path, lower="__all__ = ['Thing']\nclass Thing: ...\n")
    assert list(undocumented(SMALL, sources)) == ["src/small/lower.py:2: Thing is public and has no docstring"]


def test_a_document_that_is_out_of_date(tmp_path: Path) -> None:
    text = """`small.Thing`, `small.lower.Thing`, `small.gone`, `other.gone`
```python
from small.lower import Thing, Gone
import small.away
```
"""
    assert list(wrong_names("README.md", text, small(tmp_path))) == [
        "README.md: names small.gone, which does not exist",
        "README.md: names small.lower.Gone, which does not exist",
        "README.md: names small.away, which does not exist",
    ]


def test_a_table_that_is_out_of_date() -> None:
    text = "## Where things are\n\n| folder |\n|---|\n| `tests/`, `tests/a/` |\n| `tests/gone/` |\n\n## More\n| `x` |\n"
    assert list(wrong_folders(text, ["tests/a/test.py", "tests/b/c/test.py"])) == [
        "CONTRIBUTING.md: does not name tests/b/c/",
        "CONTRIBUTING.md: names tests/gone/, which is not there",
    ]
