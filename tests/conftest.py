"""Fixtures shared by all tests."""

import os
from pathlib import Path

import pytest

from recsys.home import Home

REAL_DATA = Path(os.environ.get("RECSYS_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")
