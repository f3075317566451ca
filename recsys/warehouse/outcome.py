"""The records of a run, whether or not it published: its row in `runs`, and its rows in `run_steps` and `metrics`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

TONIGHT = "tonight"  # the split of measures of the published lists
AGAINST = "against="  # starts the slice of differences between tonight's model or lists and others


@dataclass(frozen=True)
class Outcome:
    """One row of `runs`. Times are UTC. A field is None if the run ended before its value was known."""

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
    reason: str | None  # the error's message; what was unusual if the run published; else None
    published: bool
    champion: str | None = None  # the run whose model was evaluated for comparison
    ratings_path: str | None = None  # of the ratings that the run used, relative to the home
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
