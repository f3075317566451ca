"""Validates a source without running a night: nothing is trained or published."""

from typing import Any

from prefect import flow
from pydantic.json_schema import SkipJsonSchema

from flows.alerting import ALERTING
from flows.endings import with_final_states
from flows.naming import name_of_night
from flows.show import show_rows
from recsys.checks.report import check_source, describe_check
from recsys.datasets import name_data
from recsys.errors import DataRefused
from recsys.home import Run
from recsys.settings import Settings


@flow(name="check", description=__doc__, flow_run_name=name_of_night, **ALERTING)
@with_final_states
def check(settings: Settings | SkipJsonSchema[None] = None) -> dict[str, Any] | None:
    """Returns the result of each rule, in the format of `recsys check --json`.

    Raises: DataRefused if a night would refuse the source.

    Args:
        settings: Settings of this check: the source, and the home with the night that it is compared with. Those left
            out come from the worker's environment, then from the defaults.
    """
    try:
        run = check_source(settings or Settings())
    except DataRefused as error:
        if error.run:
            _show(error.run)
        raise
    return _show(run)


def _show(run: Run) -> dict[str, Any] | None:
    found = describe_check(run)
    if found:
        columns = ("table", "rule", "verdict", "offending", "observed", "demand")
        rows = [{name: str(rule.get(name, "")) for name in columns} for rule in found["rules"]]
        show_rows(
            rows, "rules", f"Results of each rule for {name_data(found['dataset'], run)}; see {found['data_docs']}"
        )
    return found
