"""The layouts of the MovieLens editions: their files, the separator of fields, and the form of a title."""

import codecs
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import pyarrow as pa

from recsys.datasets import GENOME, LayoutName
from recsys.errors import SourceError
from recsys.ingest.archives.archives import Files
from recsys.ingest.parse.texts import UTF8_MARK, Text, header_names
from recsys.schema import LINKS, MOVIES, RATINGS, TABLES, TAGS, USERS

Fields = Mapping[str, str]

# The year, or years for a series, in the last parentheses; a note on the medium may follow: "(1995) (V)".
PUBLISHED_TITLE = re.compile(r"(?P<title>.*\S)\s*\((?P<year>\d{4})(?:[-–]\d{0,4})?\)(?P<medium> \((?:TV|V)\))?")
WHOLE_NUMBER = re.compile(
    r"(\d+)(?:\.0+)?", re.ASCII
)  # other tools write integer columns with missing values as 1995.0
INT16_MAX, INT32_MAX = 2**15 - 1, 2**31 - 1
SHOWN = 50  # characters of a field that an error quotes
GENRE_SEPARATOR = re.compile(r"[|,;]")  # published is |; no genre of an edition has a comma or a semicolon
README = re.compile(r"README(\.\w+)?")

# From the README of ML-1M; users.dat has positions in this list.
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
    """Splits a published title into title and year: "Seven (a.k.a. Se7en) (1995)" -> "Seven (a.k.a. Se7en)", 1995."""
    title = fields["title"].strip()
    match = PUBLISHED_TITLE.fullmatch(title)
    if match is None:
        return title, None
    return match["title"] + (match["medium"] or ""), int(match["year"])


def atomic_title(fields: Fields) -> tuple[str, int | None]:
    """Title and year from the wheel. Its year is the text in any last parentheses, and "unknown" is misspelt."""
    if fields["title"] == "unkonwn":
        return "unknown", None
    return published_title({"title": f"{fields['title']} ({fields['year']})"})


def canonical_title(fields: Fields) -> tuple[str, int | None]:
    return fields["title"].strip(), whole("year", fields["year"], INT16_MAX)


def whole(column: str, text: str, limit: int) -> int | None:
    """A whole number from 0 to `limit`, None if the text is empty. Raises: ValueError for any other text."""
    if not text.strip():
        return None
    match = WHOLE_NUMBER.fullmatch(text.strip())
    if match is None or len(match[1]) > len(str(INT32_MAX)) or int(match[1]) > limit:
        raise ValueError(f"{column} '{text[:SHOWN]}' is not a whole number from 0 to {limit}")
    return int(match[1])


@dataclass(frozen=True)
class Layout:
    """The files of one layout. Users, tags and links are optional."""

    ratings: Text
    movies: Text
    users: Text | None = None
    tags: Text | None = None
    links: Text | None = None
    encoding: str = "utf-8"
    title: Callable[[Fields], tuple[str, int | None]] = published_title
    genre_separator: re.Pattern[str] = GENRE_SEPARATOR
    genres: str = ""  # the file that names the genre flags at the end of a line of movies
    occupations: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()  # published tables that are not read
    extra: re.Pattern[str] = README  # other published files
    own: str = ""  # a file that only this layout has; needed if another layout has the same names of ratings and movies

    def texts(self) -> dict[str, Text]:
        """The file of each table, in the order of `schema.TABLES`."""
        texts = {table: getattr(self, table) for table in TABLES}
        return {table: text for table, text in texts.items() if text is not None}


RATING = tuple(RATINGS.names)
MOVIE = ("movie_id", "title", "genres")
USER = ("user_id", "age", "gender", "occupation", "zip_code")
TAG = tuple(TAGS.names)
LINK = tuple(LINKS.names)

DROPS = {
    "retractions": ("user_id", "movie_id", "retracted_at"),
    **{table: tuple(schema.names) for table, schema in TABLES.items()},
}
# In our own schema: additional and optional columns of a table.
ALSO = {"movies": ("updated_at",), "users": ("updated_at",)}
OPTIONAL = {"movies": ("updated_at",), "users": (*USERS.names[1:], "updated_at")}


def canonical_text(table: str, schema: pa.Schema) -> Text:
    columns = tuple(schema.names)
    return Text(
        f"{table}.csv",
        ",",
        columns,
        header=columns,
        optional=OPTIONAL.get(table, ()),
        parquet=f"{table}.parquet",
    )


def drop_text(table: str, name: str) -> Text:
    """The file `name` in our own schema, CSV or Parquet by its extension."""
    columns = (*DROPS[table], *ALSO.get(table, ()))
    is_parquet = name.lower().endswith(".parquet")
    text = Text("" if is_parquet else name, ",", columns, columns, OPTIONAL.get(table, ()))
    return replace(text, parquet=name) if is_parquet else text


