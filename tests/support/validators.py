"""A validator for tests whose subject is not Great Expectations: one SQL statement per expectation.

A check then costs a third of the CPU time. Tests in tests/expect and tests/warehouse check that both find the same.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime

from duckdb import DuckDBPyConnection

from recsys.expect.validate import (
    NO_ROWS,
    Expectation,
    Observation,
    Pages,
    opened_database,
    validate_views,
    write_results,
)

MEASURES = {
    "ExpectTableRowCountToBeBetween": "count(*)",
    "ExpectTableRowCountToEqual": "count(*)",
    "ExpectColumnUniqueValueCountToBeBetween": "count(distinct {column})",
    "ExpectColumnMaxToBeBetween": "max({column})",
}


def count_offences(
    database: str, views: Mapping[str, Sequence[Expectation]], run_id: str, started_at: datetime, pages: Pages | None
) -> dict[str, Observation]:
    """Validates like `validate_views`, for the kinds of expectations that this project uses."""
    with opened_database(database) as connection:
        seen = {each.rule: _observe(connection, view, each) for view, expected in views.items() for each in expected}
    write_results(views, seen, pages)
    return seen


def validate_both(
    database: str, views: Mapping[str, Sequence[Expectation]], run_id: str, started_at: datetime, pages: Pages | None
) -> dict[str, Observation]:
    """The observations of both validators. Raises: AssertionError if they differ."""
    seen = validate_views(database, views, run_id, started_at, None)
    assert count_offences(database, views, run_id, started_at, pages) == seen
    return seen


def _observe(connection: DuckDBPyConnection, view: str, expectation: Expectation) -> Observation:
    arguments = expectation.arguments
    if expectation.kind == NO_ROWS:
        statement = f"select count(*) from ({arguments['unexpected_rows_query'].format(batch=f'main.{view}')})"
        limits = (0, 0)
    else:
        statement = f"select {MEASURES[expectation.kind].format(**arguments)} from main.{view}"
        limits = tuple(arguments.get(side, arguments.get("value")) for side in ("min_value", "max_value"))
    value = connection.execute(statement).fetchall()[0][0]
    least, most = limits
    return Observation((least is None or value >= least) and (most is None or value <= most), value)
