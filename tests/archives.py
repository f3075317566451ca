"""Writing sources in every layout, whole or with broken lines, for tests that need to know what is inside."""

import csv
import io
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from recsys.ingest.layouts import OCCUPATIONS
from recsys.ingest.synthetic import plant

Names = Mapping[str, bytes]

STAND_IN_SIZES = (300, 200, 10_000)  # users, movies, ratings: enough to train on, small enough to write in a blink


def write_archive(
    path: Path,
    layout: str,
    ratings: pl.DataFrame,
    movies: pl.DataFrame,
    users: pl.DataFrame,
    broken_lines: Mapping[int, str] | None = None,
) -> Path:
    """Writes canonical tables to `path` in the files of `layout`: a zip when the name ends in .zip, else a directory.

    `layout` is a name in recsys.ingest.layouts.LAYOUTS, or canonical-parquet. `broken_lines` gives, by the number it
    has in the finished file of ratings (1 is the first, a header counts), the text of lines to put among the good ones.
    """
    files = render(layout, ratings, movies, users)
    ratings_name = next(iter(files))
    if broken_lines:
        files = {**files, ratings_name: with_lines(files[ratings_name], broken_lines)}
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in files.items():
                archive.writestr(f"{path.stem}/{name}", content)
    else:
        path.mkdir(parents=True)
        for name, content in files.items():
            (path / name).write_bytes(content)
    return path


def write_stand_in(path: Path, layout: str) -> Path:
    """Planted ratings in the layout of an edition that is not here."""
    planted = plant(*STAND_IN_SIZES)
    return write_archive(path, layout, planted.ratings, planted.movies, planted.users)


def with_lines(content: bytes, lines: Mapping[int, str]) -> bytes:
    finished = content.split(b"\n")
    for number in sorted(lines):
        finished.insert(number - 1, lines[number].encode())
    return b"\n".join(finished)


def render(layout: str, ratings: pl.DataFrame, movies: pl.DataFrame, users: pl.DataFrame) -> Names:
    """The bytes of each file of a layout, that of the ratings first."""
    writers = {
        "ml-100k": render_100k,
        "ml-1m": render_1m,
        "csv": render_csv,
        "atomic": render_atomic,
        "canonical": render_canonical,
        "canonical-parquet": render_parquet,
    }
    return writers[layout](ratings, movies, users)


def render_100k(ratings: pl.DataFrame, movies: pl.DataFrame, users: pl.DataFrame) -> Names:
    genres = sorted(set(movies["genres"].explode().drop_nulls()))
    items = [
        [movie_id, published(title, year), "01-Jan-1995", "", "", *(int(genre in listed) for genre in genres)]
        for movie_id, title, year, listed in movies.iter_rows()
    ]
    people = users.select("user_id", "age", "gender", "occupation", "zip_code").rows()
    return {
        "u.data": lines("\t", rating_rows(ratings)),
        "u.item": lines("|", items, "latin-1"),
        "u.user": lines("|", people),
        "u.genre": lines("|", list(zip(genres, range(len(genres)), strict=True))) + b"\n",
    }


def render_1m(ratings: pl.DataFrame, movies: pl.DataFrame, users: pl.DataFrame) -> Names:
    films = [(movie_id, published(title, year), "|".join(listed)) for movie_id, title, year, listed in movies.rows()]
    people = [
        (user_id, gender, age, OCCUPATIONS.index(occupation), zip_code)
        for user_id, gender, age, occupation, zip_code in users.rows()
    ]
    return {
        "ratings.dat": lines("::", rating_rows(ratings)),
        "movies.dat": lines("::", films, "latin-1"),
        "users.dat": lines("::", people),
    }


def render_csv(ratings: pl.DataFrame, movies: pl.DataFrame, users: pl.DataFrame) -> Names:
    """As published: lines end in CR LF, titles with commas in quotes, no users."""
    films = [
        (movie_id, published(title, year), "|".join(listed) or "(no genres listed)")
        for movie_id, title, year, listed in movies.rows()
    ]
    rated = ratings.select("user_id", "movie_id", "rating", pl.col("rated_at").dt.epoch("s")).rows()
    return {
        "ratings.csv": comma_lines(("userId", "movieId", "rating", "timestamp"), rated),
        "movies.csv": comma_lines(("movieId", "title", "genres"), films),
    }


def render_atomic(ratings: pl.DataFrame, movies: pl.DataFrame, users: pl.DataFrame) -> Names:
    """As the wheel has them, its spelling of the one movie without a year included."""
    films = [
        (movie_id, title if year else "unkonwn", year or "unkonwn", " ".join(listed))
        for movie_id, title, year, listed in movies.rows()
    ]
    people = users.select("user_id", "age", "gender", "occupation", "zip_code").rows()
    ratings_header = b"user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
    movies_header = b"item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
    users_header = b"user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token\n"
    return {
        "ml-100k.inter": ratings_header + lines("\t", rating_rows(ratings)),
        "ml-100k.item": movies_header + lines("\t", films),
        "ml-100k.user": users_header + lines("\t", people),
    }


def render_canonical(ratings: pl.DataFrame, movies: pl.DataFrame, users: pl.DataFrame) -> Names:
    text = {
        "ratings.csv": ratings,
        "movies.csv": movies.with_columns(pl.col("genres").list.join("|")),
        "users.csv": users,
    }
    return {name: table.write_csv().encode() for name, table in text.items()}


def render_parquet(ratings: pl.DataFrame, movies: pl.DataFrame, users: pl.DataFrame) -> Names:
    files = {}
    for name, table in (("ratings", ratings), ("movies", movies), ("users", users)):
        buffer = io.BytesIO()
        table.write_parquet(buffer)
        files[f"{name}.parquet"] = buffer.getvalue()
    return files


def rating_rows(ratings: pl.DataFrame) -> list[tuple[object, ...]]:
    """Whole stars without a point, as the first editions have them; moments in seconds since 1970."""
    rows = ratings.select("user_id", "movie_id", "rating", pl.col("rated_at").dt.epoch("s")).rows()
    return [(user_id, movie_id, f"{stars:g}", seconds) for user_id, movie_id, stars, seconds in rows]


def published(title: str, year: int | None) -> str:
    return title if year is None else f"{title} ({year})"


def lines(separator: str, rows: Sequence[Sequence[object]], encoding: str = "utf-8") -> bytes:
    return "".join(separator.join(map(str, row)) + "\n" for row in rows).encode(encoding)


def comma_lines(header: tuple[str, ...], rows: Sequence[Sequence[object]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerows([header, *rows])
    return text.getvalue().encode()
