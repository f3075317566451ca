"""The layouts that MovieLens comes in: which files, how their lines are parted, what a title looks like."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pyarrow as pa

from recsys.errors import SourceError
from recsys.ingest.archives import Files
from recsys.ingest.datasets import LayoutName
from recsys.ingest.lines import Text
from recsys.schema import MOVIES, RATINGS, USERS

Fields = Mapping[str, str]

# Year, or years for a series, in the last parentheses; a note on the medium may follow: "(1995) (V)".
PUBLISHED_TITLE = re.compile(r"(?P<title>.*\S)\s*\((?P<year>\d{4})(?:[-–]\d{0,4})?\)(?P<medium> \((?:TV|V)\))?")
WHOLE_NUMBER = re.compile(r"(\d+)(?:\.0+)?", re.ASCII)  # other tools write years that may be missing as 1995.0
INT16_MAX, INT32_MAX = 2**15 - 1, 2**31 - 1

# The README of ML-1M; users.dat holds positions in this list.
OCCUPATIONS = (
    "other",
    "academic/educator",
    "artist",
    "clerical/admin",
    "college/grad student",
    "customer service",
    "doctor/health care",
    "executive/managerial",
    "farmer",
    "homemaker",
    "K-12 student",
    "lawyer",
    "programmer",
    "retired",
    "sales/marketing",
    "scientist",
    "self-employed",
    "technician/engineer",
    "tradesman/craftsman",
    "unemployed",
    "writer",
)


def published_title(fields: Fields) -> tuple[str, int | None]:
    """Title and year of a title as published: "Seven (a.k.a. Se7en) (1995)" is "Seven (a.k.a. Se7en)", 1995."""
    title = fields["title"].strip()
    match = PUBLISHED_TITLE.fullmatch(title)
    if match is None:
        return title, None
    return match["title"] + (match["medium"] or ""), int(match["year"])


def atomic_title(fields: Fields) -> tuple[str, int | None]:
    """The wheel took the last parentheses for the year, whatever they hold, and misspelt the unknown title."""
    if fields["title"] == "unkonwn":
        return "unknown", None
    return published_title({"title": f"{fields['title']} ({fields['year']})"})


def canonical_title(fields: Fields) -> tuple[str, int | None]:
    return fields["title"].strip(), whole(fields["year"], INT16_MAX)


def whole(text: str, limit: int) -> int | None:
    """A number from 0 to `limit`, None when there is none. Raises: ValueError when it is something else."""
    if not text.strip():
        return None
    match = WHOLE_NUMBER.fullmatch(text.strip())
    if match is None or int(match[1]) > limit:
        raise ValueError
    return int(match[1])


@dataclass(frozen=True)
class Layout:
    """The files of one layout. Users may be absent; `genres` names the flags at the end of a line of movies."""

    ratings: Text
    movies: Text
    users: Text | None
    encoding: str = "utf-8"
    title: Callable[[Fields], tuple[str, int | None]] = published_title
    genre_separator: str = "|"
    genres: str = ""  # file
    occupations: tuple[str, ...] = ()


RATING = tuple(RATINGS.names)
MOVIE = ("movie_id", "title", "genres")
USER = ("user_id", "age", "gender", "occupation", "zip_code")


def canonical_text(table: str, schema: pa.Schema, optional: tuple[str, ...] = ()) -> Text:
    columns = tuple(schema.names)
    return Text(f"{table}.csv", ",", columns, header=columns, optional=optional, parquet=f"{table}.parquet")


LAYOUTS: dict[LayoutName, Layout] = {
    "ml-100k": Layout(
        ratings=Text("u.data", "\t", RATING),
        movies=Text("u.item", "|", ("movie_id", "title", "", "", "")),
        users=Text("u.user", "|", USER),
        encoding="latin-1",
        genres="u.genre",
    ),
    "ml-1m": Layout(
        ratings=Text("ratings.dat", "::", RATING),
        movies=Text("movies.dat", "::", MOVIE),
        users=Text("users.dat", "::", ("user_id", "gender", "age", "occupation", "zip_code")),
        encoding="latin-1",
        occupations=OCCUPATIONS,
    ),
    "csv": Layout(
        ratings=Text("ratings.csv", ",", RATING, header=("userId", "movieId", "rating", "timestamp")),
        movies=Text("movies.csv", ",", MOVIE, header=("movieId", "title", "genres")),
        users=None,
    ),
    "atomic": Layout(
        ratings=Text(
            "ml-100k.inter",
            "\t",
            RATING,
            header=("user_id:token", "item_id:token", "rating:float", "timestamp:float"),
        ),
        movies=Text(
            "ml-100k.item",
            "\t",
            ("movie_id", "title", "year", "genres"),
            header=("item_id:token", "movie_title:token_seq", "release_year:token", "class:token_seq"),
        ),
        users=Text("ml-100k.user", "\t", USER, header=tuple(f"{column}:token" for column in USER)),
        title=atomic_title,
        genre_separator=" ",
    ),
    "canonical": Layout(
        ratings=canonical_text("ratings", RATINGS),
        movies=canonical_text("movies", MOVIES),
        users=canonical_text("users", USERS, optional=tuple(USERS.names[1:])),
        title=canonical_title,
    ),
}


def recognise(files: Files) -> LayoutName:
    """The layout that `files` are in, told by their names and, where two share names, by the header of the ratings.

    Raises: SourceError when they are in none.
    """
    for name, layout in LAYOUTS.items():
        if layout.ratings.is_in(files) and layout.movies.is_in(files) and is_headed(files, layout):
            return name
    known = "; ".join(f"{layout.ratings.name}, {layout.movies.name}" for layout in LAYOUTS.values())
    raise SourceError(
        f"{files.path} holds no ratings in a layout known here (looked for {known}, and Parquet with these columns: "
        f"{', '.join(RATING)}). Next: pass a zip from GroupLens as it was published, or a directory of these files"
    )


def is_headed(files: Files, layout: Layout) -> bool:
    """Our own schema takes what no edition claims, so that a wrong header is refused by name."""
    text = layout.ratings
    if not text.header or layout is LAYOUTS["canonical"]:
        return True
    if text.name not in files:
        return False
    first_line = files.open(text.name).readline(2**10)
    return first_line.decode("utf-8-sig", "replace").startswith(text.header[0])


def file_names(files: Files, layout: Layout) -> list[str]:
    """The files that a source in this layout is read from, sorted."""
    texts = [text for text in (layout.ratings, layout.movies, layout.users) if text is not None]
    names = [text.parquet if text.parquet in files else text.name for text in texts]
    return sorted(name for name in [*names, layout.genres] if name in files)
