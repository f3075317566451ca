"""Starts what a command asks for: as a Prefect flow where a server answers, else as a plain function."""

from flows.server import choose_server
from recsys.runs.summary import Summary
from recsys.settings import Settings


def run_nightly(settings: Settings) -> Summary:
    """One night, watched by Prefect if a server is configured and answers.

    Raises: as `recsys.nightly.run_night`.
    """
    if choose_server():
        from flows.nightly import nightly

        return nightly(settings)
    from recsys.nightly import run_night

    return run_night(settings)
