"""`import recsys` as a library: its public names, their cost, what they answer, and the page that documents them."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

import recsys
from recsys.errors import NotPublished, UsageError
from recsys.home import Home
from tests.support.nights import QUIET

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "library.md").read_text(encoding="utf-8")


def test_importing_the_package_imports_nothing_else() -> None:
    program = "import sys; before = {*sys.modules}; import recsys; print(*sorted({*sys.modules} - before))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    imported = done.stdout.split()
    assert {name.partition(".")[0] for name in imported} <= {"recsys", *sys.stdlib_module_names}
    assert [name for name in imported if name.startswith("recsys")] == ["recsys"]


@pytest.mark.parametrize("name", recsys.__all__)
def test_every_public_name_is_there_and_documented(name: str) -> None:
    value = getattr(recsys, name)
    assert name in dir(recsys)
    assert name == "__version__" or value.__doc__


def test_type_checkers_see_the_same_names() -> None:
    """The imports that only a type checker runs, the table that `__getattr__` reads, and `__all__` agree."""
    tree = ast.parse((ROOT / "recsys" / "__init__.py").read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    assert {alias.name: node.module for node in imports for alias in node.names} == recsys._MODULES
    assert {*recsys.__all__} == {*recsys._MODULES, "__version__"}


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'recsys' has no attribute 'recomend'"):
        recsys.recomend  # noqa: B018


def test_the_page_describes_every_public_name() -> None:
    described = re.findall(r"^::: recsys\.(\S+)", PAGE, flags=re.MULTILINE)
    paths = {f"{module}.{name}".removeprefix("recsys."): name for name, module in recsys._MODULES.items()}
    assert {*paths} <= {*described}


def test_the_first_program_of_the_page_runs(served_night: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    program, _ = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    monkeypatch.chdir(served_night.root)
    found: dict[str, object] = {}
    exec(program.replace('Path("data")', 'Path(".")').replace("Toy Story", "5").replace("Heat", "6"), found)
    for name in ("mine", "alike", "history"):
        assert isinstance(frame := found[name], pl.DataFrame) and len(frame)


def test_a_run_is_opened_by_its_id_or_as_the_one_being_served(served_night: Home) -> None:
    served = recsys.open_run(served_night)
    assert recsys.open_run(served_night, served.run_id).record == served.record
    assert served.record["verdict"] == "published"
    assert served.metrics.columns == ["model", "split", "slice", "metric", "value"]
    assert served.steps.columns == ["step", "seconds"]
    mine = served.lists.filter(user_id=QUIET)
    assert mine["movie_id"].to_list() and mine["rank"].to_list() == [*range(1, len(mine) + 1)]
    assert served.folder == served_night.runs / served.run_id


def test_a_run_that_does_not_exist_is_named(served_night: Home, home: Home) -> None:
    with pytest.raises(UsageError, match="has no run '20200101T000000Z'"):
        recsys.open_run(served_night, "20200101T000000Z")
    with pytest.raises(NotPublished, match="serves no run"):
        recsys.open_run(home)
