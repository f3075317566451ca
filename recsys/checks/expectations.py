"""The rules as Great Expectations sees them: one checkpoint over all of them, and its Data Docs.

The checkpoint reads the views that `check` makes, in the same in-memory DuckDB, and states no rule of its own.
"""

import importlib
import logging
import shutil
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy
from duckdb import DuckDBPyConnection

from recsys.checks.data_docs import tidy, write_index
from recsys.checks.rules import (
    ROW_RULES,
    SCHEMAS,
    SHIFT_RULES,
    UNREADABLE,
    UNREADABLE_DEMANDS,
    ShiftRule,
    TableRule,
)
from recsys.home import Run
from recsys.settings import ShiftConfig

# Without these the DuckDB dialect fails with "list index out of range" when a connection goes back to its pool.
ENGINE_OPTIONS = {"isolation_level": "AUTOCOMMIT", "skip_autocommit_rollback": True}

SEVERITIES = {"warn": "warning", "stop": "critical"}  # ours, and Great Expectations' word for it

# A rule sees the rows that earlier rules let through, here as in `check`.
ROW_QUERY = """\
with {table} as (
    select * from {{batch}}
    where file_row_number not in (
        select file_row_number from refused where source_table = '{table}' and position < {position}
    )
)
select * from (
{query})"""


@dataclass(frozen=True)
class Observation:
    """What one rule saw: the offending rows of a row rule, the measured number of any other."""

    passed: bool
    observed: float


@contextmanager
def opened_database(run: Run) -> Iterator[DuckDBPyConnection]:
    """A connection to an in-memory DuckDB of this run's own, which `validate` opens by its name as well.

    It comes through SQLAlchemy because DuckDB opens a database twice only with the same configuration, and the
    dialect adds to it.
    """
    engine = sqlalchemy.create_engine(_address(run), **ENGINE_OPTIONS)
    with closing(engine.raw_connection()) as pooled:
        assert pooled.driver_connection is not None
        connection: DuckDBPyConnection = pooled.driver_connection.duplicate()
    try:
        connection.execute("set timezone = 'UTC'")
        connection.execute("set temp_directory = $folder", {"folder": str(run.folder / "spill")})
        yield connection
    finally:
        connection.close()
        engine.dispose()


def shift_limits(measures: Mapping[str, float | None], config: ShiftConfig) -> Iterator[tuple[ShiftRule, str, float]]:
    """Rule, severity and limit of everything that is limited and could be measured."""
    for rule in SHIFT_RULES:
        for severity, limit in rule.limits(config).items():
            if limit is not None and measures[rule.name] is not None:
                yield rule, severity, limit


def validate(
    rules: Sequence[TableRule], shifts: Sequence[tuple[ShiftRule, str, float]], run: Run
) -> dict[str, Observation]:
    """Checks every rule in the open database of the run, writes Data Docs under the run's name, and returns what each
    rule saw, by its name; of a shift rule, by its name and severity, e.g. `rating_psi_warn`.
    """
    shutil.rmtree(run.data_docs, ignore_errors=True)  # a run taken up again must not show its first attempt beside
    with _quiet():
        import great_expectations as gx  # here, because it takes three seconds

        context: Any = gx.get_context(mode="ephemeral", project_config=_project(run.data_docs))
        source = context.data_sources.add_sql(
            "duckdb", connection_string=_address(run), create_temp_table=False, kwargs=ENGINE_OPTIONS
        )
        definitions = [
            context.validation_definitions.add(
                gx.ValidationDefinition(
                    name=view,
                    data=source.add_query_asset(view, f"select * from {view}").add_batch_definition_whole_table(view),
                    suite=context.suites.add(gx.ExpectationSuite(name=view, expectations=expectations)),
                )
            )
            for view, expectations in _expectations(rules, shifts).items()
        ]
        checkpoint = gx.Checkpoint(name="check_ratings", validation_definitions=definitions, result_format="COMPLETE")
        name = gx.RunIdentifier(run_name=run.run_id, run_time=run.started_at)
        result = context.checkpoints.add(checkpoint).run(run_id=name)
        context.build_data_docs()
        source.get_execution_engine().close()
        source.get_engine().dispose()
    tidy(run.data_docs)
    parts = result.run_results.values()
    held = {part.suite_name: [bool(outcome.success) for outcome in part.results] for part in parts}
    write_index(run.data_docs, run.run_id, held)
    return dict(_observe(outcome) for part in parts for outcome in part.results)


