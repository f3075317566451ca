import re

from recsys.ingest.datasets import DATASETS
from recsys.ingest.layouts import LAYOUTS


def test_every_edition_is_whole() -> None:
    for name, dataset in DATASETS.items():
        assert dataset.name == name
        assert dataset.layout in LAYOUTS
        assert dataset.rating_scale == tuple(sorted(set(dataset.rating_scale)))
        assert dataset.url.endswith(f"/{name}.zip")
        assert dataset.url.startswith("https://")
        assert dataset.md5 is None or re.fullmatch(r"[0-9a-f]{32}", dataset.md5)
        assert dataset.licence
        assert dataset.citation


def test_only_the_file_that_changes_has_no_checksum() -> None:
    assert [name for name, dataset in DATASETS.items() if dataset.md5 is None] == ["ml-latest-small"]
