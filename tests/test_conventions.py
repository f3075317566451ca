"""The conventions of CONTRIBUTING.md that can be checked by reading files, and the behaviour of the command line."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import get_args

import pytest
from click.testing import CliRunner

from flows.cli import main as cli
from flows.cli.console import MODELS as MODEL_NAMES
from recsys.models import MODELS
from recsys.settings import ModelName

ROOT = Path(__file__).parents[1]
LAYERS = ("sql", "recsys", "flows", "deployments")  # each may import itself and the layers before it
FORBIDDEN_PACKAGES = {
    "sql": {"prefect", "torch", "polars", "duckdb"},
    "recsys": {"prefect"},
    "flows": {"torch", "polars", "duckdb"},
    "deployments": {"torch", "polars", "duckdb"},
}
MODULES = [path for layer in LAYERS for path in sorted((ROOT / layer).rglob("*.py"))]
WRITER = ROOT / "recsys" / "warehouse" / "build.py"

PACKAGE_HOSTS = re.compile(
    r"py(pi)\.org|python(hosted)\.org|download\.py(torch)\.org|ana(conda)\.org|(extra-)?index(-url)|arti(factory)"
)


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@cache
def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def test_layers_import_one_way() -> None:
    wrong = {}
    for path in MODULES:
        layer = path.relative_to(ROOT).parts[0]
        forbidden = {*LAYERS[LAYERS.index(layer) + 1 :], *FORBIDDEN_PACKAGES[layer]}
        wrong[name_of(path)] = {name.partition(".")[0] for name in list_imports(parse(path))} & forbidden
    assert {name: packages for name, packages in wrong.items() if packages} == {}


def test_one_module_opens_duckdb_files_for_writing() -> None:
    writers = {name_of(path): len(list_writers(parse(path))) for path in MODULES}
    assert {name: count for name, count in writers.items() if count} == {name_of(WRITER): 1}


def test_these_checks_can_fail() -> None:
    assert list_imports(ast.parse("def f():\n    import torch.nn\n    from flows import cli")) == {
        "torch.nn",
        "flows.cli",
    }
    assert list_imports(ast.parse("if TYPE_CHECKING:\n    import torch")) == set()
    for code in ("duckdb.connect(path)", "duckdb.connect(database=path)", "duckdb.connect(path, read_only=False)"):
        assert list_writers(ast.parse(code)) == [code]
    for code in ("duckdb.connect()", "duckdb.connect(config={})", "duckdb.connect(path, read_only=True)"):
        assert list_writers(ast.parse(code)) == []
    assert list_writers(ast.parse("from duckdb import connect")) == ["duckdb.connect"]
    assert list_writers(ast.parse("create_engine(f'duckdb:///{path}')")) == ["duckdb:///"]
    assert PACKAGE_HOSTS.search("https://" + "py" + "pi.org/simple")


def list_imports(tree: ast.AST) -> set[str]:
    """Dotted names that a module imports anywhere in it, except those that only a type checker sees."""
    found = set()
    for node in walk_runtime(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide where they point"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def walk_runtime(node: ast.AST) -> Iterator[ast.AST]:
    """Every node except those below `if TYPE_CHECKING:`."""
    yield node
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"):
            yield from walk_runtime(child)


def list_writers(tree: ast.AST) -> list[str]:
    """Expressions that may open a DuckDB file without read_only=True. In-memory databases are allowed everywhere."""
    found = [name for name in list_imports(tree) if name == "duckdb.connect"]  # calls must be written out in full
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "duckdb.connect":
            names_file = bool(node.args) or any(keyword.arg == "database" for keyword in node.keywords)
            if names_file and "read_only=True" not in ast.unparse(node):
                found.append(ast.unparse(node))
        if isinstance(node, ast.Constant) and str(node.value).startswith("duckdb://"):  # an address for SQLAlchemy
            found += [] if str(node.value).startswith("duckdb:///:memory:") else [str(node.value)]
    return found


def test_help_imports_little() -> None:
    """`--help` imports only what it needs. Each command imports the rest when it runs."""
    program = (
        "import sys; from flows.cli.main import main; main(['--help'], standalone_mode=False); "
        "print(*sys.modules, sep='\\n')"
    )
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert "Exit codes" in shown
    heavy = {"torch", "prefect", "duckdb", "polars", "pyarrow", "numpy", "pydantic", "great_expectations", "rich"}
    assert heavy & set(shown.splitlines()) == set()


def test_a_closed_pipe_is_not_an_error() -> None:
    """As in `recsys datasets | head -1`, but with a reader that closes the pipe before the first byte."""
    program = "import sys; from flows.cli.main import main; main(['datasets', '--json'])"
    child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert child.stdout and child.stderr
    child.stdout.close()
    with child.stderr as errors:
        assert errors.read() == b""
    child.wait()


@pytest.mark.parametrize("command", sorted(cli.main.commands))
def test_every_command_shows_an_example(command: str) -> None:
    shown = CliRunner().invoke(cli.main, [command, "--help"])
    assert shown.exit_code == 0
    assert re.search(rf"Examples?:\n +recsys {command}", shown.output)


def test_models_have_the_same_names_everywhere() -> None:
    """A night needs stars. A network that only orders movies can only take part in `recsys compare`."""
    assert {*get_args(ModelName)} == {"auto", *(name for name, variant in MODELS.items() if variant.rates)}
    assert get_args(ModelName) == MODEL_NAMES


def test_make_reports_the_setup_before_it_begins(tmp_path: Path) -> None:
    """In a fresh clone, `make run` prints a line before it creates the environment, which takes a minute."""
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\n[ "$1" = -c ] && exit 0\necho "called: $*"\nexit 3\n', encoding="utf-8")
    python.chmod(0o755)
    command = ["make", "-C", str(ROOT), "--no-print-directory", "run", f"PYTHON={python}", f"VENV={tmp_path / 'venv'}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    first, second = done.stdout.splitlines()
    assert first.startswith(f"setting up {tmp_path / 'venv'}")
    assert second == f"called: -m venv {tmp_path / 'venv'}"


def test_make_lists_its_targets_by_default() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    phony = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    assert phony
    shown = subprocess.run(["make", "-C", ROOT, "--no-print-directory"], capture_output=True, text=True, check=True)
    assert set(re.findall(r"^  make ([a-z-]+)  ", shown.stdout, re.MULTILINE)) == set(phony[1].split())


def test_every_helper_of_the_tests_is_in_the_index() -> None:
    index = ast.get_docstring(parse(ROOT / "tests" / "support" / "__init__.py")) or ""
    listed = set(re.findall(r"^    (\w+) {2,}", index, re.MULTILINE))
    helpers = {path.stem for path in (ROOT / "tests" / "support").glob("*.py")} - {"__init__"}
    assert helpers - listed == set()


def test_no_file_names_a_package_host() -> None:
    """The source of packages is a setting of each machine, so that the project can be installed from a mirror."""
    found = [name_of(path) for path in list_project_files() if PACKAGE_HOSTS.search(read(path))]
    assert found == []


def list_project_files() -> list[Path]:
    """Tracked files and new ones that git does not ignore."""
    listed = subprocess.run(
        ["git", "-C", ROOT, "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode != 0:
        pytest.skip("not a git checkout: source files cannot be told from files that were built or fetched")
    paths = [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]
    assert len(paths) > len(MODULES)
    return paths


@cache
def read(path: Path) -> str:
    return path.read_text("utf-8", errors="replace")
