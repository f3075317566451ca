"""The prose of the project: width, plain words, and a short README."""

import re
from collections.abc import Iterator

from tests.test_conventions import ROOT, list_project_files, name_of, read

MAX_README_LINES = 190
MAX_COLUMNS = 120
# Phrases that plain technical English avoids.
RIDDLES = re.compile(
    r"\b(g(o|oes|oing|one) on with|cannot be meant|anew|whoever|nobody knows|somebody's|told (of|to|by|in)|believed in"
    r"|to no end|came to no|hurried|of which it|what there is none of|let be|is begun)\b",
    re.IGNORECASE,
)
SUFFIXES = {".py", ".sql", ".md", ".css", ".service", ".timer", ".example", ".toml", ".yml", ".yaml", ""}


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= MAX_README_LINES


def test_markdown_and_sql_comments_are_narrow() -> None:
    """In Python, ruff's E501 holds code, docstrings and comments to the same width."""
    found = []
    for path in list_project_files():
        if path.suffix == ".md":
            found += [f"{name_of(path)}:{line}" for line in list_wide_prose(read(path))]
        elif path.suffix == ".sql":
            lines = enumerate(read(path).splitlines(), start=1)
            found += [f"{name_of(path)}:{number}" for number, line in lines if is_wide_comment(line)]
    assert found == []


def test_no_riddles() -> None:
    found = {
        name_of(path): [match[0] for match in RIDDLES.finditer(as_one_line(read(path)))]
        for path in list_project_files()
        if path.suffix in SUFFIXES and path.name != "test_prose.py"
    }
    assert {name: phrases for name, phrases in found.items() if phrases} == {}


def test_these_checks_can_fail() -> None:
    words = "word " * 30
    page = f"{words}\n\n| {words} |\n\n    {words}\n\n```\n{words}\n```\n\n- {words}\n[a]({'x' * 120})\n"
    assert [*list_wide_prose(page)] == [1, 11]
    assert is_wide_comment(f"  -- {words}")
    assert not is_wide_comment(f"select {words}")
    assert RIDDLES.search(as_one_line("# a night that was gone\n    # on with"))
    assert not RIDDLES.search("the renewed schedule")


def list_wide_prose(page: str) -> Iterator[int]:
    """Numbers of the lines of Markdown prose that are too wide. Code, tables, HTML and link targets do not count."""
    in_code = False
    for number, line in enumerate(page.splitlines(), start=1):
        if line.lstrip().startswith("```"):
            in_code = not in_code
        elif in_code or line.startswith(("|", "    ", "<", "[")):
            continue
        elif len(re.sub(r"\]\([^)]*\)", "]", line)) > MAX_COLUMNS:
            yield number


def is_wide_comment(line: str) -> bool:
    return line.lstrip().startswith("--") and len(line) > MAX_COLUMNS


def as_one_line(text: str) -> str:
    """The text without line breaks and comment marks, so that a phrase is found across lines."""
    return re.sub(r"\s*\n\s*(#|--|>|\*)?\s*", " ", text)
