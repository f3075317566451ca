"""What the data must satisfy, each rule stated once; running them is `check` and `expectations`.

A row rule is a `sql/rule_<name>.sql` that selects the rows that break it. The rules apply in the order of `ROW_RULES`,
each to the rows that those before it let through, so that a refused row names exactly one rule. A table rule is a
Great Expectations expectation on the ratings that are left; a shift rule limits a figure of the whole snapshot, most of
them beside the snapshot that was published last.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

import sql
from recsys.schema import TABLES
from recsys.settings import CheckConfig, ShiftConfig

# Movies come before what refers to them: a refused movie is an unknown one to ratings, tags and links.
SCHEMAS: Mapping[str, pa.Schema] = {table: TABLES[table] for table in ("movies", "users", "ratings", "tags", "links")}

# Two rules that need no statement: what broke the first never became a row, the second is told by Parquet's schema.
UNREADABLE, UNREADABLE_DEMANDS = "unreadable", "a line can be read"
COLUMNS, COLUMNS_DEMANDS = "columns", "the columns are the canonical ones"
# And one that all row rules share: what they refuse together.
ALL_RULES, ALL_RULES_DEMANDS = "all_row_rules", "few lines are refused, by whatever rule"


@dataclass(frozen=True)
class RowRule:
    """A demand on each row of one table."""

    name: str
    table: str
    demands: str

    @property
    def query(self) -> str:
        """Selects the offending rows, with all their columns."""
        return sql.read(f"rule_{self.name}")


@dataclass(frozen=True)
class TableRule:
    """A demand on the admitted ratings as a whole: an expectation of Great Expectations and its arguments."""

    name: str
    demands: str
    expectation: str
    arguments: Mapping[str, int | str]


@dataclass(frozen=True)
class ShiftRule:
    """A demand on a figure of the whole snapshot, a column of `sql/compare_snapshots.sql`.

    Its limits are `<name>_warn` and `<name>_stop` of `ShiftConfig`; `at_least` says on which side of them it may be.
    """

    name: str
    demands: str
    at_least: bool = False
    compares: bool = True  # with the snapshot before; else the figure speaks for itself

    def limits(self, config: ShiftConfig) -> dict[str, float | None]:
        """By severity: warn, then stop."""
        return {severity: getattr(config, f"{self.name}_{severity}") for severity in ("warn", "stop")}

    def holds(self, value: float, limit: float | None) -> bool:
        if limit is None:
            return True
        return value >= limit if self.at_least else value <= limit


# What makes a row useless comes before uniqueness: of two rows with one key a usable one must stay.
ROW_RULES = (
    RowRule("movie_title", "movies", "a movie has a title"),
    RowRule("movie_year", "movies", "a movie's year of release is unknown or from 1870 to 2100"),
    RowRule("movie_genres_known", "movies", "a movie's genres are those of the edition"),
    RowRule("movie_id_unique", "movies", "a movie_id stands on one line"),
    RowRule("user_age", "users", "a user's age is unknown or from 1 to 120"),
    RowRule("user_gender", "users", "a user's gender is unknown, M or F"),
    RowRule("user_id_unique", "users", "a user_id stands on one line"),
    RowRule("rating_on_scale", "ratings", "a rating is one of the stars that the edition gives"),
    RowRule("rated_at_plausible", "ratings", "a rating dates from 1995-01-01 on, and from before the run"),
    RowRule("rating_movie_known", "ratings", "a rated movie is an admitted one of the movies table"),
    RowRule("rating_unique", "ratings", "a user rates a movie once; the latest rating stays"),
    RowRule("tag_not_empty", "tags", "a tag has a text"),
    RowRule("tagged_at_plausible", "tags", "a tag dates from 1995-01-01 on, and from before the run"),
    RowRule("tag_movie_known", "tags", "a tagged movie is an admitted one of the movies table"),
    RowRule("link_movie_known", "links", "a linked movie is an admitted one of the movies table"),
    RowRule("link_movie_unique", "links", "a movie has one line of links"),
)

DEMANDS = {UNREADABLE: UNREADABLE_DEMANDS} | {rule.name: rule.demands for rule in ROW_RULES}

SHIFT_RULES = (
    ShiftRule(
        "rating_count_share", "few ratings vanish: how many there are, as a share of those before", at_least=True
    ),
    ShiftRule("rating_mean_shift", "the mean rating stays where it was, in stars"),
    ShiftRule("rating_psi", "the stars are given as often as before, by population stability index"),
    ShiftRule("unknown_movie_share", "few ratings are of unknown movies, as a share of all", compares=False),
    ShiftRule("new_user_share", "few users are new, as a share of all who rate"),
    ShiftRule("newest_rating_age_days", "the newest rating is recent, in days", compares=False),
)


def table_rules(config: CheckConfig) -> tuple[TableRule, ...]:
    """What the admitted ratings must be worth training on."""
    distinct = "ExpectColumnUniqueValueCountToBeBetween"
    return (
        TableRule(
            "enough_ratings",
            f"there are at least {config.min_ratings} ratings",
            "ExpectTableRowCountToBeBetween",
            {"min_value": config.min_ratings},
        ),
        TableRule("enough_users", "at least 2 users have rated", distinct, {"column": "user_id", "min_value": 2}),
        TableRule("enough_movies", "at least 2 movies are rated", distinct, {"column": "movie_id", "min_value": 2}),
        TableRule("ratings_differ", "not all ratings are equal", distinct, {"column": "rating", "min_value": 2}),
    )


def list_wrong_columns(path: Path, expected: pa.Schema) -> list[str]:
    """How the columns of a Parquet file differ from the canonical ones, in words; empty if they do not."""
    found = pq.read_schema(path)
    if found.equals(expected):
        return []
    wrong = [f"{_describe(field)} is missing" for field in expected if field.name not in found.names]
    wrong += [f"{_describe(field)} is not expected" for field in found if field.name not in expected.names]
    common = [(field, found.field(field.name)) for field in expected if field.name in found.names]
    wrong += [f"{_describe(has)} should be {_describe(field)}" for field, has in common if not has.equals(field)]
    return wrong or [f"the order is {', '.join(found.names)}, not {', '.join(expected.names)}"]


def _describe(field: pa.Field) -> str:
    return f"{field.name} {field.type}{'' if field.nullable else ' not null'}"
