import re
from dataclasses import fields

from recsys.datasets import (
    CITATION,
    DATASETS,
    HALF_STARS,
    OWN_SCHEMA,
    RESEARCH_ONLY,
    RESEARCH_SHARED,
    WHOLE_STARS,
    name_data,
)
from recsys.files import write_json
from recsys.home import Home
from recsys.ingest.editions import list_datasets
from recsys.ingest.parse.layouts import LAYOUTS

EDITIONS = ("ml-100k", "ml-1m", "ml-10m", "ml-20m", "ml-25m", "ml-32m", "ml-latest-small", "ml-latest")


def test_every_edition_is_complete() -> None:
    assert tuple(DATASETS) == EDITIONS
    for name, dataset in DATASETS.items():
        assert dataset.name == name
        assert dataset.layout in LAYOUTS
        assert dataset.rating_scale in (WHOLE_STARS, HALF_STARS)
        assert dataset.genres == tuple(sorted(set(dataset.genres)))
        assert dataset.url.endswith(f"/{name}.zip")
        assert dataset.url.startswith("https://")
        assert dataset.md5 is None or re.fullmatch(r"[0-9a-f]{32}", dataset.md5)
        assert dataset.licence in (RESEARCH_ONLY, RESEARCH_SHARED)
        assert dataset.citation == CITATION
        assert set(dataset.unused) <= set(LAYOUTS[dataset.layout].unused)
        assert (dataset.tags > 0) == (LAYOUTS[dataset.layout].tags is not None)


def test_only_changing_editions_have_no_checksum() -> None:
    assert [name for name, dataset in DATASETS.items() if dataset.md5 is None] == ["ml-latest-small", "ml-latest"]


def test_genres_are_those_of_the_files() -> None:
    assert [len(DATASETS[name].genres) for name in EDITIONS] == [19, 18, 20, 20, 20, 20, 20, 20]
    assert "unknown" in DATASETS["ml-100k"].genres
    assert {"Children", "IMAX"} <= set(DATASETS["ml-32m"].genres)


def test_the_json_list_has_every_field() -> None:
    listed = {row["name"]: row for row in list_datasets(in_words=False).to_dicts()}
    assert tuple(listed) == EDITIONS
    for name, dataset in DATASETS.items():
        for field in fields(dataset):
            value = getattr(dataset, field.name)
            shown = listed[name][field.name]
            assert shown == (list(value) if isinstance(value, tuple) else value) or field.name == "folder"
    assert listed["ml-10m"]["folder"] == "ml-10M100K"
    assert listed["ml-25m"]["folder"] == "ml-25m"
    assert listed["ml-1m"]["encoding"] == "latin-1"
    assert listed["ml-1m"]["files"]["users"] == "users.dat"
    assert listed["ml-100k"]["delimiters"] == {
        "ratings": "\t",
        "movies": "|",
        "users": "|",
        "tags": None,
        "links": None,
    }


def test_the_printed_list_fits_a_terminal() -> None:
    frame = list_datasets(in_words=True)
    assert frame.columns == ["name", "ratings", "users", "movies", "tags", "stars", "md5", "shared"]
    columns = [[column, *map(str, frame[column])] for column in frame.columns]
    assert sum(max(map(len, cells)) + 2 for cells in columns) <= 80
    small = dict(zip(frame["name"], frame.rows(named=True), strict=True))["ml-latest-small"]
    assert (small["stars"], small["md5"], small["shared"]) == ("0.5-5.0", "none", "yes")


def test_data_in_our_own_schema_are_called_by_the_name_of_their_folder(home: Home) -> None:
    run = home.run("20261121T030000Z")
    assert name_data("ml-1m", run) == "ml-1m"
    assert name_data(OWN_SCHEMA, run) == "data in our own schema"
    for source, name in (("/srv/drops/", "drops"), ("/srv/[red]\x1b[2J.zip", "[red]\\x1b[2J.zip")):
        write_json(run.config, {"source": source})
        assert name_data(OWN_SCHEMA, run) == name
