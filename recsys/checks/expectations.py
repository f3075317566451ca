"""Converts the rules on a snapshot to expectations on the views that `check` creates. The rules are in `rules`."""

from collections.abc import Iterator, Mapping, Sequence

from recsys.checks.rules import ROW_RULES, SCHEMAS, SHIFT_RULES, UNREADABLE, UNREADABLE_DEMANDS, ShiftRule, TableRule
from recsys.expect.validate import Expectation, expect, expect_no_rows
from recsys.settings import ShiftConfig

EXPLANATION = """\
Lines that break a row rule go to the quarantine. Whether they are too many, and which other rules stop the night, is in
result.json beside this folder. <code>snapshot_*</code> are rows as they were read, <code>ratings</code> the admitted
ones, <code>rejects</code> lines that could not be read, and <code>comparison</code> the snapshot as a whole, compared
with the last published snapshot."""

# As in `check`, a rule sees only the rows that earlier rules admitted.
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
    """Yields (rule, severity, limit) for every figure that has a limit and was measured; severity: "warn" or "stop"."""
    for rule in SHIFT_RULES:
        for severity, limit in rule.limits(config).items():
            if limit is not None and measures[rule.name] is not None:
                yield rule, severity, limit


def list_expectations(
    rules: Sequence[TableRule], measures: Mapping[str, float | None], config: ShiftConfig
) -> dict[str, list[Expectation]]:
    """The expectations of each view: one per rule, with its name. A shift rule has one per limit: `rating_psi_warn`.

    `snapshot_*` are the tables as they were read. `ratings` are the admitted ratings. `comparison` has one row with the
    differences between the snapshot and the last published one.
    """
    views: dict[str, list[Expectation]] = {f"snapshot_{table}": [] for table in SCHEMAS}
    for position, rule in enumerate(ROW_RULES):
        query = ROW_QUERY.format(table=rule.table, position=position, query=rule.query)
        views[f"snapshot_{rule.table}"].append(expect_no_rows(rule.name, rule.demands, query))
    views["ratings"] = [expect(rule.name, rule.demands, rule.expectation, **rule.arguments) for rule in rules]
    views["rejects"] = [expect(UNREADABLE, UNREADABLE_DEMANDS, "ExpectTableRowCountToEqual", value=0)]
    views["comparison"] = [_expect_shift(*shift) for shift in shift_limits(measures, config)]
    return {view: expectations for view, expectations in views.items() if expectations}


def _expect_shift(rule: ShiftRule, severity: str, limit: float) -> Expectation:
    side, name = ("at least", "min_value") if rule.at_least else ("at most", "max_value")
    demands = f"{rule.demands}: {side} {limit:g}, else {severity}"
    return expect(f"{rule.name}_{severity}", demands, "ExpectColumnMaxToBeBetween", column=rule.name, **{name: limit})
