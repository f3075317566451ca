"""The result of each rule on a snapshot: counts, verdicts and messages."""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from recsys.checks.expectations import shift_limits
from recsys.checks.rules import (
    ALL_RULES,
    ALL_RULES_DEMANDS,
    DEMANDS,
    ROW_RULES,
    SHIFT_RULES,
    UNREADABLE,
    ShiftRule,
    TableRule,
)
from recsys.expect.validate import Observation
from recsys.settings import CheckConfig

logger = logging.getLogger(__name__)

# "quarantined": lines were refused, but not more than the limit allows. Beyond a limit, the verdict is "stop".
Verdict = Literal["pass", "quarantined", "warn", "stop", "not compared"]
Measures = Mapping[str, float | None]  # by column of sql/compare_snapshots.sql; None if it is unknown

LEVELS: Mapping[Verdict, int] = {"warn": logging.WARNING, "stop": logging.WARNING, "quarantined": logging.INFO}


@dataclass(frozen=True)
class Finding:
    """The result of one rule on one table. A row rule counts lines; any other rule measures a number."""

    rule: str
    table: str
    demands: str
    verdict: Verdict
    offending: int | None = None  # lines
    share: float | None = None  # of the table's lines
    limit: float | None = None  # of `share`
    observed: float | None = None
    warn: float | None = None  # limits of `observed`
    stop: float | None = None

    def describe(self) -> str:
        """One line for a log."""
        if self.offending is not None:
            return f"{self.rule}: {self.offending:,} lines of {self.table} refused, {self.share:.3%}"
        found = "nothing" if self.observed is None else f"{self.observed:,.6g}"
        limits = (("warn", self.warn), ("stop", self.stop))
        shown = "".join(f", {name} at {limit:g}" for name, limit in limits if limit is not None)
        return f"{self.rule}: {self.table}: {self.verdict}, found {found}{shown}"


@dataclass(frozen=True)
class Refusals:
    """Number of lines by table, and of refused lines by (table, rule)."""

    lines: Mapping[str, int]
    refused: Mapping[tuple[str, str], int]

    def by_rule(self, table: str) -> dict[str, int]:
        return {rule: count for (source_table, rule), count in self.refused.items() if source_table == table}

    def worst_rule(self, table: str) -> str:
        """The rule that refused the most lines of the table; ties go to the first name."""
        counts = self.by_rule(table)
        return min(counts, key=lambda rule: (-counts[rule], rule))


def find_offences(
    refusals: Refusals,
    rules: Sequence[TableRule],
    observations: Mapping[str, Observation],
    measures: Measures,
    config: CheckConfig,
) -> list[Finding]:
    """One finding per rule and table, in the order of the rules; also logs them."""
    rows = [_find_rows(refusals, UNREADABLE, table, config.limits.unreadable) for table in refusals.lines]
    rows += [_find_rows(refusals, rule.name, rule.table, getattr(config.limits, rule.name)) for rule in ROW_RULES]
    _assert_agreement(rows, observations)
    findings = [
        *rows,
        *(_find_all_rows(refusals, table, config.max_bad_share) for table in refusals.lines),
        *(_find_table(rule, observations[rule.name]) for rule in rules),
        *find_shifts(measures, config),
    ]
    _assert_limits_agree(observations, measures, config)
    for finding in findings:
        logger.log(LEVELS.get(finding.verdict, logging.DEBUG), "%s", finding.describe())
    judged = [finding for finding in findings if finding.verdict != "not compared"]
    logger.info("rules: %d of %d hold", sum(finding.verdict == "pass" for finding in judged), len(judged))
    return findings


def find_shifts(measures: Measures, config: CheckConfig) -> list[Finding]:
    """The findings of the shift rules, which limit figures of the snapshot as a whole."""
    return [_find_shift(rule, measures.get(rule.name), config) for rule in SHIFT_RULES]


def _find_rows(refusals: Refusals, rule: str, table: str, limit: float) -> Finding:
    return _count(rule, table, DEMANDS[rule], refusals.refused.get((table, rule), 0), refusals.lines[table], limit)


def _find_all_rows(refusals: Refusals, table: str, limit: float) -> Finding:
    offending = sum(refusals.by_rule(table).values())
    return _count(ALL_RULES, table, ALL_RULES_DEMANDS, offending, refusals.lines[table], limit)


def _count(rule: str, table: str, demands: str, offending: int, lines: int, limit: float) -> Finding:
    """The share is 0 for a table without lines."""
    share = offending / max(lines, 1)
    verdict: Verdict = "stop" if share > limit else "quarantined" if offending else "pass"
    return Finding(rule, table, demands, verdict, offending=offending, share=share, limit=limit)


def _find_table(rule: TableRule, seen: Observation) -> Finding:
    return Finding(rule.name, "ratings", rule.demands, "pass" if seen.passed else "stop", observed=seen.observed)


