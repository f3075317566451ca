"""Finds the published network for a warm start."""

import logging
from datetime import datetime
from typing import Any

import numpy as np

from recsys.datasets import name_data
from recsys.encode.vocabulary import Vocabulary
from recsys.errors import ModelError, describe_error, panics_as_errors
from recsys.files import read_json
from recsys.forgotten import read_forgotten
from recsys.home import Run
from recsys.runs.seal import find_damage
from recsys.settings import WarmStartConfig
from recsys.train.learn import Choice
from recsys.train.saved_model import SavedModel, load_model, read_meta
from recsys.train.warm_start import Champion, check_alike
from recsys.warehouse.lookup import find_published

logger = logging.getLogger(__name__)


def find_champion(run: Run, choice: Choice, levels: tuple[float, ...], config: WarmStartConfig) -> Champion | None:
    """Returns the network of the last published run on the same dataset, or None if training must start from scratch.

    The reason for None is logged: no run has been published, its network is different, or the network was trained on
    ratings after tonight's `as_of` or on users who have since asked to be forgotten.
    """
    try:
        with panics_as_errors():
            champion = _find(run, levels, config)
        check_alike(choice.model, choice.config, champion)
        return champion
    except Exception as error:  # damaged files of another run raise anything, and must not end this night
        logger.warning("training starts from scratch: %s", describe_error(error))
        logger.debug("traceback", exc_info=error)
        return None


def _find(run: Run, levels: tuple[float, ...], config: WarmStartConfig) -> Champion:
    """Raises: ModelError if there is no champion, or if it cannot be used."""
    served = open_served(run)
    saved, vocabulary = SavedModel(served.tonight_model), Vocabulary.load(served.vocabulary)
    network = load_model(saved, vocabulary, levels)
    meta = read_meta(saved)
    return Champion(served.run_id, meta.model, meta.parsed_config(), network, vocabulary, config)


def open_served(run: Run) -> Run:
    """Opens the last published run on the same dataset, if it was trained only on data that `run` may use.

    Raises: ModelError if there is none, if it was trained on ratings after the `as_of` of `run`, or on users who have
    since asked to be forgotten; any other error if its files are missing or damaged.
    """
    tonight = read_json(run.findings)
    published = find_published(run.home, tonight["dataset"])
    if published is None:
        data = name_data(tonight["dataset"], run)
        raise ModelError(f"no run on {data} has been published in {run.home.root} yet")
    return open_published(published[0], run)


def open_published(run_id: str, run: Run) -> Run:
    """Opens a published run on the same dataset. Raises: as `open_served`."""
    served = run.home.run(run_id)
    weights = served.ranker / "weights.json"
    if damage := find_damage(
        served, served.findings, served.config, served.vocabulary, served.split, served.model, weights
    ):
        raise ModelError(damage)
    _check_not_forgotten(served, run)
    _check_not_newer(read_json(served.findings), read_json(run.findings), served)
    return served


def _check_not_forgotten(served: Run, run: Run) -> None:
    forgotten = read_forgotten(run.home).user_ids
    n_learned = int(np.isin(Vocabulary.load(served.vocabulary).user_ids, forgotten).sum()) if forgotten else 0
    if n_learned:
        raise ModelError(
            f"run {served.run_id} was trained on users who asked to be forgotten since: {n_learned} of them"
        )


def _check_not_newer(there: dict[str, Any], tonight: dict[str, Any], served: Run) -> None:
    if datetime.fromisoformat(there["as_of"]) > datetime.fromisoformat(tonight["as_of"]):
        raise ModelError(
            f"run {served.run_id} was trained on ratings before {there['as_of']}, but tonight may only use those "
            f"before {tonight['as_of']}"
        )
