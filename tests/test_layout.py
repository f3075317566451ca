"""The layout of `recsys/`: the allowed imports between rooms, and the limits of modules, functions and folders."""

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from tests.test_conventions import ROOT, list_imports

# Each room may import itself and the rooms above it. "flat" is every module directly in recsys/ except the last three.
ROOMS = (
    "flat",
    "settings",
    "metrics",
    "expect",
    "encode",
    "warehouse",
    "ingest.archives",
    "ingest.parse",
    "ingest.synthetic",
    "ingest.fetch",
    "ingest",
    "models",
    "alerts",
    "runs",
    "train",
    "checks",
    "retrieve",
    "split",
    "rank",
    "evaluate",
    "ask",
    "compare",
    "steps",
    "nightly",
    "backfill",
)
ON_TOP = {"flat", "steps", "nightly", "backfill"}  # rooms that are modules
MAX_FLAT_FILES = 14
MAX_MODULE_LINES = 300
MAX_FUNCTION_LINES = 45

PACKAGE = ROOT / "recsys"
CODE = [path for layer in ("deployments", "flows", "recsys", "sql") for path in sorted((ROOT / layer).rglob("*.py"))]
MODULES = {
    str(path.relative_to(ROOT).with_suffix("")).replace("/", ".").removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}


def room_of(module: str) -> str:
    """`recsys.ingest.parse.lines` is in the room ingest.parse, `recsys.errors` in flat."""
    parts = module.split(".")[1:]
    while parts and ".".join(parts) not in ROOMS:
        parts.pop()
    return ".".join(parts) or "flat"


def list_import_pairs() -> Iterator[tuple[str, str]]:
    """Pairs of a module and a module that it imports, within recsys."""
    for module, path in MODULES.items():
        for name in list_imports(ast.parse(path.read_text(encoding="utf-8"))):
            imported = name if name in MODULES else name.rpartition(".")[0]
            if imported in MODULES and imported not in (module, "recsys"):
                yield module, imported


IMPORT_PAIRS = sorted(list_import_pairs())


def test_every_folder_is_a_room() -> None:
    packages = {name.removeprefix("recsys.") for name, path in MODULES.items() if path.name == "__init__.py"}
    assert packages - {"recsys"} == {*ROOMS} - ON_TOP


def test_rooms_import_one_way() -> None:
    wrong_way = [(low, high) for low, high in IMPORT_PAIRS if ROOMS.index(room_of(low)) < ROOMS.index(room_of(high))]
    assert wrong_way == []
    assert len(IMPORT_PAIRS) > len(MODULES)


def test_no_modules_import_each_other() -> None:
    graph: dict[str, set[str]] = {}
    for module, imported in IMPORT_PAIRS:
        graph.setdefault(module, set()).add(imported)
    assert {*TopologicalSorter(graph).static_order()} <= {*MODULES}  # raises CycleError if there is a cycle


def test_the_package_has_few_modules_at_its_top_level() -> None:
    assert len([*PACKAGE.glob("*.py")]) <= MAX_FLAT_FILES


@pytest.mark.parametrize("path", CODE, ids=lambda path: str(path.relative_to(ROOT)))
def test_modules_and_functions_are_short(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MAX_MODULE_LINES
    functions = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    lengths = {node.name: (node.end_lineno or node.lineno) - node.lineno + 1 for node in functions}
    assert {name: length for name, length in lengths.items() if length > MAX_FUNCTION_LINES} == {}


@pytest.mark.parametrize("room", sorted({*ROOMS} - ON_TOP))
def test_every_room_has_a_docstring(room: str) -> None:
    described = ast.get_docstring(ast.parse((PACKAGE / room.replace(".", "/") / "__init__.py").read_text("utf-8")))
    assert described and len(described.split()) >= 8
