"""Runs Great Expectations as SQL on an in-memory DuckDB database, and writes a page of the results.

The callers define the expectations.
"""

import importlib
import logging
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import sqlalchemy
from duckdb import DuckDBPyConnection

from recsys.expect.page import Row, write_page

# Without these options, the DuckDB dialect fails with "list index out of range" when a connection returns to its pool.
ENGINE_OPTIONS = {"isolation_level": "AUTOCOMMIT", "skip_autocommit_rollback": True}


NO_ROWS = "CountedRowsExpectation"  # our own class; every other kind is a class of Great Expectations


@dataclass(frozen=True)
class Expectation:
    """A rule's demand on a view. Importing this class does not import Great Expectations."""

    rule: str
    demands: str  # in words, for the page of the results
    kind: str  # NO_ROWS, or the name of a class of Great Expectations
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Observation:
    """The result of one rule. `observed` is the number of offending rows for a row rule, else the measured value."""

    passed: bool
    observed: float


@dataclass(frozen=True)
class Pages:
    """The folder, title and introduction of the page of the results."""

    folder: Path  # gets index.html
    title: str
    explanation: str  # HTML of one paragraph: what the views are, and what happens if a rule fails


# Called with the name of an open database, the expectations by view, the run's id and start, and the page to write.
# Returns the result of each rule by its name. A night uses `validate_views`.
Validate = Callable[[str, Mapping[str, Sequence[Expectation]], str, datetime, Pages | None], dict[str, Observation]]


@contextmanager
def opened_database(name: str, spill: Path | None = None) -> Iterator[DuckDBPyConnection]:
    """A connection to the in-memory DuckDB database `name`. All connections with the same name share the database.

    SQLAlchemy opens the connection, because its dialect adds options to the configuration, and DuckDB refuses a second
    connection with a different configuration. Data that does not fit in memory goes to the folder `spill`.
    """
    engine = sqlalchemy.create_engine(_address(name), **ENGINE_OPTIONS)
    with closing(engine.raw_connection()) as pooled:
        assert pooled.driver_connection is not None
        connection: DuckDBPyConnection = pooled.driver_connection.duplicate()
    try:
        connection.execute("set timezone = 'UTC'")
        if spill:
            connection.execute("set temp_directory = $folder", {"folder": str(spill)})
        yield connection
    finally:
        connection.close()
        engine.dispose()


def validate_views(
    database: str, views: Mapping[str, Sequence[Expectation]], run_id: str, started_at: datetime, pages: Pages | None
) -> dict[str, Observation]:
    """Validates each view of an open database with Great Expectations; returns the result of each rule by its name.

    Writes the page of the results if `pages` is given.

    Raises: AssertionError if Great Expectations could not evaluate a rule.
    """
    with quiet():
        import great_expectations as gx  # here, because the import takes three seconds

        context: Any = gx.get_context(mode="ephemeral", project_config=_project())
        source = context.data_sources.add_sql(
            "duckdb",
            connection_string=_address(database),
            create_temp_table=False,
            kwargs=ENGINE_OPTIONS,
            assets=[_asset(view) for view in views],  # adding each to the source would write its configuration again
        )
        parts = []
        for view, expectations in views.items():
            suite = gx.ExpectationSuite(name=view, expectations=[*map(_build, expectations)])
            batch = source.get_asset(view).get_batch_definition(view).get_batch()
            parts.append(batch.validate(suite, result_format="BASIC"))
        source.get_execution_engine().close()
        source.get_engine().dispose()
    seen = dict(_observe(outcome) for part in parts for outcome in part.results)
    write_results(views, seen, pages)
    return seen


def write_results(
    views: Mapping[str, Sequence[Expectation]], seen: Mapping[str, Observation], pages: Pages | None
) -> None:
    """Writes the page of a validator's results if `pages` is given."""
    rows = [
        Row(seen[each.rule].passed, view, each.rule, each.demands, seen[each.rule].observed)
        for view, expectations in views.items()
        for each in expectations
    ]
    if pages:
        write_page(pages.folder, pages.title, pages.explanation, rows)


def expect(rule: str, demands: str, kind: str, **arguments: Any) -> Expectation:
    """An expectation of the Great Expectations class `kind`, named after one of our rules."""
    return Expectation(rule, demands, kind, arguments)


def expect_no_rows(rule: str, demands: str, query: str) -> Expectation:
    """Expects that `query` selects no rows. `{batch}` in the query is the view. Rows are counted, not fetched."""
    return Expectation(rule, demands, NO_ROWS, {"unexpected_rows_query": query})


def _build(expectation: Expectation) -> Any:
    """The Great Expectations object. The library is imported here because the import takes three seconds."""
    import great_expectations.expectations as gxe

    from recsys.expect.counted_rows import CountedRowsExpectation

    build = CountedRowsExpectation if expectation.kind == NO_ROWS else getattr(gxe, expectation.kind)
    return build(**expectation.arguments, description=expectation.demands, meta={"rule": expectation.rule})


def _asset(view: str) -> dict[str, Any]:
    """Describes a whole view to Great Expectations."""
    return {
        "name": view, "type": "query", "query": f"select * from main.{view}", "batch_definitions": [{"name": view}]
    }  # fmt: skip


@contextmanager
def preloading() -> Iterator[None]:
    """Imports Great Expectations, which takes seconds, in a thread while the block runs.

    Waits for the import at the end of the block, because the process must not exit during an import.
    """
    thread = threading.Thread(target=_preload, name="preload")
    thread.start()
    try:
        yield
    finally:
        thread.join()


def _preload() -> None:
    with quiet():
        importlib.import_module("great_expectations")


@contextmanager
def quiet() -> Iterator[None]:
    """Silences Great Expectations: it logs at info level, warns on import, and replaces the display of warnings."""
    logging.getLogger("great_expectations").setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _address(name: str) -> str:
    return f"duckdb:///:memory:{name}"


def _project() -> Any:
    """A configuration with everything in memory, no progress bars and no analytics."""
    from great_expectations.data_context.types.base import (
        DataContextConfig,
        InMemoryStoreBackendDefaults,
        ProgressBarsConfig,
    )

    return DataContextConfig(
        store_backend_defaults=InMemoryStoreBackendDefaults(),
        data_docs_sites={},
        progress_bars=ProgressBarsConfig(globally=False),
        analytics_enabled=False,
    )


def _observe(outcome: Any) -> tuple[str, Observation]:
    rule = outcome.expectation_config.meta["rule"]
    assert "observed_value" in outcome.result, f"rule {rule} could not be checked: {outcome.exception_info}"
    return rule, Observation(bool(outcome.success), outcome.result["observed_value"])
