"""The backfill as a Prefect flow, in which each night is a subflow. The work is in `recsys.backfill`."""

from dataclasses import asdict
from datetime import datetime, timedelta

from prefect import flow
from pydantic.json_schema import SkipJsonSchema

from flows.alerting import ALERTING
from flows.endings import with_final_states
from flows.naming import name_of_backfill
from flows.nightly import nightly
from flows.show import show_rows
from recsys import backfill as plain
from recsys.backfill import Filled
from recsys.settings import Settings


@flow(name="backfill", description=plain.__doc__, flow_run_name=name_of_backfill, **ALERTING)
@with_final_states
def backfill(
    first: datetime,
    last: datetime,
    step: timedelta = timedelta(days=1),
    settings: Settings | SkipJsonSchema[None] = None,
) -> list[Filled]:
    """Runs the missing nights from `first` to `last`, both inclusive; see `recsys.backfill.backfill`.

    Args:
        first: The first night. It uses the ratings before this moment.
        last: The last night, inclusive.
        step: Time from one night to the next, as an ISO 8601 duration such as P1D for a day.
        settings: Settings that differ from those of the worker.
    """
    filled = plain.backfill(first, last, step, settings or Settings(), nightly)
    show_rows([{name: str(value) for name, value in asdict(one).items()} for one in filled], "nights", "Each night")
    return filled
