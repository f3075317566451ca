"""What the rules found in one night's data: counted, judged against the limits, and said in words."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from recsys.checks.expectations import Observation
from recsys.checks.rules import ROW_RULES, SCHEMAS, UNREADABLE, UNREADABLE_DEMANDS, TableRule

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Finding:
    """What one rule found in one table. A rule on rows counts lines, a rule on a table measures a number."""

    rule: str
    table: str
    demands: str
    passed: bool
    offending: int | None = None  # lines
    share: float | None = None  # of the table's lines
    observed: int | None = None

    def describe(self) -> str:
        """One line for a log."""
        if self.offending is not None:
            return f"{self.rule}: {self.offending:,} lines of {self.table} refused, {self.share:.3%}"
        return f"{self.rule}: {self.table} {'pass' if self.passed else 'fail'}, found {self.observed:,}"


@dataclass(frozen=True)
class Refusals:
    """Lines of the source by table, and how many of them were refused by (table, rule)."""

    lines: Mapping[str, int]
    refused: Mapping[tuple[str, str], int]

    def by_rule(self, table: str) -> dict[str, int]:
        return {rule: count for (source_table, rule), count in self.refused.items() if source_table == table}

    def total(self, table: str) -> int:
        return sum(self.by_rule(table).values())

    def share(self, table: str) -> float:
        """Of the table's lines; 0 for a table without lines."""
        return self.total(table) / max(self.lines[table], 1)

    def worst_rule(self, table: str) -> str:
        """The rule that refused most lines of the table, of equals the first by name."""
        counts = self.by_rule(table)
        return min(counts, key=lambda rule: (-counts[rule], rule))


def find_offences(
    refusals: Refusals, rules: Sequence[TableRule], observations: Mapping[str, Observation]
) -> list[Finding]:
    """One finding per rule, in the order of the rules; what was found is logged."""
    findings = [_find_rows(refusals, UNREADABLE, table, UNREADABLE_DEMANDS) for table in SCHEMAS]
    findings += [_find_rows(refusals, rule.name, rule.table, rule.demands) for rule in ROW_RULES]
    _assert_agreement(findings, observations)
    for rule in rules:
        seen = observations[rule.name]
        findings.append(Finding(rule.name, "ratings", rule.demands, seen.passed, observed=seen.observed))
    for finding in findings:
        logger.log(logging.DEBUG if finding.passed else logging.INFO, "%s", finding.describe())
    logger.info("rules: %d of %d hold", sum(finding.passed for finding in findings), len(findings))
    return findings


def _find_rows(refusals: Refusals, rule: str, table: str, demands: str) -> Finding:
    offending, lines = refusals.refused.get((table, rule), 0), refusals.lines[table]
    return Finding(rule, table, demands, offending == 0, offending=offending, share=offending / max(lines, 1))


def _assert_agreement(findings: Sequence[Finding], observations: Mapping[str, Observation]) -> None:
    """The quarantine and the Data Docs come from the same statements and must tell the same story."""
    offending: dict[str, int] = {}
    for finding in findings:
        offending[finding.rule] = offending.get(finding.rule, 0) + (finding.offending or 0)
    for rule, count in offending.items():
        seen = observations[rule].observed
        assert seen == count, f"rule {rule}: {count} lines in the quarantine, {seen} in the Data Docs"


def describe_failures(findings: Sequence[Finding]) -> list[str]:
    """Every table rule that failed, in words."""
    return [
        f"{finding.table} break the rule {finding.rule} ({finding.demands}): found {finding.observed:,}"
        for finding in findings
        if finding.offending is None and not finding.passed
    ]


def describe_excess(refusals: Refusals, max_bad_share: float, examples: Mapping[tuple[str, str], str]) -> list[str]:
    """Every table of which too large a share was refused, in words; `examples` by (table, rule)."""
    demands = {UNREADABLE: UNREADABLE_DEMANDS} | {rule.name: rule.demands for rule in ROW_RULES}
    reasons = []
    for table in SCHEMAS:
        if refusals.share(table) > max_bad_share:
            worst = refusals.worst_rule(table)
            reasons.append(
                f"{refusals.total(table):,} of {refusals.lines[table]:,} lines of {table} are refused, "
                f"{refusals.share(table):.2%}, the limit is {max_bad_share:.2%}; {refusals.by_rule(table)[worst]:,} of "
                f"them break the rule {worst} ({demands[worst]}), e.g. {examples[table, worst]}"
            )
    return reasons
