"""What a night leaves in the tables `runs`, `run_steps` and `metrics`, whether it published or not."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

TONIGHT = "tonight"  # the split of figures about the lists that are published


@dataclass(frozen=True)
class Outcome:
    """One row of `runs`. Moments are UTC; what a night that ended early never learned is None."""

    run_id: str
    as_of: datetime | None  # ratings before this moment were used
    started_at: datetime
    finished_at: datetime
    dataset: str | None
    snapshot: str | None
    model: str | None
    config_hash: str | None
    code_version: str | None
    verdict: str  # see sql/schema.sql; of an error in recsys/errors.py, its own
    reason: str | None  # that error's message, or what the gate said of a run published against it; else None
    published: bool
    champion: str | None = None  # the run whose model was measured beside this one's
    seconds: Mapping[str, float] = field(default_factory=dict)  # of each step that has ended


@dataclass(frozen=True)
class Published:
    """What became of a night's lists."""

    verdict: str  # published, unchanged or backfilled
    reason: str | None
    rows: Mapping[str, int]  # of each table of the warehouse


@dataclass(frozen=True)
class MetricRow:
    """One row of `metrics`, less its run_id: a figure in long form."""

    model: str
    split: str
    slice: str
    metric: str
    value: float
