"""Earlier lists put back, and nights held back until that is lifted."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from prefect import flow
from pydantic import Field
from pydantic.json_schema import SkipJsonSchema

from flows.alerting import ALERTING
from flows.endings import ending_in_words
from flows.show import show_rows
from recsys.home import Home
from recsys.runs import rollback as rolling
from recsys.settings import Settings


@flow(name="rollback", description=__doc__, **ALERTING)
@ending_in_words
def rollback(
    run_id: Annotated[
        Annotated[str, Field(pattern="^[0-9]{8}T[0-9]{6}Z(-[0-9]+)?$")] | SkipJsonSchema[None],
        Field(
            description="The run whose lists are served again, as 20261121T030000Z. Left empty: the run before the "
            "present one. Nights are held back until release.",
        ),
    ] = None,
    release: Annotated[bool, Field(description="Only let nights publish again after a roll-back.")] = False,
    home: Annotated[
        Path | SkipJsonSchema[None], Field(description="Folder of warehouse.duckdb. Left empty: the worker's setting.")
    ] = None,
) -> str:
    """Returns the run that is being served now.

    Raises: UsageError if there is no such run to go back to, or nothing to release; PublishError; HomeBusy.
    """
    place = Home((home or Settings().home).absolute())
    if release:
        return rolling.release(place)
    done = rolling.roll_back(place, run_id)
    show_rows([{name: str(value) for name, value in asdict(done).items()}], "rollback", "What was done")
    return done.to_run
