"""The outputs in README.md and docs/asking.md are compared with a night on MovieLens 100K.

The night uses a quick network, so its figures are not compared. The form of the lines must be the same, and the figures
of all baselines must be close to those on the pages. Without the real archive, only the form is compared.
"""

import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pytest
from click.testing import CliRunner

from flows.cli.main import main
from recsys.home import Home
from recsys.nightly import run_night
from recsys.runs.summary import render
from tests.conftest import RealArchive
from tests.docs.test_outputs import BLOCKS, STALE, block_of
from tests.support.nights import settings_of
from tests.support.planted import quick_config

pytestmark = pytest.mark.slow
TOLERANCE = (
    0.02  # as a share of a figure in README.md: far above differences between machines, below a change of the model
)
STAND_INS = {
    "Toy Story": "The Quiet Harbour",
    "Heat": "The Crimson Harbour",
    "Fargo": "The Last Harbour",
    "Braveheart": "The Hidden Harbour",
}
HEADINGS = ("rank ", "title ", "part ", "movie_id ", "served_by: ", "model ")
BASELINES = {"bias", "ease", "als", "popularity"}
Archives = Callable[[str], RealArchive]


@dataclass(frozen=True)
class RealNight:
    home: Home
    printed: str
    is_real: bool


def test_a_night_prints_the_outputs_on_the_pages(real_archive: Archives, tmp_path: Path) -> None:
    """A single test, because the night is slow."""
    archive = real_archive("ml-100k")
    made = make_night(archive, Home(tmp_path / "home"))
    compare_figures(made)
    compare_examples(made)
    check_metric_names(made.home)


def make_night(archive: RealArchive, home: Home) -> RealNight:
    config = {"model": "nmf", "config": quick_config("nmf", epochs=1, batch_size=2000).model_dump(mode="json")}
    gate = {"force_publish": True}
    summary = run_night(settings_of(home, archive.path, model="auto", config=config, gate=gate))
    return RealNight(home, render(summary), archive.is_real)


def compare_figures(made: RealNight) -> None:
    """Headings are printed in the order of README.md, and so are baselines, with figures close to those shown there."""
    printed = iter(made.printed.splitlines())
    compared = set()
    for line in filter(str.strip, block_of("recsys nightly").splitlines()):
        name, *figures = line.split()[:1] + re.findall(r" (\d+\.\d{4})", line)
        if line.startswith(HEADINGS):
            assert any(other.split() == line.split() for other in printed), line
        elif figures and name in BASELINES and made.is_real:
            other = next(other for other in printed if other.split()[:1] == [name])
            values = [float(figure) for figure in re.findall(r" (\d+\.\d{4})", other)]
            assert values == pytest.approx([float(figure) for figure in figures], abs=TOLERANCE), STALE
            compared.add(name)
    assert compared == BASELINES or not made.is_real


def compare_examples(made: RealNight) -> None:
    for _, block in BLOCKS[1:]:
        command, pasted = block["command"], block["text"].splitlines()[1:]
        for real, stand_in in () if made.is_real else STAND_INS.items():
            command = command.replace(real, stand_in)
        shown = CliRunner().invoke(main, [*shlex.split(command)[1:], "--home", str(made.home.root)])
        assert shown.exit_code == 0, shown.stderr
        printed = [line.split() for line in shown.stdout.splitlines()]
        assert printed[0][0] == pasted[0].split()[0] or not made.is_real
        for line in pasted:
            assert not line.startswith(HEADINGS) or line.split() in printed


def check_metric_names(home: Home) -> None:
    """Every metric of the night is described, so it is in docs/contract.md, too."""
    with duckdb.connect(home.warehouse, read_only=True) as connection:
        assert connection.sql("select metric from metrics anti join metric_names using (metric)").fetchall() == []
        assert len(connection.table("metric_names")) > 20
