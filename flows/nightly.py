"""The nightly run as a Prefect flow. The night itself, step by step, is `recsys.nightly.run_night`."""

from prefect import flow
from pydantic.json_schema import SkipJsonSchema

from flows.alerting import ALERTING
from flows.endings import conclude, with_final_states
from flows.naming import name_of_night
from flows.show import bars, show
from flows.step import TaskExecutor
from recsys import nightly as plain
from recsys.runs.summary import Summary
from recsys.settings import Settings


@flow(name="nightly", description=plain.__doc__, flow_run_name=name_of_night, **ALERTING)
@with_final_states
def nightly(settings: Settings | SkipJsonSchema[None] = None) -> Summary:
    """Runs one night.

    Args:
        settings: Settings of this night. Those left out come from the worker's environment, then from the defaults.
    """
    with bars():
        return conclude(plain.run_night(settings or Settings(), TaskExecutor, show))
