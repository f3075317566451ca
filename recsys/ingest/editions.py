"""The editions of MovieLens as a table: what is known about each, and the files that it is read from."""

from dataclasses import asdict
from typing import Any

import polars as pl

from recsys.datasets import CITATION, EDITIONS, GROUPLENS, RESEARCH_SHARED, Dataset
from recsys.ingest.parse.layouts import LAYOUTS
from recsys.schema import TABLES


def describe_dataset(dataset: Dataset) -> dict[str, Any]:
    """Everything known about an edition, and about the files that it is read from."""
    layout = LAYOUTS[dataset.layout]
    texts = {table: layout.texts().get(table) for table in TABLES}
    return {
        **asdict(dataset),
        "url": dataset.url,
        "folder": dataset.folder or dataset.name,
        "files": {table: text and text.name for table, text in texts.items()},
        "delimiters": {table: text and text.separator for table, text in texts.items()},
        "encoding": layout.encoding,
    }


def list_datasets(*, in_words: bool) -> pl.DataFrame:
    """One row per edition: everything known about it, or if `in_words` what fits a terminal."""
    frame = pl.DataFrame([describe_dataset(dataset) for dataset in EDITIONS])
    if not in_words:
        return frame
    stars = pl.col("rating_scale").list
    return frame.select(
        "name",
        "ratings",
        "users",
        "movies",
        "tags",
        stars=pl.format("{}-{}", stars.first(), stars.last()),
        md5=pl.when(pl.col("md5").is_null()).then(pl.lit("none")).otherwise(pl.lit("published")),
        shared=pl.when(pl.col("licence") == RESEARCH_SHARED).then(pl.lit("yes")).otherwise(pl.lit("no")),
    )


FOOTNOTE = f"""Each is {GROUPLENS}/NAME.zip. Those without an MD5 change now and then, and their
counts with them. All are for research with acknowledgement, none for commercial use; those marked as shared may be
passed on under the same conditions. Files, encodings, genres, checksums, licences in full: recsys datasets --json

{CITATION}"""
