"""A validator for tests that do not test Great Expectations: it judges each expectation from one SQL count."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from duckdb import DuckDBPyConnection

from recsys.expect.checkpoint import NO_ROWS, Expectation, Observation, Pages, opened_database


def count_offences(
    database: str, views: Mapping[str, Sequence[Expectation]], run_id: str, started_at: datetime, pages: Pages | None
) -> dict[str, Observation]:
    """Validates like `run_checkpoint`, but writes no Data Docs and knows only the kinds that the audit uses."""
    with opened_database(database) as connection:
        return {
            expectation.rule: _observe(connection, view, expectation)
            for view, expectations in views.items()
            for expectation in expectations
        }


def _observe(connection: DuckDBPyConnection, view: str, expectation: Expectation) -> Observation:
    known = expectation.arguments
    if expectation.kind == NO_ROWS:
        query = known["unexpected_rows_query"].format(batch=f"main.{view}")
        ((count,),) = connection.execute(f"select count(*) from ({query})").fetchall()
        return Observation(count == 0, count)
    assert expectation.kind == "ExpectColumnMaxToBeBetween", f"count_offences does not know {expectation.kind}"
    ((highest,),) = connection.execute(f"select max({known['column']}) from main.{view}").fetchall()
    lowest_allowed, highest_allowed = known.get("min_value", highest), known.get("max_value", highest)
    return Observation(lowest_allowed <= highest <= highest_allowed, highest)
