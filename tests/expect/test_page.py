"""The page of results is self-contained: it loads no files, runs no scripts and escapes its texts."""

from html.parser import HTMLParser
from pathlib import Path

from recsys.expect.page import Row, write_page

ROWS = [
    Row(True, "ratings", "enough_ratings", "there are at least 500 ratings", 1_234_567),
    Row(False, "comparison", "rating_psi_warn", 'at most 0.1, <b onclick="x()">else</b> warn', 0.123456789),
    Row(True, "snapshot_tags", "tag_not_empty", "a tag is not empty", 0),
]


class Reader(HTMLParser):
    """Tags, attributes and text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.text = " ".join(f"{self.text} {data}".split())


def read_page(folder: Path) -> tuple[str, Reader]:
    write_page(folder, "Checks of <r1>", "An <em>explanation</em>.", ROWS)
    assert [path.name for path in folder.iterdir()] == ["index.html"]
    page = (folder / "index.html").read_text(encoding="utf-8")
    return page, Reader(page)


def test_the_page_loads_no_files_and_runs_no_scripts(tmp_path: Path) -> None:
    page, read = read_page(tmp_path)
    assert not read.tags & {"script", "link", "img", "iframe", "object", "embed", "base", "a", "b"}
    assert read.attributes <= {"lang", "charset", "http-equiv", "content", "class"}
    assert "default-src 'none'" in page
    assert "url(" not in page and "@import" not in page and "http:" not in page and "https:" not in page


def test_every_rule_is_on_the_page_and_failed_ones_come_first(tmp_path: Path) -> None:
    _, read = read_page(tmp_path)
    assert "Checks of <r1> 2 of 3 rules hold. An explanation ." in read.text
    rows = (
        '✗ fail comparison rating_psi_warn at most 0.1, <b onclick="x()">else</b> warn 0.123457 '
        "✓ pass ratings enough_ratings there are at least 500 ratings 1,234,567 "
        "✓ pass snapshot_tags tag_not_empty a tag is not empty 0"
    )
    assert read.text.endswith(rows)
