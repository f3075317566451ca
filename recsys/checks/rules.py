"""The rules for the data. Each rule is defined once; `check` and `expectations` run them.

A row rule is a file `sql/rule_<name>.sql` that selects the rows that break it. The rules are applied in the order of
`ROW_RULES`, each to the rows that earlier rules admitted, so that every refused row has exactly one rule. A table rule
is a Great Expectations class applied to the admitted ratings. A shift rule limits a figure of the whole snapshot. Most
of these figures are compared with the last published snapshot.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

import sql
from recsys.schema import TABLES
from recsys.settings import CheckConfig, ShiftConfig

# Movies come before ratings, tags and links, because a refused movie is unknown to these tables.
SCHEMAS: Mapping[str, pa.Schema] = {table: TABLES[table] for table in ("movies", "users", "ratings", "tags", "links")}

# Two rules without a SQL file: a line that breaks the first is not a row, and the second only needs Parquet's schema.
UNREADABLE, UNREADABLE_DEMANDS = "unreadable", "a line can be read"
COLUMNS, COLUMNS_DEMANDS = "columns", "the columns are the canonical ones"
# The limit on the lines that all row rules refuse together.
ALL_RULES, ALL_RULES_DEMANDS = "all_row_rules", "few lines are refused by all row rules together"


@dataclass(frozen=True)
class RowRule:
    """A rule on each row of one table."""

    name: str
    table: str
    demands: str

    @property
    def query(self) -> str:
        """Selects the offending rows, with all their columns."""
        return sql.read(f"rule_{self.name}")


@dataclass(frozen=True)
class TableRule:
    """A rule on the admitted ratings as a whole: a Great Expectations class and its arguments."""

    name: str
    demands: str
    expectation: str
    arguments: Mapping[str, int | str]


@dataclass(frozen=True)
class ShiftRule:
    """A rule on a figure of the whole snapshot, a column of `sql/compare_snapshots.sql`.

    Its limits are `<name>_warn` and `<name>_stop` of `ShiftConfig`: minima with `at_least`, else maxima.
    """

    name: str
    demands: str
    at_least: bool = False
    compares: bool = True  # with the previous snapshot; False if the figure depends on this snapshot alone

    def limits(self, config: ShiftConfig) -> dict[str, float | None]:
        """The limits by severity: "warn", then "stop"."""
        return {severity: getattr(config, f"{self.name}_{severity}") for severity in ("warn", "stop")}

    def holds(self, value: float, limit: float | None) -> bool:
        if limit is None:
            return True
        return value >= limit if self.at_least else value <= limit


# The rule on uniqueness comes last for each table, so that a valid row is kept if several rows have the same key.
ROW_RULES = (
    RowRule("movie_title", "movies", "a movie has a title"),
    RowRule("movie_year", "movies", "a movie's year of release is unknown or from 1870 to 2100"),
    RowRule("movie_genres_known", "movies", "a movie's genres are those of the edition"),
    RowRule("movie_id_unique", "movies", "a movie_id appears once"),
    RowRule("user_age", "users", "a user's age is unknown or from 1 to 120"),
    RowRule("user_gender", "users", "a user's gender is unknown, M or F"),
    RowRule("user_id_unique", "users", "a user_id appears once"),
    RowRule("rating_on_scale", "ratings", "a rating is one of the stars that the edition gives"),
    RowRule("rated_at_plausible", "ratings", "a rating is dated between 1995-01-01 and the start of the run"),
    RowRule("rated_at_isolated", "ratings", "the newest few ratings are dated within a year of all others"),
    RowRule("rating_movie_known", "ratings", "a rated movie is in the movies table and was admitted"),
    RowRule("rating_unique", "ratings", "a user rates a movie once; the latest rating is kept"),
    RowRule("tag_not_empty", "tags", "a tag is not empty"),
    RowRule("tagged_at_plausible", "tags", "a tag is dated between 1995-01-01 and the start of the run"),
    RowRule("tag_movie_known", "tags", "a tagged movie is in the movies table and was admitted"),
    RowRule("link_movie_known", "links", "a linked movie is in the movies table and was admitted"),
    RowRule("link_movie_unique", "links", "a movie has one line of links"),
)

DEMANDS = {UNREADABLE: UNREADABLE_DEMANDS} | {rule.name: rule.demands for rule in ROW_RULES}

SHIFT_RULES = (
    ShiftRule(
        "rating_count_share", "few ratings disappear: their number as a share of the previous number", at_least=True
    ),
    ShiftRule("rating_mean_shift", "the mean rating is stable, in stars"),
    ShiftRule("rating_psi", "the distribution of stars is stable, by population stability index"),
    ShiftRule("unknown_movie_share", "few ratings are of unknown movies, as a share of all ratings", compares=False),
    ShiftRule("new_user_share", "few users are new, as a share of all users with ratings"),
    ShiftRule("newest_rating_age_days", "the newest rating is recent, in days", compares=False),
)


def table_rules(config: CheckConfig) -> tuple[TableRule, ...]:
    """The rules that the admitted ratings have to meet before a network is trained on them."""
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
    """Describes how the columns of a Parquet file differ from the canonical ones; empty if they are equal."""
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
