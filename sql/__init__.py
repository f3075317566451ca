"""One `select` per file, each saying what; the Python that runs them does the writing."""

from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent


@cache
def read(name: str) -> str:
    """The statement in `<name>.sql`, e.g. `read("recommendations_named")`."""
    return (FOLDER / f"{name}.sql").read_text(encoding="utf-8")
