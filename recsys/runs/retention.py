"""Deletes files of earlier runs. Lists are kept while their run is in the history, models for a few nights."""

import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

from recsys.home import Run
from recsys.runs.best import find_best
from recsys.runs.resume import list_newest
from recsys.settings import GateConfig, HistoryConfig
from recsys.warehouse.lookup import find_in_use, list_remembered, read_losses

logger = logging.getLogger(__name__)


def retain_runs(run: Run, config: HistoryConfig, gate: GateConfig) -> int:
    """Deletes from the folders of earlier runs what `config` does not keep; returns the bytes freed.

    Tonight's run (`run`), the run whose lists are served (tomorrow's champion) and the best one before it keep all
    their files. A file that cannot be deleted is logged and skipped.
    """
    in_use = find_in_use(run)
    losses = read_losses(run.home)
    in_use |= {best for served in in_use if (best := find_best(served, losses, run.home, gate))}
    earlier = [one for one in list_newest(run.home) if one.run_id not in in_use]
    for folder in run.home.list_strays():
        logger.warning("%s was not written by a run and is kept. Next: remove it if it is not needed", folder)
    freed = sum(_remove(path) for path in _list_outdated(earlier, list_remembered(run.home), config))
    if freed:
        logger.info("removed outdated files of earlier runs: %.1f MB", freed / 1e6)
    return freed


def _list_outdated(earlier: list[Run], remembered: set[str], config: HistoryConfig) -> Iterator[Path]:
    """Lists what is deleted. `earlier` are the runs that may lose files, newest first."""
    for place, run in enumerate(earlier, start=1):
        is_remembered = run.run_id in remembered
        if place >= config.folders and not is_remembered:
            yield run.folder
            continue
        if place >= config.models:
            yield from (path for path in run.folder.iterdir() if path not in run.records)
        if not is_remembered and run.served.exists():
            yield run.served


def _remove(path: Path) -> int:
    files = [path] if path.is_file() else [one for one in path.rglob("*") if one.is_file()]
    try:
        freed = sum(one.stat().st_size for one in files)
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    except OSError as error:
        logger.warning("%s cannot be removed: %s. Next: remove it", path, error)
        return 0
    return freed
