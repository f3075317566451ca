"""The records of a run: its row in `runs`, its rows in `run_steps` and `metrics`, whether it published or not."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

TONIGHT = "tonight"  # the split of measures of the published lists


@dataclass(frozen=True)
class Outcome:
    """One row of `runs`. Moments are UTC; a field is None if the run ended before its value was known."""

    run_id: str
    as_of: datetime | None  # ratings before this moment were used
    started_at: datetime
    finished_at: datetime
    dataset: str | None
    snapshot: str | None
    model: str | None
    config_hash: str | None
    code_version: str | None
    verdict: str  # see sql/schema.sql; an error of recsys/errors.py names its own
    reason: str | None  # the error's message, or that of the gate for a run published in spite of it; else None
    published: bool
    champion: str | None = None  # the run whose model was evaluated for comparison
    seconds: Mapping[str, float] = field(default_factory=dict)  # by completed step


@dataclass(frozen=True)
class Published:
    """The result of publishing a night's lists."""

    verdict: str  # published, unchanged or backfilled
    reason: str | None
    rows: Mapping[str, int]  # by table of the warehouse


@dataclass(frozen=True)
class MetricRow:
    """One row of `metrics`, without its run_id."""

    model: str
    split: str
    slice: str
    metric: str
    value: float