LAYOUTS: dict[LayoutName, Layout] = {
    "ml-100k": Layout(
        ratings=Text("u.data", "\t", RATING),
        movies=Text("u.item", "|", ("movie_id", "title", "", "", "")),
        users=Text("u.user", "|", USER),
        encoding="latin-1",
        genres="u.genre",
        extra=re.compile(r"README|u\.(info|occupation)|u[1-5ab]\.(base|test)|allbut\.pl|mku\.sh"),
    ),
    "ml-1m": Layout(
        ratings=Text("ratings.dat", "::", RATING),
        movies=Text("movies.dat", "::", MOVIE),
        users=Text("users.dat", "::", ("user_id", "gender", "age", "occupation", "zip_code")),
        encoding="latin-1",
        occupations=OCCUPATIONS,
        own="users.dat",
    ),
    "ml-10m": Layout(
        ratings=Text("ratings.dat", "::", RATING),
        movies=Text("movies.dat", "::", MOVIE),
        tags=Text("tags.dat", "::", TAG, rest="tag"),
        extra=re.compile(r"README\.html|allbut\.pl|split_ratings\.sh"),
        own="tags.dat",
    ),
    "csv": Layout(
        ratings=Text("ratings.csv", ",", RATING, header=("userId", "movieId", "rating", "timestamp")),
        movies=Text("movies.csv", ",", MOVIE, header=("movieId", "title", "genres")),
        tags=Text("tags.csv", ",", TAG, header=("userId", "movieId", "tag", "timestamp")),
        links=Text("links.csv", ",", LINK, header=("movieId", "imdbId", "tmdbId")),
        unused=GENOME,
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
        genre_separator=re.compile(" "),
    ),
    "canonical": Layout(
        ratings=canonical_text("ratings", RATINGS),
        movies=canonical_text("movies", MOVIES),
        users=canonical_text("users", USERS),
        tags=canonical_text("tags", TAGS),
        links=canonical_text("links", LINKS),
        title=canonical_title,
    ),
}


def recognise(files: Files) -> LayoutName:
    """Recognises the layout of `files` by their names.

    Layouts with the same file names are distinguished by the header of the ratings, a file that only one of them has,
    the name of the folder or archive, or the encoding.

    Raises: SourceError if the files are in no known layout.
    """
    matching = [name for name, layout in LAYOUTS.items() if is_laid_out(files, layout)]
    if not matching:
        known = "; ".join(dict.fromkeys(f"{layout.ratings.name}, {layout.movies.name}" for layout in LAYOUTS.values()))
        raise SourceError(
            f"{files.path} has no ratings in a known layout (looked for {known}, and Parquet with these "
            f"columns: {', '.join(RATING)}). Next: pass a zip from GroupLens as it was published, or a directory of "
            "such files"
        )
    rivals = [name for name in matching if LAYOUTS[name].own]
    return choose_rival(files, rivals) if matching[0] in rivals else matching[0]


def choose_rival(files: Files, rivals: list[LayoutName]) -> LayoutName:
    """Chooses the layout whose own file exists, else the layout that the folder or archive is named after, else the
    layout with the encoding of the movies.
    """
    owning = [name for name in rivals if LAYOUTS[name].own in files]
    folder = files.entries[LAYOUTS[rivals[0]].ratings.name].folder
    named = [name for name in rivals for given in (folder, files.path.stem) if given.lower().startswith(name)]
    is_utf8 = begins_in_utf8(files, LAYOUTS[rivals[0]].movies.name)
    encoded = [name for name in rivals if (LAYOUTS[name].encoding == "utf-8") == is_utf8]
    return (owning if len(owning) == 1 else named or encoded or rivals)[0]


def begins_in_utf8(files: Files, name: str) -> bool:
    try:
        codecs.getincrementaldecoder("utf-8")().decode(files.open(name).read(2**24))
    except UnicodeDecodeError:
        return False
    return True


def is_laid_out(files: Files, layout: Layout) -> bool:
    return layout.ratings.is_in(files) and layout.movies.is_in(files) and is_headed(files, layout)


def is_headed(files: Files, layout: Layout) -> bool:
    """Whether the header of the ratings has the layout's first column, at any place. Our own schema accepts any
    header; `texts` refuses wrong columns.
    """
    text = layout.ratings
    if not text.header or layout is LAYOUTS["canonical"]:
        return True
    if text.name not in files:
        return False
    first_line = files.open(text.name).readline(2**10)
    return text.header[0] in header_names(first_line.removeprefix(UTF8_MARK), text)


def file_names(files: Files, layout: Layout) -> list[str]:
    """The files from which a source in this layout is read, sorted."""
    names = [text.parquet if text.parquet in files else text.name for text in layout.texts().values()]
    return sorted(name for name in [*names, layout.genres] if name in files)
