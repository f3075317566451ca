"""Lists the editions of MovieLens with their facts and the files from which they are read."""

from dataclasses import asdict
from typing import Any

import polars as pl

from recsys.datasets import CITATION, EDITIONS, GROUPLENS, RESEARCH_SHARED, Dataset
from recsys.ingest.parse.layouts import LAYOUTS
from recsys.schema import TABLES


def describe_dataset(dataset: Dataset) -> dict[str, Any]:
    """Returns the facts about an edition, and the files from which it is read."""
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
    """Returns one row per edition with all facts, or with those that fit a terminal if `in_words`."""
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


FOOTNOTE = f"""Each edition is {GROUPLENS}/NAME.zip. Those without an MD5 change from time to time, and
so do their counts. All are for research with acknowledgement, not for commercial use; those marked as shared may be
redistributed under the same conditions. For files, encodings, genres, checksums and licences: recsys datasets --json

{CITATION}"""
