"""Replaces served tables that are damaged on disk, so that neither a night nor a reader meets them."""

import logging
from collections.abc import Sequence

from recsys.errors import PublishError
from recsys.expect.validate import Validate, validate_views
from recsys.home import Home, Run
from recsys.runs.seal import find_damage
from recsys.warehouse.lookup import find_served_by_runs
from recsys.warehouse.publish import is_copied, mend

logger = logging.getLogger(__name__)


def mend_served(home: Home, damaged: Sequence[str], validate: Validate = validate_views) -> None:
    """Restores the served tables from the copies in the folder of their run.

    Without intact copies, the damaged tables are empty until the next night publishes. The history is kept.

    Raises: PublishError if the warehouse cannot be written.
    """
    named = ", ".join(damaged)
    source = _find_copies(home)
    try:
        mend(damaged, source, home, validate)
    except PublishError as error:
        if source is None:
            raise
        logger.warning("the copies in %s cannot be served: %s", source.served, error)
        source = None
        mend(damaged, None, home, validate)
    if source:
        logger.warning("%s was damaged (%s); its tables were restored from %s", home.warehouse, named, source.served)
    else:
        logger.warning("%s was damaged (%s); these are empty until a night publishes", home.warehouse, named)


def _find_copies(home: Home) -> Run | None:
    """The run that should be served, if its copies are complete and intact."""
    run_id = find_served_by_runs(home)
    run = home.run(run_id) if run_id else None
    if run is None or not is_copied(run):
        return None
    if damage := find_damage(run, run.served):
        logger.warning("%s", damage)
        return None
    return run
