"""The backfill as a Prefect flow, in which each night is a subflow. The work is in `recsys.backfill`."""

from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Annotated

from prefect import flow
from pydantic import Field
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
    first: Annotated[datetime, Field(description="The first night. It uses the ratings before this moment.")],
    last: Annotated[datetime, Field(description="The last night (inclusive).")],
    step: Annotated[timedelta, Field(description="Time from one night to the next.")] = timedelta(days=1),
    settings: Settings | SkipJsonSchema[None] = None,
) -> list[Filled]:
    """Runs the missing nights from `first` to `last`, both inclusive; see `recsys.backfill.backfill`."""
    filled = plain.backfill(first, last, step, settings or Settings(), nightly)
    show_rows([{name: str(value) for name, value in asdict(one).items()} for one in filled], "nights", "Each night")
    return filled
