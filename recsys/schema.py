"""The canonical tables and types into which every edition of MovieLens is converted."""

import pyarrow as pa

RATED_AT = pa.timestamp("us", tz="UTC")

RATINGS = pa.schema(
    [
        pa.field("user_id", pa.int32(), nullable=False),
        pa.field("movie_id", pa.int32(), nullable=False),
        pa.field("rating", pa.float32(), nullable=False),  # stars
        pa.field("rated_at", RATED_AT, nullable=False),
    ]
)

MOVIES = pa.schema(
    [
        pa.field("movie_id", pa.int32(), nullable=False),
        pa.field("title", pa.string(), nullable=False),  # as published, without the year
        pa.field("year", pa.int16()),  # of release
        pa.field("genres", pa.list_(pa.string()), nullable=False),  # empty if none are listed
    ]
)

# Columns that an edition lacks are null.
USERS = pa.schema(
    [
        pa.field("user_id", pa.int32(), nullable=False),
        pa.field("gender", pa.string()),
        pa.field("age", pa.int16()),  # years; in ML-1M the lower end of a range
        pa.field("occupation", pa.string()),
        pa.field("zip_code", pa.string()),
    ]
)

AGE_BANDS = (18, 25, 35, 45, 50, 56)  # lower ends in years: the bands of ML-1M, which gives them as ages

TAGS = pa.schema(
    [
        pa.field("user_id", pa.int32(), nullable=False),
        pa.field("movie_id", pa.int32(), nullable=False),
        pa.field("tag", pa.string(), nullable=False),  # as typed, without surrounding blanks
        pa.field("tagged_at", RATED_AT, nullable=False),
    ]
)

LINKS = pa.schema(
    [
        pa.field("movie_id", pa.int32(), nullable=False),
        pa.field("imdb_id", pa.string()),  # digits as published, leading zeros kept: "0114709"
        pa.field("tmdb_id", pa.int32()),
    ]
)

# Every table that a source may have. A table that an edition lacks is empty.
TABLES: dict[str, pa.Schema] = {"ratings": RATINGS, "movies": MOVIES, "users": USERS, "tags": TAGS, "links": LINKS}

# Ratings that were valid until `until`, when a later rating of the same pair or a retraction replaced them.
SUPERSEDED = RATINGS.append(pa.field("until", RATED_AT, nullable=False))

# Lines of the source that could not be parsed as a row.
REJECTS = pa.schema(
    [
        pa.field("source_table", pa.string(), nullable=False),  # a name in TABLES, or retractions
        pa.field("source_file", pa.string(), nullable=False),  # name without the folder: ratings.dat
        pa.field("source_line", pa.int64(), nullable=False),  # 1 = the file's first line
        pa.field("rule", pa.string(), nullable=False),
        pa.field("row", pa.string(), nullable=False),  # JSON
    ]
)
