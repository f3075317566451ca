"""What CONTRIBUTING.md asks of every file, kept by reading the files rather than by remembering."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
from click.testing import CliRunner

from flows.cli import main as cli
from recsys.models import MODELS
from recsys.settings import ModelName

ROOT = Path(__file__).parents[1]
LAYERS = ("sql", "recsys", "flows", "deployments")  # each may import those before it and itself
STRANGERS = {
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


every_module = pytest.mark.parametrize("path", MODULES, ids=name_of)


@every_module
def test_imports_point_one_way(path: Path) -> None:
    layer = path.relative_to(ROOT).parts[0]
    forbidden = {*LAYERS[LAYERS.index(layer) + 1 :], *STRANGERS[layer]}
    imported = {name.partition(".")[0] for name in list_imports(ast.parse(path.read_text(encoding="utf-8")))}
    assert imported & forbidden == set()


@every_module
def test_one_module_opens_duckdb_files_for_writing(path: Path) -> None:
    assert len(list_writers(ast.parse(path.read_text(encoding="utf-8")))) == (1 if path == WRITER else 0)


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
    """Dotted names of what a module imports anywhere in it, less what only a type checker sees."""
    found = set()
    for node in walk_what_runs(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide where they point"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def walk_what_runs(node: ast.AST) -> Iterator[ast.AST]:
    yield node
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"):
            yield from walk_what_runs(child)


def list_writers(tree: ast.AST) -> list[str]:
    """What opens a DuckDB file, or may, without read_only=True. Opening nothing but memory is allowed anywhere."""
    found = [name for name in list_imports(tree) if name == "duckdb.connect"]  # spelt in full, each call can be seen
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "duckdb.connect":
            names_file = bool(node.args) or any(keyword.arg == "database" for keyword in node.keywords)
            if names_file and "read_only=True" not in ast.unparse(node):
                found.append(ast.unparse(node))
        if isinstance(node, ast.Constant) and str(node.value).startswith("duckdb://"):  # SQLAlchemy's way to open one
            found += [] if str(node.value).startswith("duckdb:///:memory:") else [str(node.value)]
    return found


def test_help_is_instant() -> None:
    """Only what `--help` needs is imported; the rest waits for the command that uses it."""
    program = (
        "import sys; from flows.cli.main import main; main(['--help'], standalone_mode=False); "
        "print(*sys.modules, sep='\\n')"
    )
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert "Exit codes" in shown
    heavy = {"torch", "prefect", "duckdb", "polars", "pyarrow", "numpy", "pydantic", "great_expectations", "rich"}
    assert heavy & set(shown.splitlines()) == set()


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    """As `recsys datasets | head -1`, with a pipe that nobody reads from the first byte on."""
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
    """A night needs stars; a network that only orders movies is for `recsys compare`."""
    assert {*get_args(ModelName)} == {"auto", *(name for name, variant in MODELS.items() if variant.rates)}
    assert get_args(ModelName) == cli.MODELS


def test_no_file_names_a_package_host() -> None:
    """Where packages come from is for the machine to say, so that the project installs behind any mirror."""
    listed = subprocess.run(
        ["git", "-C", ROOT, "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode != 0:
        pytest.skip("not a git checkout, so there is no telling its files from what was built or fetched")
    paths = [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]
    assert len(paths) > len(MODULES)
    assert [name_of(path) for path in paths if PACKAGE_HOSTS.search(path.read_text("utf-8", errors="replace"))] == []
