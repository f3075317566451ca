"""The world that docs/consumers.md and docs/examples read, written once."""

from pathlib import Path

import pytest

from tests.support.consumers import write_world


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `data/` and its warehouse of four nights, `lake/`, and a reader's own files: for reading only."""
    folder = tmp_path_factory.mktemp("consumers")
    write_world(folder)
    return folder