@contextmanager
def preloading() -> Iterator[None]:
    """Imports Great Expectations beside the work in the block, if that leaves the interpreter to it: it takes seconds.

    The end of the block waits for the import: a thread must not be at it while the process goes down.
    """
    thread = threading.Thread(target=_preload, name="preload")
    thread.start()
    try:
        yield
    finally:
        thread.join()


def _preload() -> None:
    with _quiet():
        importlib.import_module("great_expectations")


def _address(run: Run) -> str:
    return f"duckdb:///:memory:{run.run_id}"


def _project(data_docs: Path) -> Any:
    """Everything in memory except the site; no progress bars, and nothing phones home."""
    from great_expectations.data_context.types.base import (
        DataContextConfig,
        InMemoryStoreBackendDefaults,
        ProgressBarsConfig,
    )

    site = {
        "class_name": "SiteBuilder",
        "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
        # what is expected stands beside what was found, so pages of expectations alone would say nothing more
        "site_section_builders": {"expectations": "None", "profiling": "None"},
        "store_backend": {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(data_docs)},
    }
    return DataContextConfig(
        store_backend_defaults=InMemoryStoreBackendDefaults(),
        data_docs_sites={"night": site},
        progress_bars=ProgressBarsConfig(globally=False),
        analytics_enabled=False,
    )


def _expectations(rules: Sequence[TableRule], shifts: Sequence[tuple[ShiftRule, str, float]]) -> dict[str, list[Any]]:
    """What to expect of each view: `snapshot_*` as it was read, `ratings` as it was admitted, `rejects`, and
    `comparison`, whose one row says how far the snapshot is from the one published last.
    """
    views: dict[str, list[Any]] = {f"snapshot_{table}": [] for table in SCHEMAS}
    for position, rule in enumerate(ROW_RULES):
        query = ROW_QUERY.format(table=rule.table, position=position, query=rule.query)
        expectation = _expect(
            rule.name, rule.demands, "UnexpectedRowsExpectation", unexpected_rows_query=query, severity="warning"
        )
        views[f"snapshot_{rule.table}"].append(expectation)
    views["ratings"] = [_expect(rule.name, rule.demands, rule.expectation, **rule.arguments) for rule in rules]
    views["rejects"] = [
        _expect(UNREADABLE, UNREADABLE_DEMANDS, "ExpectTableRowCountToEqual", value=0, severity="warning")
    ]
    views["comparison"] = [_expect_shift(*shift) for shift in shifts]
    return {view: expectations for view, expectations in views.items() if expectations}


def _expect_shift(rule: ShiftRule, severity: str, limit: float) -> Any:
    side = "min_value" if rule.at_least else "max_value"
    said = f"{rule.demands}: {'at least' if rule.at_least else 'at most'} {limit:g}, else {severity}"
    return _expect(
        f"{rule.name}_{severity}",
        said,
        "ExpectColumnMaxToBeBetween",
        column=rule.name,
        severity=SEVERITIES[severity],
        **{side: limit},
    )


def _expect(rule: str, demands: str, kind: str, **arguments: Any) -> Any:
    import great_expectations.expectations as gxe

    return getattr(gxe, kind)(**arguments, description=demands, meta={"rule": rule})


def _observe(outcome: Any) -> tuple[str, Observation]:
    rule = outcome.expectation_config.meta["rule"]
    assert "observed_value" in outcome.result, f"rule {rule} could not be checked: {outcome.exception_info}"
    return rule, Observation(bool(outcome.success), outcome.result["observed_value"])


@contextmanager
def _quiet() -> Iterator[None]:
    """Great Expectations logs its internals at info level, warns on import, and takes over the showing of warnings."""
    logging.getLogger("great_expectations").setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
