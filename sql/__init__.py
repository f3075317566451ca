"""The SQL statements. A file has one `select`; Python code runs it and writes the result."""

from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent


@cache
def read(name: str) -> str:
    """The statement in `<name>.sql`, e.g. `read("recommend")`."""
    return (FOLDER / f"{name}.sql").read_text(encoding="utf-8")
