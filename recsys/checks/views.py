"""The views that the rules read: the snapshot's tables, the rows known at `as_of`, and the rows admitted so far.

    stored_<table>      all rows of the snapshot's file, numbered by file_row_number
    snapshot_<table>    the stored rows that were known at `as_of`
    <table>             the known rows that no rule has refused so far
    complete_users      admitted users, and a row without a profile for every other user with ratings
    previous_ratings    the ratings of the snapshot that was published last

There are also small tables of facts: moments, rating_scale, compared_scale, known_genres, refused.
"""

from datetime import datetime

from duckdb import ColumnExpression, ConstantExpression, DuckDBPyConnection

import sql
from recsys.checks.previous import Previous
from recsys.checks.rules import SCHEMAS
from recsys.files import exact
from recsys.forgotten import read_forgotten
from recsys.home import Run
from recsys.ingest.snapshot import Snapshot

TAGS_AND_LINKS = ("tags", "links")  # created once the time of the newest rating is known


def create_views(
    connection: DuckDBPyConnection, snapshot: Snapshot, previous: Previous, run: Run, as_of: datetime | None
) -> None:
    """Creates all views and tables listed above, except the views of known and admitted tags and links."""
    _create_facts(connection, snapshot, previous, run, as_of)
    for table in (*SCHEMAS, "superseded"):
        for view, path in ((f"stored_{table}", snapshot.table(table)), (f"{table}_lines", snapshot.lines(table))):
            connection.read_parquet(exact(path), file_row_number=True).create_view(view)
    connection.sql(sql.read("rule_source_lines")).create_view("source_lines")
    connection.read_parquet(exact(snapshot.rejects)).create_view("rejects")
    for table in ("movies", "users"):
        _create_admitted(connection, table, f"from stored_{table}")
    # Without `as_of`, the known ratings are the current ones, without those that were replaced.
    _create_admitted(connection, "ratings", sql.read("known_ratings") if as_of else "from stored_ratings")
    connection.sql(sql.read("complete_users")).create_view("complete_users")


def create_tags_and_links(connection: DuckDBPyConnection, as_of: datetime | None) -> None:
    """Creates the views of tags before `as_of`, and of links, which have no date."""
    tags = connection.view("stored_tags")
    known = tags.filter(ColumnExpression("tagged_at") < ConstantExpression(as_of)) if as_of else tags
    known.create_view("snapshot_tags")
    connection.sql(sql.read("admitted_tags")).create_view("tags")
    _create_admitted(connection, "links", "from stored_links")


def _create_admitted(connection: DuckDBPyConnection, table: str, known: str) -> None:
    connection.sql(known).create_view(f"snapshot_{table}")
    connection.sql(sql.read(f"admitted_{table}")).create_view(table)


def _create_facts(
    connection: DuckDBPyConnection, snapshot: Snapshot, previous: Previous, run: Run, as_of: datetime | None
) -> None:
    before = previous.snapshot or snapshot
    scales = {"rating_scale": snapshot.rating_scale, "compared_scale": {*snapshot.rating_scale, *before.rating_scale}}
    connection.execute(
        "create table refused (source_table varchar, file_row_number bigint, rule varchar, position integer)"
    )
    connection.execute(
        "create table moments as select $started_at::timestamptz as started_at, $as_of::timestamptz as as_of",
        {"started_at": run.started_at, "as_of": as_of},
    )
    for table, stars in scales.items():
        connection.execute(f"create table {table} as select unnest($stars)::float as rating", {"stars": sorted(stars)})
    connection.execute(
        "create table known_genres as select unnest($genres::varchar[]) as genre", {"genres": snapshot.genres or []}
    )
    forgotten = read_forgotten(run.home)  # the new snapshot lacks them on purpose, so the comparison omits them
    ratings = connection.read_parquet(exact(before.ratings))
    ratings = ratings.filter(forgotten.condition("ratings", ratings.columns))
    (ratings if previous.snapshot else ratings.limit(0)).create_view("previous_ratings")
