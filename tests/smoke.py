"""A quick test that this version of Python runs the project: it imports every module and publishes a small night.

`make smoke PYTHON=python3.12 VENV=.venv-3.12` runs it on the second supported version.
"""

import importlib
import os
import pkgutil
import subprocess
import sys
import tempfile

SOURCE = "synthetic:60x40x2000"
OPEN_GATE = {  # a network of a few epochs learns little
    "RECSYS_GATE__MAX_MAE_MEDIAN": "5",
    "RECSYS_GATE__MUST_BEAT_BIAS": "false",
    "RECSYS_GATE__MAX_NDCG_BELOW_PARTS": "1",
    "RECSYS_GATE__MIN_POPULARITY_COVERAGE_RATIO": "0",
    "RECSYS_AUDIT__MAX_TOP_MOVIE_SHARE": "1",
}


def import_modules() -> int:
    """Imports every module of the packages; returns how many there are."""
    names = [
        module.name
        for package in ("deployments", "flows", "recsys", "sql")
        for module in pkgutil.walk_packages([package], f"{package}.")
        if not module.name.endswith("__main__")
    ]
    for name in names:
        importlib.import_module(name)
    return len(names)


def publish_night() -> None:
    """Raises: CalledProcessError when the night fails."""
    with tempfile.TemporaryDirectory() as home:
        command = [sys.executable, "-c", "from flows.cli.main import program; program()"]
        command += ["nightly", "--source", SOURCE, "--model", "dot", "--home", home]
        subprocess.run(command, check=True, env=os.environ | OPEN_GATE)


def main() -> None:
    print(f"Python {sys.version.split()[0]}: {import_modules()} modules imported")
    publish_night()


if __name__ == "__main__":
    main()
