"""Outputs and figures in the documentation are those of the present code. `make refresh-docs` updates them."""

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from recsys import __version__, errors
from recsys.errors import RecsysError
from tests.refresh_docs import BLOCK, DOCS, GENERATED, PAGES, PICTURE, ROOT, Shown, hash_defaults, shorten

STALE = "the documentation shows an older output. Next: make refresh-docs"
BLOCKS = [(page, block) for page in PAGES for block in BLOCK.finditer(page.read_text(encoding="utf-8"))]
CONTRACT = (DOCS / "contract.md").read_text(encoding="utf-8")
BENCHMARKS = (DOCS / "benchmarks.md").read_text(encoding="utf-8")
MEASURED = re.compile(r"Measured (\d{4}-\d\d-\d\d), recsys (\d+\.\d+\.\d+):\s(`.+`.*)", flags=re.DOTALL)


@pytest.mark.parametrize("name", sorted(GENERATED))
def test_generated_pages_are_up_to_date(name: str) -> None:
    assert (DOCS / name).read_text(encoding="utf-8") == GENERATED[name](), STALE


def test_every_block_of_output_names_its_command() -> None:
    """A code fence with the output of a command is below a comment that the script reads."""
    assert [block["command"].split()[1] for _, block in BLOCKS] == [
        "nightly", "recommend", "recommend", "similar", "explain",
    ]  # fmt: skip
    fences = [fence for page in PAGES for fence in re.findall(r"^```text$", page.read_text("utf-8"), re.MULTILINE)]
    assert len(fences) == len(BLOCKS)


@pytest.mark.parametrize(("page", "block"), BLOCKS, ids=[block["command"] for _, block in BLOCKS])
def test_outputs_are_of_the_present_defaults_and_release(page: Path, block: re.Match[str]) -> None:
    assert block["defaults"] == hash_defaults(), STALE
    assert not is_older(block["version"]), STALE
    assert block["text"].strip()


def test_the_picture_shows_the_list_that_the_page_shows_and_needs_no_network() -> None:
    svg = PICTURE.read_text(encoding="utf-8")
    shown = " ".join(text.text or "" for text in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text"))
    titles = [
        row.split("  ")[1].strip() for row in block_of("recsys recommend 42 --n 3").splitlines() if row[:4] == "   1"
    ]
    assert titles and all(title in shown.replace("\xa0", " ") for title in titles)
    assert set(re.findall(r"https?://[^\"' )]+", svg)) <= {"http://www.w3.org/2000/svg", "https://www.textualize.io"}
    assert "@font-face" not in svg


def test_omitted_lines_become_an_ellipsis() -> None:
    text = "Night 1\n\nmodel x\nother 1\nother 2\nmodel y\n"
    assert shorten(text, Shown(keep="^(Night|model)")) == "Night 1\n\nmodel x\n…\nmodel y"
    assert shorten("row 1\n" + 60 * " " + "more of it\nrow 2", Shown(keep="^row")) == "row 1\nrow 2"
    assert shorten(text, Shown(lines=2)) == "Night 1\n…"


def test_every_table_of_benchmarks_has_a_date_and_a_command() -> None:
    """They are in the paragraph above the table. Tables of an older release must be measured again or removed."""
    paragraphs = BENCHMARKS.split("\n\n")
    above = [paragraphs[place - 1] for place, text in enumerate(paragraphs) if text.startswith("|")]
    captions = [MEASURED.fullmatch(text.strip()) for text in above]
    assert len(above) > 8
    assert [text for text, caption in zip(above, captions, strict=True) if caption is None] == []
    old = [caption[0] for caption in captions if caption and is_older(caption[2])]
    assert old == [], "Next: measure these tables again with the command above them"


def test_only_earlier_releases_make_figures_stale() -> None:
    """Figures of the present version are measured before its release."""
    changelog = "## 0.3.0, unreleased\n## 0.2.0, 2026-12-01\n## 0.1.0, 2026-11-21\n"
    assert is_older("0.1.9", "0.3.0", changelog)
    assert not is_older("0.2.0", "0.3.0", changelog)
    assert not is_older("0.1.0", "0.2.0", changelog)


def test_the_contract_lists_every_exit_code() -> None:
    listed = {int(code) for code in re.findall(r"^\| (\d+) \|", CONTRACT, flags=re.MULTILINE)}
    raised = {error.exit_code for error in vars(errors).values() if is_error(error)}
    assert raised | {0} <= listed


def is_error(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, RecsysError)


def is_older(version: str, present: str = __version__, changelog: str | None = None) -> bool:
    """Whether the version is older than the latest release before the present one, by CHANGELOG.md."""
    text = changelog if changelog is not None else (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    named = re.findall(r"^## \[?v?(\d+\.\d+\.\d+)\]?(?!.*unreleased)", text, flags=re.MULTILINE)
    earlier = [numbers(release) for release in named if numbers(release) < numbers(present)]
    return bool(earlier) and numbers(version) < max(earlier)


def numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.partition("+")[0].split(".")))


def block_of(command: str) -> str:
    (text,) = (str(block["text"]) for _, block in BLOCKS if block["command"] == command)
    return text
