"""What stays of earlier nights: their lists as long as they are remembered, their models for a few nights."""

import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

from recsys.home import Home, Run
from recsys.settings import HistoryConfig
from recsys.warehouse.lookup import find_served, list_remembered

logger = logging.getLogger(__name__)

FILES = (
    "config.json",
    "inputs.json",
    "ended.json",
    "metrics.json",
    "steps.json",
    "night.log",
    "gate.json",
    "validation",
    "served",
)
"""What is small, or asked for by a roll-back; the rest of a run's folder are models and what they were made from."""


def retain_runs(run: Run, config: HistoryConfig) -> int:
    """Deletes what `config` does not keep of the folders of earlier runs; returns the bytes that this freed.

    Nothing is deleted of `run`, tonight's, nor of the run whose lists are served, which is tomorrow's champion. What
    cannot be deleted is named in the log and stays.
    """
    served = find_served(run.home)
    whole = {run.run_id} | ({served["run_id"]} if served else set())
    earlier = [folder for folder in _list_runs(run.home) if folder.name not in whole]
    remembered = list_remembered(run.home)
    freed = 0
    for path in _list_beyond(earlier, remembered, config):
        freed += _remove(path)
    if freed:
        logger.info("removed what is not kept of earlier runs: %.1f MB", freed / 1e6)
    return freed


def _list_runs(home: Home) -> list[Path]:
    """Newest first."""
    return sorted((path for path in home.runs.iterdir() if path.is_dir()), key=lambda path: path.name, reverse=True)


def _list_beyond(earlier: list[Path], remembered: set[str], config: HistoryConfig) -> Iterator[Path]:
    for place, folder in enumerate(earlier, start=1):  # tonight's is the newest, and not among them
        is_remembered = folder.name in remembered
        if place >= config.folders and not is_remembered:
            yield folder
            continue
        if place >= config.models:
            yield from (path for path in folder.iterdir() if path.name not in FILES)
        if not is_remembered and (folder / "served").exists():
            yield folder / "served"


def _remove(path: Path) -> int:
    files = [path] if path.is_file() else [one for one in path.rglob("*") if one.is_file()]
    try:
        freed = sum(one.stat().st_size for one in files)
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    except OSError as error:
        logger.warning("%s cannot be removed: %s. Next: remove it", path, error)
        return 0
    return freed
