"""Good data, and functions that damage them, for `bad_inputs`.

The good data are a directory of drops in our own schema, or an edition in GroupLens's CSV. Each kind of bad input
differs from good data in one fault only.
"""

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from recsys.home import Home
from recsys.ingest.synthetic.synthetic import Planted, plant
from tests.support import hostile
from tests.support.archives import Names, render, write_archive, write_files
from tests.support.hostile import Item, zip_bytes
from tests.support.servers import Answer

Change = Callable[[bytes], bytes]
Changes = Mapping[str, Change | None]  # by file; None removes it
Write = Callable[[Path], Path | str]  # into an empty folder; returns the --source

SIZES = (200, 200, 8000)  # users, movies, ratings


@dataclass(frozen=True)
class Kind:
    """One kind of bad input: how to create it, and the settings of the night."""

    write: Write
    damage: Callable[[Home], None] | None = None  # applied to a copy of the home
    answer: Answer | None = None  # the answer of the server that has the source
    settings: Mapping[str, Any] = field(default_factory=dict)


# ---- good data


@cache
def planted() -> Planted:
    return plant(*SIZES)


@cache
def drops() -> Names:
    """The files of a directory of drops."""
    return {**tables("canonical"), "retractions.csv": b"user_id,movie_id,retracted_at\n9999,9999,978300760\n"}


@cache
def edition() -> Names:
    """The files of MovieLens Latest Small."""
    return tables("csv")


@cache
def packed() -> Names:
    """The directory of drops in Parquet."""
    return tables("canonical-parquet")


def tables(layout: str) -> Names:
    good = planted()
    tags = good.ratings.head(300).select("user_id", "movie_id", tag=pl.lit("slow"), tagged_at="rated_at")
    imdb_id = pl.col("movie_id").cast(pl.String).str.zfill(7)
    links = good.movies.select("movie_id", imdb_id=imdb_id, tmdb_id="movie_id")
    ratings = good.ratings.with_columns(pl.col("rated_at").dt.epoch("s")) if layout == "canonical" else good.ratings
    tags = tags.with_columns(pl.col("tagged_at").dt.epoch("s")) if layout == "canonical" else tags
    return render(layout, ratings, good.movies, good.users, tags, links)


def write_drops(path: Path) -> Path:
    return write_files(path, drops(), path.name)


# ---- changes


def changed(files: Callable[[], Names], folder: str, changes: Changes) -> Write:
    def write(path: Path) -> Path:
        new = {name: change(files().get(name, b"")) for name, change in changes.items() if change}
        left = {name: content for name, content in files().items() if name not in changes}
        return write_files(path / folder, {**left, **new}, folder)

    return write


def in_drops(**changes: Change | None) -> Kind:
    """Drops with changes to `<table>.csv`."""
    return Kind(changed(drops, "drops", {f"{table}.csv": change for table, change in changes.items()}))


def in_edition(**changes: Change | None) -> Kind:
    return Kind(changed(edition, "ml-latest-small", {f"{table}.csv": change for table, change in changes.items()}))


def more_movies(table: pa.Table) -> pa.Table:
    new = {"movie_id": [999], "title": ["Heat"], "year": [1995], "genres": [None]}
    return pa.concat_tables([table, pa.table(new, schema=table.schema)])


def in_parquet(table: str, change: Callable[[pa.Table], pa.Table] | None = None, damage: Change | None = None) -> Kind:
    def rewrite(content: bytes) -> bytes:
        if change:
            buffer = io.BytesIO()
            pq.write_table(change(pq.read_table(io.BytesIO(content))), buffer)
            content = buffer.getvalue()
        return damage(content) if damage else content

    return Kind(changed(packed, "drops", {f"{table}.parquet": rewrite}))


def files_named(**changes: Change) -> Kind:
    """Drops and additional files; two underscores stand for a hyphen."""
    return Kind(changed(drops, "drops", {name.replace("__", "-") + ".csv": change for name, change in changes.items()}))


def more(*lines: str | bytes) -> Change:
    """Appends lines, with the line end of the file."""

    def add(content: bytes) -> bytes:
        end = b"\r\n" if content.endswith(b"\r\n") else b"\n"
        return content + b"".join((line.encode() if isinstance(line, str) else line) + end for line in lines)

    return add


def just(content: str | bytes) -> Change:
    return lambda _: content.encode() if isinstance(content, str) else content


def header(old: str, new: str) -> Change:
    """Replaces a name in the first line."""

    def rename(content: bytes) -> bytes:
        first, _, rest = content.partition(b"\n")
        return first.replace(old.encode(), new.encode()) + b"\n" + rest

    return rename


def frame(change: Callable[[pl.DataFrame], pl.DataFrame]) -> Change:
    """Rewrites a CSV file as a changed table."""
    return lambda content: change(pl.read_csv(content, infer_schema=False)).write_csv(quote_style="necessary").encode()


def column(name: str, expression: pl.Expr) -> Change:
    return frame(lambda table: table.with_columns(expression.alias(name)))


def number(name: str) -> pl.Expr:
    return pl.col(name).cast(pl.Float64)


def some(share: float, value: pl.Expr, otherwise: str) -> pl.Expr:
    """`value` in the first `share` of rows, the column `otherwise` in the others."""
    return pl.when(pl.int_range(pl.len()) < pl.len() * share).then(value.cast(pl.String)).otherwise(pl.col(otherwise))


def a_zip(*names: str) -> Write:
    """A zip with only these files of an edition."""

    def write(path: Path) -> Path:
        return hostile.write(
            path / "made.zip", zip_bytes([Item(name.encode(), b"1::1::5::978300760\n") for name in names])
        )

    return write


def small(n_users: int, n_movies: int, n_ratings: int) -> Write:
    def write(path: Path) -> Path:
        made = plant(n_users, n_movies, n_ratings)
        return write_archive(path / "drops", "canonical", made.ratings, made.movies, made.users)

    return write


def crafted(name: str, write: hostile.Write) -> Kind:
    return Kind(lambda path: write(path / name))


def named(source: str) -> Kind:
    return Kind(lambda _: source)
