"""Writes sources with known content in every layout, optionally with broken lines."""

import csv
import io
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from recsys.datasets import DATASETS, GENRES_1M, GENRES_100K
from recsys.ingest.parse.layouts import OCCUPATIONS
from recsys.ingest.synthetic.synthetic import plant

Names = Mapping[str, bytes]

STAND_IN_SIZES = (300, 200, 10_000)  # users, movies, ratings: enough to train on, and quick to write

# Other published files: they are ignored, or listed as not used.
OTHER_FILES = {
    "ml-100k": {
        "README": b"SUMMARY & USAGE LICENSE\n",
        "u.info": b"943 users\n1682 items\n100000 ratings\n",
        "u.occupation": b"administrator\nwriter\n",
        "u1.base": b"9\t9\t1\t0\n",
        "allbut.pl": b"#!/usr/local/bin/perl\n",
    },
    "ml-1m": {"README": b"SUMMARY\n"},
    "ml-10m": {
        "README.html": b"<!DOCTYPE html>\n",
        "allbut.pl": b"#!/usr/bin/perl\n",
        "split_ratings.sh": b"#!/bin/sh\n",
    },
}
GENOME = {
    "genome-scores.csv": b"movieId,tagId,relevance\r\n10,1,0.02900\r\n",
    "genome-tags.csv": b"tagId,tag\r\n1,007\r\n",
}


@dataclass(frozen=True)
class Tables:
    """The content of an archive, in canonical columns."""

    ratings: pl.DataFrame
    movies: pl.DataFrame
    users: pl.DataFrame
    tags: pl.DataFrame | None = None
    links: pl.DataFrame | None = None


def write_archive(
    path: Path,
    layout: str,
    ratings: pl.DataFrame,
    movies: pl.DataFrame,
    users: pl.DataFrame,
    broken_lines: Mapping[int, str] | None = None,
    *,
    tags: pl.DataFrame | None = None,
    links: pl.DataFrame | None = None,
) -> Path:
    """Writes canonical tables to `path` in the files of `layout`: a zip if the name ends in .zip, else a directory.

    `layout` is a name in recsys.ingest.parse.layouts.LAYOUTS, or canonical-parquet. Tables for which the layout has no
    file are left out. `broken_lines` maps line numbers of the finished file of ratings to lines that are inserted
    there. The first line, or header, has number 1.
    """
    files = render(layout, ratings, movies, users, tags, links)
    ratings_name = next(iter(files))
    if broken_lines:
        files = {**files, ratings_name: with_lines(files[ratings_name], broken_lines)}
    return write_files(path, files, path.stem)


def write_edition(folder: Path, name: str, tables: Tables) -> Path:
    """Writes `<name>.zip` with the folder and the other files that GroupLens packs into that edition."""
    edition = DATASETS[name]
    others = OTHER_FILES.get(name, {"README.txt": b"Summary\n=======\n"}) | (GENOME if edition.unused else {})
    files = {**render(edition.layout, **vars(tables)), **others}
    return write_files(folder / edition.file, files, edition.folder or edition.name)


def write_files(path: Path, files: Names, folder: str) -> Path:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(f"{folder}/", "")
            for name, content in files.items():
                archive.writestr(f"{folder}/{name}", content)
    else:
        path.mkdir(parents=True)
        for name, content in files.items():
            (path / name).write_bytes(content)
    return path


def write_stand_in(path: Path, layout: str) -> Path:
    """Writes planted ratings in the layout of an edition, in place of the real archive."""
    planted = plant(*STAND_IN_SIZES)
    return write_archive(path, layout, planted.ratings, planted.movies, planted.users)


def with_lines(content: bytes, lines: Mapping[int, str]) -> bytes:
    finished = content.split(b"\n")
    for number in sorted(lines):
        finished.insert(number - 1, lines[number].encode())
    return b"\n".join(finished)


def render(
    layout: str,
    ratings: pl.DataFrame,
    movies: pl.DataFrame,
    users: pl.DataFrame,
    tags: pl.DataFrame | None = None,
    links: pl.DataFrame | None = None,
) -> Names:
    """Returns the bytes of each file of a layout, ratings first."""
    writers = {
        "ml-100k": render_100k,
        "ml-1m": render_1m,
        "ml-10m": render_10m,
        "csv": render_csv,
        "atomic": render_atomic,
        "canonical": render_canonical,
        "canonical-parquet": render_parquet,
    }
    return writers[layout](Tables(ratings, movies, users, tags, links))