def _find_shift(rule: ShiftRule, value: float | None, config: CheckConfig) -> Finding:
    limits = rule.limits(config.shift)
    warn, stop = limits["warn"], limits["stop"]
    verdict: Verdict = "pass"
    if value is None:
        verdict = "not compared"
    elif not rule.holds(value, stop):
        verdict = "stop"
    elif not rule.holds(value, warn):
        verdict = "warn"
    return Finding(rule.name, "ratings", rule.demands, verdict, observed=value, warn=warn, stop=stop)


def _assert_agreement(findings: Sequence[Finding], observations: Mapping[str, Observation]) -> None:
    """The quarantine and the validator count the rows that break the same rules, so their counts must be equal."""
    offending: dict[str, int] = {}
    for finding in findings:
        offending[finding.rule] = offending.get(finding.rule, 0) + (finding.offending or 0)
    for rule, count in offending.items():
        seen = observations[rule].observed
        assert seen == count, f"rule {rule}: {count} lines in the quarantine, {seen} by the validator"


def _assert_limits_agree(observations: Mapping[str, Observation], measures: Measures, config: CheckConfig) -> None:
    """The limits on the snapshot as a whole are evaluated here and by the validator, so the results must be equal."""
    for rule, severity, limit in shift_limits(measures, config.shift):
        seen, value = observations[f"{rule.name}_{severity}"], measures[rule.name]
        assert value is not None
        assert seen.passed == rule.holds(value, limit), f"rule {rule.name}: {value} here, {seen} by the validator"


def describe_stops(
    findings: Sequence[Finding], refusals: Refusals, examples: Mapping[tuple[str, str], str], compared: str
) -> list[str]:
    """Writes a message for every limit that stops the night.

    `examples` are by (table, rule). `compared` names the snapshot that this one was compared with. If too many lines of
    a table are refused in total, the table has a single message, which names the rule that refused the most.
    """
    stops = [finding for finding in findings if finding.verdict == "stop"]
    excessive = {finding.table for finding in stops if finding.rule == ALL_RULES}
    reasons = []
    for finding in stops:
        if finding.rule == ALL_RULES:
            reasons.append(_describe_excess(finding, refusals, examples))
        elif finding.offending is None:
            reasons.append(_describe_figure(finding, compared))
        elif finding.table not in excessive:
            reasons.append(_describe_rows(finding, refusals, examples))
    return reasons


def _describe_excess(finding: Finding, refusals: Refusals, examples: Mapping[tuple[str, str], str]) -> str:
    worst = refusals.worst_rule(finding.table)
    return (
        f"{_describe_share(finding, refusals)}; {refusals.refused[finding.table, worst]:,} of them break the rule "
        f"{worst} ({DEMANDS[worst]}), e.g. {examples[finding.table, worst]}"
    )


def _describe_rows(finding: Finding, refusals: Refusals, examples: Mapping[tuple[str, str], str]) -> str:
    return (
        f"{_describe_share(finding, refusals)}, by the rule {finding.rule} ({finding.demands}), e.g. "
        f"{examples[finding.table, finding.rule]}"
    )


def _describe_share(finding: Finding, refusals: Refusals) -> str:
    return (
        f"{finding.offending:,} of {refusals.lines[finding.table]:,} lines of {finding.table} are refused, "
        f"{finding.share:.2%}, the limit is {finding.limit:.2%}"
    )


def _describe_figure(finding: Finding, compared: str) -> str:
    if finding.stop is None:
        return f"{finding.table} break the rule {finding.rule} ({finding.demands}): found {finding.observed:,g}"
    note = f", {compared}" if _shift_rule(finding).compares else ""
    return f"{finding.rule} is {finding.observed:.4g}, the limit is {finding.stop:g} ({finding.demands}){note}"


def list_overrides(findings: Sequence[Finding]) -> list[str]:
    """The settings that would admit the data, for the message.

    Empty if a rule that stopped the night has no setting.
    """
    stops = [finding for finding in findings if finding.verdict == "stop"]
    if any(finding.share is None and finding.stop is None for finding in stops):
        return []
    needed: dict[str, float] = {}
    for finding in stops:
        if finding.share is not None:
            setting = "MAX_BAD_SHARE" if finding.rule == ALL_RULES else f"LIMITS__{finding.rule.upper()}"
            needed[setting] = max(needed.get(setting, 0), _round(finding.share, up=True))
        elif finding.stop is not None and finding.observed is not None:
            up = not _shift_rule(finding).at_least
            needed[f"SHIFT__{finding.rule.upper()}_STOP"] = _round(finding.observed, up=up)
    return [f"RECSYS_CHECK__{setting}={value}" for setting, value in needed.items()]


def _round(value: float, *, up: bool) -> float:
    """Rounds to four decimals in the direction in which the limit is less strict."""
    return (math.ceil(value * 10_000) if up else math.floor(value * 10_000)) / 10_000


def _shift_rule(finding: Finding) -> ShiftRule:
    return next(rule for rule in SHIFT_RULES if rule.name == finding.rule)
