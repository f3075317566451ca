"""The network being served, for a night that may begin where it ended."""

import logging
from datetime import UTC, datetime
from typing import Any

from recsys.encode.vocabulary import Vocabulary
from recsys.errors import ModelError, NotPublished
from recsys.files import read_json
from recsys.forgotten import read_forgotten
from recsys.home import RUN_ID, Run
from recsys.settings import WarmStartConfig
from recsys.train.choose import Choice
from recsys.train.saved_model import SavedModel, load_model, read_meta
from recsys.train.warm_start import Champion, check_alike
from recsys.warehouse.lookup import find_published

logger = logging.getLogger(__name__)

NAME_LENGTH = len("20261121T030000Z")  # of a run_id without what makes it unique


def find_champion(run: Run, choice: Choice, levels: tuple[float, ...], config: WarmStartConfig) -> Champion | None:
    """The network of the run that published last from the same data set; None, with the reason in the log, where
    tonight must begin from scratch: there is none, it is another network, it knows ratings that tonight may not know,
    or it has learned from users who have asked to be forgotten since.
    """
    try:
        champion = _find(run, levels, config)
        check_alike(choice.model, choice.config, champion)
        return champion
    except (ModelError, NotPublished, OSError, ValueError, KeyError) as error:
        logger.warning("training begins from scratch: %s", error)
        return None


def _find(run: Run, levels: tuple[float, ...], config: WarmStartConfig) -> Champion:
    """Raises: ModelError with the reason why there is none, or why it cannot be used."""
    served = open_served(run)
    saved, vocabulary = SavedModel(served.model / "tonight"), Vocabulary.load(served.vocabulary)
    network = load_model(saved, vocabulary, levels)
    meta = read_meta(saved)
    return Champion(served.run_id, meta.model, meta.parsed_config(), network, vocabulary, config)


def open_served(run: Run) -> Run:
    """The run that published last from the same data set as `run`, if what it learned is no secret to tonight.

    Raises: ModelError if there is none, it knows ratings that tonight may not know, or it has learned from users who
    have asked to be forgotten since; NotPublished, OSError, ValueError or KeyError if its files are gone or damaged.
    """
    tonight = read_json(run.findings)
    published = find_published(run.home, tonight["dataset"])
    if published is None:
        raise ModelError(f"no run has published from {tonight['dataset']} on {run.home.root} yet")
    served = _reopen(published[0], run)
    _check_knows_no_more(read_json(served.findings), tonight, served)
    return served


def _reopen(run_id: str, run: Run) -> Run:
    started_at = datetime.strptime(run_id[:NAME_LENGTH], RUN_ID).replace(tzinfo=UTC)
    forgotten = read_forgotten(run.home)
    if forgotten.newest and forgotten.newest >= started_at:
        raise ModelError(f"run {run_id} has learned from users who asked to be forgotten at {forgotten.newest}")
    return Run(run_id, started_at, run.home)


def _check_knows_no_more(there: dict[str, Any], tonight: dict[str, Any], served: Run) -> None:
    if datetime.fromisoformat(there["as_of"]) > datetime.fromisoformat(tonight["as_of"]):
        raise ModelError(
            f"run {served.run_id} knows the ratings before {there['as_of']}, tonight only those before "
            f"{tonight['as_of']}"
        )
