"""The documentation site builds without warnings, is complete, and loads nothing from other sites."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlparse

import pytest
from ruamel.yaml import YAML

import recsys

ROOT = Path(__file__).parents[2]
# elements whose addresses a browser loads automatically
LOADED = {
    "link": "href",
    "script": "src",
    "img": "src",
    "iframe": "src",
    "source": "src",
}
LINKED = {"a": "href"}


class Page(HTMLParser):
    """The addresses in a page, and the ids that links can point to."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.linked: list[str] = []
        self.ids: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.ids |= {str(found[name]) for name in ("id", "name") if found.get(name)}
        for names, addresses in ((LOADED, self.loaded), (LINKED, self.linked)):
            if tag in names and found.get(names[tag]):
                addresses.append(str(found[names[tag]]))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built in a copy of the sources. As in `make docs`, a warning ends the build."""
    folder = tmp_path_factory.mktemp("site")
    shutil.copy(ROOT / "mkdocs.yml", folder)
    for name in ("docs", "recsys"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    command = (sys.executable, "-m", "zensical", "build", "--strict", "--clean")
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, re.sub(r"\x1b\[[\d;]*m", "", f"{done.stdout}\n{done.stderr}")
    return folder / "build" / "site"


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    return {path: Page(path) for path in sorted(site.rglob("*.html")) if path.name != "404.html"}


def test_every_page_is_in_the_navigation() -> None:
    navigation = YAML(typ="safe").load(ROOT / "mkdocs.yml")["nav"]
    listed = [*walk(navigation)]
    written = {str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")}
    assert len(listed) == len({*listed})
    assert {*listed} == written


def walk(part: object) -> Iterator[str]:
    """The paths of a navigation of any depth."""
    if isinstance(part, str):
        yield part
    elif isinstance(part, list):
        for one in part:
            yield from walk(one)
    elif isinstance(part, dict):
        yield from walk([*part.values()])


def test_every_link_has_a_target(site: Path, pages: dict[Path, Page]) -> None:
    """The generator only checks links between Markdown pages. This test also covers files, pictures and headings."""
    dead = []
    for path, page in pages.items():
        for address in (*page.loaded, *page.linked):
            place, fragment = urldefrag(address)
            if urlparse(address).scheme:
                continue
            target = (path.parent / unquote(place)).resolve() if place else path
            if not target.exists() or (fragment and target in pages and fragment not in pages[target].ids | {"__skip"}):
                dead.append((str(path.relative_to(site)), address))
    assert len(pages) > 10
    assert dead == []


def test_no_page_loads_anything_from_other_sites(site: Path, pages: dict[Path, Page]) -> None:
    fetched = {address for page in pages.values() for address in page.loaded if urlparse(address).netloc}
    assert fetched == set()
    styles = [path.read_text(encoding="utf-8") for path in site.rglob("*.css")]
    assert styles
    assert [address for text in styles for address in re.findall(r"(?:url\(|@import )[\"']?(https?:)", text)] == []


def test_the_reference_has_every_public_name(site: Path, pages: dict[Path, Page]) -> None:
    expected = {f"{module}.{name}" for name, module in recsys._MODULES.items()}
    assert expected <= pages[site / "library.html"].ids
