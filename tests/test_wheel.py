"""The wheel has every file that it needs, and its command starts in a folder without a checkout."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.test_conventions import LAYERS, ROOT, list_project_files, name_of


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = (sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder))
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel: Path) -> Path:
    """A folder with the content of the wheel, as pip would install it."""
    folder = wheel.parent / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def run(installed: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs Python in an empty folder. The packages of this environment are found after those of the wheel."""
    here = installed.parent / "empty"
    here.mkdir(exist_ok=True)
    environment = os.environ | {"PYTHONPATH": str(installed)}
    command = (sys.executable, "-P", *arguments)
    return subprocess.run(command, cwd=here, env=environment, capture_output=True, text=True, check=False)


def test_the_wheel_has_the_files_of_every_layer(wheel: Path) -> None:
    tracked = {name_of(path) for path in list_project_files() if name_of(path).partition("/")[0] in LAYERS}
    with zipfile.ZipFile(wheel) as archive:
        found = {name for name in archive.namelist() if ".dist-info/" not in name}
        (entry,) = (name for name in archive.namelist() if name.endswith("entry_points.txt"))
        assert archive.read(entry).decode().split() == ["[console_scripts]", "recsys", "=", "flows.cli.main:program"]
    assert found == tracked
    assert {"sql/schema.sql", "deployments/prefect.yaml", "recsys/py.typed"} <= found


def test_the_command_starts_from_the_wheel(installed: Path) -> None:
    """`recsys serve` becomes `deployments.serve`, which refuses this address before it starts anything."""
    program = "from flows.cli.main import program; program()"
    assert "recsys nightly" in run(installed, "-c", program, "--help").stdout
    refused = run(installed, "-c", program, "serve", "--host", "0.0.0.0")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith("Error: --host 0.0.0.0 makes this Prefect server reachable from other machines")
    origins = "import deployments.serve, flows, recsys, sql; print(deployments.serve.__file__, sql.read('schema')[:9])"
    assert run(installed, "-c", origins).stdout.split() == [str(installed / "deployments/serve.py"), "--", "schema"]
