"""Data Docs ask nothing of a network and can be read without one: says their HTML, and a browser where there is one."""

import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

from recsys.checks.check import check_ratings
from recsys.errors import DataRefused
from recsys.expect.data_docs import STYLESHEET, complete
from recsys.home import Home, Run
from recsys.settings import CheckConfig
from tests.support.snapshots import make_run, make_tables, reject, write_tables

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
FETCHED = {"src", "srcset", "poster", "background", "data", "action", "formaction", "ping", "xlink:href"}
FETCHING = {"script", "link", "img", "iframe", "object", "embed", "audio", "video", "base", "image", "use"}


class Reader(HTMLParser):
    """What a page holds: its tags, what a browser would fetch for it, where it leads, its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.fetched: list[str] = []
        self.links: list[str] = []
        self.handlers: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name in FETCHED or (name == "style" and "url" in (value or "")):
                self.fetched.append(f"{tag} {name}={value}")
            self.links += [value or ""] if name == "href" else []
            self.handlers += [name] if name.startswith("on") else []

    def handle_data(self, data: str) -> None:
        self.text += f" {data.strip()}"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A check that found something wrong in every way."""
    folder = tmp_path_factory.mktemp("docs")
    tables = make_tables()
    tables["ratings"][4]["rating"] = 9.0
    run = make_run(Home(folder / "home"))
    with pytest.raises(DataRefused):
        check_ratings(
            write_tables(folder / "s", tables, [reject("ratings", 601)]), run, CheckConfig(min_ratings=601), None
        )
    return run


@pytest.fixture(scope="module")
def pages(run: Run) -> dict[Path, Reader]:
    return {path: Reader(path.read_text(encoding="utf-8")) for path in sorted(run.data_docs.rglob("*.html"))}


def test_there_are_nothing_but_pages(run: Run, pages: dict[Path, Reader]) -> None:
    files = [path for path in run.data_docs.rglob("*") if path.is_file()]
    assert sorted(files) == sorted(pages)
    assert len(pages) == 9
    assert sum(path.stat().st_size for path in files) < 250_000


def test_a_browser_fetches_nothing(pages: dict[Path, Reader]) -> None:
    for path, page in pages.items():
        assert not set(page.tags) & FETCHING, path
        assert (page.fetched, page.handlers) == ([], []), path
        assert "url(" not in path.read_text(encoding="utf-8")
        assert "@import" not in path.read_text(encoding="utf-8")


def test_links_lead_somewhere(pages: dict[Path, Reader]) -> None:
    for path, page in pages.items():
        for link in page.links:
            if link.startswith("#"):
                assert re.search(rf'id="?{re.escape(link[1:])}\b', path.read_text(encoding="utf-8")), link
            else:
                assert (path.parent / link).exists(), link


def test_every_page_has_our_styles_and_allows_no_others(pages: dict[Path, Reader]) -> None:
    styles = STYLESHEET.read_text(encoding="utf-8")
    for path in pages:
        text = path.read_text(encoding="utf-8")
        assert text.count("<style>") == 1
        assert styles in text
        assert "default-src 'none'" in text
        assert text.count('charset="utf-8"') == 1


def test_what_was_found_is_in_words(run: Run, pages: dict[Path, Reader]) -> None:
    index = pages[run.data_docs / "index.html"]
    assert "✗ fail snapshot_ratings 3 of 4" in " ".join(index.text.split())
    assert "✓ pass snapshot_tags 3 of 3" in " ".join(index.text.split())
    (ratings,) = (page for path, page in pages.items() if path.stem == "duckdb-snapshot_ratings")
    assert "a rating is one of the stars that the edition gives" in ratings.text
    assert "Home" in ratings.text
    assert "newsletter" not in ratings.text


def test_a_page_is_written_down_as_it_was_but_for_what_is_dropped() -> None:
    page = (
        "<!DOCTYPE html><html><head><title>a &amp; b</title><link href='https://x/y.css'><script>if (a < b) {}</script>"
        '</head><body onload="x()"><p style="color: red" title="&lt;">1 &lt; 2 &#8212;<br/>'
        '<img src="https://x/y.png"><svg><a href="z"></svg> kept</p>'
        '<a href="https://docs" onclick="y()">docs</a><a href="../expectations/x.html">gone</a>'
        '<div style="background: url(https://x)">box</div></body></html>'
    )
    kept = (
        '</head><body><p style="color: red" title="&lt;">1 &lt; 2 &#8212;<br> kept</p>'
        '<a href="https://docs">docs</a><a>gone</a><div>box</div></body></html>'
    )
    written = complete(page)
    assert written.startswith('<!DOCTYPE html><html><head><meta charset="utf-8">')
    assert "<title>a &amp; b</title>" in written
    assert written.endswith(kept)


# where Great Expectations' own pages get their styles, scripts and pictures
HOSTS = {
    *("unpkg.com", "maxcdn.bootstrapcdn.com", "stackpath.bootstrapcdn.com", "cdnjs.cloudflare.com"),
    *("cdn.jsdelivr.net", "code.jquery.com", "great-expectations-web-assets.s3.us-east-2.amazonaws.com"),
}

browser_only = pytest.mark.skipif(BROWSER is None, reason="no Chromium here; the tests of the HTML carry the proof")


def show(page: Path, scratch: Path) -> tuple[str, set[str]]:
    """The page as a browser renders it where no name can be resolved, and the hosts that it asked for."""
    log = scratch / "requests.json"
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={scratch}/profile"]
    options += ["--host-resolver-rules=MAP * ~NOTFOUND", f"--log-net-log={log}", "--dump-dom"]
    shown = subprocess.run(
        [str(BROWSER), *options, page.as_uri()], capture_output=True, text=True, timeout=120, check=True
    )
    return shown.stdout, set(re.findall(r'"url":"https?://([^/"]+)', log.read_text("utf-8", errors="replace")))


@pytest.mark.slow
@browser_only
@pytest.mark.parametrize("name", ["index", "duckdb-snapshot_ratings"])
def test_a_real_browser_shows_it_and_asks_for_nothing(tmp_path: Path, pages: dict[Path, Reader], name: str) -> None:
    (path,) = (path for path in pages if path.stem == name)
    shown, hosts = show(path, tmp_path)
    said = "What the checks" if name == "index" else "a rating is one of the stars that the edition gives"
    assert said in shown
    assert "snapshot_ratings" in shown
    assert not hosts & HOSTS


@pytest.mark.slow
@browser_only
def test_what_a_browser_asks_for_would_be_seen(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text("".join(f'<link rel="stylesheet" href="https://{host}/a.css">' for host in HOSTS))
    assert show(page, tmp_path)[1] >= HOSTS
