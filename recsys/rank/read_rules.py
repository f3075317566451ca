"""Reads the rules in the settings and validates them before training starts. A rule is a small table or a select."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from recsys.encode.vocabulary import list_films
from recsys.errors import UsageError
from recsys.files import read_table
from recsys.rank.sandbox import is_select, run_select
from recsys.settings import RulesConfig

logger = logging.getLogger(__name__)

FORMS = {  # allowed columns of a table
    "blocked": (("movie_id",), ("genre",), ("user_id", "movie_id"), ("user_id", "genre")),
    "eligible": (("movie_id",),),
    "caps": (("movie_id", "group_name", "at_most"),),
}
INTEGER_COLUMNS = {
    "user_id": -(2**31),
    "movie_id": -(2**31),
    "at_most": 1,
}  # int32 columns: minimum
BY_FILM = ("blocked", "caps")  # a movie stands for all entries of its film; `eligible` allows only what it names
TEXT_COLUMNS = {"genre": "text", "group_name": "text or whole numbers"}


@dataclass(frozen=True, eq=False)
class Rule:
    """One entry of the settings. Its table has one of the `FORMS`, no repeated rows, and only ids of the source."""

    name: str  # position in the settings, as in `metrics`: blocked[0]
    table: pl.DataFrame  # user_id, movie_id, at_most int32; genre, group_name text


@dataclass(frozen=True, eq=False)
class Rules:
    """The rules of a `RulesConfig` with their tables read."""

    min_ratings: int
    blocked: tuple[Rule, ...] = ()
    eligible: tuple[Rule, ...] = ()
    caps: tuple[Rule, ...] = ()

    def blocked_table(self) -> pl.DataFrame:
        """Returns (user_id, movie_id, genre) for sql/audit_blocked.sql; null matches any value."""
        schema = {"user_id": pl.Int32, "movie_id": pl.Int32, "genre": pl.String}
        return pl.concat([pl.DataFrame(schema=schema), *(rule.table for rule in self.blocked)], how="diagonal")

    def caps_table(self) -> pl.DataFrame:
        """Returns (movie_id, group_name, at_most) for sql/audit_caps.sql; group names are unique across entries."""
        schema = {"movie_id": pl.Int32, "group_name": pl.String, "at_most": pl.Int32}
        tables = (
            rule.table.with_columns(pl.concat_str(pl.lit(f"{rule.name} "), "group_name").alias("group_name"))
            for rule in self.caps
        )
        return pl.concat([pl.DataFrame(schema=schema), *tables])


def read_rules(config: RulesConfig, movies: Path, users: Path, ratings: Path, film_of: Mapping[int, int] = {}) -> Rules:
    """Reads the tables of `config`. Selects can read the night's movies, users and ratings, which are Parquet files.

    Ids that the source does not have are dropped with a warning, because catalogues change over time. A blocked or
    capped movie stands for all entries of its film; film_of is as in `Vocabulary`.

    Raises: UsageError that names the entry, if it cannot be read or run, has columns or types that are invalid for its
    kind of rule, empty fields, an unknown genre, a cap below 1, two caps for one group, or no eligible movie.
    """
    reader = _Reader(config, {"movies": movies, "users": users, "ratings": ratings}, list_films(film_of))
    return Rules(
        config.min_ratings,
        blocked=reader.read("blocked", config.blocked),
        eligible=reader.read("eligible", config.eligible),
        caps=reader.read("caps", config.caps),
    )


@dataclass(frozen=True)
class _Reader:
    config: RulesConfig
    tables: dict[str, Path]
    films: pl.DataFrame  # (movie_id, film_id) of the movies whose film_id is another movie_id

    def read(self, kind: str, entries: Sequence[str]) -> tuple[Rule, ...]:
        return tuple(self._read_one(f"{kind}[{place}]", kind, entry) for place, entry in enumerate(entries))

    def _read_one(self, name: str, kind: str, entry: str) -> Rule:
        label = f"rules.{name}"
        if is_select(entry):
            table = run_select(
                label, entry, self.tables, max_seconds=self.config.max_seconds, max_rows=self.config.max_rows
            )
        else:
            label = f"{label} ({entry})"
            table = _read_file(label, Path(entry), self.config.max_rows)
        _check_columns(label, table, FORMS[kind])
        table = _cast(label, table).unique()
        if kind == "caps":
            _check_caps(label, table)
        if "genre" in table.columns:
            self._check_genres(label, table["genre"])
        known = self._drop_unknown(label, table)
        if kind == "eligible" and known.is_empty():
            raise UsageError(f"{label} has no movie of the source, so nothing could be shown. Next: add movies to it")
        logger.info("%s: %d rows with %s", label, len(known), ", ".join(known.columns))
        if kind in BY_FILM and "movie_id" in known.columns:
            known = self._add_twins(known)
        return Rule(name, known.sort(known.columns))

    def _add_twins(self, table: pl.DataFrame) -> pl.DataFrame:
        """Adds the other entries of the films in a table."""
        first = self.films.select(movie_id="film_id", film_id="film_id").unique()
        entries = pl.concat([self.films, first])
        named = table.join(entries, on="movie_id").drop("movie_id").join(entries, on="film_id")
        return pl.concat([table, named.select(table.columns)]).unique()

    def _check_genres(self, label: str, genres: pl.Series) -> None:
        known = read_table(self.tables["movies"], columns=["genres"])["genres"].explode().drop_nulls().unique()
        unknown = genres.filter(~genres.is_in(known.implode())).unique().sort()
        if len(unknown):
            raise UsageError(
                f"{label} has the genre {unknown[0]!r}, but the source only has {', '.join(known.sort())}. "
                "Next: correct the spelling"
            )

    def _drop_unknown(self, label: str, table: pl.DataFrame) -> pl.DataFrame:
        for column, source in (("user_id", "users"), ("movie_id", "movies")):
            if column in table.columns:
                ids = read_table(self.tables[source], columns=[column])
                unknown = table.join(ids, on=column, how="anti")[column].unique()
                if len(unknown):
                    logger.warning(
                        "%s has %d %s that the source does not have, e.g. %s %d; they are ignored",
                        *(label, len(unknown), source, column, unknown.min()),
                    )
                table = table.join(ids, on=column, how="semi")
        return table


def _read_file(label: str, path: Path, max_rows: int) -> pl.DataFrame:
    try:
        if not path.is_file():
            raise UsageError(
                f"{label} is not a file. Next: use a CSV or Parquet file, or a select from movies, users, ratings"
            )
        if path.suffix == ".parquet":
            table = pl.read_parquet(path, glob=False, n_rows=max_rows + 1)
        elif path.suffix == ".csv":
            texts = dict.fromkeys(TEXT_COLUMNS, pl.String)  # a group may have the name 1900
            table = pl.read_csv(path, glob=False, n_rows=max_rows + 1, infer_schema_length=None, schema_overrides=texts)
        else:
            raise UsageError(f"{label} has the suffix '{path.suffix}'. Next: use a .csv or .parquet file")
    except (OSError, pl.exceptions.PolarsError) as error:
        raise UsageError(f"{label} cannot be read: {error}. Next: correct the path or the file") from None
    if len(table) > max_rows:
        raise UsageError(f"{label} has more than {max_rows:,} rows. Next: shorten it, or raise rules.max_rows")
    return table


def _check_columns(label: str, table: pl.DataFrame, forms: tuple[tuple[str, ...], ...]) -> None:
    """Refuses unknown columns. Otherwise, a block for one user with a misspelt `user_id` would apply to all users."""
    if {*table.columns} not in [{*form} for form in forms]:
        allowed = " or ".join(f"({', '.join(form)})" for form in forms)
        raise UsageError(f"{label} has the columns ({', '.join(table.columns)}). Next: give it exactly {allowed}")


def _cast(label: str, table: pl.DataFrame) -> pl.DataFrame:
    for column, empty in zip(table.columns, table.null_count().row(0), strict=True):
        if empty:
            raise UsageError(f"{label} has {empty:,} rows with an empty {column}. Next: fill or remove them")
    for column in table.columns if len(table) else ():  # a CSV without rows has no types
        if column in INTEGER_COLUMNS:
            _check_whole(label, table[column], INTEGER_COLUMNS[column])
        elif not _is_text(table.schema[column], with_numbers=column == "group_name"):
            kind, wanted = table.schema[column], TEXT_COLUMNS[column]
            raise UsageError(f"{label} has {column} of type {kind}. Next: write it as {wanted}")
    integers = [name for name in table.columns if name in INTEGER_COLUMNS]
    return table.with_columns(pl.col(integers).cast(pl.Int32), pl.exclude(integers).cast(pl.String))


def _check_whole(label: str, values: pl.Series, least: int) -> None:
    if not values.dtype.is_integer():
        raise UsageError(f"{label} has {values.name} of type {values.dtype}. Next: write it as whole numbers")
    wrong = values.filter(~values.is_between(least, 2**31 - 1))
    if len(wrong):
        raise UsageError(
            f"{label} has {len(wrong):,} rows with {values.name} outside of {least} to {2**31 - 1}, e.g. {wrong[0]}. "
            "Next: correct them"
        )


def _is_text(kind: pl.DataType, *, with_numbers: bool) -> bool:
    return isinstance(kind, (pl.String, pl.Categorical, pl.Enum)) or (with_numbers and kind.is_integer())


def _check_caps(label: str, table: pl.DataFrame) -> None:
    limits = table.group_by("group_name").agg(pl.col("at_most").unique().sort())
    conflicting = limits.filter(pl.col("at_most").list.len() > 1).sort("group_name")
    if len(conflicting):
        group, (few, many, *_) = conflicting.row(0)
        raise UsageError(
            f"{label} has both {few} and {many} as at_most of the group {group!r}. Next: give each group one limit"
        )
