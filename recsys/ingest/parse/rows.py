"""Parses one line of movies or users. SQL is not enough here, for example to split a title from its year."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from recsys.errors import SourceError
from recsys.ingest.archives.archives import Files
from recsys.ingest.parse.layouts import INT16_MAX, INT32_MAX, SHOWN, Fields, Layout, whole
from recsys.ingest.parse.parquet import NULL_LIST
from recsys.ingest.parse.texts import Text

Row = dict[str, Any]

NO_GENRES = "(no genres listed)"
GENRES_BYTES = 2**16  # limit of the file that names genres; the published one has 202
FLAG = "genre:"  # marks the columns of u.item that hold 0 or 1


def movie_row(fields: Fields, layout: Layout) -> Row:
    """The canonical columns of a movie. Raises: ValueError with the reason if the fields are not valid."""
    title, year = layout.title(fields)
    if not title:
        raise ValueError("title is empty")
    return {
        "movie_id": identity("movie_id", fields["movie_id"]),
        "title": title,
        "year": year,
        "genres": genres(fields, layout),
        "updated_at": moment("updated_at", fields.get("updated_at", "")),
    }


def user_row(fields: Fields, layout: Layout) -> Row:
    """The canonical columns of a user. Raises: ValueError with the reason if the fields are not valid."""
    occupation = fields.get("occupation") or None
    if occupation and layout.occupations:
        occupation = layout.occupations[whole("occupation", occupation, len(layout.occupations) - 1) or 0]
    return {
        "user_id": identity("user_id", fields["user_id"]),
        "gender": fields.get("gender") or None,
        "age": whole("age", fields.get("age", ""), INT16_MAX),
        "occupation": occupation,
        "zip_code": fields.get("zip_code") or None,
        "updated_at": moment("updated_at", fields.get("updated_at", "")),
    }


def identity(column: str, text: str) -> int:
    """A user_id or movie_id. Raises: ValueError if it is not a positive int32."""
    value = whole(column, text, INT32_MAX)
    if not value:
        raise ValueError(f"{column} '{text[:SHOWN]}' is not a whole number from 1 to {INT32_MAX}")
    return value


def genres(fields: Fields, layout: Layout) -> list[str]:
    """The genres, sorted, so that every layout of an edition gives the same list."""
    if layout.genres:
        return flagged({name.removeprefix(FLAG): flag for name, flag in fields.items() if name.startswith(FLAG)})
    listed = fields["genres"].strip()
    if listed == NULL_LIST:
        raise ValueError("genres is null")
    names = {name.strip() for name in layout.genre_separator.split(listed)}
    return [] if listed == NO_GENRES else sorted(names - {""})


def flagged(flags: Fields) -> list[str]:
    for name, flag in flags.items():
        if flag not in ("0", "1"):
            raise ValueError(f"the flag of genre {name} '{flag[:SHOWN]}' is not 0 or 1")
    return sorted(name for name, flag in flags.items() if flag == "1")


def with_flags(files: Files, layout: Layout) -> Text:
    """The text format of movies. If genres are flags, it has a column for each line of the file that names them.

    Raises: SourceError if that file is too long to be a list of genres.
    """
    text = layout.movies
    if not layout.genres:
        return text
    listed = files.open(layout.genres).read(GENRES_BYTES + 1)
    if len(listed) > GENRES_BYTES:
        raise SourceError(
            f"{layout.genres} in {files.path} is longer than {GENRES_BYTES:,} bytes: it is not a list of genres. "
            "Next: get the archive again from its publisher"
        )
    names = [line.split("|")[0] for line in listed.decode(layout.encoding, "replace").splitlines() if "|" in line]
    return replace(text, columns=(*text.columns, *(FLAG + name for name in names)))


def moment(column: str, text: str) -> datetime | None:
    """A time in UTC from seconds since 1970, or from an ISO date and time, UTC unless it has an offset; None if empty.

    Raises: ValueError for any other text.
    """
    text = text.strip()
    if not text:
        return None
    try:
        if text.isascii() and text.isdigit():
            return datetime.fromtimestamp(int(text), UTC)
        parsed = datetime.fromisoformat(text)
        return parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed.astimezone(UTC)
    except (ValueError, OverflowError, OSError):
        raise ValueError(f"{column} '{text[:SHOWN]}' is neither seconds since 1970 nor a date and time") from None
