"""Publishes the lists of an earlier run again, and holds nights back until the rollback is released."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from prefect import flow
from pydantic import Field
from pydantic.json_schema import SkipJsonSchema

from flows.alerting import ALERTING
from flows.endings import with_final_states
from flows.naming import name_of_rollback
from flows.show import show_rows
from recsys.home import Home
from recsys.runs import rollback as rolling
from recsys.settings import Settings


@flow(name="rollback", description=__doc__, flow_run_name=name_of_rollback, **ALERTING)
@with_final_states
def rollback(
    run_id: Annotated[str, Field(pattern="^[0-9]{8}T[0-9]{6}Z(-[0-9]+)?$")] | SkipJsonSchema[None] = None,
    release: bool = False,
    home: Path | SkipJsonSchema[None] = None,
) -> str:
    """Returns the id of the run that is published afterwards. Nights are held back until the release.

    Raises: UsageError if there is no such run, or if there is nothing to release; PublishError; HomeBusy.

    Args:
        run_id: The run whose lists are published again, for example 20261121T030000Z; `recsys rollback --list` and the
            table `runs` name them. If empty: the run before the one that is served.
        release: On: no lists change, and nights may publish again after an earlier rollback. Off: roll back.
        home: Folder of warehouse.duckdb. If empty: the setting of the worker.
    """
    place = Home((home or Settings().home).absolute())
    if release:
        return rolling.release(place)
    done = rolling.roll_back(place, run_id)
    show_rows([{name: str(value) for name, value in asdict(done).items()}], "rollback", "Result of the rollback")
    return done.to_run
