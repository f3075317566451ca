"""`import recsys` as a library: its public names, the cost of the import, and the page that documents it."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

import recsys
from recsys.errors import NotPublished, UsageError
from recsys.runs.summary import Summary
from tests.support.quick_nights import quick_parameters

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "library.md").read_text(encoding="utf-8")
SOURCE = "synthetic:100x80x3000"  # enough movies for a full list of unseen ones for every user


def test_importing_the_package_imports_nothing_else() -> None:
    program = "import sys; before = {*sys.modules}; import recsys; print(*sorted({*sys.modules} - before))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    imported = done.stdout.split()
    assert {name.partition(".")[0] for name in imported} <= {"recsys", *sys.stdlib_module_names}
    assert [name for name in imported if name.startswith("recsys")] == ["recsys"]


@pytest.mark.parametrize("name", recsys.__all__)
def test_every_public_name_exists_and_has_a_docstring(name: str) -> None:
    value = getattr(recsys, name)
    assert name in dir(recsys)
    assert name == "__version__" or value.__doc__


def test_type_checkers_see_the_same_names() -> None:
    """The imports for type checkers, the table that `__getattr__` reads, and `__all__` have the same names."""
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


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[recsys.Home, Summary]:
    """A home with one night, and the summary that `recsys.run_night` returned."""
    home = recsys.Home(tmp_path_factory.mktemp("library") / "home")
    return home, recsys.run_night(recsys.Settings.model_validate(quick_parameters(home.root, SOURCE)))


def programs() -> list[str]:
    return re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)


def test_the_first_program_of_the_page_runs(ran: tuple[recsys.Home, Summary], monkeypatch: pytest.MonkeyPatch) -> None:
    home, _ = ran
    monkeypatch.chdir(home.root)
    found: dict[str, object] = {}
    exec(programs()[0].replace('Path("data")', 'Path(".")').replace("Toy Story", "5").replace("Heat", "6"), found)
    for name in ("mine", "alike", "history"):
        assert isinstance(frame := found[name], pl.DataFrame) and len(frame)


def test_names_in_the_second_program_of_the_page_exist(ran: tuple[recsys.Home, Summary]) -> None:
    """A night on a real data set is too long for a test. The settings are built, and the fields are looked up."""
    _, summary = ran
    call, shown = programs()[1].splitlines()
    settings = eval(call.partition("run_night(")[2].removesuffix(")"), {"recsys": recsys, "Path": Path})
    assert (settings.source, settings.home) == ("ml-100k", Path("data"))
    assert all(hasattr(summary, name) for name in re.findall(r"summary\.(\w+)", shown))
    assert (summary.verdict, summary.published) == ("published", True)


def test_open_run_by_id_and_by_default_the_served_run(ran: tuple[recsys.Home, Summary]) -> None:
    home, summary = ran
    served = recsys.open_run(home)
    assert served.run_id == summary.run_id
    assert recsys.open_run(home, served.run_id).record == served.record
    assert served.record["verdict"] == "published"
    assert served.metrics.columns == ["model", "split", "slice", "metric", "value"]
    assert {"score", "train_for_tonight"} <= {*served.steps["step"]}
    mine = served.lists.filter(user_id=42)
    assert mine["rank"].to_list() == [*range(1, 11)]
    assert served.folder == home.runs / served.run_id


def test_the_error_names_a_run_that_does_not_exist(ran: tuple[recsys.Home, Summary], home: recsys.Home) -> None:
    with pytest.raises(UsageError, match="has no run '20200101T000000Z'"):
        recsys.open_run(ran[0], "20200101T000000Z")
    with pytest.raises(NotPublished, match="serves no run"):
        recsys.open_run(home)
