"""Data Docs that can be read anywhere: one file per page, which asks nothing of a network.

Great Expectations' pages take styles, scripts, fonts and images from hosts on the internet, and four megabytes of files
beside them. All of that goes; a stylesheet of our own comes into each page.
"""

import shutil
from collections.abc import Mapping, Sequence
from functools import cache
from html import escape
from html.parser import HTMLParser
from pathlib import Path

STYLESHEET = Path(__file__).with_name("data_docs.css")

Attributes = list[tuple[str, str | None]]

# What would be fetched, what does nothing without a script, and the publisher's invitation at the foot.
DROPPED = {"script", "style", "link", "img", "picture", "svg", "iframe", "object", "embed", "video", "audio", "base"}
DROPPED |= {"button", "input", "label", "footer"}
DROPPED_CLASSES = {"ge-walkthrough-modal", "navbar-brand", "ge-cta-footer"}
ACTIONS = {"card", "mb-3"}  # the classes of the box of buttons, which is named by nothing better
VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}
LOADING = {"src", "srcset", "poster", "background", "data", "ping"}  # attributes that name what a browser fetches

INDEX = """\
<!DOCTYPE html>
<html lang="en">
<head>
<title>{title}</title>
</head>
<body>
<h1>{title}</h1>
<table>
<thead><tr><th>Status</th><th>Rows</th><th class="number">Rules that hold</th></tr></thead>
<tbody>
{rows}
</tbody>
</table>
<p>{explanation}</p>
</body>
</html>
"""


def tidy(folder: Path) -> None:
    """Makes every page below `folder` complete in itself and removes the files that Great Expectations puts beside."""
    shutil.rmtree(folder / "static", ignore_errors=True)
    for page in folder.rglob("*.html"):
        page.write_text(complete(page.read_text(encoding="utf-8")), encoding="utf-8")


def write_index(folder: Path, title: str, held: Mapping[str, Sequence[bool]], explanation: str) -> None:
    """The page that leads to the others; `held` says of each view which of its rules hold. title, explanation: HTML.

    Great Expectations' own is drawn by a script, so nothing of it could be seen.
    """
    rows = "\n".join(_row(view, rules, folder) for view, rules in held.items())
    page = INDEX.format(title=title, rows=rows, explanation=explanation)
    (folder / "index.html").write_text(complete(page), encoding="utf-8")


def _row(view: str, rules: Sequence[bool], folder: Path) -> str:
    (page,) = (folder / "validations" / view).rglob("*.html")
    status = '<td class="pass">✓ pass</td>' if all(rules) else '<td class="fail">✗ fail</td>'
    link = f'<a href="{escape(page.relative_to(folder).as_posix())}">{escape(view)}</a>'
    return f'<tr>{status}<td>{link}</td><td class="number">{sum(rules)} of {len(rules)}</td></tr>'


def complete(page: str) -> str:
    """The same page with our stylesheet in it, and without anything that a browser would fetch or run."""
    writer = _Page()
    writer.feed(page)
    writer.close()
    return "".join(writer.written)


@cache
def _head() -> str:
    policy = "default-src 'none'; style-src 'unsafe-inline'"  # says to the browser what the tests say to us
    return (
        f'<meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{policy}">'
        f"<style>{STYLESHEET.read_text(encoding='utf-8')}</style>"
    )


class _Page(HTMLParser):
    """Writes down what it reads, less what is dropped."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=False)
        self.written: list[str] = []
        self.dropping: list[str] = []  # open elements, from the one that is dropped inwards

    def handle_starttag(self, tag: str, attrs: Attributes) -> None:
        if self.dropping or _is_dropped(tag, attrs):
            self.dropping += [] if tag in VOID else [tag]
            return
        staying = "".join(_write_attribute(*attribute) for attribute in attrs if _stays(attribute))
        self.written.append(f"<{tag}{staying}>")
        if tag == "head":
            self.written.append(_head())

    def handle_startendtag(self, tag: str, attrs: Attributes) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self.dropping:
            self.written.append(f"</{tag}>")
        elif tag in self.dropping:
            while self.dropping.pop() != tag:  # what was left open inside ends with it
                pass

    def handle_data(self, data: str) -> None:
        self._write(data)

    def handle_entityref(self, name: str) -> None:
        self._write(f"&{name};")

    def handle_charref(self, name: str) -> None:
        self._write(f"&#{name};")

    def handle_decl(self, decl: str) -> None:
        self._write(f"<!{decl}>")

    def _write(self, text: str) -> None:
        if not self.dropping:
            self.written.append(text)


def _is_dropped(tag: str, attrs: Attributes) -> bool:
    classes = set((dict(attrs).get("class") or "").split())
    fetching_meta = tag == "meta" and any(name in ("http-equiv", "charset") for name, _ in attrs)
    return tag in DROPPED or bool(classes & DROPPED_CLASSES) or classes >= ACTIONS or fetching_meta


def _stays(attribute: tuple[str, str | None]) -> bool:
    """Links stay, to our own pages and to the world: a browser follows them when somebody asks it to."""
    name, value = attribute
    if name == "style":
        return "url(" not in (value or "") and "height" not in (value or "")  # boxes of a fixed height would scroll
    if name == "href":
        return "expectations/" not in (value or "")  # pages that are not written
    return name not in LOADING and not name.startswith("on")


def _write_attribute(name: str, value: str | None) -> str:
    return f" {name}" if value is None else f' {name}="{escape(value)}"'
