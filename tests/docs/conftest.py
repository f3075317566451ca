"""The nights of docs/consumers.md, written once for all tests of that page."""

from pathlib import Path

import pytest

from tests.support.consumers import write_world


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("consumers")
    write_world(folder)
    return folder
