"""The rules that tables have to satisfy before they are published. Each rule is defined once; `audit` runs them.

A row rule is a file `sql/audit_<name>.sql` that selects the rows that break it. A measure is a figure of all lists
together: a column of `sql/measure_lists.sql` and a row of `metrics`, with a limit in `AuditConfig`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import sql
from recsys.settings import AuditConfig


@dataclass(frozen=True)
class RowRule:
    """A rule on each row of one table or view."""

    name: str
    table: str
    needs_inputs: bool = False  # whether it reads files in addition to the tables

    @property
    def query(self) -> str:
        """Selects the offending rows."""
        return sql.read(self.name)

    @property
    def offence(self) -> str:
        """The first sentence of the SQL file's header, without the full stop."""
        return self.query.partition("\n")[0].removeprefix(f"-- {self.name}: ").removesuffix(".")


@dataclass(frozen=True)
class Measure:
    """A limit on a figure of all lists together."""

    name: str
    setting: str  # the field of AuditConfig with the limit
    demands: str  # in words
    at_least: bool = False

    def holds(self, value: float, limit: float) -> bool:
        return value >= limit if self.at_least else value <= limit


CONTRACT = RowRule("audit_contract", "columns_found")  # if it is broken, no other rule is checked

ROW_RULES = (
    CONTRACT,
    RowRule("audit_run", "lists"),
    RowRule("audit_known", "lists"),
    RowRule("audit_ranks", "lists"),
    RowRule("audit_distinct", "lists"),
    RowRule("audit_finite", "lists"),
    RowRule("audit_order", "lists"),
    RowRule("audit_available", "lists", needs_inputs=True),
    RowRule("audit_caps", "lists", needs_inputs=True),
    RowRule("audit_room", "lists", needs_inputs=True),
    RowRule("audit_any", "recommendations"),
    RowRule("audit_served_by", "recommendations"),
    RowRule("audit_length", "recommendations", needs_inputs=True),
    RowRule("audit_strangers", "recommendations", needs_inputs=True),
    RowRule("audit_blocked", "recommendations", needs_inputs=True),
    RowRule("audit_unseen", "recommendations", needs_inputs=True),
    RowRule("audit_because", "recommendations", needs_inputs=True),
    RowRule("audit_because_liked", "recommendations", needs_inputs=True),
    RowRule("audit_because_distinct", "recommendations"),
    RowRule("audit_default_all", "default_recommendations"),
    RowRule("audit_default_length", "default_recommendations", needs_inputs=True),
    RowRule("audit_similar_self", "similar_movies"),
    RowRule("audit_segments", "users"),
    RowRule("audit_links", "links"),
    RowRule("audit_movie_stats", "movie_stats", needs_inputs=True),
    RowRule("audit_user_stats", "user_stats", needs_inputs=True),
)

MEASURES = (
    Measure("audit_rows_share", "min_rows_share", "few lists disappear", at_least=True),
    Measure("audit_rows_share", "max_rows_share", "lists do not multiply"),
    Measure("audit_stranger_rise", "max_stranger_rise", "the share of users without ratings rises little"),
    Measure("audit_top_movie_share", "max_top_movie_share", "not all users are shown the same movie"),
    Measure("audit_churn", "max_churn", "lists keep some of their movies"),
    Measure("audit_flat_share", "max_flat_share", "scores order the lists"),
    Measure("audit_overshoot", "max_overshoot", "expected ratings are near the scale"),
)


def limited(measured: Mapping[str, float], config: AuditConfig) -> Iterator[tuple[Measure, float]]:
    """Each measure that has a limit and could be measured, with its limit."""
    for measure in MEASURES:
        limit: float | None = getattr(config, measure.setting)
        if limit is not None and measure.name in measured:
            yield measure, limit
