"""The rules on a snapshot as Great Expectations sees them: what it is to expect of each view that `check` makes.

States no rule of its own.
"""

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from recsys.checks.rules import (
    ROW_RULES,
    SCHEMAS,
    SHIFT_RULES,
    UNREADABLE,
    UNREADABLE_DEMANDS,
    ShiftRule,
    TableRule,
)
from recsys.expect.checkpoint import Observation, Pages, expect, quiet, run_checkpoint
from recsys.home import Run
from recsys.settings import ShiftConfig

SEVERITIES = {"warn": "warning", "stop": "critical"}  # ours, and Great Expectations' word for it

EXPLANATION = """\
A row rule that does not hold sends lines to the quarantine; whether they are too many, and what else stops a night,
is in result.json beside this folder. <code>snapshot_*</code> are rows as they were read, <code>ratings</code> those
that were admitted, <code>rejects</code> lines that could not be read, <code>comparison</code> the snapshot as a whole
beside the one published last."""

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
    pages = Pages(run.data_docs, f"What the checks of {escape(run.run_id)} found", EXPLANATION)
    with quiet():
        views = _expectations(rules, shifts)
    return run_checkpoint(run.run_id, views, run.run_id, run.started_at, pages)


def _expectations(rules: Sequence[TableRule], shifts: Sequence[tuple[ShiftRule, str, float]]) -> dict[str, list[Any]]:
    """What to expect of each view: `snapshot_*` as it was read, `ratings` as it was admitted, `rejects`, and
    `comparison`, whose one row says how far the snapshot is from the one published last.
    """
    views: dict[str, list[Any]] = {f"snapshot_{table}": [] for table in SCHEMAS}
    for position, rule in enumerate(ROW_RULES):
        query = ROW_QUERY.format(table=rule.table, position=position, query=rule.query)
        expectation = expect(
            rule.name, rule.demands, "UnexpectedRowsExpectation", unexpected_rows_query=query, severity="warning"
        )
        views[f"snapshot_{rule.table}"].append(expectation)
    views["ratings"] = [expect(rule.name, rule.demands, rule.expectation, **rule.arguments) for rule in rules]
    views["rejects"] = [
        expect(UNREADABLE, UNREADABLE_DEMANDS, "ExpectTableRowCountToEqual", value=0, severity="warning")
    ]
    views["comparison"] = [_expect_shift(*shift) for shift in shifts]
    return {view: expectations for view, expectations in views.items() if expectations}


def _expect_shift(rule: ShiftRule, severity: str, limit: float) -> Any:
    side = "min_value" if rule.at_least else "max_value"
    said = f"{rule.demands}: {'at least' if rule.at_least else 'at most'} {limit:g}, else {severity}"
    return expect(
        f"{rule.name}_{severity}",
        said,
        "ExpectColumnMaxToBeBetween",
        column=rule.name,
        severity=SEVERITIES[severity],
        **{side: limit},
    )