def render_100k(tables: Tables) -> Names:
    """As published: unknown years have no release date; a blank line ends the list of genres."""
    used = set(tables.movies["genres"].explode().drop_nulls())
    genres = ["unknown", *GENRES_1M] if used <= set(GENRES_100K) else sorted(used)
    items = [
        [
            *(movie_id, published(title, year), "01-Jan-1995" if year else "", ""),
            f"http://us.imdb.com/M/title-exact?{published(title, year).replace(' ', '%20')}",
            *(int(genre in listed) for genre in genres),
        ]
        for movie_id, title, year, listed in tables.movies.iter_rows()
    ]
    people = tables.users.select("user_id", "age", "gender", "occupation", "zip_code").rows()
    return {
        "u.data": lines("\t", rating_rows(tables.ratings)),
        "u.item": lines("|", items, "latin-1"),
        "u.user": lines("|", people),
        "u.genre": lines("|", list(zip(genres, range(len(genres)), strict=True))) + b"\n",
    }


def render_1m(tables: Tables) -> Names:
    people = [
        (user_id, gender, age, OCCUPATIONS.index(occupation), zip_code)
        for user_id, gender, age, occupation, zip_code in tables.users.rows()
    ]
    return {
        "ratings.dat": lines("::", rating_rows(tables.ratings)),
        "movies.dat": lines("::", films(tables.movies), "latin-1"),
        "users.dat": lines("::", people),
    }


def render_10m(tables: Tables) -> Names:
    """As published: UTF-8, half stars, tags, no users."""
    files = {
        "ratings.dat": lines("::", rating_rows(tables.ratings)),
        "movies.dat": lines("::", films(tables.movies)),
    }
    return files if tables.tags is None else {**files, "tags.dat": lines("::", tag_rows(tables.tags))}


def render_csv(tables: Tables) -> Names:
    """As published: lines end in CR LF, texts with commas or quotes are quoted, no users."""
    rated = tables.ratings.select("user_id", "movie_id", "rating", pl.col("rated_at").dt.epoch("s")).rows()
    files = {
        "ratings.csv": comma_lines(("userId", "movieId", "rating", "timestamp"), rated),
        "movies.csv": comma_lines(("movieId", "title", "genres"), films(tables.movies)),
    }
    if tables.tags is not None:
        files["tags.csv"] = comma_lines(("userId", "movieId", "tag", "timestamp"), tag_rows(tables.tags))
    if tables.links is not None:
        files["links.csv"] = comma_lines(("movieId", "imdbId", "tmdbId"), tables.links.rows())
    return files


def render_atomic(tables: Tables) -> Names:
    """As in the wheel, with its spelling of the only movie without a year."""
    named = [
        (movie_id, title if year else "unkonwn", year or "unkonwn", " ".join(listed))
        for movie_id, title, year, listed in tables.movies.iter_rows()
    ]
    people = tables.users.select("user_id", "age", "gender", "occupation", "zip_code").rows()
    ratings_header = b"user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
    movies_header = b"item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
    users_header = b"user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token\n"
    return {
        "ml-100k.inter": ratings_header + lines("\t", rating_rows(tables.ratings)),
        "ml-100k.item": movies_header + lines("\t", named),
        "ml-100k.user": users_header + lines("\t", people),
    }


def render_canonical(tables: Tables) -> Names:
    text = {
        "ratings": tables.ratings,
        "movies": tables.movies.with_columns(pl.col("^genres$").list.join("|")),
        "users": tables.users,
        "tags": tables.tags,
        "links": tables.links,
    }
    return {f"{name}.csv": table.write_csv().encode() for name, table in text.items() if table is not None}


def render_parquet(tables: Tables) -> Names:
    return {f"{name}.parquet": parquet(table) for name, table in vars(tables).items() if table is not None}


def parquet(table: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    table.write_parquet(buffer)
    return buffer.getvalue()


def films(movies: pl.DataFrame) -> list[tuple[object, ...]]:
    return [
        (movie_id, published(title, year), "|".join(listed) or "(no genres listed)")
        for movie_id, title, year, listed in movies.rows()
    ]


def rating_rows(ratings: pl.DataFrame) -> list[tuple[object, ...]]:
    """Whole stars without a decimal point, as in the first editions; times in seconds since 1970."""
    rows = ratings.select("user_id", "movie_id", "rating", pl.col("rated_at").dt.epoch("s")).rows()
    return [(user_id, movie_id, f"{stars:g}", seconds) for user_id, movie_id, stars, seconds in rows]


def tag_rows(tags: pl.DataFrame) -> list[tuple[object, ...]]:
    return tags.select("user_id", "movie_id", "tag", pl.col("tagged_at").dt.epoch("s")).rows()


def published(title: str, year: int | None) -> str:
    return title if year is None else f"{title} ({year})"


def lines(separator: str, rows: Sequence[Sequence[object]], encoding: str = "utf-8") -> bytes:
    return "".join(separator.join(map(str, row)) + "\n" for row in rows).encode(encoding)


def comma_lines(header: tuple[str, ...], rows: Sequence[Sequence[object]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerows([header, *rows])
    return text.getvalue().encode()
